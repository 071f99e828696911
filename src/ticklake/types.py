"""Frozen value types shared by all stages: windows, byte ranges, instrument keys, data types, specs."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

__all__ = [
    "NANOS_PER_DAY",
    "BookAs",
    "ByteRange",
    "CatalogType",
    "DataType",
    "InstrumentKey",
    "InstrumentSpec",
    "Moment",
    "Window",
    "format_nanos",
    "merge_windows",
    "parse_day",
    "parse_nanos",
    "subtract_windows",
]

NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_DAY = 86_400 * NANOS_PER_SECOND
_EPOCH = dt.date(1970, 1, 1)
# The range of an Arrow timestamp[ns] above the epoch; the engine's clock is unsigned.
_MAX_NANOS = 2**63 - 1

_ISO = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?P<time>\d{2}:\d{2}(?::\d{2})?)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>[Zz]|[+-]\d{2}:?\d{2})?)?"
)


type Moment = str | int | dt.datetime | dt.date
"""A point in time, in any form that `parse_nanos` takes."""


def parse_nanos(value: Moment) -> int:
    """Return a point in time as nanoseconds since the UNIX epoch (UTC).

    Args:
        value: ISO 8601 text (`2024-08-08T23:55:00Z`, up to nine fractional digits; a bare date is its
            midnight UTC; a time needs a zone), an aware `datetime`, a `date`, or integer nanoseconds.

    Raises:
        ValueError: The text is not ISO 8601, a time has no zone, or the point lies before 1970 or
            after 2262 (the range of a timestamp in nanoseconds); or the value is none of these.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a point in time")
    if isinstance(value, int):
        nanos = value
    elif isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; add one, for example a trailing Z")
        delta = value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        nanos = (delta.days * 86_400 + delta.seconds) * NANOS_PER_SECOND + delta.microseconds * 1_000
    elif isinstance(value, dt.date):
        nanos = (value - _EPOCH).days * NANOS_PER_DAY
    elif isinstance(value, str):
        nanos = _parse_iso(value)
    else:
        raise ValueError(
            f"{value!r} is not a point in time; give ISO 8601 text like 2024-08-08T23:55:00Z, an aware "
            "datetime, a date, or integer nanoseconds"
        )
    if not 0 <= nanos <= _MAX_NANOS:
        raise ValueError(f"{value!r} lies outside 1970-01-01 to 2262-04-11")
    return nanos


def _parse_iso(text: str) -> int:
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an ISO 8601 time; write it like 2024-08-08T23:55:00Z")
    if match["time"] and not match["zone"]:
        raise ValueError(f"{text!r} has no time zone; add one, for example a trailing Z")
    zone = (match["zone"] or "Z").upper().replace("Z", "+00:00")
    try:
        moment = dt.datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00'}{zone}")
    except ValueError as exc:
        raise ValueError(f"{text!r} is not an ISO 8601 time: {exc}") from exc
    return parse_nanos(moment) + int((match["fraction"] or "0").ljust(9, "0"))


