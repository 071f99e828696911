"""Statistics of returns: the engine's own formulas over the daily returns of the equity curve.

The engine feeds them from its snapshots, which miss what is held for a short while, and for an account of
several currencies from the positions' returns, which know nothing of their size.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal

from nautilus_trader import analysis

from ticklake.types import Window

__all__ = ["daily_returns", "return_statistics"]

_STATISTICS = (
    analysis.ProfitFactor,
    analysis.ReturnsAverage,
    analysis.ReturnsAverageLoss,
    analysis.ReturnsAverageWin,
    analysis.ReturnsKurtosis,
    analysis.ReturnsSkewness,
    analysis.ReturnsVolatility,
    analysis.RiskReturnRatio,
    analysis.SharpeRatio,
    analysis.SortinoRatio,
    analysis.TailRatio,
)


def daily_returns(curve: Sequence[tuple[int, Decimal]], window: Window) -> dict[int, float]:
    """Return what each UTC day of a window gained or lost, as a fraction of the equity that it began with.

    Every day that the window touches counts, one without a trade with 0. What is filled after the window (the
    latency of the orders that close it) belongs to its last day. Empty where a day began with nothing or
    less.

    Args:
        curve: Times in nanoseconds, in order, and equities; the first is the starting balance.
        window: The run's window.
    """
    times = [nanos for nanos, _ in curve]
    days = window.split_days()
    closes = [curve[bisect_left(times, day.end) - 1][1] for day in days[:-1]] + [curve[-1][1]]
    opens = [curve[0][1], *closes[:-1]]
    return {
        day.start: float(after / before - 1)
        for day, before, after in zip(days, opens, closes, strict=True)
        if min(opens) > 0
    }


def return_statistics(curve: Sequence[tuple[int, Decimal]], window: Window) -> dict[str, float | None]:
    """Return the engine's statistics of an equity curve's daily returns; None where one is undefined."""
    returns = daily_returns(curve, window)
    found = {(made := kind()).name: made.calculate_from_returns(returns) for kind in _STATISTICS}
    return {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in sorted(found.items())
    }
