"""The real NautilusTrader 1.231.0, in an environment of its own that the tests make once (`.venv-v1`)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv-v1"
# What pip says where no index can be reached.
_NO_NETWORK = ("No matching distribution found", "Failed to establish a new connection", "Temporary failure")

type OldEngine = Callable[..., dict[str, Any]]


def _made() -> str | None:
    """Make the environment where it is not there yet, and return why it cannot be made."""
    with FileLock(ROOT / ".venv-v1.lock"):
        done = subprocess.run(
            ["make", "--silent", "-C", ROOT, ".venv-v1/.locked"],
            capture_output=True,
            text=True,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
        )
    if not done.returncode:
        return None
    if any(text in done.stderr for text in _NO_NETWORK):
        return done.stderr[-400:]
    raise RuntimeError(done.stderr)


@pytest.fixture(scope="session")
def old_engine(tmp_path_factory: pytest.TempPathFactory) -> OldEngine:
    """Ask the 1.x engine something (see `v1_engine`) and return its answer."""
    if why := _made():
        if os.environ.get("CI"):
            pytest.fail(f"CI installs NautilusTrader 1.231.0, but: {why}")
        pytest.skip(f"NOT TESTED AGAINST NautilusTrader 1.231.0, which cannot be installed: {why}")
    folder = tmp_path_factory.mktemp("v1")

    def ask(command: str, *arguments: object) -> dict[str, Any]:
        answer = folder / "answer.json"
        script = Path(__file__).with_name("v1_engine.py")
        done = subprocess.run(
            [VENV / "bin" / "python", script, command, answer, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return dict(json.loads(answer.read_text()))

    return ask