def parse_day(value: Moment) -> dt.date:
    """Return the UTC day of a point in time in any form that `parse_nanos` takes.

    Raises:
        ValueError: As `parse_nanos` does.
    """
    return _EPOCH + dt.timedelta(days=parse_nanos(value) // NANOS_PER_DAY)


def format_nanos(nanos: int) -> str:
    """Return nanoseconds since the epoch as ISO 8601 UTC text, with a fraction only where there is one."""
    seconds, fraction = divmod(nanos, NANOS_PER_SECOND)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{tail}Z"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open interval `[start, end)` of `ts_init`, in nanoseconds since the epoch (UTC).

    Raises:
        ValueError: `end` is not after `start`, or an end lies outside the range of `parse_nanos`.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= _MAX_NANOS or not 0 <= self.end <= _MAX_NANOS:
            raise ValueError(f"window [{self.start}, {self.end}) lies outside 1970-01-01 to 2262-04-11")
        if self.end <= self.start:
            raise ValueError(
                f"window end {format_nanos(self.end)} is not after its start {format_nanos(self.start)}"
            )

    @classmethod
    def parse(cls, start: Moment, end: Moment) -> Self:
        """Return the window between two points in any form that `parse_nanos` takes; `end` is exclusive."""
        return cls(parse_nanos(start), parse_nanos(end))

    @classmethod
    def of(cls, window: Window | tuple[Moment, Moment]) -> Window:
        """Return a window as it is, or the one between two points in time.

        Raises:
            TypeError: It is neither.
            ValueError: As `parse` does.
        """
        if isinstance(window, Window):
            return window
        if not isinstance(window, tuple | list) or len(window) != 2:
            raise TypeError(f"{window!r} is not a window; give a Window, or its start and end as a pair")
        return cls.parse(*window)

    @classmethod
    def of_day(cls, day: dt.date) -> Self:
        """Return the window of one UTC day; the last one, 2262-04-11, ends where time does."""
        start = parse_nanos(day)
        return cls(start, min(start + NANOS_PER_DAY, _MAX_NANOS))

    @classmethod
    def from_closed(cls, first: int, last: int) -> Self:
        """Return the window of a closed interval `[first, last]`, as Nautilus writes them."""
        return cls(first, last + 1)

    @property
    def closed(self) -> tuple[int, int]:
        """The same interval with both ends inclusive, as Nautilus wants it."""
        return self.start, self.end - 1

    @property
    def days(self) -> tuple[dt.date, ...]:
        """The UTC days that the window touches, in order."""
        first, last = self.start // NANOS_PER_DAY, (self.end - 1) // NANOS_PER_DAY
        return tuple(_EPOCH + dt.timedelta(days=day) for day in range(first, last + 1))

    def split_days(self) -> tuple[Window, ...]:
        """Return the parts of the window in each UTC day, in order."""
        parts = (self.intersect(Window.of_day(day)) for day in self.days)
        return tuple(part for part in parts if part is not None)

    def intersect(self, other: Window) -> Window | None:
        """Return the common part of both windows, or None where there is none."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Window(start, end) if start < end else None

    def __str__(self) -> str:
        return f"{format_nanos(self.start)}/{format_nanos(self.end)}"


def merge_windows(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Return the union of the windows as disjoint, non-adjacent windows in order."""
    # Numbers until all is known: of ten thousand files in a row, a window for each takes a while to make.
    merged: list[tuple[int, int]] = []
    begun, reach = 0, -1
    for start, end in sorted((window.start, window.end) for window in windows):
        if start > reach:
            merged.append((begun, reach))
            begun, reach = start, end
        elif end > reach:
            reach = end
    merged.append((begun, reach))
    return tuple(Window(*each) for each in merged[1:])


def subtract_windows(window: Window, covered: Iterable[Window]) -> tuple[Window, ...]:
    """Return the parts of `window` that none of `covered` holds, disjoint and in order."""
    missing: list[Window] = []
    start = window.start
    for other in merge_windows(covered):
        if other.end <= start:
            continue
        if other.start >= window.end:
            break
        if other.start > start:
            missing.append(Window(start, other.start))
        start = other.end
    if start < window.end:
        missing.append(Window(start, window.end))
    return tuple(missing)


_KEY = re.compile(r"[^:@]+:[^:@]+:[^:@]+(@LIN|@INV)?")


@dataclass(frozen=True, slots=True, order=True)
class InstrumentKey:
    """The lake's name of an instrument: `VENUE:TYPE:SYMBOL`, with `@LIN` or `@INV` for some.

    Raises:
        ValueError: The text does not have that form, or has characters that cannot be part of a path.
    """

    text: str

    def __post_init__(self) -> None:
        if _KEY.fullmatch(self.text) is None:
            raise ValueError(
                f"{self.text!r} is not an instrument key; the form is VENUE:TYPE:SYMBOL, optionally with "
                "@LIN or @INV, for example BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN"
            )
        if (
            not self.text.isprintable()
            or any(c in self.text for c in "/\\*?[]{}<>|\"'%#")
            or ".." in self.text
        ):
            raise ValueError(f"instrument key {self.text!r} has characters that cannot be part of a path")

    @classmethod
    def of(cls, key: str | InstrumentKey) -> InstrumentKey:
        """Return a key as it is, or that of a text.

        Raises:
            TypeError: It is neither.
            ValueError: The text is not a key.
        """
        if isinstance(key, InstrumentKey):
            return key
        if not isinstance(key, str):
            raise TypeError(f"{key!r} is not an instrument key; give an InstrumentKey or its text")
        return cls(key)

    @property
    def venue(self) -> str:
        """The lake's venue, for example `BINANCE-FUTURES`."""
        return self.text.split(":")[0]

    @property
    def instrument_type(self) -> str:
        """The lake's instrument type, for example `PERPETUAL`."""
        return self.text.split(":")[1]

    @property
    def symbol(self) -> str:
        """The lake's symbol without the margin suffix, for example `BTC-USDT`."""
        return self.bare.split(":")[2]

    @property
    def margin(self) -> str | None:
        """`LIN`, `INV`, or None where the key does not say."""
        return self.text.partition("@")[2] or None

    @property
    def bare(self) -> str:
        """The key without its `@…` suffix."""
        return self.text.split("@")[0]

    def matches(self, other: InstrumentKey) -> bool:
        """Whether both may name one instrument: equal, or equal but for a suffix that one of them omits."""
        margins = {self.margin, other.margin}
        return self.bare == other.bare and (len(margins) == 1 or None in margins)

    def __str__(self) -> str:
        return self.text


_BOOK = re.compile(r"book_snapshot_(?P<depth>[1-9]\d*)")


@dataclass(frozen=True, slots=True, order=True)
class DataType:
    """A data type of the lake: `trades`, or `book_snapshot_N` with N levels a side.

    Raises:
        ValueError: The name is neither.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name != "trades" and _BOOK.fullmatch(self.name) is None:
            raise ValueError(
                f"{self.name!r} is not a data type; known are trades and book_snapshot_N (N levels a side, "
                "for example book_snapshot_5)"
            )

    @classmethod
    def of(cls, data_type: str | DataType) -> DataType:
        """Return a data type as it is, or that of a name.

        Raises:
            TypeError: It is neither.
            ValueError: The name is not known.
        """
        if isinstance(data_type, DataType):
            return data_type
        if not isinstance(data_type, str):
            raise TypeError(f"{data_type!r} is not a data type; give a DataType or its name, like trades")
        return cls(data_type)

    @property
    def depth(self) -> int | None:
        """Levels a side of a book snapshot, or None for trades."""
        match = _BOOK.fullmatch(self.name)
        return int(match["depth"]) if match else None

    @property
    def is_book(self) -> bool:
        """Whether the rows are book snapshots."""
        return self.name != "trades"

    def __str__(self) -> str:
        return self.name


class BookAs(StrEnum):
    """How a book snapshot is kept in the catalog."""

    DELTAS = "deltas"
    """One `CLEAR` and up to 2xN `ADD` rows a snapshot."""
    DEPTH = "depth"
    """One `OrderBookDepth` row a snapshot."""


class CatalogType(StrEnum):
    """The folders of tick data in a NautilusTrader catalog; the values are the folders' names."""

    TRADES = "trades"
    DELTAS = "order_book_deltas"
    DEPTHS = "order_book_depths"

    @classmethod
    def of(cls, data_type: DataType, book_as: BookAs) -> CatalogType:
        """Return where rows of a lake data type go."""
        if not data_type.is_book:
            return cls.TRADES
        return cls.DELTAS if book_as is BookAs.DELTAS else cls.DEPTHS


@dataclass(frozen=True, slots=True)
class InstrumentSpec:
    """What a conversion needs to know of an instrument.

    Attributes:
        nautilus_id: The Nautilus instrument id, for example `BTCUSDT-PERP.BINANCE`.
        price_precision: Decimal places of a price, 0 to 16.
        size_precision: Decimal places of a size, 0 to 16.

    Raises:
        ValueError: The id has no `SYMBOL.VENUE` form, or a precision lies outside its range.
    """

    nautilus_id: str
    price_precision: int
    size_precision: int

    def __post_init__(self) -> None:
        symbol, _, venue = self.nautilus_id.rpartition(".")
        if not symbol or not venue:
            raise ValueError(f"{self.nautilus_id!r} is not a Nautilus instrument id (SYMBOL.VENUE)")
        for name in ("price_precision", "size_precision"):
            if not 0 <= getattr(self, name) <= 16:
                raise ValueError(f"{name} {getattr(self, name)} of {self.nautilus_id} is not in 0 to 16")


@dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """The bytes `[start, end)` of an object."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.end - self.start

    def overlaps(self, other: ByteRange) -> bool:
        """Whether the two have a byte in common."""
        return self.start < other.end and other.start < self.end

    def covers(self, other: ByteRange) -> bool:
        """Whether all bytes of the other are in this one."""
        return self.start <= other.start and other.end <= self.end
