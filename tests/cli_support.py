"""Commands in this process: quicker than a process of their own where what is printed is all that counts."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from ticklake.cli import main

type Cli = Callable[..., list[str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command that ends with this code, and return what it and its children print."""

    def run(code: int, *arguments: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["ticklake", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = list(capfd.readouterr())
        assert (ended.value.code or 0) == code, told
        return told

    return run
