"""Arrow's allocator while a fetch is under way: the C library's, and afterwards what it was before."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pyarrow as pa
import pytest

from fetch_support import BTC_PERP, local_lake, request
from ticklake.catalog import Catalog
from ticklake.fetching import fetch
from ticklake.fetching.memory import system_memory
from ticklake.synth import write_synthetic_lake

needs_mimalloc = pytest.mark.skipif(
    sys.platform != "linux" or "mimalloc" not in pa.supported_memory_backends(),
    reason="only where Arrow would choose mimalloc is there something to choose",
)


def pool() -> str:
    return str(pa.default_memory_pool().backend_name)


@pytest.fixture(autouse=True)
def _arrows_choice(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = pa.default_memory_pool()
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)
    if "mimalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.mimalloc_memory_pool())
    yield
    pa.set_memory_pool(before)


@needs_mimalloc
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_fetch_allocates_from_the_c_library_and_gives_the_pool_back(
    tmp_path: Path, error: type[BaseException] | None
) -> None:
    write_synthetic_lake(tmp_path, start=dt.date(2024, 8, 8), days=1, trades_per_day=100, snapshots_per_day=5)
    seen: list[str] = []

    def look(_: object) -> None:
        seen.append(pool())
        if error is not None:
            raise error

    wanted = request(BTC_PERP, "trades", "2024-08-08T10:00:00Z", "2024-08-08T11:00:00Z")
    with nullcontext() if error is None else pytest.raises(error):
        fetch(local_lake(tmp_path), Catalog(tmp_path / "catalog"), [wanted], on_progress=look)
    assert set(seen) == {"system"}
    assert pool() == "mimalloc"


@needs_mimalloc
def test_the_last_of_several_gives_it_back() -> None:
    with ExitStack() as one, ExitStack() as other:
        one.enter_context(system_memory())
        other.enter_context(system_memory())
        one.close()
        assert pool() == "system"
        other.close()
        assert pool() == "mimalloc"


@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="the only other one to choose")
def test_a_pool_that_somebody_chose_stays() -> None:
    pa.set_memory_pool(pa.jemalloc_memory_pool())
    with system_memory():
        assert pool() == "jemalloc"
    assert pool() == "jemalloc"


@needs_mimalloc
def test_the_environment_decides_if_it_says_something() -> None:
    code = (
        "import pyarrow as pa\n"
        "from ticklake.fetching.memory import system_memory\n"
        "with system_memory(): print(pa.default_memory_pool().backend_name)"
    )
    for said, expected in (("mimalloc", "mimalloc"), (None, "system")):
        environment = {**os.environ, **({"ARROW_DEFAULT_MEMORY_POOL": said} if said else {})}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
