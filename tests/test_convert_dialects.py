"""Dialects are recognised from columns alone, or declared; never guessed."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convert_support import BOOK5, BTC, T0, TRADES, source_path, trades
from ticklake.config import DialectConfig
from ticklake.conversion import BookDialect, TradesDialect, convert, nanos, nanos_per_unit, recognise
from ticklake.errors import SourceSchemaError
from ticklake.types import DataType

F64, I64, TEXT = pa.float64(), pa.int64(), pa.string()

NAUTILUS = {
    "price": F64,
    "size": F64,
    "aggressor_side": pa.int8(),
    "trade_id": TEXT,
    "ts_event": I64,
    "ts_init": I64,
}
TARDIS = {"timestamp": I64, "local_timestamp": I64, "id": TEXT, "side": TEXT, "price": F64, "amount": F64}
VOLUME = {
    "timestamp": I64,
    "local_timestamp": I64,
    "trade_id": TEXT,
    "side": TEXT,
    "price": F64,
    "volume": F64,
}


def _book(bid: str, size: str, levels: range, times: tuple[str, str]) -> dict[str, pa.DataType]:
    columns = {
        template.replace("bid", side).replace("{level}", str(level)): F64
        for level in levels
        for side in ("bid", "ask")
        for template in (bid, size)
    }
    return columns | dict.fromkeys(times, I64)


BOOKS = {
    "nautilus": _book("bid_price_{level}", "bid_size_{level}", range(5), ("ts_event", "ts_init")),
    "tardis": _book(
        "bids[{level}].price", "bids[{level}].amount", range(5), ("timestamp", "local_timestamp")
    ),
    "volume": _book("bid_price_{level}", "bid_volume_{level}", range(1, 6), ("timestamp", "local_timestamp")),
}


def _schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    return pa.schema(list(columns.items()))


@pytest.mark.parametrize(
    ("key", "trades", "book"),
    [
        ("BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN", "nautilus", "nautilus"),
        ("BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN", "tardis", "tardis"),
        ("BINANCE:SPOT_PAIR:BTC-USDT", "nautilus", "volume"),
    ],
)
def test_real_files(real_lake: Path, key: str, trades: str, book: str) -> None:
    for data_type, name in ((TRADES, trades), (BOOK5, book)):
        schema = pq.read_schema(source_path(real_lake, key, "2024-08-08", data_type))
        dialect = recognise(schema, data_type)
        assert dialect.name == name
        assert set(dialect.columns) <= set(schema.names)
        # All that these files have is used, but for the instrument's name.
        assert set(schema.names) - set(dialect.columns) <= {"instrument_key"}


@pytest.mark.parametrize(
    ("columns", "name", "unit", "clock"),
    [
        (NAUTILUS, "nautilus", "ns", "ts_init"),
        (TARDIS, "tardis", "us", "local_timestamp"),
        (VOLUME, "volume", "us", "local_timestamp"),
    ],
)
def test_trades(columns: dict[str, pa.DataType], name: str, unit: str, clock: str) -> None:
    dialect = recognise(_schema(columns | {"something_else": F64}), TRADES)

    assert isinstance(dialect, TradesDialect)
    assert (dialect.name, dialect.unit, dialect.time_column) == (name, unit, clock)
    assert sorted(dialect.columns) == sorted(columns)


@pytest.mark.parametrize(
    ("columns", "id_column"), [(VOLUME, "trade_id"), (VOLUME | {"id": TEXT}, "trade_id")]
)
def test_volume_dialect_takes_either_id(columns: dict[str, pa.DataType], id_column: str) -> None:
    assert recognise(_schema(columns), TRADES).columns[-1] == id_column
    without = {name: kind for name, kind in columns.items() if name != "trade_id"} | {"id": TEXT}
    assert recognise(_schema(without), TRADES).columns[-1] == "id"


@pytest.mark.parametrize("columns", [NAUTILUS, TARDIS, VOLUME])
def test_optional_columns_may_be_missing(columns: dict[str, pa.DataType]) -> None:
    needed = {"price", "size", "amount", "volume", "ts_event", "timestamp"}
    bare = {name: kind for name, kind in columns.items() if name in needed}

    dialect = recognise(_schema(bare), TRADES)

    assert isinstance(dialect, TradesDialect)
    assert (dialect.ts_init, dialect.side, dialect.trade_id) == (None, None, None)
    assert dialect.time_column == dialect.ts_event
    assert len(dialect.columns) == 3


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("depth", [1, 3, 5])
def test_books_take_the_best_levels(name: str, depth: int) -> None:
    dialect = recognise(_schema(BOOKS[name]), DataType(f"book_snapshot_{depth}"))

    assert isinstance(dialect, BookDialect)
    assert (dialect.name, dialect.depth) == (name, depth)
    assert len(dialect.columns) == 2 + 4 * depth
    first = 1 if name == "volume" else 0
    assert all(str(first) in side[0] for side in (dialect.bid_price, dialect.ask_size))


def test_book_with_too_few_levels() -> None:
    with pytest.raises(SourceSchemaError, match="has 5 complete levels a side, book_snapshot_10 needs 10"):
        recognise(_schema(BOOKS["volume"]), DataType("book_snapshot_10"))
    gap = {name: kind for name, kind in BOOKS["nautilus"].items() if name != "ask_size_2"}
    with pytest.raises(SourceSchemaError, match=r"has 2 complete levels a side.*missing are ask_size_2"):
        recognise(_schema(gap), BOOK5)


@pytest.mark.parametrize(
    ("columns", "data_type"),
    [({"px": F64, "time": I64}, TRADES), (TARDIS, BOOK5), (BOOKS["tardis"], TRADES), ({}, TRADES)],
)
def test_unknown_columns_are_refused_with_all_that_helps(
    columns: dict[str, Any], data_type: DataType
) -> None:
    with pytest.raises(SourceSchemaError) as caught:
        recognise(_schema(columns), data_type, url="gs://bucket/file.parquet")

    text = str(caught.value)
    assert "no known dialect" in text
    assert all(name in text for name in columns)
    assert all(name in text for name in ("nautilus", "tardis", "volume", "`dialect: {", "unit: us"))
    assert "gs://bucket/file.parquet" in text
    assert caught.value.data_type == data_type.name


@pytest.mark.parametrize(
    ("columns", "data_type"),
    [(TARDIS | VOLUME, TRADES), (NAUTILUS | TARDIS, TRADES), (BOOKS["nautilus"] | BOOKS["tardis"], BOOK5)],
)
def test_ambiguous_columns_are_refused(columns: dict[str, pa.DataType], data_type: DataType) -> None:
    with pytest.raises(SourceSchemaError, match="more than one known dialect"):
        recognise(_schema(columns), data_type)


def test_declared_trades() -> None:
    schema = _schema({"px": F64, "qty": F64, "taker": TEXT, "n": I64, "t": I64})
    declared = DialectConfig(
        unit="ms", ts_event="t", price="px", size="qty", side="taker", trade_id="n", buy="B", sell="S"
    )

    dialect = recognise(schema, TRADES, declared)

    assert isinstance(dialect, TradesDialect)
    assert dialect.columns == ("t", "px", "qty", "taker", "n")
    assert dialect.time_column == "t"
    assert dialect.nanos_per_unit == 1_000_000
    assert (dialect.buy, dialect.sell) == ({"b"}, {"s"})


def test_a_declared_dialect_wins_over_recognition() -> None:
    declared = DialectConfig(unit="s", ts_event="ts_event", price="price", size="size")
    dialect = recognise(_schema(NAUTILUS), TRADES, declared)
    assert (dialect.name, dialect.unit, dialect.ts_init) == ("declared", "s", None)


def test_declared_book() -> None:
    columns = {f"{side}{level}{kind}": F64 for side in "ba" for level in (1, 2) for kind in ("p", "q")} | {
        "t": I64
    }
    declared = DialectConfig(
        unit="us",
        ts_event="t",
        bid_price="b{level}p",
        bid_size="b{level}q",
        ask_price="a{level}p",
        ask_size="a{level}q",
        first_level=1,
    )

    dialect = recognise(_schema(columns), DataType("book_snapshot_2"), declared)

    assert isinstance(dialect, BookDialect)
    assert (dialect.bid_price, dialect.ask_size) == (("b1p", "b2p"), ("a1q", "a2q"))
    with pytest.raises(SourceSchemaError, match="missing are b3p, b3q, a3p, a3q"):
        recognise(_schema(columns), DataType("book_snapshot_3"), declared)
    flat = declared.model_copy(update={"bid_price": "b1p"})
    with pytest.raises(SourceSchemaError, match=r"every level.*same column 'b1p'.*\{level\}"):
        recognise(_schema(columns), DataType("book_snapshot_2"), flat)


@pytest.mark.parametrize("missing", ["price", "size", "side", "trade_id", "ts_event", "ts_init"])
def test_declared_column_that_is_missing(missing: str) -> None:
    names = {name: name for name in ("price", "size", "side", "trade_id", "ts_event", "ts_init")}
    schema = _schema(dict.fromkeys(names, I64))
    with pytest.raises(SourceSchemaError, match="names columns that the file does not have: nowhere; it has"):
        recognise(schema, TRADES, DialectConfig(unit="ns", **(names | {missing: "nowhere"})))


def test_declared_dialect_for_the_other_kind_of_file() -> None:
    declared = DialectConfig(unit="us", ts_event="t", price="p", size="s")
    with pytest.raises(SourceSchemaError, match="does not say where bid_price and bid_size and ask_price"):
        recognise(_schema({"t": I64, "p": F64, "s": F64}), BOOK5, declared)


@pytest.mark.parametrize(
    ("buy", "sell"), [(False, True), (0, 1), ("false", "true"), ("0", "1"), ("False", 1), (False, 1)]
)
@pytest.mark.parametrize(
    "flags",
    [
        pa.array([True, False, None]),
        pa.array([1, 0, None], pa.int8()),
        pa.array([1.0, 0.0, None]),
        pa.array(["true", "FALSE", None]),
        pa.array(["1", "0", ""]),
    ],
    ids=lambda flags: str(flags.type),
)
def test_a_flag_of_the_side_may_be_spelled_as_boolean_or_number(
    buy: bool | int | str, sell: bool | int | str, flags: pa.Array
) -> None:
    declared = DialectConfig(
        unit="ns", ts_event="ts_event", price="price", size="size", side="maker", buy=buy, sell=sell
    )
    # As YAML and JSON have it.
    again = DialectConfig.model_validate_json(declared.model_dump_json())
    source = trades(3, aggressor_side=None, maker=flags)
    for dialect in (declared, again):
        result = convert(source, spec=BTC, data_type=TRADES, dialect=dialect)
        assert result.table["aggressor_side"].to_pylist() == ["SELL", "BUY", "NO_AGGRESSOR"]


@pytest.mark.parametrize(("buy", "sell"), [(True, 1), ("0", False), ("True", 1)])
def test_two_spellings_of_one_flag_are_one_value(buy: bool | int | str, sell: bool | int | str) -> None:
    declared = DialectConfig(unit="us", ts_event="t", price="p", size="s", side="w", buy=buy, sell=sell)
    with pytest.raises(SourceSchemaError, match="same value"):
        recognise(_schema({"t": I64, "p": F64, "s": F64, "w": TEXT}), TRADES, declared)


def test_declared_sides_must_differ() -> None:
    declared = DialectConfig(unit="us", ts_event="t", price="p", size="s", side="w", buy="X", sell="x")
    with pytest.raises(SourceSchemaError, match="same value 'X' for buy and sell"):
        recognise(_schema({"t": I64, "p": F64, "s": F64, "w": TEXT}), TRADES, declared)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("ts_event", F64),
        ("ts_init", TEXT),
        ("ts_init", pa.date32()),
        ("price", pa.bool_()),
        ("price", pa.float16()),
        ("size", pa.decimal256(50, 2)),
        ("size", pa.list_(F64)),
        ("aggressor_side", pa.timestamp("ns")),
        ("trade_id", F64),
    ],
)
def test_wrong_types_are_refused(column: str, kind: pa.DataType) -> None:
    with pytest.raises(SourceSchemaError, match=rf"{column} is .*, not "):
        recognise(_schema(NAUTILUS | {column: kind}), TRADES)


def test_columns_that_stand_twice_are_refused() -> None:
    schema = pa.schema([*NAUTILUS.items(), ("price", F64)])
    with pytest.raises(SourceSchemaError, match="stand more than once: price"):
        recognise(schema, TRADES)
    assert recognise(pa.schema([*NAUTILUS.items(), ("x", F64), ("x", F64)]), TRADES).name == "nautilus"


def test_units_of_statistics() -> None:
    nautilus, tardis = recognise(_schema(NAUTILUS), TRADES), recognise(_schema(TARDIS), TRADES)
    moment = dt.datetime(2024, 8, 9, tzinfo=dt.UTC)

    assert nanos(nautilus, I64, T0) == T0
    assert nanos(tardis, pa.uint64(), T0 // 1_000) == T0
    for unit, divisor in (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)):
        for zone in (None, "UTC", "America/New_York"):
            kind = pa.timestamp(unit, zone)
            assert nanos(tardis, kind, T0 // divisor) == T0
            assert nanos_per_unit(tardis, kind) == divisor
    assert nanos(tardis, pa.timestamp("us"), moment.replace(tzinfo=None)) == T0
    assert nanos(tardis, pa.timestamp("us", "UTC"), moment + dt.timedelta(microseconds=7)) == T0 + 7_000
    assert nanos(tardis, pa.timestamp("us"), moment.astimezone(dt.timezone(dt.timedelta(hours=9)))) == T0
