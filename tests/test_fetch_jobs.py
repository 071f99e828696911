"""Units side by side: the same files and reports as one after another; how errors and interrupts end them."""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crash_support import at_step, content, die, memory_folder, run_child, temporaries
from fetch_support import (
    BTC_PERP,
    DAY,
    DEFINITION,
    ETH_PERP,
    HOUR,
    SECOND,
    START,
    ask,
    made_trades,
    put_trades,
    rows_of,
)
from lake_support import RangeServer, Request
from ticklake.catalog import Catalog
from ticklake.errors import ConversionError, CorruptObjectError, MissingDataError
from ticklake.fetching import FetchProgress, FetchReport, FetchRequest, fetch, parts, plan_fetch
from ticklake.fetching.jobs import Crew, in_order
from ticklake.lake import ByteRange, Lake, ObjectPlan, RowGroupPlan, ScanPlan, SourceObject
from ticklake.lake.loop import Stop, Stopped, run
from ticklake.synth import write_synthetic_lake
from ticklake.types import DataType, InstrumentKey, Window

DAYS = 4


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read here is small, and cut all the same."""
    monkeypatch.setattr(parts, "SMALL", 1)


def times_of(day: int) -> list[int]:
    """Return times of a day, the last of which belong to the next: row groups lie on both sides."""
    return [START + day * DAY + i * 60 * SECOND + 63 * SECOND for i in range(1_440)]


def requests() -> list[FetchRequest]:
    eth = {**DEFINITION, "base": "ETH", "raw_symbol": "ETHUSDT"}
    return [ask(0, DAYS * DAY), ask(HOUR, DAYS * DAY - HOUR, key=ETH_PERP, definition=eth)]


def put_day(folder: Path, day: int, key: str = BTC_PERP, bad: Sequence[int] = (), first: int = 0) -> Path:
    times = times_of(day)
    prices = pa.array([-1.0 if i in bad else 60_000 + i % 50 / 10 for i in range(len(times))])
    ids = pa.array([str(first + day * 10_000 + i) for i in range(len(times))])
    return put_trades(folder, made_trades(times, price=prices, trade_id=ids), day, key, rows=24)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Replace pytest's by one where syncing costs nothing."""
    with memory_folder(tmp_path) as folder:
        yield folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for day in range(DAYS):
        put_day(tmp_path / "lake", day)
        put_day(tmp_path / "lake", day, ETH_PERP, bad=range(5 * day, 7 * day))
    return tmp_path / "lake"


def told(report: FetchReport) -> dict[str, Any]:
    """Return what of a report does not depend on how it was read."""
    values = report.to_dict()
    for name in ("seconds", "requests", "bytes_read"):
        del values[name]
    return values


def served(server: RangeServer, folder: Path) -> RangeServer:
    for path in folder.rglob("*.parquet"):
        server.objects[path.relative_to(folder).as_posix()] = path.read_bytes()
    return server


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield served(server, folder)


def jobs_running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ticklake-job")]


# The same, whatever the number.


def test_files_and_reports_do_not_depend_on_the_number_of_jobs(folder: Path, tmp_path: Path) -> None:
    """A hole, bad rows, and a refresh from other data."""
    made: dict[int, list[object]] = {}
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    put_day(folder, 2, ETH_PERP).unlink()
    put_day(other, 1, bad=[700, 1_439], first=1_000_000)
    for jobs in (1, 2, 4):
        catalog = Catalog(tmp_path / f"c{jobs}")
        first = fetch(Lake(folder), catalog, requests(), on_hole="skip", jobs=jobs)
        before = content(catalog.path)
        assert len(first.holes) == 1
        second = fetch(Lake(other), catalog, requests(), refresh=True, jobs=jobs)
        assert temporaries(catalog.path) == []
        made[jobs] = [told(first), before, told(second), content(catalog.path)]
        assert list(first.to_dict()["quarantine_reasons"]) == ["negative_price"]
    for jobs in (2, 4):
        assert made[jobs] == made[1]
    assert made[1][1] != made[1][3]


