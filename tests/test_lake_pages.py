"""Files with a page index: only the pages that a window needs, every row of it, and no trust in the index."""

from __future__ import annotations

import datetime as dt
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fetch_support import DAY as A_DAY
from fetch_support import HOUR, START, ask, files_of, made_trades, put_trades, rows_of
from lake_support import DAY, DAY_START, PERP, SECOND, RangeServer, Request, parquet, tick_path, trades
from ticklake.catalog import Catalog, read_provenance
from ticklake.config import StorageConfig
from ticklake.errors import CorruptObjectError
from ticklake.fetching import fetch
from ticklake.lake import Lake, rowgroups, scan
from ticklake.lake.footers import FOOTER_GUESS
from ticklake.parquet.structure import PageHeader, Structure, page_headers
from ticklake.types import Window

VALUES = ["price", "size", "aggressor_side", "trade_id"]


def put(folder: Path, data: bytes) -> Lake:
    path = folder / tick_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Lake(folder)


def structure_of(data: bytes) -> Structure:
    return Structure.parse(data[-8 - int.from_bytes(data[-8:-4], "little") : -8])


# Rows and the ways to write them


TIME_TYPES = [pa.int64(), pa.uint64(), pa.timestamp("ns"), pa.timestamp("us", "UTC")]
TIMES = st.lists(st.integers(0, 86_399), min_size=1, max_size=150)


@st.composite
def files(draw: st.DrawFn) -> tuple[pa.Table, bytes]:
    """Return a file, mostly with a page index, and what is in it."""
    seconds = draw(TIMES)
    if draw(st.booleans()):
        seconds = sorted(seconds)
    table = trades([DAY_START + second * SECOND for second in seconds])
    times: pa.Array = table["ts_init"].combine_chunks()
    if draw(st.booleans()):
        gone = draw(st.lists(st.booleans(), min_size=len(seconds), max_size=len(seconds)))
        times = pa.array(
            [None if no else t for no, t in zip(gone, times.to_pylist(), strict=True)], pa.int64()
        )
    kind = draw(st.sampled_from(TIME_TYPES))
    if pa.types.is_timestamp(kind):
        times = times.cast(pa.timestamp("ns"))
    nulls = draw(st.booleans())
    prices = [None if nulls and second % 5 == 0 else float(second) for second in seconds]
    ids = pa.array([f"{second % 7}" * (1 + second % 40) for second in seconds])
    sides = pa.array(["buy" if second % 2 else "sell" for second in seconds])
    changes = {
        "ts_init": times.cast(kind),
        "price": pa.array(prices, pa.float64()),
        "trade_id": ids.cast(draw(st.sampled_from([pa.string(), pa.large_string()]))),
        "size": table["size"].cast(draw(st.sampled_from([pa.float64(), pa.decimal128(12, 3)]))),
        "aggressor_side": draw(st.sampled_from([sides, sides.dictionary_encode(), table["aggressor_side"]])),
    }
    for name, column in changes.items():
        table = table.set_column(table.column_names.index(name), name, column)
    data = parquet(
        table,
        rows_per_group=draw(st.integers(1, 150)),
        write_page_index=draw(st.sampled_from([True, True, False])),
        data_page_size=draw(st.integers(1, 300)),
        write_batch_size=draw(st.integers(1, 20)),
        use_dictionary=draw(st.sampled_from([True, False, ["trade_id"]])),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        compression=draw(st.sampled_from(["none", "snappy", "zstd"])),
        write_page_checksum=draw(st.booleans()),
    )
    return table, data


def by_polars(data: bytes, window: Window) -> list[tuple[Any, ...]]:
    frame = pl.read_parquet(io.BytesIO(data), columns=["ts_init", *VALUES])
    nanos = pl.col("ts_init")
    if isinstance(frame.schema["ts_init"], pl.Datetime):
        nanos = nanos.dt.replace_time_zone(None).cast(pl.Datetime("ns")).cast(pl.Int64)
    found = frame.filter((nanos >= window.start) & (nanos < window.end)).sort("ts_init", maintain_order=True)
    return found.select(VALUES).rows()


