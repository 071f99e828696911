"""The equity of a run over time, all its accounts together."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

__all__ = ["total_equity"]


def total_equity(equity: pa.Table) -> dict[str, list[tuple[int, Decimal]]]:
    """Return the equity over time by currency: nanoseconds UTC and amount, in order of time.

    Args:
        equity: The table `equity` of a run.
    """
    curves: dict[str, list[tuple[int, Decimal]]] = {}
    latest: dict[tuple[str, str], Decimal] = {}
    columns = (
        equity["currency"],
        equity["account_id"],
        equity["equity"],
        equity["ts_event"].cast(pa.int64()),
    )
    for code, account, value, nanos in zip(*(column.to_pylist() for column in columns), strict=True):
        latest[code, account] = value
        total = sum((v for (c, _), v in latest.items() if c == code), Decimal(0))
        curve = curves.setdefault(code, [])
        if curve and curve[-1][0] == nanos:
            # Another account at the same instant: one point.
            curve[-1] = (nanos, total)
        else:
            curve.append((nanos, total))
    return curves
