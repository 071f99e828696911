"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile(
    "ticklake", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("nightly", settings.get_profile("ticklake"), max_examples=2_000)
settings.load_profile("ticklake")

REAL_LAKE = Path(__file__).resolve().parents[2] / "shared" / "real-lake"


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_the_engine_is_left() -> Iterator[None]:
    """Drop what a module's own runs of the engine left in cycles, which no other thread may."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def real_lake() -> Path:
    """The folder of real Binance ticks that lies beside a checkout of the project.

    A checkout without it skips the tests that need it; CI must have it.
    """
    if not REAL_LAKE.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{REAL_LAKE} is missing, but CI runs with the real ticks")
        pytest.skip("the real ticks (../shared/real-lake) are not beside this checkout")
    return REAL_LAKE


@pytest.fixture(scope="session")
def facts(real_lake: Path) -> dict[str, dict[str, Any]]:
    """Counts and sums of the raw recordings by `"<instrument> <day> <data type>"`."""
    return json.loads((real_lake / "facts.json").read_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, for as long as a module's tests (its event loop is in the way of others).

    A machine without one skips the tests that need it; CI must have it.
    """
    from browser_support import chromium, find_chromium

    executable = find_chromium()
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium is installed, but CI looks at the pages")
        pytest.skip("no chromium is installed (Debian: apt-get install chromium)")
    with chromium(executable) as started:
        yield started
