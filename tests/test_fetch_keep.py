"""What is read along with a window is kept as well, as far as it is proven to be complete."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetch_support import (
    DAY,
    HOUR,
    PERP_ID,
    SECOND,
    START,
    ask,
    made_trades,
    minutes,
    put_trades,
    rows_of,
)
from lake_support import RangeServer
from ticklake.catalog import Catalog
from ticklake.errors import ConversionError
from ticklake.fetching import FetchReport, fetch, plan_fetch
from ticklake.fetching.repair import repair
from ticklake.lake import Lake
from ticklake.types import CatalogType, Window, merge_windows

MINUTE = 60 * SECOND
# A trade a minute; the hundredth row group begins at minute 100.
GROUP = 100 * MINUTE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lake of one folder: a trade a minute on two days, a hundred a row group."""
    for day in range(2):
        put_trades(tmp_path / "lake", made_trades(minutes(day)), day)
    return tmp_path / "lake"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


def covered(catalog: Catalog) -> list[tuple[int, int]]:
    """Return what is covered, as distances from `START`."""
    windows = [window for one in catalog.coverage() for window in one.windows]
    return [(window.start - START, window.end - START) for window in windows]


def files(catalog: Catalog) -> list[tuple[int, int]]:
    """Return the windows of the files, as distances from `START`."""
    found = catalog.files(CatalogType.TRADES, PERP_ID)
    return [(file.window.start - START, file.window.end - START) for file in found]


def test_the_row_groups_of_a_window_are_kept_whole(folder: Path, catalog: Catalog) -> None:
    report = fetch(Lake(folder), catalog, [ask(310 * MINUTE, 315 * MINUTE)])
    # From the row after the last one of group 2 to the first of group 4.
    assert covered(catalog) == [(299 * MINUTE + 1, 400 * MINUTE)]
    assert rows_of(catalog.path) == [str(n) for n in range(300, 400)]
    (part,) = report.to_dict()["windows"]
    assert (part["start"], part["end"]) == ("2024-08-07T05:10:00Z", "2024-08-07T05:15:00Z")
    assert part["rows"] == 5
    assert part["kept"] == {
        "start": "2024-08-07T04:59:00.000000001Z",
        "end": "2024-08-07T06:40:00Z",
        "rows": 100,
    }
    assert (report.rows, report.source_rows, report.outside) == (100, 100, 0)


def test_nothing_is_kept_beyond_the_window_where_that_is_asked_for(folder: Path, catalog: Catalog) -> None:
    report = fetch(Lake(folder), catalog, [ask(310 * MINUTE, 315 * MINUTE)], keep="window")
    assert covered(catalog) == [(310 * MINUTE, 315 * MINUTE)]
    (part,) = report.windows
    assert part.kept == part.window
    with pytest.raises(ValueError, match="keep is 'all', not one of row_groups, window"):
        fetch(Lake(folder), catalog, [ask(0, DAY)], keep="all")  # type: ignore[arg-type]  # wrong on purpose


def test_a_dry_run_tells_what_the_fetch_keeps(folder: Path, catalog: Catalog) -> None:
    asked = [ask(310 * MINUTE, 315 * MINUTE), ask(320 * MINUTE, 420 * MINUTE), ask(0, HOUR)]
    plan = plan_fetch(Lake(folder), catalog, asked)
    report = fetch(Lake(folder), catalog, asked)
    planned, done = json.loads(json.dumps(plan.to_dict()["windows"])), report.to_dict()["windows"]
    for part in planned + done:
        part["status"] = part["status"].replace("fetched", "planned")
        part["rows"] = None
        if part["kept"]:
            part["kept"]["rows"] = None
    assert planned == done
    assert [part["status"] for part in done] == ["planned", "cached", "planned", "planned"]
    assert (
        plan.bytes
        == report.bytes_read - plan_fetch(Lake(folder), Catalog(catalog.path / "other"), asked).planning_bytes
    )


