"""A catalog of real ticks that the engine's own writer wrote, and jobs over it."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from nautilus_trader.adapters.tardis import load_tardis_depth_from_snapshot5, load_tardis_trades
from nautilus_trader.backtest import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.common import LoggerConfig, LogLevel
from nautilus_trader.execution import MakerTakerFeeModel, StaticLatencyModel
from nautilus_trader.model import (
    BookAction,
    BookOrder,
    CryptoPerpetual,
    Currency,
    InstrumentId,
    NautilusDataType,
    OrderBookDelta,
    OrderSide,
    Price,
    Quantity,
    Symbol,
)
from nautilus_trader.persistence import ParquetDataCatalog
from nautilus_trader.trading import ImportableStrategyConfig

from ticklake.backtesting import EngineJob, InstrumentData
from ticklake.config import EngineConfig, FeesConfig, StrategyConfig, VenueConfig
from ticklake.types import CatalogType, Window

ETH = "ETHUSDT-PERP.BINANCE"
TESTS = str(Path(__file__).parent)
EXAMPLES = str(Path(__file__).parents[1] / "examples")
WINDOW = Window.parse("2024-08-08T23:54:16Z", "2024-08-09T00:00:00Z")
DAY = Window.parse("2024-08-08", "2024-08-09").start
LAKE_FOLDER = "market-data-tick-cefi/raw_tick_data/by_date/day-2024-08-08"
LAKE_FILE = "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN.parquet"


def perpetual(ts_init: int = DAY, tick: str = "0.01", nautilus_id: str = ETH) -> CryptoPerpetual:
    return CryptoPerpetual(
        InstrumentId.from_str(nautilus_id),
        Symbol("ETHUSDT"),
        Currency.from_str("ETH"),
        Currency.from_str("USDT"),
        Currency.from_str("USDT"),
        is_inverse=False,
        price_precision=2,
        size_precision=3,
        price_increment=Price.from_str(tick),
        size_increment=Quantity.from_str("0.001"),
        ts_event=ts_init,
        ts_init=ts_init,
        margin_init=Decimal("0.05"),
        margin_maint=Decimal("0.025"),
    )


def write_catalog(real_lake: Path, folder: Path) -> Path:
    """Write the ETH ticks as trades, depths and deltas with the engine's loaders and writer."""
    catalog = folder / "catalog"
    catalog.mkdir()
    writer = ParquetDataCatalog(str(catalog))
    writer.write_instruments([perpetual()])
    source = real_lake / LAKE_FOLDER
    iid = InstrumentId.from_str(ETH)
    trades_csv, book_csv = folder / "trades.csv", folder / "book.csv"
    _csv(
        source / "data_type-trades" / LAKE_FILE,
        trades_csv,
        ["timestamp", "local_timestamp", "id", "side", "price", "amount"],
    )
    _csv(source / "data_type-book_snapshot_5" / LAKE_FILE, book_csv)
    trades = load_tardis_trades(str(trades_csv), 2, 3, iid)
    depths = load_tardis_depth_from_snapshot5(str(book_csv), 2, 3, iid)
    depths.sort(key=lambda depth: depth.ts_init)
    writer.write_trade_ticks(sorted(trades, key=lambda trade: trade.ts_init))
    writer.write_order_book_depths(depths)
    writer.write_order_book_deltas([delta for depth in depths for delta in _deltas(depth)])
    return catalog


def _csv(source: Path, target: Path, columns: list[str] | None = None) -> None:
    table = pq.read_table(source)
    table = table.select(columns or table.column_names)
    for index, (name, text) in enumerate({"exchange": "binance-futures", "symbol": "ETHUSDT"}.items()):
        table = table.add_column(index, name, pa.array([text] * len(table)))
    pyarrow.csv.write_csv(table, target)


def _deltas(depth: Any) -> list[OrderBookDelta]:
    nothing = BookOrder(OrderSide.NO_ORDER_SIDE, Price(0, 2), Quantity(0, 3), 0)
    rows = [(BookAction.CLEAR, nothing)]
    for side, orders in ((OrderSide.BUY, depth.bids), (OrderSide.SELL, depth.asks)):
        rows += [
            (BookAction.ADD, BookOrder(side, order.price, order.size, 0))
            for order in orders
            if order.size.as_decimal() > 0
        ]
    last = len(rows) - 1
    return [
        OrderBookDelta(
            depth.instrument_id, action, order, 32 | 128 * (i == last), 0, depth.ts_event, depth.ts_init
        )
        for i, (action, order) in enumerate(rows)
    ]


