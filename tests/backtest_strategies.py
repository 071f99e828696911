"""Strategies for the tests of the backtest; imported by the engine's process through the search path."""

from __future__ import annotations

import datetime as dt
import os
import random
import sys
import time
from decimal import Decimal

from nautilus_trader.model import BookType, InstrumentId, OrderSide, Price, Quantity
from nautilus_trader.trading import Strategy, StrategyConfig

NOT_A_CLASS = 1


class BusyConfig(StrategyConfig):
    def __init__(self, *, instrument_id: str, seed: int = 1, often: float = 0.02, **_: object) -> None:
        super().__init__()
        self.instrument_id = InstrumentId.from_str(instrument_id)
        self.seed, self.often = seed, often


class Busy(Strategy):
    """Does a bit of everything at random, on data and on a timer, the same for the same seed."""

    def __init__(self, config: BusyConfig) -> None:
        super().__init__(config)
        self.settings = config
        self.random = random.Random(config.seed)
        self.price: Decimal | None = None

    def on_start(self) -> None:
        self.subscribe_trades(self.settings.instrument_id)
        self.subscribe_book_depth(self.settings.instrument_id, BookType.L2_MBP)
        self.subscribe_book_deltas(self.settings.instrument_id, BookType.L2_MBP)
        self.clock.set_timer("tick", dt.timedelta(milliseconds=737))

    def on_time_event(self, event) -> None:
        self.act()

    def on_book_depth(self, depth) -> None:
        self.perhaps()

    def on_book_deltas(self, deltas) -> None:
        self.perhaps()

    def on_trade(self, trade) -> None:
        self.price = trade.price.as_decimal()
        self.perhaps()

    def perhaps(self) -> None:
        if self.random.random() < self.settings.often:
            self.act()

    def act(self) -> None:
        if self.price is None:
            return
        chance, side = self.random.random(), self.random.choice([OrderSide.BUY, OrderSide.SELL])
        quantity = Quantity.from_decimal_dp(Decimal(self.random.randrange(1, 9_000)) / 1_000, 3)
        instrument_id = self.settings.instrument_id
        if chance < 0.3:
            self.submit_order(self.order_factory.market(instrument_id, side, quantity))
        elif chance < 0.8:
            away = Decimal(self.random.randrange(-20, 60)) / 100
            price = Price.from_decimal_dp(
                self.price - away if side == OrderSide.BUY else self.price + away, 2
            )
            self.submit_order(self.order_factory.limit(instrument_id, side, quantity, price))
        else:
            resting = [o for o in self.cache.orders_open(None, instrument_id) if not o.is_pending_cancel]
            if resting:
                resting.sort(key=lambda order: str(order.client_order_id))
                self.cancel_order(self.random.choice(resting).client_order_id)

    def on_stop(self) -> None:
        self.cancel_all_orders(self.settings.instrument_id)
        self.close_all_positions(self.settings.instrument_id)


class HastyConfig(StrategyConfig):
    def __init__(self, *, instrument_id: str) -> None:
        super().__init__()
        self.instrument_id = InstrumentId.from_str(instrument_id)


class Hasty(Strategy):
    """Buys at every 300th trade, and sells as soon as it has bought."""

    def __init__(self, config: HastyConfig) -> None:
        super().__init__(config)
        self.settings = config
        self.trades = 0

    def on_start(self) -> None:
        self.subscribe_trades(self.settings.instrument_id)

    def order(self, side: OrderSide) -> None:
        quantity = Quantity.from_str("1.000")
        self.submit_order(self.order_factory.market(self.settings.instrument_id, side, quantity))

    def on_trade(self, trade) -> None:
        self.trades += 1
        if self.trades % 300 == 0:
            self.order(OrderSide.BUY)

    def on_position_opened(self, event) -> None:
        self.order(OrderSide.SELL)

    def on_stop(self) -> None:
        self.close_all_positions(self.settings.instrument_id)


HolderConfig = SlowConfig = HastyConfig


class Holder(Hasty):
    """Buys once and keeps it to the end."""

    def on_trade(self, trade) -> None:
        self.trades += 1
        if self.trades == 300:
            self.order(OrderSide.BUY)

    def on_position_opened(self, event) -> None:
        pass


class Slow(Hasty):
    """Takes its time."""

    def on_trade(self, trade) -> None:
        self.trades += 1
        if self.trades % 2:
            time.sleep(1e-4)


class TroubleConfig(StrategyConfig):
    def __init__(self, *, instrument_id: str, where: str = "", pid_file: str = "") -> None:
        super().__init__()
        self.instrument_id = InstrumentId.from_str(instrument_id)
        self.where, self.pid_file = where, pid_file


class Trouble(Strategy):
    """Fails in the place that its configuration names."""

    def __init__(self, config: TroubleConfig) -> None:
        super().__init__(config)
        self.settings = config
        self.trades = 0
        self.fail_in("init")

    def fail_in(self, place: str) -> None:
        if self.settings.where == place:
            raise ValueError(f"trouble in {place}")

    def on_start(self) -> None:
        print("a strategy prints this")
        self.fail_in("start")
        self.subscribe_trades(self.settings.instrument_id)
        self.clock.set_timer("own", dt.timedelta(seconds=10), callback=self.own_timer)
        self.clock.set_timer("common", dt.timedelta(seconds=10))

    def own_timer(self, event) -> None:
        self.fail_in("callback")

    def on_time_event(self, event) -> None:
        self.fail_in("timer")

    def on_trade(self, trade) -> None:
        self.trades += 1
        if self.trades != 500:
            return
        self.fail_in("trade")
        if self.settings.where == "exit":
            sys.exit(3)
        if self.settings.where == "abort":
            sys.stderr.write("last words\n")
            os.abort()
        if self.settings.where == "hang":
            with open(self.settings.pid_file, "w") as file:  # noqa: PTH123 (a plain strategy, as people write them)
                file.write(str(os.getpid()))
            while True:
                time.sleep(0.01)
        order = self.order_factory.market(
            self.settings.instrument_id, OrderSide.BUY, Quantity.from_str("0.100")
        )
        self.submit_order(order)

    def on_order_filled(self, event) -> None:
        self.fail_in("fill")

    def on_stop(self) -> None:
        self.fail_in("stop")


class StrictConfig(StrategyConfig):
    def __init__(self, *, instrument_id: str, period: int = 10) -> None:
        super().__init__()
        if period < 1:
            raise ValueError("period must be positive")
        self.instrument_id = InstrumentId.from_str(instrument_id)
