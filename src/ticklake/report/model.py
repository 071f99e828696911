"""What a report needs of a run, and how its values are spelled."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "RunLike",
    "count",
    "duration",
    "iso_time",
    "iso_times",
    "money",
    "number",
    "percent",
    "percentage_points",
    "primary_currency",
]

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 (UTC, as all times here; text of it names no zone)


class RunLike(Protocol):
    """A run as the report sees it; `ticklake.Run` is one."""

    @property
    def id(self) -> str:
        """Name of the run."""

    @property
    def summary(self) -> dict[str, Any]:
        """Key figures."""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, without secrets."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What the data came from."""

    @property
    def orders(self) -> pa.Table:
        """All orders."""

    @property
    def fills(self) -> pa.Table:
        """All fills."""

    @property
    def positions(self) -> pa.Table:
        """All positions."""

    @property
    def equity(self) -> pa.Table:
        """Equity over time."""

    @property
    def prices(self) -> pa.Table:
        """Thinned prices by instrument."""

    @property
    def latency(self) -> pa.Table:
        """Feed latency by instrument and data type, in stretches of the window."""

    @property
    def book(self) -> pa.Table:
        """Spread and depth by instrument, in stretches of the window."""


def primary_currency(summary: Mapping[str, Any]) -> str | None:
    """Return the currency that most was traded in, or the first of the account."""
    turnover: dict[str, float] = summary["turnover"]
    balances: dict[str, float] = summary["starting_balance"]
    traded = [code for code in turnover if code in balances]
    return max(traded, key=lambda code: turnover[code], default=next(iter(balances), None))


def number(value: float | Decimal | None, *, digits: int = 8, signed: bool = False) -> str:
    """Return a number with thousands separators and no superfluous zeros; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    text = "0" if text == "-0" else text
    return f"+{text}" if signed and value > 0 else text.replace("-", "−")


def money(value: float | None, *, digits: int = 2, signed: bool = False) -> str:
    """Return an amount with a fixed number of decimals; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:+,.{digits}f}" if signed and value else f"{value:,.{digits}f}"
    return text.replace("-", "−")


def count(amount: int, what: str) -> str:
    """Return how many there are of something, whose plural has an s."""
    return f"{amount:,} {what}{'' if amount == 1 else 's'}"


def percent(fraction: float | None, *, signed: bool = False) -> str:
    """Return a fraction in percent, finer where it is small."""
    if fraction is None:
        return "–"
    return f"{number(fraction * 100, digits=2 if abs(fraction) >= 0.01 else 4, signed=signed)} %"


def percentage_points(difference: float) -> str:
    """Return by how much one fraction differs from another, in percentage points."""
    return f"{percent(difference).removesuffix(' %')} pp"


def duration(nanos: int) -> str:
    """Return how long a time is, in days, hours, minutes and seconds."""
    seconds, parts = nanos / 10**9, []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            parts.append(f"{int(seconds // size)} {unit}")
            seconds %= size
    return " ".join([*parts, *([f"{number(seconds, digits=3)} s"] if seconds or not parts else [])])


def iso_time(nanos: int) -> str:
    """Return a time as ISO text in UTC, cut to microseconds, as plotly reads it."""
    return f"{_EPOCH + dt.timedelta(seconds=nanos // 10**9)}.{nanos % 10**9 // 1_000:06d}"


def iso_times(column: pa.ChunkedArray) -> list[str]:
    """Return timestamps as `iso_time` does; empty where there is none."""
    micros = pc.divide(column.cast(pa.int64()), 1_000).cast(pa.timestamp("us"))
    return [text or "" for text in micros.cast(pa.string()).to_pylist()]
