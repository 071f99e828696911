"""What the engine makes of our rows equals what it makes of the same ticks by itself."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from nautilus_trader.adapters.tardis import load_tardis_depth_from_snapshot5, load_tardis_trades
from nautilus_trader.model import (
    BookAction,
    BookOrder,
    BookType,
    InstrumentId,
    OrderBook,
    OrderBookDelta,
    OrderBookDeltas,
    OrderSide,
    Price,
    Quantity,
)

from convert_support import (
    BOOK5,
    BTC,
    ETH,
    KEYS,
    SPOT,
    T0,
    TRADES,
    book,
    read_catalog,
    read_catalog_apart,
    source_path,
    trades,
    write_catalog,
)
from ticklake.catalog.schema import PRICE_MAX, SIZE_MAX
from ticklake.conversion import Converter, convert, recognise
from ticklake.types import BookAs, CatalogType, DataType, InstrumentSpec

ETH_KEY = "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN"
DAYS = ("2024-08-08", "2024-08-09")


def _csv(path: Path, table: pa.Table, *columns: str) -> Path:
    """Write ticks as Tardis' own files have them."""
    extra = {"exchange": ["binance-futures"] * len(table), "symbol": ["ETHUSDT"] * len(table)}
    for name, values in extra.items():
        table = table.append_column(name, pa.array(values))
    pc.write_csv(table.select([*extra, *columns]), path)
    return path


def _loaded(tmp_path: Path, table: pa.Table, columns: list[str], load: Callable[..., list[Any]]) -> list[Any]:
    path = _csv(tmp_path / "ticks.csv", table, *columns)
    precisions = (ETH.price_precision, ETH.size_precision)
    loaded = load(str(path), *precisions, InstrumentId.from_str(ETH.nautilus_id))
    assert len(loaded) == len(table)
    return sorted(loaded, key=lambda tick: tick.ts_init)


@pytest.mark.parametrize("day", DAYS)
def test_trades_equal_those_of_the_tardis_loader(real_lake: Path, tmp_path: Path, day: str) -> None:
    path = source_path(real_lake, ETH_KEY, day, TRADES)
    columns = ["timestamp", "local_timestamp", "id", "side", "price", "amount"]
    theirs = _loaded(tmp_path, pq.read_table(path), columns, load_tardis_trades)

    ours = convert(path, spec=ETH, data_type=TRADES)
    write_catalog(tmp_path, ours.table, CatalogType.TRADES, ETH)

    assert read_catalog(tmp_path, CatalogType.TRADES) == theirs
    assert len(theirs) > 20


@pytest.mark.parametrize("day", DAYS)
def test_depths_equal_those_of_the_tardis_loader(real_lake: Path, tmp_path: Path, day: str) -> None:
    path = source_path(real_lake, ETH_KEY, day, BOOK5)
    source = pq.read_table(path)
    theirs = _loaded(tmp_path, source, source.column_names, load_tardis_depth_from_snapshot5)

    ours = convert(path, spec=ETH, data_type=BOOK5, book_as=BookAs.DEPTH)
    write_catalog(tmp_path, ours.table, CatalogType.DEPTHS, ETH)

    assert read_catalog(tmp_path, CatalogType.DEPTHS) == theirs


def _by_hand(row: dict[str, Any], spec: InstrumentSpec, *, depth: int) -> list[OrderBookDelta]:
    """Make the deltas of one snapshot of the volume dialect the slow way."""
    instrument = InstrumentId.from_str(spec.nautilus_id)
    event, init = row["timestamp"] * 1_000, row["local_timestamp"] * 1_000
    levels = [
        (side, row[f"{name}_price_{level}"], row[f"{name}_volume_{level}"])
        for side, name in ((OrderSide.BUY, "bid"), (OrderSide.SELL, "ask"))
        for level in range(1, depth + 1)
    ]
    zero = BookOrder(
        OrderSide.NO_ORDER_SIDE, Price(0, spec.price_precision), Quantity(0, spec.size_precision), 0
    )
    made = [OrderBookDelta(instrument, BookAction.CLEAR, zero, 32, 0, event, init)]
    for n, (side, price, size) in enumerate(levels, 1):
        order = BookOrder(side, Price(price, spec.price_precision), Quantity(size, spec.size_precision), 0)
        made.append(
            OrderBookDelta(instrument, BookAction.ADD, order, 160 if n == len(levels) else 32, 0, event, init)
        )
    return made


