"""Bad rows are found, named, counted and kept; nothing is lost on the way."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert_support import BTC, T0, TRADES, book, times, trades
from ticklake.conversion import ConversionCounts, Converter, Note, Reason, convert, recognise
from ticklake.errors import ConversionError, PrecisionError
from ticklake.types import BookAs, DataType, Window

BOOK2 = DataType("book_snapshot_2")
HUGE = 1e15

TRADE_DEFECTS: list[tuple[str, Any, Reason]] = [
    ("ts_init", None, Reason.NULL_TIME),
    ("ts_event", None, Reason.NULL_TIME),
    ("ts_init", -1, Reason.TIME_OUT_OF_RANGE),
    ("ts_event", -1, Reason.TIME_OUT_OF_RANGE),
    ("ts_init", 2**63 - 1, Reason.TIME_OUT_OF_RANGE),
    ("price", None, Reason.NULL_PRICE),
    ("size", None, Reason.NULL_SIZE),
    ("price", math.nan, Reason.NOT_FINITE),
    ("size", math.inf, Reason.NOT_FINITE),
    ("price", 0.0, Reason.ZERO_PRICE),
    ("size", 0.0, Reason.ZERO_SIZE),
    ("price", -61800.1, Reason.NEGATIVE_PRICE),
    ("size", -0.001, Reason.NEGATIVE_SIZE),
    ("price", HUGE, Reason.OUT_OF_RANGE),
    ("size", HUGE, Reason.OUT_OF_RANGE),
    ("price", 61800.15, Reason.OFF_PRECISION),
    ("size", 0.0005, Reason.OFF_PRECISION),
    ("trade_id", None, Reason.BAD_TRADE_ID),
    ("trade_id", "", Reason.BAD_TRADE_ID),
    ("trade_id", "  ", Reason.BAD_TRADE_ID),
    ("trade_id", "x" * 37, Reason.BAD_TRADE_ID),
    ("trade_id", "é", Reason.BAD_TRADE_ID),
    ("trade_id", "a\x00b", Reason.BAD_TRADE_ID),
]
PRECISION_REASONS = {Reason.OUT_OF_RANGE, Reason.OFF_PRECISION}


def _with_defect(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    at = table.column_names.index(column)
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(at, column, pa.array(values, table[column].type))


@pytest.mark.parametrize(("column", "value", "reason"), TRADE_DEFECTS)
def test_a_bad_trade_goes_to_quarantine(column: str, value: Any, reason: Reason) -> None:
    good = trades(5)
    source = _with_defect(good, column, 2, value)

    result = convert(source, spec=BTC, data_type=TRADES, on_bad_row="quarantine")

    assert result.counts == ConversionCounts(
        read=5, quarantined=Counter({reason: 1}), notes=Counter(), written=4, catalog_rows=4
    )
    assert result.table["trade_id"].to_pylist() == ["100", "101", "103", "104"]
    kept = result.quarantined
    assert (kept["row"].to_pylist(), kept["reason"].to_pylist(), kept["column"].to_pylist()) == (
        [2],
        [reason.value],
        [column],
    )
    # Whole and as read.
    as_read = kept.drop_columns(["row", "reason", "column", "ts_init_ns", "source"])
    assert repr(as_read.to_pylist()) == repr(source.slice(2, 1).to_pylist())  # NaN is not equal to itself
    assert as_read.schema == source.schema


@pytest.mark.parametrize(("column", "value", "reason"), TRADE_DEFECTS)
def test_a_bad_trade_is_an_error_that_names_it(column: str, value: Any, reason: Reason) -> None:
    source = _with_defect(trades(5), column, 2, value)
    error = PrecisionError if reason in PRECISION_REASONS else ConversionError

    with pytest.raises(error) as caught:
        convert(source, spec=BTC, data_type=TRADES)

    shown = "null" if value is None else repr(value) if isinstance(value, str) else f"{value}"
    text = str(caught.value)
    assert type(caught.value) is error
    assert "row 2 cannot be converted" in text
    assert f"{column} is {shown}, " in text
    assert BTC.nautilus_id in text
    assert "trades" in text
    assert "on_bad_row: quarantine" in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_the_error_tells_position_value_and_how_many_more() -> None:
    source = trades(9, price=[61800.1, 61800.15, *[61800.25] * 7])
    converter = Converter(BTC, TRADES)
    with pytest.raises(PrecisionError) as caught:
        list(
            converter.push(
                source,
                recognise(source.schema, TRADES),
                watermark=None,
                first_row=1_000_000,
                url="gs://bucket/x.parquet",
            )
        )
    text = str(caught.value)
    assert "row 1000001 cannot be converted: price is 61800.15, which is not a multiple" in text
    assert "the price has 1 decimal places, the size 3" in text
    assert "7 more bad rows" in text
    assert "gs://bucket/x.parquet" in text


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([b"ok", b"\xff\xfe" * 100]).view(pa.string()), r"\\xff\\xfe"),
        (pa.array(["ok", "é"]).dictionary_encode(), "'é'"),
    ],
)
def test_bad_ids_of_any_kind_can_be_shown(column: pa.Array, shown: str) -> None:
    with pytest.raises(ConversionError) as caught:
        convert(trades(2, trade_id=column), spec=BTC, data_type=TRADES)
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 500


def test_timestamps_out_of_range_can_be_shown() -> None:
    early = pa.array([T0, -7], pa.timestamp("ns", "UTC"))
    with pytest.raises(ConversionError, match=r"ts_init is -7 ns since the epoch, which lies before 1970"):
        convert(trades(2, ts_init=early), spec=BTC, data_type=TRADES)


def test_a_row_has_the_first_reason_only() -> None:
    source = trades(1, price=[None], size=[-1.0], trade_id=[""], ts_event=pa.array([-1]))
    counts = convert(source, spec=BTC, data_type=TRADES, on_bad_row="quarantine").counts
    assert counts.quarantined == {Reason.TIME_OUT_OF_RANGE: 1}
    assert counts.bad == 1


def test_sources_with_our_column_names_keep_theirs() -> None:
    source = trades(1, price=[None], row=["theirs"], reason=["theirs"])
    kept = convert(source, spec=BTC, data_type=TRADES, on_bad_row="quarantine").quarantined
    assert kept.column_names[:5] == ["row", "reason", "column", "ts_init_ns", "source"]
    assert kept["source_row"].to_pylist() == kept["source_reason"].to_pylist() == ["theirs"]


def test_without_bad_rows_the_quarantine_is_an_empty_table() -> None:
    kept = convert(trades(), spec=BTC, data_type=TRADES).quarantined
    assert (kept.num_rows, kept.column_names) == (0, ["row", "reason", "column", "ts_init_ns", "source"])


@pytest.mark.parametrize("sides", [[None, 3, 0], [None] * 3])
def test_unknown_sides_are_no_aggressor_and_counted(sides: list[int | None]) -> None:
    result = convert(trades(3, aggressor_side=pa.array(sides, pa.int8())), spec=BTC, data_type=TRADES)
    assert result.table["aggressor_side"].to_pylist() == ["NO_AGGRESSOR"] * 3
    assert result.counts.notes == {Note.NO_AGGRESSOR: 3}
    assert (
        convert(trades(3, aggressor_side=None), spec=BTC, data_type=TRADES).counts.notes[Note.NO_AGGRESSOR]
        == 3
    )


BOOK_DEFECTS: list[tuple[str, Any, Reason]] = [
    ("ts_init", None, Reason.NULL_TIME),
    ("ts_event", -5, Reason.TIME_OUT_OF_RANGE),
    ("bid_price_0", math.inf, Reason.NOT_FINITE),
    ("ask_size_1", -math.inf, Reason.NOT_FINITE),
    ("bid_price_1", -1.0, Reason.NEGATIVE_PRICE),
    ("ask_size_0", -1.0, Reason.NEGATIVE_SIZE),
    ("ask_price_1", HUGE, Reason.OUT_OF_RANGE),
    ("bid_price_0", 61800.15, Reason.OFF_PRECISION),
    ("bid_size_1", 0.0005, Reason.OFF_PRECISION),
]
SNAPSHOT = ([(61800.1, 1.0), (61800.0, 2.0)], [(61800.2, 1.5), (61800.3, 2.5)])


@pytest.mark.parametrize("book_as", BookAs)
@pytest.mark.parametrize(("column", "value", "reason"), BOOK_DEFECTS)
def test_a_bad_snapshot(column: str, value: Any, reason: Reason, book_as: BookAs) -> None:
    source = _with_defect(book(SNAPSHOT, SNAPSHOT, SNAPSHOT), column, 1, value)

    result = convert(source, spec=BTC, data_type=BOOK2, book_as=book_as, on_bad_row="quarantine")

    assert result.counts.quarantined == {reason: 1}
    assert (result.counts.written, result.counts.bad) == (2, 1)
    assert result.counts.catalog_rows == len(result.table) == (10 if book_as is BookAs.DELTAS else 2)
    assert result.quarantined["row"].to_pylist() == [1]
    assert result.quarantined["column"].to_pylist() == [column]
    assert set(times(result.table)) == {T0, T0 + 2}
    with pytest.raises(ConversionError, match=rf"row 1 cannot be converted: {column} is "):
        convert(source, spec=BTC, data_type=BOOK2, book_as=book_as)


@pytest.mark.parametrize("value", [None, math.nan, 0.0])
@pytest.mark.parametrize("column", ["bid_price_1", "bid_size_1"])
def test_an_absent_level_hides_what_else_is_wrong_with_it(column: str, value: float | None) -> None:
    other = {"bid_price_1": "bid_size_1", "bid_size_1": "bid_price_1"}[column]
    source = _with_defect(_with_defect(book(SNAPSHOT), column, 0, value), other, 0, -0.00001)
    result = convert(source, spec=BTC, data_type=BOOK2)
    assert result.counts.catalog_rows == 4
    assert not result.counts.notes.total()


@pytest.mark.parametrize(
    ("bids", "asks", "notes"),
    [
        ([(1.5, 1.0), (1.4, 1.0)], [(1.6, 1.0), (1.7, 1.0)], set()),
        ([(1.6, 1.0), (1.4, 1.0)], [(1.6, 1.0), (1.7, 1.0)], {Note.CROSSED_BOOK}),
        ([(1.4, 1.0), (1.65, 1.0)], [(1.6, 1.0), (1.7, 1.0)], {Note.CROSSED_BOOK, Note.LEVEL_ORDER}),
        ([(1.4, 1.0), (1.5, 1.0)], [(1.6, 1.0), (1.7, 1.0)], {Note.LEVEL_ORDER}),
        ([(1.5, 1.0), (1.4, 1.0)], [(1.6, 1.0), (1.6, 1.0)], {Note.LEVEL_ORDER}),
        ([(1.5, 1.0), (None, 1.0)], [(1.6, 1.0), (1.7, 0.0)], set()),
        ([(1.5, 1.0), (None, 1.0)], [(0.0, 1.0), (1.7, 1.0)], {Note.LEVEL_GAP}),
        ([(None, 1.0), (1.4, 1.0)], [(1.3, 1.0), (1.2, 0.0)], {Note.CROSSED_BOOK, Note.LEVEL_GAP}),
        ([(1.5, 0.0), (1.4, 0.0)], [(1.6, 1.0), (1.7, 1.0)], set()),
        ([(1.5, 0.0), (1.4, 0.0)], [(0.0, 1.0), (None, None)], {Note.EMPTY_BOOK}),
    ],
)
@pytest.mark.parametrize("kind", [pa.float64(), pa.string(), pa.decimal128(20, 3)])
def test_remarkable_books_are_counted_and_kept(
    bids: list[Any], asks: list[Any], notes: set[Note], kind: pa.DataType
) -> None:
    spec = type(BTC)(BTC.nautilus_id, 2, 3)
    source = book((bids, asks))
    levels = [f for f in source.schema if not f.name.startswith("ts_")]
    for field in levels:
        at = source.column_names.index(field.name)
        source = source.set_column(at, field.name, source[field.name].cast(kind))
    counts = convert(source, spec=spec, data_type=BOOK2).counts
    assert {note for note, n in counts.notes.items() if n} == notes
    assert (counts.written, counts.bad) == (1, 0)


def test_level_order_looks_past_absent_levels() -> None:
    bids = [(1.5, 1.0), (None, 1.0), (1.6, 1.0)]
    asks = [(1.7, 1.0), (1.8, 1.0), (1.9, 1.0)]
    counts = convert(book((bids, asks)), spec=BTC, data_type=DataType("book_snapshot_3")).counts
    assert counts.notes == {Note.LEVEL_ORDER: 1, Note.LEVEL_GAP: 1}


def test_notes_are_of_converted_rows_only() -> None:
    source = trades(2, aggressor_side=[0, 0], price=[None, 1.0])
    counts = convert(source, spec=BTC, data_type=TRADES, on_bad_row="quarantine").counts
    assert counts.notes == {Note.NO_AGGRESSOR: 1}


def test_the_window_is_half_open_and_counts_what_lies_outside() -> None:
    result = convert(trades(10), spec=BTC, data_type=TRADES, window=Window(T0 + 2, T0 + 5))
    assert times(result.table) == [T0 + 2, T0 + 3, T0 + 4]
    assert (result.counts.read, result.counts.outside, result.counts.written) == (10, 7, 3)


def test_bad_rows_outside_the_window_are_not_its_business_but_bad_clocks_are() -> None:
    source = trades(
        5,
        price=[None, None, 1.0, None, 1.0],
        ts_init=pa.array([T0 - 1, T0, T0 + 1, T0 + 2, None], pa.int64()),
    )
    result = convert(source, spec=BTC, data_type=TRADES, window=Window(T0, T0 + 2), on_bad_row="quarantine")
    assert result.counts.outside == 2
    assert result.counts.quarantined == {Reason.NULL_PRICE: 1, Reason.NULL_TIME: 1}
    assert result.quarantined["row"].to_pylist() == [1, 4]
    assert result.counts.written == 1


def test_a_row_without_a_clock_counts_to_the_window_of_what_stands_in() -> None:
    source = trades(4, ts_init=pa.array([T0, None, -1, T0 + 3], pa.int64()))
    dialect = recognise(source.schema, TRADES)
    kept = []
    for start in range(T0 - 2, T0 + 6):
        converter = Converter(BTC, TRADES, on_bad_row="quarantine")
        window = Window(start, start + 1)
        list(converter.push(source, dialect, watermark=None, window=window, undated=T0 + 3))
        counts = converter.counts
        assert counts.read == 4 == counts.outside + counts.bad + counts.written
        kept += [(start, row) for table in converter.quarantined for row in table["row"].to_pylist()]
    assert kept == [(T0 + 3, 1), (T0 + 3, 2)]


def test_bad_rows_are_taken_out_in_the_order_of_time() -> None:
    source = trades(4, price=[-1.0] * 4, ts_init=pa.array([T0, None, T0 + 2, T0 + 1], pa.int64()))
    converter = Converter(BTC, TRADES, on_bad_row="quarantine")
    dialect = recognise(source.schema, TRADES)
    list(converter.push(source, dialect, watermark=None, undated=T0 + 1))

    def taken(end: int) -> list[int]:
        return [row for table in converter.take_quarantined(end) for row in table["row"].to_pylist()]

    assert [taken(T0), taken(T0 + 1), taken(T0 + 2), taken(T0 + 3), taken(T0 + 4)] == [
        [],
        [0],
        [1, 3],
        [2],
        [],
    ]
    assert converter.quarantined == []


@given(st.data())
def test_every_row_ends_somewhere(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 40))
    source = trades(rows)
    for column, value, _ in data.draw(st.lists(st.sampled_from(TRADE_DEFECTS), max_size=10)) if rows else []:
        source = _with_defect(source, column, data.draw(st.integers(0, rows - 1)), value)
    start = data.draw(st.integers(T0 - 5, T0 + 45))
    window = Window(start, start + data.draw(st.integers(1, 50)))
    step = data.draw(st.integers(1, 10))

    converter = Converter(BTC, TRADES, on_bad_row="quarantine")
    dialect = recognise(source.schema, TRADES)
    out = []
    for first in range(0, rows, step):
        piece = source.slice(first, step)
        out += converter.push(piece, dialect, watermark=0, first_row=first, window=window)
    out += converter.flush()

    counts = converter.counts
    assert counts.read == rows == counts.outside + counts.bad + counts.written
    assert counts.catalog_rows == counts.written == sum(batch.num_rows for batch in out)
    positions = [row for table in converter.quarantined for row in table["row"].to_pylist()]
    assert len(positions) == len(set(positions)) == counts.bad
    for table in converter.quarantined:
        for row, trade_id in zip(table["row"].to_pylist(), table["trade_id"].to_pylist(), strict=True):
            assert source["trade_id"][row].as_py() == trade_id
    written = [tid for batch in out for tid in batch["trade_id"].to_pylist()]
    assert written == sorted(written, key=int)


def test_counts_add_up() -> None:
    one = ConversionCounts(5, 1, Counter({Reason.NULL_TIME: 2}), Counter({Note.CROSSED_BOOK: 1}), 2, 22)
    two = ConversionCounts(1, 0, Counter({Reason.NULL_TIME: 1}), Counter(), 0, 0)
    assert one + two == ConversionCounts(
        6, 1, Counter({Reason.NULL_TIME: 3}), Counter({Note.CROSSED_BOOK: 1}), 2, 22
    )


def test_a_large_source_with_scattered_defects() -> None:
    rows = 200_000
    rng = np.random.default_rng(0)
    price = np.round(rng.uniform(60_000, 62_000, rows), 1)
    bad = rng.choice(rows, 500, replace=False)
    price[bad] += 0.05
    source = trades(
        rows,
        price=price,
        size=np.full(rows, 0.5),
        aggressor_side=np.ones(rows, np.int8),
        trade_id=np.arange(rows),
        ts_event=np.arange(rows) + T0,
        ts_init=np.arange(rows) + T0,
    )
    result = convert(source, spec=BTC, data_type=TRADES, on_bad_row="quarantine")
    assert result.counts.quarantined == {Reason.OFF_PRECISION: 500}
    assert result.quarantined["row"].to_pylist() == sorted(bad.tolist())
    kept = np.setdiff1d(np.arange(rows), bad)
    assert result.table["trade_id"].to_pylist() == [str(row) for row in kept]