def late_book(catalog: Path, folder: Path, start: int) -> Path:
    """Copy a catalog without the book rows before a time."""
    for path in catalog.rglob("*.parquet"):
        target = folder / "late" / path.relative_to(catalog)
        target.parent.mkdir(parents=True, exist_ok=True)
        if "order_book" in str(path):
            table = pq.read_table(path)
            pq.write_table(table.filter(pc.greater_equal(table["ts_init"].cast(pa.int64()), start)), target)
        else:
            target.write_bytes(path.read_bytes())
    return folder / "late"


def job(
    catalog: Path,
    *,
    types: tuple[CatalogType, ...] = (CatalogType.TRADES, CatalogType.DELTAS),
    strategy: str = "backtest_strategies:Busy",
    config: dict[str, Any] | None = None,
    chunk_size: int = 50_000,
    **changes: Any,
) -> EngineJob:
    """Return a job over the ETH catalog."""
    has_book = types != (CatalogType.TRADES,)
    made = EngineJob(
        run_id="20260101T000000Z-Busy-abc123",
        catalog=catalog,
        window=WINDOW,
        instruments=(InstrumentData(ETH, types),),
        venues={
            "BINANCE": VenueConfig(
                account="MARGIN",
                book="L2_MBP" if has_book else "L1_MBP",
                balances=("1_000_000 USDT",),
                fees=FeesConfig(maker=Decimal("0.0002"), taker=Decimal("0.0005")),
                latency="5ms",
            )
        },
        strategies=(
            StrategyConfig(
                path=strategy,
                config_path=f"{strategy}Config",
                config={"instrument_id": ETH, **(config or {})},
            ),
        ),
        engine=EngineConfig(chunk_size=chunk_size),
        search_path=(TESTS, EXAMPLES),
    )
    return dataclasses.replace(made, **changes)


def oracle(catalog: Path, job: EngineJob) -> list[tuple[int, str, str, str, str]]:
    """Run a job's strategy by hand, in one chunk; return time, side, price, size, commission of the fills."""
    venue, first, last = job.venues["BINANCE"], *job.window.closed
    kinds = {
        CatalogType.DELTAS: NautilusDataType.OrderBookDelta,
        CatalogType.DEPTHS: NautilusDataType.OrderBookDepth,
        CatalogType.TRADES: NautilusDataType.TradeTick,
    }
    data = [
        BacktestDataConfig(
            kinds[kind],
            str(catalog),
            instrument_id=InstrumentId.from_str(ETH),
            start_time=first,
            end_time=last,
        )
        for kind in kinds
        if kind in job.instruments[0].types
    ]
    simulated = BacktestVenueConfig(
        "BINANCE",
        "NETTING",
        "MARGIN",
        ["1_000_000 USDT"],
        venue.book,
        fee_model=MakerTakerFeeModel(Decimal("0.0002"), Decimal("0.0005")),
        latency_model=StaticLatencyModel(5_000_000),
    )
    config = BacktestRunConfig(
        [simulated],
        data,
        BacktestEngineConfig(logging=LoggerConfig(stdout_level=LogLevel.OFF)),
        id="oracle",
        raise_exception=True,
        dispose_on_completion=False,
        start=first,
        end=last,
    )
    node = BacktestNode([config])
    node.build()
    strategy = job.strategies[0]
    node.add_strategy_from_config(
        "oracle", ImportableStrategyConfig(strategy.path, strategy.config_path, strategy.config)
    )
    node.run()
    events = [event for order in node.get_engine_cache("oracle").orders() for event in order.events()]
    fills = [
        (e.ts_event, e.order_side.name, str(e.last_px), str(e.last_qty), str(e.commission))
        for e in events
        if type(e).__name__ == "OrderFilled"
    ]
    node.dispose()
    return sorted(fills)
