"""One conversion function for every kind of input, unit and order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert_support import BOOK5, BTC, ETH, T0, TRADES, source_path, times, trades
from ticklake.catalog.schema import schema
from ticklake.config import DialectConfig
from ticklake.conversion import Converter, convert, recognise
from ticklake.errors import ConfigError, ConversionError, SourceSchemaError
from ticklake.types import BookAs, CatalogType, DataType, Window

KINDS: dict[str, Callable[[pa.Table], Any]] = {
    "table": lambda table: table,
    "chunked table": lambda table: pa.concat_tables([table.slice(i, 1) for i in range(len(table))]),
    "batch": lambda table: table.combine_chunks().to_batches()[0],
    "reader": lambda table: table.to_reader(max_chunksize=2),
    "pandas": lambda table: table.to_pandas(),
    "pandas with an index": lambda table: table.to_pandas().set_index(pd.Index(["a", "b", "c"])),
    "polars": pl.from_arrow,
    "polars with categories": lambda table: pl.from_arrow(table).with_columns(  # type: ignore[union-attr]  # of a table it is a frame
        pl.col("trade_id").cast(pl.Categorical)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_trades(kind: str) -> None:
    expected = convert(trades(), spec=BTC, data_type=TRADES)
    result = convert(KINDS[kind](trades()), spec=BTC, data_type=TRADES)
    assert result.table.equals(expected.table, check_metadata=True)
    assert result.counts == expected.counts


@pytest.mark.parametrize("as_path", [str, Path])
def test_parquet_files(tmp_path: Path, as_path: Callable[[Path], Any]) -> None:
    path = tmp_path / "trades.parquet"
    pq.write_table(trades(5).append_column("unrelated", pa.nulls(5)), path, row_group_size=2)
    result = convert(as_path(path), spec=BTC, data_type=TRADES)
    assert result.table.equals(convert(trades(5), spec=BTC, data_type=TRADES).table)


def _as_enum(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    sides = frame["aggressor_side"].cast(pl.String)
    return frame.with_columns(sides.cast(pl.Enum(sides.unique(maintain_order=True))))


@pytest.mark.parametrize(
    "frame",
    [
        pl.from_arrow,
        _as_enum,
        lambda table: _as_enum(table).with_columns(pl.col("aggressor_side").cast(pl.Categorical)),
        lambda table: _as_enum(table).to_arrow(compat_level=pl.CompatLevel.newest()),
    ],
    ids=["plain", "enum", "categorical", "views"],
)
def test_frames_of_polars_with_a_window_and_bad_rows(frame: Callable[[pa.Table], Any]) -> None:
    source = trades(
        6,
        price=[1.0, 2.0, -3.0, 4.0, 5.0, 6.0],
        ts_init=pa.array([T0 + n for n in (5, 1, 4, 2, 3, 0)], pa.int64()),
        note=["", "text", "of", "no", "dialect", None],
    )
    result = convert(
        frame(source),
        spec=BTC,
        data_type=TRADES,
        window=Window(T0 + 1, T0 + 5),
        on_bad_row="quarantine",
    )
    assert times(result.table) == [T0 + 1, T0 + 2, T0 + 3]
    assert result.table["trade_id"].to_pylist() == ["101", "103", "104"]
    assert result.table["aggressor_side"].to_pylist() == ["SELL", "SELL", "BUY"]
    assert result.quarantined["trade_id"].to_pylist() == ["102"]
    assert result.quarantined["note"].to_pylist() == ["of"]


def test_plain_values_do_for_every_argument() -> None:
    mapping = {"unit": "ns", "ts_event": "ts_init", "price": "price", "size": "size", "side": "taker"}
    source = trades(4, aggressor_side=None, taker=["buy"] * 4)
    expected = convert(
        source,
        spec=BTC,
        data_type=TRADES,
        dialect=DialectConfig.model_validate(mapping),
        window=Window(T0 + 1, T0 + 3),
    )
    result = convert(
        source,
        spec=BTC,
        data_type="trades",
        dialect=mapping,
        window=("2024-08-09T00:00:00.000000001Z", T0 + 3),
    )
    assert result.table.equals(expected.table)
    assert result.counts.written == 2
    book = pd.DataFrame(
        {"ts_event": [T0], **{f"{s}_{k}_0": [1.0] for s in ("bid", "ask") for k in ("price", "size")}}
    )
    for book_as in BookAs:
        by_text = convert(book, spec=BTC, data_type="book_snapshot_1", book_as=book_as.value)
        assert by_text.table.equals(
            convert(book, spec=BTC, data_type=DataType("book_snapshot_1"), book_as=book_as).table
        )


@pytest.mark.parametrize(
    ("argument", "error", "wanted"),
    [
        ({"data_type": "quotes"}, ValueError, "known are trades"),
        ({"data_type": None}, TypeError, "DataType"),
        ({"dialect": {"unit": "h", "ts_event": "t"}}, ConfigError, "unit"),
        ({"dialect": "tardis"}, TypeError, "DialectConfig"),
        ({"window": "2024-08-08"}, TypeError, "start and end"),
        ({"book_as": "bars"}, ValueError, "bars"),
        ({"on_bad_row": "skip"}, ValueError, "fail, quarantine"),
    ],
)
def test_arguments_that_are_not_valid_say_what_is(
    argument: dict[str, Any], error: type[Exception], wanted: str
) -> None:
    with pytest.raises(error, match=wanted):
        convert(trades(), **({"spec": BTC, "data_type": TRADES} | argument))


def test_real_book_from_frames(real_lake: Path) -> None:
    path = source_path(real_lake, "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN", "2024-08-09", BOOK5)
    expected = convert(path, spec=ETH, data_type=BOOK5).table
    for frame in (pl.read_parquet(path), pd.read_parquet(path), pq.ParquetFile(path).read()):
        assert convert(frame, spec=ETH, data_type=BOOK5).table.equals(expected)


def test_pandas_with_gaps_in_integer_columns() -> None:
    frame = trades().to_pandas()
    frame["aggressor_side"] = frame["aggressor_side"].astype(float)
    frame.loc[1, "aggressor_side"] = None
    sides = convert(frame, spec=BTC, data_type=TRADES).table["aggressor_side"].to_pylist()
    assert sides == ["BUY", "NO_AGGRESSOR", "BUY"]


def test_result_has_the_catalog_schema_even_without_rows() -> None:
    for data_type, book_as in ((TRADES, BookAs.DELTAS), (BOOK5, BookAs.DELTAS), (BOOK5, BookAs.DEPTH)):
        source = trades(0) if data_type is TRADES else _empty_book()
        result = convert(source, spec=BTC, data_type=data_type, book_as=book_as)
        assert result.table.schema.equals(
            schema(CatalogType.of(data_type, book_as), BTC), check_metadata=True
        )
        assert result.table.num_rows == result.counts.read == 0


def _empty_book() -> pa.Table:
    names = [f"{s}_{k}_{n}" for s in ("bid", "ask") for k in ("price", "size") for n in range(5)]
    empty: dict[str, Any] = dict.fromkeys(names, pa.array([], pa.float64()))
    return pa.table(empty | dict.fromkeys(("ts_event", "ts_init"), pa.array([], pa.int64())))


def test_results_are_valid_arrow(real_lake: Path) -> None:
    path = source_path(real_lake, "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN", "2024-08-08", BOOK5)
    for book_as in BookAs:
        convert(path, spec=ETH, data_type=BOOK5, book_as=book_as).table.validate(full=True)
    convert(trades(), spec=BTC, data_type=TRADES).table.validate(full=True)


@pytest.mark.parametrize("source", [42, None, {"price": [1.0]}, [trades()]])
def test_other_objects_are_refused(source: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot convert a .*; give the path of a Parquet file"):
        convert(source, spec=BTC, data_type=TRADES)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"cannot be read: .*nowhere\.parquet"):
        convert(tmp_path / "nowhere.parquet", spec=BTC, data_type=TRADES)
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 not much more")
    with pytest.raises(ConversionError, match=r"cannot be read: .*torn\.parquet") as caught:
        convert(torn, spec=BTC, data_type=TRADES)
    assert isinstance(caught.value.__cause__, pa.ArrowException)
    pq.write_table(pa.table({"x": [1]}), torn)
    with pytest.raises(SourceSchemaError, match=r"torn\.parquet"):
        convert(torn, spec=BTC, data_type=TRADES)


def test_a_reader_that_fails_on_the_way() -> None:
    def broken() -> Any:
        yield from trades().to_batches()
        raise pa.ArrowInvalid("torn in the middle")

    reader = pa.RecordBatchReader.from_batches(trades().schema, broken())
    with pytest.raises(ConversionError, match=r"cannot be read: .*torn in the middle"):
        convert(reader, spec=BTC, data_type=TRADES)


@pytest.mark.parametrize(("unit", "divisor"), [("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)])
def test_units(unit: str, divisor: int) -> None:
    expected = [T0, T0 + 10**9, T0 + 2 * 10**9]
    integers = pa.array([value // divisor for value in expected], pa.int64())
    declared = DialectConfig.model_validate(
        {"unit": unit, "ts_event": "when", "price": "price", "size": "size"}
    )
    for column in (
        integers,
        integers.cast(pa.timestamp(unit)),
        integers.cast(pa.timestamp(unit, "Asia/Tokyo")),
    ):
        table = trades(3, ts_event=None, ts_init=None, when=column)
        result = convert(table, spec=BTC, data_type=TRADES, dialect=declared)
        assert times(result.table) == times(result.table, "ts_event") == expected
    # The unit of an Arrow timestamp is its own, whatever is declared.
    stamps = pa.array(expected, pa.int64()).cast(pa.timestamp("ns", "UTC"))
    table = trades(3, ts_event=None, ts_init=None, when=stamps)
    assert times(convert(table, spec=BTC, data_type=TRADES, dialect=declared).table) == expected


def test_microseconds_of_the_tardis_dialect() -> None:
    table = pa.table(
        {
            "timestamp": [T0 // 1_000, T0 // 1_000 + 1],
            "local_timestamp": [T0 // 1_000 + 7, T0 // 1_000 + 5],
            "id": [1, 2],
            "side": ["buy", "unknown"],
            "price": pa.array([1.5, 2.5], pa.float32()),
            "amount": pa.array([1, 2], pa.int64()),
        }
    )
    result = convert(table, spec=BTC, data_type=TRADES)
    assert times(result.table) == [T0 + 5_000, T0 + 7_000]
    assert result.table["trade_id"].to_pylist() == ["2", "1"]
    assert result.table["aggressor_side"].to_pylist() == ["NO_AGGRESSOR", "BUY"]
    assert [str(price) for price in result.table["price"].to_pylist()] == [
        f"{p}" + "0" * 15 for p in (2.5, 1.5)
    ]


def test_volume_dialect_of_trades() -> None:
    table = trades(3, size=None, ts_event=None, ts_init=None, aggressor_side=None)
    table = table.append_column("volume", pa.array([0.5, 0.25, 1.0]))
    table = table.append_column("timestamp", pa.array([T0 // 1_000] * 3))
    table = table.append_column("side", pa.array(["sell", "buy", "sell"]))
    result = convert(table, spec=BTC, data_type=TRADES).table
    assert [float(size) for size in result["size"].to_pylist()] == [0.5, 0.25, 1.0]
    assert result["aggressor_side"].to_pylist() == ["SELL", "BUY", "SELL"]
    assert times(result) == times(result, "ts_event") == [T0] * 3


def test_rows_of_one_time_keep_their_order() -> None:
    stamps = pa.array([T0 + 1, T0, T0 + 1, T0, T0 + 1], pa.int64())
    for source in (trades(5, ts_init=stamps), trades(5, ts_init=stamps).to_reader(max_chunksize=2)):
        result = convert(source, spec=BTC, data_type=TRADES).table
        assert result["trade_id"].to_pylist() == ["101", "103", "100", "102", "104"]


def test_ids_are_derived_from_the_position_whatever_window_is_asked_for() -> None:
    source = trades(6, trade_id=None, ts_event=pa.array([T0] * 6, pa.int64()))
    whole = convert(source, spec=BTC, data_type=TRADES).table["trade_id"].to_pylist()
    assert whole == [f"{T0}-{row}" for row in range(6)]

    converter = Converter(BTC, TRADES)
    dialect = recognise(source.schema, TRADES)
    part = list(converter.push(source.slice(2, 2), dialect, watermark=None, first_row=2))
    assert part[0]["trade_id"].to_pylist() == whole[2:4]


@given(
    seed=st.integers(0, 2**32 - 1),
    jitter=st.sampled_from([1, 20, 30_000, 200_000]),
    watermark=st.integers(-5_000, 0),
    skipped=st.integers(0, 80_000),
)
@settings(max_examples=20, deadline=None)
def test_pieces_of_several_blocks_leave_as_polars_sorts_them(
    seed: int, jitter: int, watermark: int, skipped: int
) -> None:
    random = np.random.default_rng(seed)
    rows, levels = 8_000, 50  # of 2,478 a block
    stamps = T0 + 10 * np.arange(rows) + random.integers(0, jitter, rows)
    undated = random.random(rows) < random.choice([0, 0.001])
    dated = pl.Series(stamps).set(pl.Series(undated), None)
    frame = pl.DataFrame({"ts_init": dated, "size": np.arange(1, rows + 1) / 1_000})
    columns: dict[str, Any] = {
        "ts_event": frame["ts_init"].to_arrow(),
        "ts_init": frame["ts_init"].to_arrow(),
    }
    for level in range(levels):
        for side, price in (("bid", 100.0 - level), ("ask", 101.0 + level)):
            columns[f"{side}_price_{level}"] = np.full(rows, price)
            columns[f"{side}_size_{level}"] = frame["size"].to_numpy()
    source = pa.table(columns)
    window = Window(T0 + skipped, T0 + 10_000_000)
    converter = Converter(BTC, "book_snapshot_50", BookAs.DEPTH, on_bad_row="quarantine")
    dialect = recognise(source.schema, converter.data_type)

    out: list[pa.RecordBatch] = []
    for start, mark in ((0, int(stamps[5_000:].min()) + watermark), (5_000, None)):
        piece = source.slice(start, 5_000)
        out += converter.push(piece, dialect, watermark=mark, first_row=start, window=window)
        if mark is not None:
            inside = frame[:5_000].filter(pl.col("ts_init") >= window.start)
            assert sum(batch.num_rows for batch in out) == len(inside.filter(pl.col("ts_init") <= mark))
    out += converter.flush()

    expected = frame.filter(pl.col("ts_init") >= window.start).sort("ts_init", maintain_order=True)
    got = pa.Table.from_batches(out, converter.schema)
    assert times(got) == expected["ts_init"].to_list()
    best = [float(bid) for bid in got["bids"].combine_chunks().flatten().field("size")[::levels].to_pylist()]
    assert best == expected["size"].to_list()
    bad = [row for table in converter.quarantined for row in table["row"].to_pylist()]
    assert bad == np.flatnonzero(undated).tolist()


@pytest.mark.parametrize("book_as", BookAs)
@pytest.mark.parametrize(("levels", "rows"), [(5, 40_000), (50, 6_000)])
def test_batches_that_leave_are_bounded(levels: int, rows: int, book_as: BookAs) -> None:
    columns: dict[str, Any] = {name: pa.array(range(T0, T0 + rows)) for name in ("ts_event", "ts_init")}
    for level in range(levels):
        for side, price in (("bid", 100.0 - level), ("ask", 101.0 + level)):
            columns[f"{side}_price_{level}"] = [price] * rows
            columns[f"{side}_size_{level}"] = [1.0] * rows
    source = pa.table(columns)
    data_type = DataType(f"book_snapshot_{levels}")
    converter = Converter(BTC, data_type, book_as)
    batches = list(converter.push(source, recognise(source.schema, data_type), watermark=None))
    a_snapshot = 1 + 2 * levels if book_as is BookAs.DELTAS else 1
    assert sum(batch.num_rows for batch in batches) == rows * a_snapshot
    assert max(batch.num_rows for batch in batches) <= 16_384 * a_snapshot
    assert max(batch.nbytes for batch in batches) <= 17 * 1024 * 1024
