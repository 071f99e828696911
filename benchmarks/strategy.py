"""A strategy that does nothing with its ticks but tell when the first one came."""

from __future__ import annotations

import time
from pathlib import Path

from nautilus_trader.model import InstrumentId, TradeTick
from nautilus_trader.trading import Strategy, StrategyConfig

__all__ = ["FirstTick", "FirstTickConfig"]


class FirstTickConfig(StrategyConfig):
    """Settings of `FirstTick`.

    Args:
        instrument_id: Whose trades to listen to.
        told: File that gets the time of the first of them, on the clock that all processes share.
    """

    def __init__(self, *, instrument_id: str, told: str, **_: object) -> None:
        super().__init__()
        self.instrument_id = InstrumentId.from_str(instrument_id)
        self.told = told


class FirstTick(Strategy):
    """Listens to trades."""

    def __init__(self, config: FirstTickConfig) -> None:
        super().__init__(config)
        self.settings = config
        self.trades = 0

    def on_start(self) -> None:
        """Subscribe."""
        self.subscribe_trades(self.settings.instrument_id)

    def on_trade(self, trade: TradeTick) -> None:  # noqa: ARG002 (the engine hands it over)
        """Count, and tell of the first one."""
        if not self.trades:
            Path(self.settings.told).write_text(str(time.monotonic()))
        self.trades += 1
