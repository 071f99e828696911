"""How long a run held positions, and how large they were, told by its fills."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pyarrow as pa

from ticklake.types import Window

__all__ = ["exposure"]

_NOTHING = (Decimal(0), Decimal(0))
_KEYS = ("instrument_id", "strategy_id", "position_id")
_COLUMNS = (*_KEYS, "side", "quantity", "notional", "notional_currency")


def exposure(fills: pa.Table, window: Window) -> tuple[float, dict[str, float]]:
    """Return how long and how deep a run was in the market.

    Args:
        fills: The run's fills, in time order.
        window: The run's window.

    Returns:
        The share of the window in which a position was open, and the largest gross exposure by currency: the
        sum of all open positions' absolute notional values, each at the price of its latest fill.
    """
    held: dict[tuple[str | None, ...], tuple[Decimal, Decimal]] = {}
    gross: dict[str, Decimal] = defaultdict(Decimal)
    most: dict[str, Decimal] = defaultdict(Decimal)
    open_ns, since = 0, window.start
    times = fills["ts_event"].cast(pa.int64()).to_pylist()
    columns = (fills[name].to_pylist() for name in _COLUMNS)
    for nanos, *key, side, quantity, notional, code in zip(times, *columns, strict=True):
        # What closes positions at the end of the window is filled a latency after it.
        now = min(nanos, window.end)
        open_ns, since = open_ns + (now - since if held else 0), now
        before, worth = held.pop(tuple(key), _NOTHING)
        after = before + (quantity if side == "BUY" else -quantity)
        if after:
            held[tuple(key)] = after, abs(after) * notional / quantity
        gross[code] += (abs(after) * notional / quantity) - worth
        most[code] = max(most[code], gross[code])
    open_ns += window.end - since if held else 0
    return open_ns / (window.end - window.start), {code: float(most[code]) for code in sorted(most)}