def test_what_is_read_here_is_cut(folder: Path, tmp_path: Path) -> None:
    (unit,) = plan_fetch(Lake(folder), Catalog(tmp_path / "c"), requests()[:1]).units
    windows = [piece.window for piece in unit.pieces]
    for jobs, count in ((1, 1), (2, 2), (4, 4)):
        assert len(parts.cut([(unit.scans[0].plan(), windows)], jobs)[0]) == count
    first, second = (unit.scans[0].part(window).plan() for window in windows[:2])
    # The last row group of the first day has the first row of the second.
    assert first.rows + second.rows == 2 * 1_440 + 24


def test_pages_of_large_files_are_the_same(tmp_path: Path) -> None:
    """Rows of a day that were filed under the day before come first, in whatever batches."""
    for day in range(2):
        times = [START + day * DAY + i * 300_000_000 + 5 * SECOND for i in range(288_000)]
        put_trades(tmp_path / "lake", made_trades(times), day, rows=14_000)
    found = []
    for jobs in (1, 2):
        report = fetch(Lake(tmp_path / "lake"), Catalog(tmp_path / f"{jobs}"), [ask(0, 2 * DAY)], jobs=jobs)
        found.append((told(report), content(tmp_path / f"{jobs}"), report.bytes_read))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] < found[1][2]


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_a_bad_row_that_is_an_error_is_the_same_error(folder: Path, tmp_path: Path, jobs: int) -> None:
    put_day(folder, 2, bad=[77])
    with pytest.raises(ConversionError, match=r"row 77\b") as caught:
        fetch(Lake(folder), Catalog(tmp_path / "c"), requests()[:1], on_bad_row="fail", jobs=jobs)
    assert caught.value.url is not None
    assert "day-2024-08-09" in caught.value.url
    assert temporaries(tmp_path / "c") == []
    assert jobs_running() == []


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_the_limit_of_bad_rows_holds_for_all_jobs_together(folder: Path, tmp_path: Path, jobs: int) -> None:
    for key in (BTC_PERP, ETH_PERP):
        for day in range(DAYS):
            put_day(folder, day, key, bad=range(400, 450) if day == 1 else ())
    with pytest.raises(ConversionError, match="more than 99 rows cannot be converted"):
        fetch(Lake(folder), Catalog(tmp_path / "c"), requests(), max_bad_rows=99, jobs=jobs)
    report = fetch(Lake(folder), Catalog(tmp_path / "c"), requests(), max_bad_rows=100, jobs=jobs)
    assert report.quarantined == {"negative_price": 100}


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_requests_that_overlap_are_reported_as_one_after_another(
    folder: Path, tmp_path: Path, jobs: int
) -> None:
    asked = [ask(0, DAY), ask(HOUR, 2 * DAY), ask(2 * DAY, 3 * DAY), ask(0, 3 * DAY)]
    report = fetch(Lake(folder), Catalog(tmp_path / "c"), asked, jobs=jobs)
    assert [window.status.value for window in report.windows] == [
        "fetched",
        "cached",
        "fetched",
        "fetched",
        "cached",
    ]
    assert len(rows_of(tmp_path / "c")) == len(set(rows_of(tmp_path / "c"))) == 3 * 1_440 - 1


@pytest.mark.parametrize("jobs", [2, 4])
def test_no_day_mixes_versions_across_parts(
    folder: Path, server: RangeServer, tmp_path: Path, jobs: int
) -> None:
    """A file with rows in two parts is overwritten when the part before is in the catalog."""
    third = next(path for path in server.objects if "day-2024-08-09" in path and "BTC" in path)
    fresh = put_day(folder, 2, first=1_000_000).read_bytes()
    first_days = (tmp_path / "c" / "data" / "trades" / "BTCUSDT-PERP.BINANCE").glob

    def overwrite(request: Request) -> None:
        is_data = request.range is not None and not request.range.startswith("bytes=-")
        if request.path == third and is_data and len(list(first_days("2024-08-0[78]*"))) < 2:
            # Parts before may have read it already; they are made again where they did.
            time.sleep(0.3)
            server.objects[third] = fresh

    server.before = overwrite
    report = fetch(Lake(server.url), Catalog(tmp_path / "c"), requests()[:1], jobs=jobs)
    assert [warning for warning in report.warnings if "was overwritten while it was being read" in warning]
    server.before = lambda _: None
    fetch(Lake(server.url), Catalog(tmp_path / "same"), requests()[:1], jobs=1)
    assert content(tmp_path / "c") == content(tmp_path / "same")
    assert report.rows == report.source_rows_written == sum(window.rows or 0 for window in report.windows)