def test_deltas_equal_those_made_by_hand_and_build_the_book(real_lake: Path, tmp_path: Path) -> None:
    key = "BINANCE:SPOT_PAIR:BTC-USDT"
    source = pq.read_table(source_path(real_lake, key, DAYS[1], BOOK5)).slice(0, 400)
    rows = sorted(source.to_pylist(), key=lambda row: row["local_timestamp"])

    ours = convert(source, spec=SPOT, data_type=BOOK5)
    write_catalog(tmp_path, ours.table, CatalogType.DELTAS, SPOT)
    read = read_catalog(tmp_path, CatalogType.DELTAS)

    assert read == [delta for row in rows for delta in _by_hand(row, SPOT, depth=5)]

    instrument = InstrumentId.from_str(SPOT.nautilus_id)
    engine_book = OrderBook(instrument, BookType.L2_MBP)
    for i, row in enumerate(rows):
        engine_book.apply_deltas(OrderBookDeltas(instrument, read[i * 11 : (i + 1) * 11]))
        if row["bid_price_1"] >= row["ask_price_1"]:
            continue  # a crossed snapshot: the engine settles it in its own way
        bids = [(float(level.price.as_decimal()), level.size()) for level in engine_book.bids()]
        asks = [(float(level.price.as_decimal()), level.size()) for level in engine_book.asks()]
        assert bids == [(row[f"bid_price_{n}"], row[f"bid_volume_{n}"]) for n in range(1, 6)]
        assert asks == [(row[f"ask_price_{n}"], row[f"ask_volume_{n}"]) for n in range(1, 6)]


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("key", KEYS)
def test_facts_of_trades(
    real_lake: Path, facts: dict[str, dict[str, Any]], tmp_path: Path, key: str, day: str
) -> None:
    path = source_path(real_lake, key, day, TRADES)
    name = f"{key} {day} trades"
    assert path.exists() == (name in facts)
    if not path.exists():
        return
    expected = facts[name]

    converted = convert(path, spec=KEYS[key], data_type=TRADES)
    write_catalog(tmp_path, converted.table, CatalogType.TRADES, KEYS[key])
    read = read_catalog(tmp_path, CatalogType.TRADES)

    assert len(read) == expected["rows"] == converted.counts.written == converted.counts.catalog_rows
    assert sum(tick.size.as_decimal() for tick in read) == Decimal(str(expected["volume"]))
    ids = sorted((tick.trade_id.value for tick in read), key=int)
    assert (ids[0], ids[-1]) == (expected["first_id"], expected["last_id"])
    assert sum(str(tick.aggressor_side) == "BUY" for tick in read) == expected["buys"]
    assert not converted.counts.notes.total()
    assert [tick.ts_init for tick in read] == sorted(tick.ts_init for tick in read)


@pytest.mark.parametrize("book_as", BookAs)
@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("key", KEYS)
def test_facts_of_books(
    real_lake: Path, facts: dict[str, dict[str, Any]], tmp_path: Path, key: str, day: str, book_as: BookAs
) -> None:
    expected = facts[f"{key} {day} book_snapshot_5"]
    catalog_type = CatalogType.of(BOOK5, book_as)

    converted = convert(
        source_path(real_lake, key, day, BOOK5), spec=KEYS[key], data_type=BOOK5, book_as=book_as
    )
    write_catalog(tmp_path, converted.table, catalog_type, KEYS[key])
    read = read_catalog(tmp_path, catalog_type)

    assert converted.counts.written == expected["rows"]
    if book_as is BookAs.DELTAS:
        assert len(read) == 11 * expected["rows"]
        orders = [read[1].order, read[-5].order]
        assert sum(delta.flags == 160 for delta in read) == expected["rows"]
    else:
        assert len(read) == expected["rows"]
        orders = [read[0].bids[0], read[-1].asks[0]]
    found = [[float(order.price.as_decimal()), float(order.size.as_decimal())] for order in orders]
    assert found == [expected["first_bid"], expected["last_ask"]]


def test_the_crossed_book_of_the_real_lake_is_counted_and_kept(real_lake: Path) -> None:
    key = "BINANCE:SPOT_PAIR:BTC-USDT"
    source = pq.read_table(source_path(real_lake, key, DAYS[1], BOOK5))
    crossed = sum(row["bid_price_1"] >= row["ask_price_1"] for row in source.to_pylist())

    counts = convert(source, spec=SPOT, data_type=BOOK5).counts

    assert crossed > 0
    assert counts.notes["crossed_book"] == crossed
    assert counts.written == len(source)


def test_batches_make_no_difference(real_lake: Path) -> None:
    for data_type in (TRADES, BOOK5):
        path = source_path(real_lake, ETH_KEY, DAYS[0], data_type)
        whole = convert(path, spec=ETH, data_type=data_type).table
        converter = Converter(ETH, data_type)
        source = pq.read_table(path)
        dialect = recognise(source.schema, data_type)
        pieces = []
        for start in range(0, len(source), 777):
            pieces += converter.push(source.slice(start, 777), dialect, watermark=0, first_row=start)
        pieces += converter.flush()
        assert pa.Table.from_batches(pieces, converter.schema).equals(whole, check_metadata=True)


