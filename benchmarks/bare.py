"""The engine by itself: a `BacktestNode` over a catalog.

`python -m benchmarks.bare CATALOG INSTRUMENT FIRST LAST TOLD` runs one with `FirstTick` on trades. Nothing
but the engine and the strategy is imported: what a run of ticklake adds is told by the difference.
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

from benchmarks.strategy import FirstTick, FirstTickConfig

__all__ = ["TYPES", "run_node"]

TYPES = {
    "trades": NautilusDataType.TradeTick,
    "order_book_deltas": NautilusDataType.OrderBookDelta,
    "order_book_depths": NautilusDataType.OrderBookDepth,
}


def run_node(
    catalog: str,
    kind: str,
    instrument_id: str,
    span: tuple[int, int],
    chunk_size: int | None,
    *strategies: Strategy,
) -> BacktestResult:
    """Replay one type of a catalog.

    Args:
        catalog: Its root.
        kind: The type's folder.
        instrument_id: Whose rows.
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
    data = BacktestDataConfig(
        TYPES[kind],
        catalog,
        instrument_id=InstrumentId.from_str(instrument_id),
        start_time=span[0],
        end_time=span[1],
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
    catalog, instrument_id, start, end, told = sys.argv[1:]
    strategy = FirstTick(FirstTickConfig(instrument_id=instrument_id, told=told))
    run_node(catalog, "trades", instrument_id, (int(start), int(end)), 50_000, strategy)


if __name__ == "__main__":
    main()
