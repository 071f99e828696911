"""The equity curve: what the accounts are worth all over the window, and at every fill.

It is put together without a timer of our own, which would change results: an actor's timer makes the
simulated venue look at its queue, so that delayed orders arrive at the timer's time. What there is instead:

- the engine's snapshots, whose timer changes nothing, but runs only while a position is open and starts anew
  with each, so that nothing held for less than the interval is ever seen;
- a point at every fill, taken in the strategy's handler;
- where a step of the grid has neither, nothing is held, and the equity is what it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from nautilus_trader.model import AccountId, OrderFilled, PortfolioSnapshot, Venue
from nautilus_trader.portfolio import Portfolio
from nautilus_trader.trading import Strategy

from ticklake.types import Window

__all__ = ["EquityCurve", "equity_step_ms", "time_extremes"]

_STEPS = 3_000
_ROUND_STEPS_MS = (
    *(100, 250, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 300_000, 900_000),
    *(3_600_000 * hours for hours in (1, 4, 12, 24)),
)
# A curve of more points keeps its extremes: nothing that a chart or a drawdown shows is lost.
_MOST_POINTS = 50_000

type _Row = dict[str, Any]
type _Points = dict[int, _Row]


def equity_step_ms(window: Window, wanted: int | None = None) -> int:
    """Return the spacing of a window's equity curve in milliseconds.

    Args:
        window: The run's window.
        wanted: A spacing in nanoseconds; as long as that gives no more than 50,000 steps, it is taken. None
            gives a round one of some thousand steps.
    """
    length = -(-(window.end - window.start) // 1_000_000)
    if wanted is not None:
        return max(1, wanted // 1_000_000, -(-length // _MOST_POINTS))
    return next((step for step in _ROUND_STEPS_MS if length <= step * _STEPS), -(-length // _STEPS))


class EquityCurve:
    """Collects what the accounts are worth while a run goes on.

    Args:
        portfolio: The engine's.
        venues: The venues whose accounts are looked at.
        window: The run's window.
        step_ms: Spacing of the curve in milliseconds, that of the engine's snapshots.
    """

    def __init__(self, portfolio: Portfolio, venues: Iterable[str], window: Window, step_ms: int) -> None:
        self._portfolio, self._venues = portfolio, tuple(Venue(name) for name in venues)
        self._accounts: tuple[AccountId, ...] = ()
        self._window, self._step = window, step_ms * 1_000_000
        # Of several points of one instant the last one counts.
        self._points: dict[tuple[str, str], _Points] = {}

    def begin(self) -> None:
        """Take the starting balances, when the engine has its accounts and nothing has happened yet."""
        # An account is handed out as a copy with all its events: too slow to be asked for at every fill.
        accounts = [self._portfolio.account(venue) for venue in self._venues]
        self._accounts = tuple(account.id for account in accounts if account is not None)
        self.take(self._window.start)

    def watch(self, strategy: Strategy) -> None:
        """Take a point at every fill of a strategy, before its own handler sees it."""
        handler = strategy.on_order_filled

        def filled(event: OrderFilled) -> None:
            self.take(event.ts_event)
            handler(event)

        strategy.on_order_filled = filled  # type: ignore[method-assign]  # the hook is put into this one object

    def take(self, nanos: int) -> None:
        """Take what the accounts are worth now.

        Args:
            nanos: The time that the point gets.
        """
        for account in self._accounts:
            snapshot = self._portfolio.build_snapshot(account)
            if snapshot is not None:
                self._add(snapshot, nanos)

    def rows(self) -> list[_Row]:
        """Return the curve when the run is over, one row a point and currency.

        Its last point is what is left after strategies closed their positions, which takes an order's latency
        longer than the window. What an account began without, it began with nothing of.
        """
        last = self._window.end - 1
        for account in self._accounts:
            for snapshot in self._portfolio.snapshots(account):
                # Where there was a fill at that time, its point is the later one.
                self._add(snapshot, snapshot.ts_event, again=False)
            if (closed := self._portfolio.account(account_id=account)) is not None:
                last = max(last, closed.events[-1].ts_event)
        self.take(last)
        for points in self._points.values():
            points.setdefault(self._window.start, _nothing_of(points[min(points)], self._window.start))
        return [row for points in self._points.values() for row in self._continued(_thinned(points))]

    def _add(self, snapshot: PortfolioSnapshot, nanos: int, *, again: bool = True) -> None:
        for row in _rows(snapshot, nanos):
            points = self._points.setdefault((row["account_id"], row["currency"]), {})
            if again or nanos not in points:
                points[nanos] = row
            if len(points) > 2 * _MOST_POINTS:
                self._points[row["account_id"], row["currency"]] = _thinned(points)

    def _continued(self, points: _Points) -> Iterator[_Row]:
        """Yield the points in order, and at the start of a step that has none what was before it."""
        number, previous = 0, points[min(points)]
        for nanos in sorted(points):
            before, number = number, (nanos - self._window.start) // self._step
            for missing in range(before + 1, number):
                yield {**previous, "ts_event": self._window.start + missing * self._step}
            yield (previous := points[nanos])


def _rows(snapshot: PortfolioSnapshot, nanos: int) -> Iterator[_Row]:
    realized = {money.currency.code: money.as_decimal() for money in snapshot.realized_pnls}
    unrealized = {money.currency.code: money.as_decimal() for money in snapshot.unrealized_pnls}
    for money in snapshot.total_equity:
        code = money.currency.code
        yield {
            "ts_event": nanos,
            "account_id": str(snapshot.account_id),
            "currency": code,
            "equity": money.as_decimal(),
            "realized_pnl": realized.get(code, Decimal(0)),
            "unrealized_pnl": unrealized.get(code, Decimal(0)),
            "stale": snapshot.is_stale,
        }


def _nothing_of(row: _Row, nanos: int) -> _Row:
    """Return the point of an account that has nothing of a currency."""
    nothing = dict.fromkeys(("equity", "realized_pnl", "unrealized_pnl"), Decimal(0))
    return {**row, **nothing, "ts_event": nanos, "stale": False}


def _thinned(points: _Points) -> _Points:
    if len(points) <= _MOST_POINTS:
        return points
    times = sorted(points)
    kept = time_extremes(times, [points[nanos]["equity"] for nanos in times], _MOST_POINTS)
    return {times[index]: points[times[index]] for index in kept}


def time_extremes(times: Sequence[int], values: Sequence[float | Decimal], most: int) -> list[int]:
    """Return the indices of points that draw the same line as all of them, as evenly in time as can be.

    Time is cut into equal cells; of each, the first, lowest, highest and last point stay (the first of equal
    ones). A series of no more than `most` points stays as it is.

    Args:
        times: Times in order.
        values: A value for each.
        most: How many indices come back at most; at least 4.
    """
    if len(times) <= most:
        return list(range(len(times)))
    width = max(1, -(-(times[-1] - times[0] + 1) // (most // 4)))
    kept: set[int] = set()
    start = 0
    while start < len(times):
        cell, stop = (times[start] - times[0]) // width, start + 1
        while stop < len(times) and (times[stop] - times[0]) // width == cell:
            stop += 1
        inside = range(start, stop)
        lowest, highest = min(inside, key=values.__getitem__), max(inside, key=values.__getitem__)
        kept |= {start, lowest, highest, stop - 1}
        start = stop
    return sorted(kept)