@given(
    files(),
    st.integers(0, 86_399),
    st.integers(1, 40_000),
    st.sampled_from([1, scan.MAX_GAP]),
    st.sampled_from([1, 50, rowgroups.SHARE]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_are_those_of_the_whole_file(
    tmp_path: Path, file: tuple[pa.Table, bytes], start: int, length: int, max_gap: int, share: int
) -> None:
    table, data = file
    window = Window(DAY_START + start * SECOND, DAY_START + min(start + length, 86_400) * SECOND)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "MAX_GAP", max_gap)
        patch.setattr(rowgroups, "SHARE", share)
        patch.setattr(rowgroups, "DECODERS", 3)
        found = put(tmp_path, data).scan(PERP, "trades", window)
        plan, got = found.plan(), found.to_table()
        batches = list(found.batches())
    assert pl.DataFrame(got.select(VALUES)).rows() == by_polars(data, window)
    assert plan.rows == sum(batch.table.num_rows for batch in batches)
    for position, batch in enumerate(batches):
        there = table.slice(batch.first_row, batch.table.num_rows).select(batch.table.column_names)
        assert batch.table.to_pylist() == there.to_pylist()
        coming = [
            time
            for one in batches[position + 1 :]
            for time in nanos_of(one.table)
            if time is not None and window.start <= time < window.end
        ]
        assert not coming or (batch.watermark is not None and batch.watermark <= min(coming))


def nanos_of(table: pa.Table) -> list[int | None]:
    column = table["ts_init"]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ns", column.type.tz))
    found: list[int | None] = column.cast(pa.int64()).to_pylist()
    return found


# What moves


ROWS = 200_000
RANDOM = np.random.default_rng(1)
LARGE = made_trades(
    [DAY_START + n * SECOND // 4 for n in range(ROWS)],
    price=pa.array(RANDOM.uniform(1, 2, ROWS)),
    size=pa.array(RANDOM.uniform(1, 2, ROWS)),
)


@pytest.fixture(scope="module")
def large() -> bytes:
    sink = io.BytesIO()
    pq.write_table(LARGE, sink, row_group_size=ROWS, write_page_index=True, use_dictionary=False)
    return sink.getvalue()


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


def lake(server: RangeServer) -> Lake:
    return Lake(server.url, storage=StorageConfig(max_retries=0))


def test_only_the_pages_of_the_window_are_fetched(server: RangeServer, large: bytes, tmp_path: Path) -> None:
    server.objects[tick_path()] = large
    source = lake(server)
    first, later = (Window(DAY_START + s * SECOND, DAY_START + (s + 300) * SECOND) for s in (9_000, 40_000))
    found = source.scan(PERP, "trades", first)
    plan = found.plan()
    assert server.requests.ranges == [f"bytes=-{FOOTER_GUESS}"], "the index came with the footer"
    (group,) = plan.objects[0].row_groups
    # 1,200 rows in one page of 20,000, of ten.
    assert (group.rows, group.first_row) == (20_000, 20_000)
    assert plan.bytes < len(large) / 4
    assert found.to_table().equals(LARGE.slice(36_000, 1_200).select(found.to_table().column_names))
    server.requests.clear()
    found = source.scan(PERP, "trades", later)
    ids = found.to_table()["trade_id"].to_pylist()
    assert server.requests.sent == found.plan().bytes < len(large) / 4
    (tmp_path / "large.parquet").write_bytes(large)
    sql = f"select trade_id from '{tmp_path}/large.parquet' where ts_init between ? and ? order by ts_init"
    assert duckdb.execute(sql, [later.start, later.end - 1]).fetchall() == [(one,) for one in ids]


def test_an_index_beyond_the_guess_is_one_more_request(server: RangeServer) -> None:
    table = LARGE.slice(0, 50_000)
    server.objects[tick_path()] = data = parquet(
        table, rows_per_group=50_000, write_page_index=True, write_batch_size=50, data_page_size=500
    )
    source = lake(server)
    window = Window(DAY_START + 100 * SECOND, DAY_START + 101 * SECOND)
    plan = source.scan(PERP, "trades", window).plan()
    assert len(server.requests) == 2
    assert plan.rows < 50_000
    index = structure_of(data).row_groups[0].chunk(0).offset_index
    assert index is not None
    server.requests.clear()
    assert source.scan(PERP, "trades", window).to_table().num_rows == 4
    assert len(server.requests) == plan.requests, "it is kept"


def test_a_window_of_whole_row_groups_reads_no_index(server: RangeServer) -> None:
    table = LARGE.slice(0, 50_000)
    server.objects[tick_path()] = parquet(
        table, rows_per_group=50_000, write_page_index=True, write_batch_size=50, data_page_size=500
    )
    assert lake(server).scan(PERP, "trades", Window.of_day(DAY)).plan().rows == 50_000
    assert [request.status for request in server.requests.log if request.path == tick_path()] == [206]


# Indexes that are wrong


SMALL = trades([DAY_START + n * SECOND for n in range(400)])
SMALL_FILE = parquet(
    SMALL.drop_columns(["noise", "instrument_key"]),
    rows_per_group=400,
    write_page_index=True,
    write_batch_size=20,
    data_page_size=100,
    use_dictionary=False,
)
SMALL_WINDOW = Window(DAY_START + 100 * SECOND, DAY_START + 150 * SECOND)


def rows(folder: Path, data: bytes, window: Window = SMALL_WINDOW) -> list[str]:
    found: list[str] = put(folder, data).scan(PERP, "trades", window).to_table()["trade_id"].to_pylist()
    return found


def test_the_small_file_is_read_by_its_index(tmp_path: Path) -> None:
    plan = put(tmp_path, SMALL_FILE).scan(PERP, "trades", SMALL_WINDOW).plan()
    assert 50 <= plan.rows < 150
    assert rows(tmp_path, SMALL_FILE) == [str(n) for n in range(100, 150)]


def test_whatever_is_flipped_in_places_and_row_numbers_is_seen_or_does_no_harm(tmp_path: Path) -> None:
    group = structure_of(SMALL_FILE).row_groups[0]
    refused = 0
    for column in range(group.columns):
        index = group.chunk(column).offset_index
        assert index is not None
        for position in range(index.start, index.end):
            spoilt = bytearray(SMALL_FILE)
            spoilt[position] ^= 1 << position % 8
            try:
                found = rows(tmp_path, bytes(spoilt))
            except CorruptObjectError:
                refused += 1
            else:
                assert found == [str(n) for n in range(100, 150)], (column, position)
    assert refused > 300


def test_bounds_that_do_not_hold_are_refused(tmp_path: Path) -> None:
    group = structure_of(SMALL_FILE).row_groups[0]
    index = group.chunk(group.columns - 1).column_index
    assert index is not None
    told = SMALL_FILE[index.start : index.end]
    bounds = {told[i : i + 8] for i in range(len(told) - 7)}
    within = [n for n in range(101, 149) if (DAY_START + n * SECOND).to_bytes(8, "little") in bounds]
    assert within, "bounds of pages in the window"
    for n in within:
        true, wrong = ((DAY_START + m * SECOND).to_bytes(8, "little") for m in (n, n - 1 + 2 * (n % 20 == 0)))
        spoilt = SMALL_FILE[: index.start] + told.replace(true, wrong) + SMALL_FILE[index.end :]
        with pytest.raises(CorruptObjectError, match="the page index says"):
            rows(tmp_path, spoilt)


@pytest.mark.parametrize("cut", [1, 5])
def test_an_index_without_some_pages_is_refused(tmp_path: Path, cut: int) -> None:
    index = structure_of(SMALL_FILE).row_groups[0].chunk(0).offset_index
    assert index is not None
    told = bytearray(SMALL_FILE[index.start : index.end])
    assert told[0] == 0x19
    long_form = told[1] >> 4 == 15
    told[2 if long_form else 1] -= cut if long_form else cut << 4
    with pytest.raises(CorruptObjectError, match="page index"):
        rows(tmp_path, SMALL_FILE[: index.start] + bytes(told) + SMALL_FILE[index.end :])


def test_damaged_headers_are_seen_where_the_window_needs_all_pages_of_the_index(tmp_path: Path) -> None:
    group = structure_of(SMALL_FILE).row_groups[0]
    chunk = group.chunk(group.columns - 1)
    window = Window(DAY_START + SECOND, DAY_START + 400 * SECOND)
    refused = 0
    for page in page_headers(chunk, lambda wanted: SMALL_FILE[wanted.start : wanted.end]):
        for position in range(page.start, page.body):
            spoilt = bytearray(SMALL_FILE)
            spoilt[position] ^= 1 << position % 8
            try:
                found = rows(tmp_path, bytes(spoilt), window)
            except CorruptObjectError:
                refused += 1
            else:
                assert found == [str(n) for n in range(1, 400)], (page, position)
    assert refused > 50


# Pages that tell their times themselves


BY_HEADERS = parquet(
    SMALL.drop_columns(["noise", "instrument_key"]),
    rows_per_group=400,
    write_batch_size=20,
    data_page_size=100,
    use_dictionary=False,
    write_page_checksum=True,
)


def pages_by_headers(column: int) -> list[PageHeader]:
    chunk = structure_of(BY_HEADERS).row_groups[0].chunk(column)
    return list(page_headers(chunk, lambda wanted: BY_HEADERS[wanted.start : wanted.end]))


def test_only_pages_with_rows_of_the_window_are_decoded(tmp_path: Path) -> None:
    decoded = 0
    for column in range(structure_of(BY_HEADERS).row_groups[0].columns):
        end = 0
        for page in pages_by_headers(column):
            first, end = end, end + page.values
            spoilt = bytearray(BY_HEADERS)
            # Its checksum tells, if anybody looks at the page.
            spoilt[page.end - 1] ^= 1
            if first < 150 and end > 100:
                with pytest.raises(CorruptObjectError):
                    rows(tmp_path, bytes(spoilt))
                decoded += 1
            else:
                assert rows(tmp_path, bytes(spoilt)) == [str(n) for n in range(100, 150)]
    assert decoded >= 2 * 6


def test_headers_that_contradict_the_rows_are_refused(tmp_path: Path) -> None:
    seen = 0
    for page in pages_by_headers(structure_of(BY_HEADERS).row_groups[0].columns - 1):
        header = BY_HEADERS[page.start : page.body]
        for n in range(101, 149):
            true, wrong = (
                (DAY_START + m * SECOND).to_bytes(8, "little") for m in (n, n - 1 + 2 * (n % 20 == 0))
            )
            if true in header:
                spoilt = BY_HEADERS[: page.start] + header.replace(true, wrong) + BY_HEADERS[page.body :]
                with pytest.raises(CorruptObjectError, match="the page header says"):
                    rows(tmp_path, spoilt)
                seen += 1
    assert seen >= 4


def test_headers_that_contradict_the_footer_are_refused(tmp_path: Path) -> None:
    times = structure_of(BY_HEADERS).row_groups[0].columns - 1
    page = pages_by_headers(times)[0]
    header = BY_HEADERS[page.start : page.body]
    true, wrong = ((DAY_START + m * SECOND).to_bytes(8, "little") for m in (0, -1))
    assert true in header
    spoilt = BY_HEADERS[: page.start] + header.replace(true, wrong) + BY_HEADERS[page.body :]
    with pytest.raises(CorruptObjectError, match="the footer says"):
        rows(tmp_path, spoilt)


# Counts


def test_what_a_piece_counts_depends_on_its_window_alone(tmp_path: Path) -> None:
    # A row group over midnight, in pages of twenty rows; of the day, but for the last five seconds of it.
    times = [START + A_DAY - 200 * SECOND + n * SECOND for n in range(205)]
    path = put_trades(tmp_path / "lake", made_trades(times))
    put_trades(tmp_path / "lake", made_trades([START + A_DAY + n * SECOND for n in range(5, 300)]), day=1)
    for file in (tmp_path / "lake").rglob("*.parquet"):
        pq.write_table(
            pq.read_table(file, partitioning=None),
            file,
            row_group_size=400,
            write_page_index=True,
            write_batch_size=20,
            data_page_size=100,
            use_dictionary=False,
        )
    source = Lake(tmp_path / "lake")
    spans = [(23 * HOUR + 3_500 * SECOND, A_DAY), (A_DAY, A_DAY + 100 * SECOND)]
    fetch(source, Catalog(tmp_path / "whole"), [ask(spans[0][0], spans[1][1])], keep="window")
    for span in spans:
        fetch(source, Catalog(tmp_path / "parts"), [ask(*span)], keep="window")
    assert files_of(tmp_path / "whole") == files_of(tmp_path / "parts")
    assert rows_of(tmp_path / "whole") == [str(n) for n in range(100, 205)] + [str(n) for n in range(95)]
    counts = [
        read_provenance(file).counts
        for file in sorted((tmp_path / "whole" / "data/trades").rglob("*.parquet"))
    ]
    assert [count["written"] for count in counts] == [100, 100]
    assert all(100 <= count["read"] < 160 for count in counts), counts
    assert path.exists()


# Several objects


@pytest.mark.parametrize("indexed", [False, True])
def test_windows_over_several_objects_overlap_their_requests(server: RangeServer, indexed: bool) -> None:
    for number in range(3):
        day = DAY + dt.timedelta(number)
        start = Window.of_day(day).start
        table = made_trades(
            [start + n * 17 * SECOND // 40 for n in range(ROWS)], price=LARGE["price"], size=LARGE["size"]
        )
        options: dict[str, Any] = {"write_page_index": indexed, "use_dictionary": False}
        server.objects[tick_path(day=day)] = parquet(table, rows_per_group=ROWS // 4, **options)
    lock, trips = threading.Lock(), [0]

    def late(request: Request) -> None:
        with lock:
            mine = trips[0] + 1
        time.sleep(0.25)
        with lock:
            trips[0] = max(trips[0], mine)

    server.before = late
    source = Lake(server.url, storage=StorageConfig(max_retries=0, max_concurrency=32))
    for hour, most in ((20, 2), (22, 1)):
        window = Window(DAY_START + hour * 3_600 * SECOND, DAY_START + (48 + 24 - hour) * 3_600 * SECOND)
        trips[0] = 0
        assert source.scan(PERP, "trades", window).to_table().num_rows > ROWS
        assert trips[0] == most, server.requests.log
