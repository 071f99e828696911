"""Momentum on trades: follow bursts of aggressive volume.

Two exponential averages run over the *signed* size of the trades (+ bought, - sold aggressively), one fast
and one slow. Where the fast one leaves the slow one by more than a threshold, buyers or sellers are in a
hurry; the strategy goes with them, and goes flat when the burst is over. It is in the market with one fixed
size or not at all, trades with market orders, waits between two orders, and closes what is open when it is
stopped.

Needs trades only (`data: [trades]` with `book: L1_MBP`); with a book (`book: L2_MBP`) fills are more
realistic.
"""

from __future__ import annotations

import math
from decimal import Decimal

from nautilus_trader.model import AggressorSide, InstrumentId, OrderSide, Quantity, TradeTick
from nautilus_trader.trading import Strategy, StrategyConfig

__all__ = ["TradeMomentum", "TradeMomentumConfig"]

NANOS_PER_SECOND = 1_000_000_000


class TradeMomentumConfig(StrategyConfig):
    """Settings of `TradeMomentum`.

    The engine's base class takes its own settings (`order_id_tag` and so on) when the object is created, so
    `__init__` declares only what is new, by keyword, and hands nothing on.

    Args:
        instrument_id: What to trade, for example `BTCUSDT-PERP.BINANCE`.
        size: Quantity of the position, in units of the instrument, as text so that it stays exact.
        fast: Half-life of the fast average in seconds.
        slow: Half-life of the slow average in seconds.
        enter: How many slow standard deviations the burst must be worth to enter.
        leave: Below how many it is over.
        pause: Seconds between two orders, at least.
    """

    def __init__(
        self,
        *,
        instrument_id: str,
        size: str,
        fast: float = 2.0,
        slow: float = 30.0,
        enter: float = 1.0,
        leave: float = 0.2,
        pause: float = 2.0,
        **_: object,
    ) -> None:
        super().__init__()
        if not 0 < fast < slow:
            raise ValueError(f"fast ({fast} s) must be positive and below slow ({slow} s)")
        if not 0 <= leave < enter:
            raise ValueError(f"leave ({leave}) must not be negative and be below enter ({enter})")
        self.instrument_id = InstrumentId.from_str(instrument_id)
        self.size = Decimal(size)
        self.fast, self.slow = fast, slow
        self.enter, self.leave = enter, leave
        self.pause = int(pause * NANOS_PER_SECOND)


class TradeMomentum(Strategy):
    """Goes with bursts of aggressive volume."""

    def __init__(self, config: TradeMomentumConfig) -> None:
        super().__init__(config)
        self.settings = config
        self.fast = self.slow = self.variance = 0.0
        self.target = Decimal(0)
        self.started = self.last_trade = self.last_order = 0

    def on_start(self) -> None:
        """Subscribe to the trades."""
        instrument = self.cache.instrument(self.settings.instrument_id)
        if instrument is None:
            raise ValueError(f"{self.settings.instrument_id} is not part of the run")
        self.size_precision = instrument.size_precision
        self.subscribe_trades(self.settings.instrument_id)

    def on_trade(self, trade: TradeTick) -> None:
        """Update the averages and move the position to where the burst points."""
        self._average(trade)
        warm = trade.ts_init - self.started > self.settings.slow * NANOS_PER_SECOND
        if not warm or trade.ts_init - self.last_order < self.settings.pause:
            return
        score = (self.fast - self.slow) / math.sqrt(self.variance) if self.variance > 0 else 0.0
        if abs(score) > self.settings.enter:
            wanted = self.settings.size.copy_sign(Decimal(score))
        elif abs(score) < self.settings.leave:
            wanted = Decimal(0)
        else:
            return
        self._move_to(wanted, trade.ts_init)

    def _average(self, trade: TradeTick) -> None:
        sign = {AggressorSide.BUY: 1, AggressorSide.SELL: -1}.get(trade.aggressor_side, 0)
        signed = sign * trade.size.as_double()
        self.started = self.started or trade.ts_init
        passed = (trade.ts_init - (self.last_trade or trade.ts_init)) / NANOS_PER_SECOND
        self.last_trade = trade.ts_init
        # Sums of what was traded that fade with time; dividing by the half-life makes them comparable rates.
        keep_fast, keep_slow = 0.5 ** (passed / self.settings.fast), 0.5 ** (passed / self.settings.slow)
        self.fast = self.fast * keep_fast + signed / self.settings.fast
        self.slow = self.slow * keep_slow + signed / self.settings.slow
        self.variance = self.variance * keep_slow + (1 - keep_slow) * (self.fast - self.slow) ** 2

    def _move_to(self, wanted: Decimal, now: int) -> None:
        change = wanted - self.target
        if change == 0:
            return
        side = OrderSide.BUY if change > 0 else OrderSide.SELL
        quantity = Quantity.from_decimal_dp(abs(change), self.size_precision)
        self.submit_order(self.order_factory.market(self.settings.instrument_id, side, quantity))
        self.target, self.last_order = wanted, now

    def on_stop(self) -> None:
        """Close what is open."""
        self.close_all_positions(self.settings.instrument_id)