def test_what_lies_beyond_the_last_row_of_a_file_is_not_known_to_be_empty(
    tmp_path: Path, catalog: Catalog
) -> None:
    """The file of a day that is not over has all rows so far."""
    put_trades(tmp_path / "lake", made_trades(minutes(count=150)))
    fetch(Lake(tmp_path / "lake"), catalog, [ask(110 * MINUTE, 115 * MINUTE)])
    assert covered(catalog) == [(99 * MINUTE + 1, 149 * MINUTE + 1)]
    put_trades(tmp_path / "lake", made_trades(minutes()))
    fetch(Lake(tmp_path / "lake"), catalog, [ask(0, DAY)])
    assert rows_of(catalog.path) == [str(n) for n in range(1_440)]


def test_midnight_is_kept_only_where_the_neighbour_was_looked_at(folder: Path, catalog: Catalog) -> None:
    fetch(Lake(folder), catalog, [ask(10 * MINUTE, 15 * MINUTE)])
    assert covered(catalog) == [(10 * SECOND, GROUP)]
    fetch(Lake(folder), catalog, [ask(DAY, DAY + 5 * MINUTE)])
    assert covered(catalog)[1:] == [(DAY, DAY + GROUP)]


def test_a_row_group_without_statistics_proves_nothing(tmp_path: Path, catalog: Catalog) -> None:
    path = put_trades(tmp_path / "lake", made_trades(minutes()))
    pq.write_table(pq.read_table(path, partitioning=None), path, row_group_size=100, write_statistics=False)
    fetch(Lake(tmp_path / "lake"), catalog, [ask(310 * MINUTE, 315 * MINUTE)])
    assert covered(catalog) == [(310 * MINUTE, 315 * MINUTE)]


def test_what_the_catalog_has_stays_as_it_is(folder: Path, catalog: Catalog) -> None:
    fetch(Lake(folder), catalog, [ask(350 * MINUTE, 360 * MINUTE)], keep="window")
    fetch(Lake(folder), catalog, [ask(310 * MINUTE, 315 * MINUTE)])
    assert files(catalog) == [
        (299 * MINUTE + 1, 350 * MINUTE),
        (350 * MINUTE, 360 * MINUTE),
    ]
    # A refresh replaces files under their names, and keeps what is read with what is missing.
    fetch(Lake(folder), catalog, [ask(355 * MINUTE, 370 * MINUTE)], refresh=True)
    assert files(catalog) == [
        (299 * MINUTE + 1, 350 * MINUTE),
        (350 * MINUTE, 360 * MINUTE),
        (360 * MINUTE, 400 * MINUTE),
    ]
    assert rows_of(catalog.path) == [str(n) for n in range(300, 400)]


def test_a_repair_brings_files_back_under_their_names(folder: Path, catalog: Catalog) -> None:
    fetch(Lake(folder), catalog, [ask(310 * MINUTE, 315 * MINUTE)], keep="window")
    (before,) = catalog.files(CatalogType.TRADES, PERP_ID)
    before.path.write_bytes(before.path.read_bytes()[:100])
    repair(Lake(folder), catalog, [ask(0, HOUR)])
    assert files(catalog) == [(310 * MINUTE, 315 * MINUTE)]


@pytest.mark.parametrize("rule", [{"on_bad_row": "fail"}, {"max_bad_rows": 0}])
@pytest.mark.parametrize("refresh", [False, True])
def test_a_bad_row_beside_the_window_does_not_fail_it(
    folder: Path, catalog: Catalog, rule: dict, refresh: bool
) -> None:
    prices = [60_000.0] * 50 + [-1.0] + [60_000.0] * 1_389
    put_trades(folder, made_trades(minutes(1), price=pa.array(prices)), 1)
    asked = [ask(DAY - 10 * MINUTE, DAY + 10 * MINUTE)]
    report = fetch(Lake(folder), catalog, asked, refresh=refresh, **rule)
    # With a limit, the first day was written by then.
    first = DAY - 10 * MINUTE if "on_bad_row" in rule else 1_399 * MINUTE + 1
    assert files(catalog) == [(first, DAY), (DAY, DAY + 10 * MINUTE)]
    assert report.source_rows == report.source_rows_written + report.outside
    assert report.rows + report.outside == 140
    with pytest.raises(ConversionError):
        fetch(Lake(folder), catalog, [ask(DAY + 45 * MINUTE, DAY + 55 * MINUTE)], **rule)
    assert len(files(catalog)) == 2
    quarantined = fetch(Lake(folder), catalog, [ask(DAY + 55 * MINUTE, DAY + 56 * MINUTE)])
    assert quarantined.quarantined == {"negative_price": 1}


