"""Imbalance at the top of the book: quote on the heavy side, take when it is lopsided.

The imbalance is (bid size - ask size) / (bid size + ask size) over the best levels, between -1 and 1. Where
it leans far to one side the price tends to follow. The strategy then rests one post-only order at the best
price of the heavy side, to be paid the spread instead of paying it; it moves that order with the book, drops
it when the imbalance is gone, and never holds more than `max_position`. An imbalance against an open position
takes it off with a market order, and so does the end of the run.

Works on books kept as deltas or as depth rows; say which in `book_as`, as in the instrument's own config.
"""

from __future__ import annotations

from decimal import Decimal

from nautilus_trader.model import (
    BookType,
    InstrumentId,
    OrderBookDeltas,
    OrderBookDepth,
    OrderSide,
    PositionSide,
    Price,
    Quantity,
)
from nautilus_trader.trading import Strategy, StrategyConfig

__all__ = ["BookImbalance", "BookImbalanceConfig"]


class BookImbalanceConfig(StrategyConfig):
    """Settings of `BookImbalance`.

    Args:
        instrument_id: What to trade, for example `BTCUSDT-PERP.BINANCE`.
        size: Quantity of one order, in units of the instrument, as text so that it stays exact.
        max_position: Largest position on either side, likewise.
        book_as: `deltas` or `depth`, as the book is kept in the catalog.
        levels: How many levels a side are weighed.
        enter: Imbalance at which an order is placed.
        leave: Imbalance against an open position at which it is closed.
    """

    def __init__(
        self,
        *,
        instrument_id: str,
        size: str,
        max_position: str,
        book_as: str = "deltas",
        levels: int = 3,
        enter: float = 0.6,
        leave: float = 0.3,
        **_: object,
    ) -> None:
        super().__init__()
        if book_as not in ("deltas", "depth"):
            raise ValueError(f"book_as is {book_as!r}; allowed are deltas and depth")
        self.instrument_id = InstrumentId.from_str(instrument_id)
        self.size, self.max_position = Decimal(size), Decimal(max_position)
        self.book_as, self.levels = book_as, levels
        self.enter, self.leave = enter, leave


class BookImbalance(Strategy):
    """Rests orders on the heavy side of the book."""

    def __init__(self, config: BookImbalanceConfig) -> None:
        super().__init__(config)
        self.settings = config
        self.closing = False

    def on_start(self) -> None:
        """Subscribe to the book; `managed` makes the engine keep it up to date in the cache."""
        instrument = self.cache.instrument(self.settings.instrument_id)
        if instrument is None:
            raise ValueError(f"{self.settings.instrument_id} is not part of the run")
        self.quantity = Quantity.from_decimal_dp(self.settings.size, instrument.size_precision)
        subscribe = (
            self.subscribe_book_deltas if self.settings.book_as == "deltas" else self.subscribe_book_depth
        )
        subscribe(self.settings.instrument_id, BookType.L2_MBP, managed=True)

    def on_book_deltas(self, deltas: OrderBookDeltas) -> None:  # noqa: ARG002 (the engine hands it over)
        """Look at the book after an update."""
        self._look()

    def on_book_depth(self, depth: OrderBookDepth) -> None:  # noqa: ARG002 (the engine hands it over)
        """Look at the book after an update."""
        self._look()

    def _look(self) -> None:
        book = self.cache.order_book(self.settings.instrument_id)
        bid, ask = (book.best_bid_price(), book.best_ask_price()) if book is not None else (None, None)
        if book is None or bid is None or ask is None:
            return
        bids = sum(level.size() for level in book.bids(self.settings.levels))
        asks = sum(level.size() for level in book.asks(self.settings.levels))
        imbalance = (bids - asks) / (bids + asks)
        if self._leave_if_against(imbalance):
            return
        if imbalance > self.settings.enter:
            self._quote(OrderSide.BUY, bid)
        elif imbalance < -self.settings.enter:
            self._quote(OrderSide.SELL, ask)
        else:
            self._cancel()

    def _leave_if_against(self, imbalance: float) -> bool:
        for position in self.cache.positions_open(None, self.settings.instrument_id, self.strategy_id):
            against = -imbalance if position.side == PositionSide.LONG else imbalance
            if against > self.settings.leave:
                if not self.closing:
                    self._cancel()
                    self.close_all_positions(self.settings.instrument_id)
                self.closing = True
                return True
        self.closing = False
        return False

    def _quote(self, side: OrderSide, price: Price) -> None:
        working = self.cache.orders_open(None, self.settings.instrument_id, self.strategy_id)
        working += self.cache.orders_inflight(None, self.settings.instrument_id, self.strategy_id)
        if any(order.side == side and order.price == price for order in working):
            return
        if working:
            # One order at a time: the next one is placed when the book is looked at again.
            self._cancel()
        elif self._held(side) + self.settings.size <= self.settings.max_position:
            self.submit_order(
                self.order_factory.limit(
                    self.settings.instrument_id, side, self.quantity, price, post_only=True
                )
            )

    def _cancel(self) -> None:
        for order in self.cache.orders_open(None, self.settings.instrument_id, self.strategy_id):
            if not order.is_pending_cancel:
                self.cancel_order(order.client_order_id)

    def _held(self, side: OrderSide) -> Decimal:
        net = self.portfolio.net_position(self.settings.instrument_id) or Decimal(0)
        return net if side == OrderSide.BUY else -net

    def on_stop(self) -> None:
        """Cancel what rests and close what is open."""
        self._cancel()
        self.close_all_positions(self.settings.instrument_id)