# Errors and interrupts.


@pytest.mark.parametrize("jobs", [2, 4])
def test_an_error_stops_what_waits_for_a_socket(
    folder: Path, server: RangeServer, tmp_path: Path, jobs: int
) -> None:
    answer, stalled = threading.Event(), threading.Event()
    (broken,) = (path for path in server.objects if "day-2024-08-07" in path and "ETH" in path)
    damaged = bytearray(server.objects[broken])
    damaged[4:4_000] = bytes(3_996)
    server.objects[broken] = bytes(damaged)

    def stall(request: Request) -> None:
        data = request.range is not None and not request.range.startswith("bytes=-")
        if data and "BTC" in request.path:
            stalled.set()
            answer.wait(30)
        elif data:
            stalled.wait(10)

    server.before = stall
    began = time.monotonic()
    with pytest.raises(CorruptObjectError) as caught:
        fetch(Lake(server.url), Catalog(tmp_path / "c"), requests(), jobs=jobs)
    assert time.monotonic() - began < 8
    answer.set()
    assert caught.value.url is not None
    assert "ETH" in caught.value.url
    assert temporaries(tmp_path / "c") == []
    assert jobs_running() == []


INTERRUPTED = """
import sys
from ticklake.catalog import Catalog
from ticklake.fetching import fetch, parts
from ticklake.lake import Lake
from fetch_support import DAY, ask
parts.SMALL = 1
try:
    fetch(Lake(sys.argv[1]), Catalog(sys.argv[2]), [ask(0, 4 * DAY)], jobs=2)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("what", ["footer", "data"])
def test_ctrl_c_ends_all_jobs_at_once(server: RangeServer, tmp_path: Path, what: str) -> None:
    answer, stalled = threading.Event(), threading.Event()

    def stall(request: Request) -> None:
        is_data = request.range is not None and not request.range.startswith("bytes=-")
        if what == "footer" or (is_data and "day-2024-08-10" in request.path):
            stalled.set()
            answer.wait(30)

    server.before = stall
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, server.url, tmp_path / "c"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent,
        text=True,
    ) as process:
        try:
            assert stalled.wait(30)
            time.sleep(0.5)  # what can be complete is
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
            assert time.monotonic() - began < 3
        finally:
            answer.set()
            process.kill()
    assert (process.returncode, out.strip(), err) == (130, "interrupted", "")
    assert temporaries(tmp_path / "c") == []
    server.before = lambda _: None
    fetch(Lake(server.url), Catalog(tmp_path / "c"), requests()[:1])
    fetch(Lake(server.url), Catalog(tmp_path / "same"), requests()[:1])
    assert content(tmp_path / "c") == content(tmp_path / "same")


def killed(lake: Path, catalog: Path, number: int) -> None:
    parts.SMALL = 1
    with at_step(number, die):
        fetch(Lake(lake), Catalog(catalog), requests(), jobs=4)


def test_after_a_kill_the_rest_is_fetched(folder: Path, tmp_path: Path) -> None:
    fetch(Lake(folder), Catalog(tmp_path / "whole"), requests(), jobs=1)
    for number in (40, 90, 140):
        catalog = tmp_path / f"killed{number}"
        assert run_child(killed, folder, catalog, number) == -signal.SIGKILL
        fetch(Lake(folder), Catalog(catalog), requests(), jobs=4)
        assert content(catalog) == content(tmp_path / "whole")
        assert temporaries(catalog) == []


def test_a_hole_that_stops_writes_nothing(folder: Path, tmp_path: Path) -> None:
    put_day(folder, 2, ETH_PERP).unlink()
    with pytest.raises(MissingDataError):
        fetch(Lake(folder), Catalog(tmp_path / "c"), requests(), jobs=4)
    assert content(tmp_path / "c") == {}


# How it is done.


@pytest.mark.parametrize("jobs", [1, 4])
def test_progress_is_told_in_the_calling_thread_and_adds_up(folder: Path, tmp_path: Path, jobs: int) -> None:
    seen: list[tuple[str, FetchProgress]] = []
    report = fetch(
        Lake(folder),
        Catalog(tmp_path / "c"),
        requests(),
        jobs=jobs,
        on_progress=lambda event: seen.append((threading.current_thread().name, event)),
    )
    assert {name for name, _ in seen} == {threading.current_thread().name}
    done = [event.bytes_done for _, event in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1][1].bytes_total
    assert seen[-1][1].rows >= report.source_rows


def test_an_error_of_the_progress_callback_ends_all(folder: Path, tmp_path: Path) -> None:
    def refuse(_: FetchProgress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fetch(Lake(folder), Catalog(tmp_path / "c"), requests(), jobs=4, on_progress=refuse)
    assert temporaries(tmp_path / "c") == []
    assert jobs_running() == []


def test_footers_of_all_requests_are_read_at_once(server: RangeServer, tmp_path: Path) -> None:
    keys = [f"BINANCE-FUTURES:PERPETUAL:{name}-USDT@LIN" for name in ("AAA", "BBB", "CCC", "DDD")]
    (path,) = (path for path in server.objects if "day-2024-08-08" in path and "BTC" in path)
    for key in keys:
        server.objects[path.replace(BTC_PERP, key)] = server.objects[path]
    together = threading.Barrier(len(keys))

    def meet(request: Request) -> None:
        if request.path in server.objects:
            together.wait(5)

    server.before = meet
    asked = [ask(DAY + HOUR, DAY + 2 * HOUR, key=key, nautilus_id=f"{key[26:29]}.BINANCE") for key in keys]
    plan = plan_fetch(Lake(server.url), Catalog(tmp_path / "c"), asked)
    assert not together.broken
    assert plan.planning_requests == len(keys)


def test_instrument_lists_of_all_days_are_read_at_once(tmp_path: Path) -> None:
    write_synthetic_lake(tmp_path, start=dt.date(2024, 8, 8), days=3, trades_per_day=100, snapshots_per_day=5)
    together = threading.Barrier(3)

    def meet(request: Request) -> None:
        if "instruments" in request.path:
            together.wait(5)

    with RangeServer() as server:
        served(server, tmp_path).before = meet
        lake = Lake(f"{server.url}/market-data-tick-cefi", f"{server.url}/instruments-store-cefi")
        window = Window.parse("2024-08-08", "2024-08-11")
        asked = [FetchRequest(BTC_PERP, data, window) for data in ("trades", "book_snapshot_5")]
        fetch(lake, Catalog(tmp_path / "c"), asked, jobs=2)
        lists = [request for request in server.requests.log if "instruments" in request.path]
        assert len(lists) == 3
    assert not together.broken


def test_of_requests_for_one_file_one_reads_its_footer(server: RangeServer, tmp_path: Path) -> None:
    asked = [ask(day * DAY, day * DAY + HOUR, book_as=form) for day in (1,) for form in ("deltas", "depth")]
    fetch(Lake(server.url), Catalog(tmp_path / "c"), asked, jobs=2)
    footers = [one.path for one in server.requests.log if (one.range or "").startswith("bytes=-")]
    assert len([path for path in footers if path in server.objects]) == len(
        {path for path in footers if path in server.objects}
    )


def test_the_number_of_jobs_is_checked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="jobs is 0"):
        fetch(Lake(folder), Catalog(tmp_path / "c"), requests(), jobs=0)


# Cutting.

GROUP = 1_000
KEY, TRADES = InstrumentKey(BTC_PERP), DataType("trades")


def plan_of(days: int, groups: int, *, late: int = 0) -> tuple[ScanPlan, tuple[Window, ...]]:
    """Return the plan of days with row groups, the last of which reach into the next day."""
    found = []
    for day in range(days):
        first = START + day * DAY
        edges = [first + DAY * number // groups for number in range(groups + 1)]
        edges[-1] += late
        found.append(
            ObjectPlan(
                SourceObject(f"memory://x/{day}", "e", GROUP * groups, 1, dt.datetime.now(dt.UTC)),
                Window(first, first + 1).days[0],
                Window(first, first + DAY),
                None,  # type: ignore[arg-type]  # cutting looks at no dialect
                tuple(
                    RowGroupPlan(
                        number, 1, number, a, b - 1, a, b - 1, GROUP, (ByteRange(number, number + 1),)
                    )
                    for number, (a, b) in enumerate(pairwise(edges))
                ),
                (),
                None,
                None,
            )
        )
    window = Window(START, START + days * DAY)
    return ScanPlan(KEY, TRADES, window, tuple(found), (), ()), window.split_days()


@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 40), st.sampled_from([0, SECOND])), max_size=5
    ),
    jobs=st.integers(1, 9),
)
def test_parts_are_whole_pieces_in_order_and_cost_little(
    shapes: list[tuple[int, int, int]], jobs: int
) -> None:
    reads = [plan_of(days, groups, late=late) for days, groups, late in shapes]
    found = parts.cut(reads, jobs)
    assert len(found) == len(reads)
    for (_, pieces), windows in zip(reads, found, strict=True):
        assert [part for window in windows for part in window.split_days()] == list(pieces)
        if jobs == 1:
            assert len(windows) == 1
    extra = sum((len(windows) - 1) * (late > 0) for (_, _, late), windows in zip(shapes, found, strict=True))
    # Each half that is cut again is at least a quarter of an even share.
    assert extra <= 0.5 * sum(days * groups for days, groups, _ in shapes)


def test_work_is_cut_as_far_as_jobs_need_it_and_not_where_it_costs_too_much() -> None:
    assert [len(found) for found in parts.cut([plan_of(4, 5), plan_of(4, 5)], 2)] == [1, 1]
    assert [len(found) for found in parts.cut([plan_of(4, 5), plan_of(4, 5)], 4)] == [2, 2]
    assert [len(found) for found in parts.cut([plan_of(4, 1)], 4)] == [4]
    # A row group of four would be read twice.
    assert [len(found) for found in parts.cut([plan_of(4, 1, late=SECOND)], 4)] == [1]
    assert [len(found) for found in parts.cut([plan_of(4, 30, late=SECOND)], 2)] == [2]
    # One that cannot be cut keeps no other from being cut.
    assert [len(found) for found in parts.cut([plan_of(1, 30), plan_of(2, 12)], 3)] == [1, 2]


def test_small_work_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALL", 100 * GROUP)
    assert [len(found) for found in parts.cut([plan_of(4, 20)], 2)] == [1]
    assert [len(found) for found in parts.cut([plan_of(4, 30)], 2)] == [2]


# Threads.


def test_results_are_in_order_and_the_first_error_ends_all() -> None:
    gate = threading.Event()

    def slow(number: int) -> int:
        gate.wait(5)
        return number

    def last() -> int:
        gate.set()
        return 2

    assert in_order([lambda: slow(0), lambda: slow(1), last], 3) == [0, 1, 2]
    began: list[int] = []

    def stuck(number: int) -> int:
        began.append(number)
        return run(forever())

    async def forever() -> int:
        import asyncio

        await asyncio.sleep(60)
        return 0

    def fail() -> int:
        while not began:
            time.sleep(0.01)
        raise ZeroDivisionError

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        in_order([lambda: stuck(0), fail, lambda: stuck(1)], 2)
    assert time.monotonic() - started < 5
    assert began == [0]


def test_work_that_was_stopped_starts_nothing() -> None:
    stop = Stop()
    stop.stop()

    async def ask_nothing() -> None:
        raise AssertionError

    with pytest.raises(Stopped):
        stop.call(lambda: run(ask_nothing()))


def test_a_single_worker_is_the_calling_thread() -> None:
    crew = Crew(1)
    todo = deque([(number, threading.current_thread) for number in range(3)])
    assert dict(crew.do(todo)) == dict.fromkeys(range(3), threading.current_thread())