def test_twelve_adjacent_windows_read_each_row_group_once(tmp_path: Path) -> None:
    """Over HTTP: of row groups that overlap in `ts_init`, the one is read again where the other begins."""
    rows = 24_000
    chance = [n * 7_919 % 5_000 for n in range(rows)]
    times = [START + n * 3_600_000_000 + chance[n] * 1_000_000 for n in range(rows)]
    put_trades(tmp_path / "lake", made_trades(times), rows=8_000)
    sent = {}
    for keep in ("row_groups", "window"):
        with RangeServer() as server:
            for path in (tmp_path / "lake").rglob("*.parquet"):
                server.objects[path.relative_to(tmp_path / "lake").as_posix()] = path.read_bytes()
            catalog, lake = Catalog(tmp_path / keep), Lake(server.url)
            planned = 0
            for number in range(12):
                # Of the second of three row groups of eight hours.
                asked = [ask(9 * HOUR + number * 5 * MINUTE, 9 * HOUR + (number + 1) * 5 * MINUTE)]
                planned += plan_fetch(lake, catalog, asked, keep=keep).bytes
                fetch(lake, catalog, asked, keep=keep)
            first = min(len(body) for body in server.objects.values())
            sent[keep] = server.requests.sent
            assert planned <= sent[keep] <= planned + 64 * 1024
            if keep == "row_groups":
                assert len(server.requests) <= 4
                assert sent[keep] < first / 3 + 64 * 1024
                assert len(files(catalog)) == 1
            found = rows_of(catalog.path)
        inside = [n for n in range(rows) if 9 * HOUR <= times[n] - START < 10 * HOUR]
        inside.sort(key=lambda n: times[n])
        start = found.index(str(inside[0]))
        assert found[start : start + len(inside)] == [str(n) for n in inside]
    assert sent["window"] > 4 * sent["row_groups"]


# Any lake


@dataclass(frozen=True)
class Made:
    """The file of a day: times of its rows, rows a row group and (with an index) a page, and statistics."""

    times: tuple[int, ...]
    rows: int
    page_rows: int | None
    statistics: bool


EDGES = (-9 * SECOND, 9 * SECOND)


@st.composite
def made_files(draw: st.DrawFn, day: int) -> Made | None:
    if draw(st.integers(0, 7)) == 0:
        return None
    spans = [
        (day * DAY + EDGES[0], day * DAY + EDGES[1]),
        (day * DAY, (day + 1) * DAY),
        (day * DAY, day * DAY + MINUTE),
        ((day + 1) * DAY + EDGES[0], (day + 1) * DAY + EDGES[1]),
    ]
    time = st.sampled_from(spans).flatmap(lambda span: st.integers(span[0], span[1]))
    times = draw(st.lists(time, max_size=20))
    order = draw(st.sampled_from(["sorted", "nearly", "any"]))
    if order != "any":
        times.sort()
    if order == "nearly" and len(times) > 4:
        times[1], times[3] = times[3], times[1]
    page_rows = draw(st.sampled_from([None, None, 1, 2, 3]))
    rows = draw(st.integers(1, 6)) if page_rows is None else draw(st.sampled_from([12, 20]))
    return Made(tuple(times), rows, page_rows, draw(st.integers(0, 5)) > 0)


moments = st.one_of(
    st.integers(0, 2 * DAY),
    st.sampled_from([0, DAY, 2 * DAY]).flatmap(lambda at: st.integers(at - 20 * SECOND, at + 20 * SECOND)),
)
asks = st.tuples(moments, moments).filter(lambda pair: pair[0] != pair[1]).map(sorted)


