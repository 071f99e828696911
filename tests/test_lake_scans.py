"""Scans of whole lakes: windows across days and files, against other readers."""

from __future__ import annotations

import datetime as dt
import io
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake_support import DAY, DAY_START, PERP, SECOND, parquet, tick_path, trades
from ticklake.config import DialectConfig, LayoutConfig, StorageConfig
from ticklake.conversion import Converter
from ticklake.errors import CorruptObjectError, MissingDataError, SourceSchemaError
from ticklake.lake import Lake, Store, StoreUrl, Transfer
from ticklake.types import NANOS_PER_DAY, DataType, InstrumentKey, InstrumentSpec, Window

NEXT_DAY = DAY + dt.timedelta(1)
MIDNIGHT = DAY_START + NANOS_PER_DAY
BARE = PERP.removesuffix("@LIN")
SPEC = InstrumentSpec("BTCUSDT-PERP.BINANCE", price_precision=1, size_precision=3)
NOON = Window(DAY_START + NANOS_PER_DAY // 2, DAY_START + NANOS_PER_DAY // 2 + 60 * SECOND)


def memory() -> tuple[Lake, Store]:
    """Return an empty lake in memory, and the store to fill it through."""
    url = f"memory://{uuid.uuid4()}"
    return Lake(url), Store(StoreUrl.parse(url), StorageConfig(), Transfer())


@pytest.mark.parametrize("length", [0, 3, 11, 500, -1])
def test_a_file_that_is_not_whole_is_told_with_what_to_do_about_it(tmp_path: Path, length: int) -> None:
    path = tmp_path / tick_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(parquet(trades([NOON.start]))[:length])
    with pytest.raises(CorruptObjectError) as caught:
        Lake(tmp_path).scan(PERP, "trades", NOON).plan()
    size, told = path.stat().st_size, str(caught.value)
    assert told.startswith(f"not a Parquet file, or a truncated one of {size:,} bytes (object ")
    assert "). Upload it again, or ask for another window" in told


# Windows against a full read by another library

SLACK = 5 * SECOND


@st.composite
def lakes(draw: st.DrawFn) -> tuple[pa.Table, int, bool, str, Window]:
    """Draw trades around a midnight, in disorder within the slack, how they are written, and a window."""
    unit = draw(st.sampled_from(["ns", "us"]))
    step = 1 if unit == "ns" else 1_000
    rows = draw(st.integers(0, 60))
    spread = draw(st.sampled_from([50, SECOND, 20 * SECOND, 20 * 3_600 * SECOND]))
    events = sorted(draw(st.lists(st.integers(-spread, spread), min_size=rows, max_size=rows)))
    late = draw(st.lists(st.integers(-SLACK, SLACK), min_size=rows, max_size=rows))
    ts_event = [(MIDNIGHT + event) // step * step for event in events]
    ts_init = [
        min(max(event + delay, event - SLACK), event + SLACK) // step * step
        for event, delay in zip(ts_event, late, strict=True)
    ]
    edges = [MIDNIGHT - 25, MIDNIGHT, MIDNIGHT + 1, *ts_init]
    start = draw(st.sampled_from(edges) | st.integers(MIDNIGHT - 2 * spread, MIDNIGHT + spread))
    length = draw(st.integers(1, 2 * spread))
    return (
        trades(ts_init, ts_event=ts_event),
        draw(st.integers(1, 20)),
        draw(st.booleans()),
        unit,
        Window(start, start + length),
    )


def in_tardis_dialect(table: pa.Table) -> pa.Table:
    times = {name: pa.array(n // 1_000 for n in table[name].to_pylist()) for name in ("ts_event", "ts_init")}
    return pa.table(
        {
            "timestamp": times["ts_event"].cast(pa.int64()),
            "local_timestamp": times["ts_init"].cast(pa.int64()),
            "id": table["trade_id"],
            "side": pa.array(["buy"] * table.num_rows, pa.string()),
            "price": table["price"],
            "amount": table["size"],
        }
    )


@settings(max_examples=150)
@given(lakes())
def test_a_window_is_what_a_full_read_and_a_filter_give(
    case: tuple[pa.Table, int, bool, str, Window],
) -> None:
    table, rows_per_group, statistics, unit, window = case
    url = f"memory://{uuid.uuid4()}"
    lake = Lake(url, partition_slack=SLACK)
    store = Store(StoreUrl.parse(url), StorageConfig(), Transfer())
    days = [(event // NANOS_PER_DAY) for event in table["ts_event"].to_pylist()]
    files: list[bytes] = []
    for day in sorted(set(days)):
        part = table.filter(pa.array([d == day for d in days]))
        part = part if unit == "ns" else in_tardis_dialect(part)
        files.append(parquet(part, rows_per_group=rows_per_group, write_statistics=statistics))
        store.put(tick_path(day=dt.date(1970, 1, 1) + dt.timedelta(day)), files[-1])
    scan = lake.scan(PERP, "trades", window)
    plan = scan.plan()

    clock, factor, trade_id = ("ts_init", 1, "trade_id") if unit == "ns" else ("local_timestamp", 1_000, "id")
    expected: list[str] = []
    if files:
        whole = pl.concat([pl.read_parquet(io.BytesIO(data)) for data in files])
        inside = whole.filter(
            (pl.col(clock) * factor >= window.start) & (pl.col(clock) * factor < window.end)
        )
        expected = inside.sort(clock, maintain_order=True)[trade_id].to_list()
    got = scan.to_table(on_hole="skip")[trade_id].to_pylist() if plan.objects else []
    assert got == expected
    assert plan.notes == ()
    assert plan.rows >= len(expected)
    present = {dt.date(1970, 1, 1) + dt.timedelta(day) for day in days}
    assert set(plan.absent_days) == set(window.days) - present

    # A watermark holds for all that follows.
    batches = list(scan.batches(max_in_flight_bytes=1))
    least = [min(batch.table[clock].to_pylist()) * factor for batch in batches]
    for position, batch in enumerate(batches):
        rest = least[position + 1 :]
        assert (batch.watermark is None) == (not rest)
        assert not rest or batch.watermark is None or batch.watermark <= min(rest)
        if statistics and rest:
            assert batch.watermark == min(rest)


# Files and days


class TestDays:
    def test_a_file_without_the_suffix_serves_where_there_is_none_with_it(self) -> None:
        lake, store = memory()
        store.put(tick_path(BARE), parquet(trades([NOON.start])))
        scan = lake.scan(PERP, "trades", NOON)
        assert scan.to_table().num_rows == 1
        assert scan.plan().objects[0].source.url.endswith("/BINANCE-FUTURES:PERPETUAL:BTC-USDT.parquet")
        assert lake.transfer.requests == 2, "one for each name, none again"

    def test_the_file_with_the_suffix_goes_first(self) -> None:
        lake, store = memory()
        store.put(tick_path(BARE), parquet(trades([NOON.start])))
        store.put(tick_path(PERP), parquet(trades([NOON.start, NOON.start + 1])))
        assert lake.scan(PERP, "trades", NOON).to_table().num_rows == 2
        assert lake.transfer.requests == 1
        # The key without suffix names the other file.
        assert lake.scan(BARE, "trades", NOON).to_table().num_rows == 1

    def test_a_day_without_file_is_absent(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(trades([NOON.start])))
        two_days = lake.scan(PERP, "trades", Window(DAY_START, MIDNIGHT + NANOS_PER_DAY)).plan()
        assert two_days.absent_days == (NEXT_DAY,)
        assert [item.day for item in two_days.objects] == [DAY]
        assert lake.scan(PERP, "trades", Window(DAY_START, MIDNIGHT)).plan().absent_days == ()
        nothing = lake.scan("X:SPOT:A-B", "trades", NOON)
        assert nothing.plan().absent_days == (DAY,)
        assert list(nothing.batches()) == []

    def test_a_day_that_appears_is_seen(self) -> None:
        lake, store = memory()
        before = lake.scan(PERP, "trades", NOON)
        assert before.plan().absent_days == (DAY,)
        store.put(tick_path(), parquet(trades([NOON.start])))
        assert lake.scan(PERP, "trades", NOON).plan().absent_days == ()
        assert before.plan() is before.plan(), "a plan that was shown is the one that is carried out"

    def test_a_file_without_rows_is_there(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(trades([])))
        scan = lake.scan(PERP, "trades", NOON)
        assert scan.plan().absent_days == ()
        table = scan.to_table()
        assert table.num_rows == 0
        assert table.column_names == ["ts_init", "ts_event", "price", "size", "aggressor_side", "trade_id"]

    def test_rows_far_outside_their_day_are_noted(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(trades([NOON.start, MIDNIGHT + 60 * SECOND])))
        (note,) = lake.scan(PERP, "trades", NOON).plan().notes
        assert "partition_slack" in note

    @pytest.mark.parametrize(
        "layout",
        [
            "default",
            "hive",
            LayoutConfig(ticks="{instrument}/{data_type}/{date}.parquet", instruments="{date}"),
            LayoutConfig(ticks="{data_type}/x-{date}/{instrument}", instruments="{date}"),
        ],
        ids=str,
    )
    def test_days_are_those_with_a_file(self, layout: str | LayoutConfig) -> None:
        url = f"memory://{uuid.uuid4()}/some/folder"
        lake = Lake(url, layout=layout)
        store = Store(StoreUrl.parse(url), StorageConfig(), Transfer())
        key, bare = InstrumentKey(PERP), InstrumentKey(BARE)
        other = InstrumentKey("X:SPOT:A-B")
        trade, book = DataType("trades"), DataType("book_snapshot_5")
        for data_type, day, k in [
            (trade, NEXT_DAY, key),
            (trade, DAY, bare),
            (trade, DAY, key),
            (book, DAY + dt.timedelta(5), key),
            (trade, DAY + dt.timedelta(6), other),
        ]:
            store.put(lake.layout.tick_paths(data_type, day, k)[0], b"x")
        store.put("README.md", b"x")
        assert lake.days(PERP, "trades") == (DAY, NEXT_DAY)
        assert lake.days(BARE, "trades") == (DAY,)
        assert lake.days(PERP, "book_snapshot_5") == (DAY + dt.timedelta(5),)
        assert lake.days("NOT:THERE:X", "trades") == ()
        assert sorted((f.data_type, f.day, f.instrument, f.size) for f in lake.list()) == [
            ("book_snapshot_5", DAY + dt.timedelta(5), PERP, 1),
            ("trades", DAY, BARE, 1),
            ("trades", DAY, PERP, 1),
            ("trades", NEXT_DAY, PERP, 1),
            ("trades", DAY + dt.timedelta(6), other.text, 1),
        ]

    def test_times_that_are_null_are_in_no_window(self) -> None:
        lake, store = memory()
        table = trades([NOON.start, NOON.start + 1])
        table = table.set_column(
            table.schema.names.index("ts_init"), "ts_init", pa.array([None, NOON.start + 1], pa.int64())
        )
        store.put(tick_path(), parquet(table))
        scan = lake.scan(PERP, "trades", NOON)
        assert scan.to_table()["trade_id"].to_pylist() == ["1"]
        assert next(iter(scan.batches())).table.num_rows == 2, "the conversion accounts for the other"


class TestHoles:
    def test_a_table_of_a_window_with_holes_is_an_error_that_lists_them(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(trades([NOON.start])))
        start = DAY_START - 3_600 * SECOND
        scan = lake.scan(PERP, "trades", Window(start, MIDNIGHT + 1))
        with pytest.raises(MissingDataError, match="no file for 2 days of the window") as caught:
            scan.to_table()
        assert caught.value.holes == (
            f"{PERP} trades 2024-08-07T23:00:00Z/2024-08-08T00:00:00Z",
            f"{PERP} trades 2024-08-09T00:00:00Z/2024-08-09T00:00:00.000000001Z",
        )
        assert all(hole in str(caught.value) for hole in caught.value.holes)
        assert 'on_hole="skip"' in str(caught.value)
        assert scan.to_table(on_hole="skip")["trade_id"].to_pylist() == ["0"]
        with pytest.raises(ValueError, match="stop, skip"):
            scan.to_table(on_hole="ignore")  # type: ignore[arg-type]  # wrong on purpose

    @pytest.mark.parametrize("on_hole", ["stop", "skip"])
    def test_a_window_of_holes_alone_has_no_columns(self, on_hole: Literal["stop", "skip"]) -> None:
        lake, _ = memory()
        with pytest.raises(MissingDataError, match="no file for 1 day") as caught:
            lake.scan(PERP, "trades", NOON).to_table(on_hole=on_hole)
        assert "skip" not in str(caught.value)
        assert "@LIN" not in str(caught.value).replace(PERP, "")

    def test_a_key_without_suffix_may_want_one(self) -> None:
        lake, store = memory()
        store.put(tick_path(PERP), parquet(trades([NOON.start])))
        with pytest.raises(MissingDataError, match="@LIN or @INV"):
            lake.scan(BARE, "trades", NOON).to_table()
        assert lake.transfer.requests == 1


class TestTimesWithoutStatistics:
    """What statistics tell a plan is found out from the rows where there are none."""

    @pytest.mark.parametrize("unit", ["s", "ms", "ns"])
    def test_a_wrong_unit_is_an_error(self, unit: str) -> None:
        lake, store = memory()
        table = in_tardis_dialect(trades([NOON.start + n * SECOND for n in range(10)]))
        store.put(tick_path(), parquet(table, rows_per_group=3, write_statistics=False))
        wrong = {"unit": unit, "ts_event": "timestamp", "price": "price", "size": "amount"}
        scan = lake.scan(PERP, "trades", NOON, dialect=wrong)
        with pytest.raises(SourceSchemaError, match="no row is within a day of 2024-08-08") as caught:
            list(scan.batches())
        assert caught.value.url is not None
        assert "unit" in str(caught.value)
        right = lake.scan(PERP, "trades", NOON, dialect=wrong | {"unit": "us"})
        assert right.to_table().num_rows == 10

    @pytest.mark.parametrize(
        "times",
        [[NOON.start, MIDNIGHT + 60 * SECOND], [DAY_START - 11 * SECOND, NOON.start], [-5, NOON.start]],
    )
    def test_rows_far_outside_their_day_are_noted_in_the_same_words(self, times: list[int]) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(trades(times), rows_per_group=1))
        said = lake.scan(PERP, "trades", NOON).plan().notes
        assert len(said) == 1
        store.put(tick_path(), parquet(trades(times), rows_per_group=1, write_statistics=False))
        scan = lake.scan(PERP, "trades", NOON)
        assert scan.plan().notes == ()
        assert [batch.notes for batch in scan.batches()] == [(), said]

    def test_only_the_day_of_a_file_is_held(self) -> None:
        lake, store = memory()
        days = [DAY + dt.timedelta(n) for n in range(3)]
        starts = [Window.of_day(day).start for day in days]
        for day, start in zip(days, starts, strict=True):
            rows = trades([start + n * 3_600 * SECOND for n in range(10)])
            store.put(tick_path(day=day), parquet(rows, rows_per_group=5, write_statistics=day == DAY))
        window = Window(starts[0], starts[2] + NANOS_PER_DAY)
        marks = [batch.watermark for batch in lake.scan(PERP, "trades", window).batches()]
        slack = 10 * SECOND
        five = 5 * 3_600 * SECOND
        assert marks == [
            starts[0] + five,
            *[starts[1] - slack] * 2,
            *[starts[2] - slack] * 2,
            None,
        ]


HOUR = 3_600 * SECOND


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("far", [MIDNIGHT - 20 * SECOND, MIDNIGHT - 12 * HOUR, MIDNIGHT + 25 * HOUR])
def test_a_row_far_from_the_day_of_its_file_is_in_no_window(far: int, *, statistics: bool) -> None:
    url = f"memory://{uuid.uuid4()}"
    store = Store(StoreUrl.parse(url), StorageConfig(), Transfer())
    own = [MIDNIGHT - 60 * SECOND, MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR]
    store.put(tick_path(), parquet(trades(own[:1])))
    store.put(
        tick_path(day=NEXT_DAY),
        parquet(trades([own[1], far, own[2]]), rows_per_group=1, write_statistics=statistics),
    )
    store.put(tick_path(day=NEXT_DAY + dt.timedelta(1)), parquet(trades([MIDNIGHT + 30 * HOUR])))

    def read(*edges: int, slack: int = 10 * SECOND) -> list[int]:
        lake = Lake(url, partition_slack=slack)
        windows = [Window(start, end) for start, end in pairwise(edges)]
        parts = [lake.scan(PERP, "trades", window).to_table() for window in windows]
        return [time for part in parts for time in part["ts_init"].to_pylist()]

    start, end = MIDNIGHT - 13 * HOUR, MIDNIGHT + 26 * HOUR
    assert read(start, end) == own
    assert read(start, MIDNIGHT - 30 * SECOND, MIDNIGHT, MIDNIGHT + 24 * HOUR, end) == own
    if far == MIDNIGHT - 20 * SECOND:
        assert read(start, end, slack=20 * SECOND) == sorted([*own, far])


@pytest.mark.parametrize("other", [pa.int64(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_days_of_different_types_make_no_single_table(other: pa.DataType) -> None:
    lake, store = memory()
    for day, time, kind in ((DAY, MIDNIGHT - SECOND, pa.string()), (NEXT_DAY, MIDNIGHT + SECOND, other)):
        table = trades([time])
        ids = pa.array(["1"]).cast(kind)
        table = table.set_column(table.schema.get_field_index("trade_id"), "trade_id", ids)
        store.put(tick_path(day=day), parquet(table))
    scan = lake.scan(PERP, "trades", Window(MIDNIGHT - HOUR, MIDNIGHT + HOUR))
    with pytest.raises(SourceSchemaError, match="make no single table"):
        scan.to_table()


@pytest.mark.parametrize("statistics", [True, False])
def test_a_row_without_a_clock_counts_to_one_window_whatever_the_windows_are(statistics: bool) -> None:
    lake, store = memory()
    # Four rows an hour; the third group of six has no time at all, and the last row one beyond all clocks.
    times: list[int | None] = [DAY_START + n * HOUR // 4 for n in range(96)]
    undated = [0, 7, *range(12, 18), 50, 95]
    for row in undated:
        times[row] = None if row < 95 else -1
    table = trades([0] * 96, ts_event=[DAY_START + n * HOUR // 4 for n in range(96)])
    table = table.set_column(table.schema.names.index("ts_init"), "ts_init", pa.array(times, pa.int64()))
    store.put(tick_path(), parquet(table, rows_per_group=6, write_statistics=statistics))
    store.put(tick_path(day=NEXT_DAY), parquet(trades([MIDNIGHT + n * HOUR for n in range(3)])))

    def kept(window: Window) -> list[int]:
        converter = Converter(SPEC, "trades", on_bad_row="quarantine")
        for batch in lake.scan(PERP, "trades", window).batches():
            source = batch.table, batch.dialect
            position = {"first_row": batch.first_row, "undated": batch.undated}
            list(converter.push(*source, watermark=batch.watermark, window=window, **position))
        return [row for bad in converter.quarantined for row in bad["row"].to_pylist()]

    assert kept(Window.of_day(DAY)) == undated
    assert kept(Window(DAY_START, MIDNIGHT + 3 * HOUR)) == undated
    by_hour = [kept(Window(DAY_START + n * HOUR, DAY_START + (n + 1) * HOUR)) for n in range(24)]
    assert sorted(row for rows in by_hour for row in rows) == undated
    assert kept(Window(MIDNIGHT, MIDNIGHT + HOUR)) == []


def test_text_in_views_is_read(tmp_path: Path) -> None:
    table = trades([NOON.start + n for n in (2, 0, 1)])
    table = table.set_column(
        table.schema.names.index("trade_id"), "trade_id", table["trade_id"].cast(pa.string_view())
    )
    path = tmp_path / tick_path()
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    assert pq.read_schema(path).field("trade_id").type == pa.string_view()
    scan = Lake(tmp_path).scan(PERP, "trades", Window(NOON.start, NOON.start + 2))
    assert scan.to_table()["trade_id"].to_pylist() == ["1", "2"]
    nothing = Lake(tmp_path).scan(PERP, "trades", Window(NOON.start + 5, NOON.start + 6)).to_table()
    assert nothing.schema == scan.to_table().schema


class TestDialects:
    def test_unknown_columns_are_refused_with_file_and_instrument(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(pa.table({"px": [1.0], "qty": [1.0], "t": [NOON.start]})))
        with pytest.raises(SourceSchemaError, match="px, qty, t") as caught:
            lake.scan(PERP, "trades", NOON).plan()
        assert caught.value.instrument == PERP
        assert caught.value.url is not None
        assert caught.value.url.endswith(tick_path())
        declared = DialectConfig(price="px", size="qty", ts_event="t", unit="ns")
        assert lake.scan(PERP, "trades", NOON, dialect=declared).to_table().num_rows == 1

    def test_days_in_different_dialects_are_batches_but_no_table(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(trades([MIDNIGHT - 1])))
        other = in_tardis_dialect(trades([MIDNIGHT]))
        store.put(tick_path(day=NEXT_DAY), parquet(other))
        scan = lake.scan(PERP, "trades", Window(MIDNIGHT - 5, MIDNIGHT + 5))
        assert [batch.dialect.name for batch in scan.batches()] == ["nautilus", "tardis"]
        with pytest.raises(SourceSchemaError, match="no single table"):
            scan.to_table()
        # The neighbour's dialect does not matter where none of its rows is in the window.
        assert lake.scan(PERP, "trades", Window(MIDNIGHT - 5, MIDNIGHT)).to_table().num_rows == 1
