"""The engine by itself: a `BacktestNode` over a catalog.

`python -m benchmarks.bare CATALOG FIRST LAST TOLD` runs one with `FirstTick` on trades.
"""

from __future__ import annotations

import sys
from decimal import Decimal

from nautilus_trader.backtest import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestResult,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.common import LoggerConfig, LogLevel
from nautilus_trader.execution import MakerTakerFeeModel, StaticLatencyModel
from nautilus_trader.model import InstrumentId, NautilusDataType
from nautilus_trader.trading import Strategy

from benchmarks.inputs import NAUTILUS_ID
from benchmarks.strategy import FirstTick, FirstTickConfig

__all__ = ["TYPES", "run_node"]

TYPES = {
    "trades": NautilusDataType.TradeTick,
    "order_book_deltas": NautilusDataType.OrderBookDelta,
    "order_book_depths": NautilusDataType.OrderBookDepth,
}


def run_node(
    catalog: str, kind: str, span: tuple[int, int], chunk_size: int | None, *strategies: Strategy
) -> BacktestResult:
    """Replay one type of a catalog.

    Args:
        catalog: Its root.
        kind: The type's folder.
        span: First and last `ts_init`, both inclusive.
        chunk_size: Rows that the engine takes at once; None for all.
        *strategies: Who listens.
    """
    venue = BacktestVenueConfig(
        "BINANCE",
        "NETTING",
        "MARGIN",
        ["1_000_000 USDT"],
        "L1_MBP" if kind == "trades" else "L2_MBP",
        fee_model=MakerTakerFeeModel(Decimal("0.0002"), Decimal("0.0005")),
        latency_model=StaticLatencyModel(5_000_000),
    )
    instrument = InstrumentId.from_str(NAUTILUS_ID)
    data = BacktestDataConfig(
        TYPES[kind], catalog, instrument_id=instrument, start_time=span[0], end_time=span[1]
    )
    quiet = LoggerConfig(stdout_level=LogLevel.ERROR)
    config = BacktestRunConfig(
        venues=[venue],
        data=[data],
        engine=BacktestEngineConfig(logging=quiet),
        id="bare",
        chunk_size=chunk_size,
        raise_exception=True,
        dispose_on_completion=False,
        start=span[0],
        end=span[1],
    )
    node = BacktestNode([config])
    node.build()
    for strategy in strategies:
        node.add_strategy("bare", strategy)
    return node.run()[0]


def main() -> None:
    """Run it once."""
    catalog, start, end, told = sys.argv[1:]
    strategy = FirstTick(FirstTickConfig(instrument_id=NAUTILUS_ID, told=told))
    run_node(catalog, "trades", (int(start), int(end)), 50_000, strategy)


if __name__ == "__main__":
    main()