NAN = float("nan")
NOTHING = (NAN, NAN)
EDGES = book(
    ([NOTHING, NOTHING], [NOTHING, NOTHING]),
    ([(1.5, 1.0), (1.4, 2.0)], [NOTHING, (0.0, 5.0)]),
    ([NOTHING, (1.4, 0.0)], [(1.6, 3.0), NOTHING]),
    ([NOTHING, (1.4, 2.0)], [(None, 1.0), (float(PRICE_MAX), float(SIZE_MAX))]),
)
BOOK2 = DataType("book_snapshot_2")


def test_deltas_of_empty_and_one_sided_books(tmp_path: Path) -> None:
    converted = convert(EDGES, spec=BTC, data_type=BOOK2)
    write_catalog(tmp_path, converted.table, CatalogType.DELTAS, BTC)
    read = read_catalog_apart(tmp_path, CatalogType.DELTAS)

    clear = ("CLEAR", "NO_ORDER_SIDE", "0.0", "0.000")
    assert [
        (
            d["action"],
            d["order"]["side"],
            d["order"]["price"],
            d["order"]["size"],
            d["flags"],
            d["ts_init"] - T0,
        )
        for d in read
    ] == [
        (*clear, 160, 0),
        (*clear, 32, 1),
        ("ADD", "BUY", "1.5", "1.000", 32, 1),
        ("ADD", "BUY", "1.4", "2.000", 160, 1),
        (*clear, 32, 2),
        ("ADD", "SELL", "1.6", "3.000", 160, 2),
        (*clear, 32, 3),
        ("ADD", "BUY", "1.4", "2.000", 32, 3),
        ("ADD", "SELL", f"{PRICE_MAX}.0", f"{SIZE_MAX}.000", 160, 3),
    ]
    assert all((d["order"]["order_id"], d["sequence"]) == (0, 0) for d in read)
    assert converted.counts.notes == {"empty_book": 1, "level_gap": 1}


def test_depths_of_empty_and_one_sided_books(tmp_path: Path) -> None:
    converted = convert(EDGES, spec=BTC, data_type=BOOK2, book_as=BookAs.DEPTH)
    write_catalog(tmp_path, converted.table, CatalogType.DEPTHS, BTC)
    read = read_catalog_apart(tmp_path, CatalogType.DEPTHS)

    def levels(side: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return [(level["price"], level["size"]) for level in side]

    assert [(levels(d["bids"]), levels(d["asks"])) for d in read] == [
        ([], []),
        ([("1.5", "1.000"), ("1.4", "2.000")], []),
        ([], [("1.6", "3.000")]),
        ([("1.4", "2.000")], [(f"{PRICE_MAX}.0", f"{SIZE_MAX}.000")]),
    ]
    assert [(d["bid_counts"], d["ask_counts"], d["flags"], d["sequence"]) for d in read] == [
        ([], [], 160, 0),
        ([1, 1], [], 160, 0),
        ([], [1], 160, 0),
        ([1], [1], 160, 0),
    ]


def test_trades_at_the_edge_of_what_the_engine_takes(tmp_path: Path) -> None:
    ids = ["x" * 36, "!", "a b\x7f", "9" * 36]
    source = trades(
        4,
        price=[float(PRICE_MAX), 0.1, 1.0, 1.0],
        size=[0.001, float(SIZE_MAX), 1.0, 1.0],
        aggressor_side=[1, None, 7, 2],
        trade_id=ids,
        ts_event=[0, 2**63 - 2, T0, T0],
        ts_init=[0, T0, T0, 2**63 - 2],
    )
    converted = convert(source, spec=BTC, data_type=TRADES)
    write_catalog(tmp_path, converted.table, CatalogType.TRADES, BTC)
    read = read_catalog_apart(tmp_path, CatalogType.TRADES)

    assert [tick["trade_id"] for tick in read] == ids
    assert [tick["price"] for tick in read] == [f"{PRICE_MAX}.0", "0.1", "1.0", "1.0"]
    assert read[1]["size"] == f"{SIZE_MAX}.000"
    assert [tick["aggressor_side"] for tick in read] == ["BUY", "NO_AGGRESSOR", "NO_AGGRESSOR", "SELL"]
    assert [tick["ts_event"] for tick in read] == [0, 2**63 - 2, T0, T0]


@pytest.mark.parametrize("precision", [0, 8, 16])
def test_every_precision_is_read_back(tmp_path: Path, precision: int) -> None:
    spec = InstrumentSpec("X.Y", precision, precision)
    prices = [Decimal(ticks).scaleb(-precision) for ticks in (1, 3, 10**precision, 123_456_789)]
    source = trades(4, price=[float(p) for p in prices], size=[float(p) for p in prices])
    write_catalog(tmp_path, convert(source, spec=spec, data_type=TRADES).table, CatalogType.TRADES, spec)
    read = read_catalog_apart(tmp_path, CatalogType.TRADES)
    assert [tick["price"] for tick in read] == [f"{price:.{precision}f}" for price in prices]
