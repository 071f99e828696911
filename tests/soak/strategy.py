"""A strategy that writes down what it is shown."""

from __future__ import annotations

import json
from pathlib import Path

from nautilus_trader.model import InstrumentId
from nautilus_trader.trading import Strategy, StrategyConfig


class ListenerConfig(StrategyConfig):
    def __init__(self, *, instrument_id: str, told: str) -> None:
        super().__init__()
        self.instrument_id = InstrumentId.from_str(instrument_id)
        self.told = told


class Listener(Strategy):
    """Keeps time, size and price of each trade in a file."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__(config)
        self.settings = config
        self.trades: list[tuple[int, float, float]] = []

    def on_start(self) -> None:
        self.subscribe_trades(self.settings.instrument_id)

    def on_trade(self, trade) -> None:
        self.trades.append((trade.ts_init, float(trade.size.as_decimal()), float(trade.price.as_decimal())))

    def on_stop(self) -> None:
        Path(self.settings.told).write_text(json.dumps(self.trades))