def put(folder: Path, day: int, made: Made) -> None:
    # So long that the index is shorter than the columns.
    ids = pa.array([f"{day}-{n}".ljust(36, "x") for n in range(len(made.times))], pa.string())
    times = [START + time for time in made.times]
    events = pa.array(times, pa.int64())
    floats = {name: pa.array([1.0] * len(times), pa.float64()) for name in ("price", "size")}
    path = put_trades(folder, made_trades(times, trade_id=ids, ts_event=events, **floats), day)
    pq.write_table(
        pq.read_table(path, partitioning=None),
        path,
        row_group_size=made.rows,
        write_statistics=made.statistics,
        **({} if made.page_rows is None else paged(made.page_rows)),
    )


def paged(rows: int) -> dict[str, Any]:
    """Return what makes pyarrow write pages of so many rows, with a page index."""
    return {
        "write_page_index": True,
        "write_batch_size": rows,
        "data_page_size": 1,
        "use_dictionary": False,
        "compression": "none",
    }


def test_pages_around_a_window_are_kept_as_far_as_the_index_proves_them_complete(
    tmp_path: Path, catalog: Catalog
) -> None:
    ids = pa.array([str(n).ljust(36, "x") for n in range(1_440)])
    path = put_trades(tmp_path / "lake", made_trades(minutes(), trade_id=ids))
    pq.write_table(pq.read_table(path, partitioning=None), path, row_group_size=720, **paged(40))
    fetch(Lake(tmp_path / "lake"), catalog, [ask(310 * MINUTE, 315 * MINUTE)])
    found = rows_of(catalog.path)
    first = int(found[0].strip("x"))
    # One page, from the row after the last one of the page before to the first of the next.
    assert first in range(271, 311)
    assert found == ids[first : first + 40].to_pylist()
    assert covered(catalog) == [((first - 1) * MINUTE + 1, (first + 40) * MINUTE)]


def expected(folder: Path, windows: list[Window]) -> list[str]:
    """Return the ids of all rows of windows in order, as DuckDB reads the files."""
    if not list(folder.rglob("*.parquet")) or not windows:
        return []
    condition = " or ".join(f"(ts_init >= {one.start} and ts_init < {one.end})" for one in windows)
    rows = duckdb.sql(
        f"select trade_id from read_parquet('{folder}/**/*.parquet', filename = true, "
        f"file_row_number = true) where {condition} order by ts_init, filename, file_row_number"
    )
    return [row[0] for row in rows.fetchall()]


def accounts(report: FetchReport) -> bool:
    return report.source_rows == report.source_rows_written + report.outside + report.source_rows_quarantined


@settings(max_examples=60, deadline=None)
@given(
    days=st.tuples(*(made_files(day) for day in range(-1, 3))),
    asked=st.lists(asks, min_size=1, max_size=4),
    at_once=st.booleans(),
)
def test_what_is_kept_is_all_of_it_once_and_costs_nothing(
    days: tuple[Made | None, ...], asked: list[list[int]], at_once: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, catalog = Path(name) / "lake", Catalog(Path(name) / "catalog")
        folder.mkdir()
        for day, made in enumerate(days, -1):
            if made is not None:
                put(folder, day, made)
        lake = Lake(folder)
        for pairs in [asked] if at_once else [[each] for each in asked]:
            requests = [ask(*pair) for pair in pairs]
            held = catalog.coverage()
            before = [window for one in held for window in one.windows]
            narrow = plan_fetch(lake, catalog, requests, keep="window")
            plan = plan_fetch(lake, catalog, requests)
            assert plan.bytes <= narrow.bytes
            assert plan.requests <= narrow.requests
            report = fetch(lake, catalog, requests, on_hole="skip")
            assert accounts(report)
            written = [part.kept for part in report.windows if part.rows is not None]
            for kept in written:
                assert kept is not None
                assert len(kept.days) == 1
                assert not any(kept.intersect(window) for window in before)
            after = [window for one in catalog.coverage() for window in one.windows]
            assert list(merge_windows([*before, *written])) == after
            assert sum(part.kept_rows or 0 for part in report.windows) == report.rows
            for part in report.windows:
                if part.rows is not None:
                    assert part.rows == len(expected(folder, [part.window]))
        assert rows_of(catalog.path) == expected(folder, after)
