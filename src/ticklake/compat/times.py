"""Time ranges of Parquet objects whose dialect is not known: units, and which row groups hold the range."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from ticklake.errors import ConfigError, SourceSchemaError
from ticklake.types import Moment, format_nanos, parse_nanos

__all__ = ["TimeColumn", "TimeRange"]

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
# In these years a number is a time in one unit only, as each is 1,000 times the one before it.
_EARLIEST, _LATEST = parse_nanos("1990-01-01"), 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A range of time, both ends inclusive, in nanoseconds UTC."""

    first: int
    last: int

    @classmethod
    def of(cls, ends: object) -> TimeRange:
        """Return the range between two points in time.

        Raises:
            ConfigError: It is no pair, an end has no time zone or is no time, or they are in the wrong order.
        """
        if not isinstance(ends, tuple | list) or len(ends) != 2:
            raise ConfigError("timestamp_range is not a pair of times")
        try:
            first, last = (_nanos(end) for end in ends)
        except ValueError as exc:
            raise ConfigError(f"timestamp_range: {exc}") from exc
        if last < first:
            raise ConfigError(
                f"timestamp_range ends at {format_nanos(last)}, before its start {format_nanos(first)}"
            )
        return cls(first, last)

    def __str__(self) -> str:
        return f"{format_nanos(self.first)} to {format_nanos(self.last)}"


def _nanos(value: Any) -> int:
    # pandas' Timestamp is a datetime with another three digits.
    moment: Moment = value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else value
    return parse_nanos(moment) + int(getattr(value, "nanosecond", 0))


class TimeColumn:
    """The column of a Parquet object by which a range of time is taken.

    Args:
        name: Its name.
        schema: The object's columns.
        url: Of the object, for errors.

    Raises:
        SourceSchemaError: There is no such column, or it holds no times.
    """

    def __init__(self, name: str, schema: pa.Schema, url: str) -> None:
        if schema.names.count(name) != 1:
            times = [field.name for field in schema if _holds_times(field.type)]
            raise SourceSchemaError(
                f"there is no single column {name!r} to take a time range by",
                url=url,
                hint=f"Give timestamp_column; these could hold times: {', '.join(times) or 'none'}.",
            )
        self.name = name
        self._type = schema.field(name).type
        self._url = url
        if not _holds_times(self._type):
            raise SourceSchemaError(
                f"column {name!r} holds {self._type}, and neither timestamps nor integers",
                url=url,
                hint="Give timestamp_column another column, or read without timestamp_range.",
            )

    def groups(self, statistics: list[tuple[int, int] | None], wanted: TimeRange) -> list[int]:
        """Return the row groups that can hold rows of a range.

        Args:
            statistics: Least and greatest value of each row group; None where it is not known.
            wanted: The range.

        Raises:
            SourceSchemaError: The statistics of integers are times in no unit.
        """
        if pt.is_timestamp(self._type) and self._type.unit == "s":
            return list(range(len(statistics)))  # Parquet has no seconds: what is stored is of another unit
        known = [found for found in statistics if found is not None]
        if not known:
            return list(range(len(statistics)))
        unit = self._unit(known)
        return [
            index
            for index, found in enumerate(statistics)
            if found is None or (found[0] * unit <= wanted.last and found[1] * unit >= wanted.first)
        ]

    def within(
        self, table: pa.Table, statistics: Iterable[tuple[int, int] | None], wanted: TimeRange
    ) -> pa.Table:
        """Return the rows of a range; a row without a time is in none.

        Args:
            table: Rows of the row groups that can hold some.
            statistics: As for `groups`.
            wanted: The range.

        Raises:
            SourceSchemaError: The integers are times in no unit, or not in that of the statistics.
        """
        try:
            column = table[self.name].cast(pa.int64())
        except pa.ArrowInvalid as exc:
            raise SourceSchemaError(f"column {self.name!r} holds no times: {exc}", url=self._url) from exc
        ends = pc.min_max(column)
        if ends["min"].as_py() is None:
            return table.slice(0, 0)
        here = (ends["min"].as_py(), ends["max"].as_py())
        unit = self._unit([here, *(found for found in statistics if found is not None)])
        least, greatest = -(-wanted.first // unit), wanted.last // unit
        return table.filter(pc.and_(pc.greater_equal(column, least), pc.less_equal(column, greatest)))

    def _unit(self, found: list[tuple[int, int]]) -> int:
        """Return the nanoseconds in a unit of the column: its type's, or that in which all are times."""
        if pt.is_timestamp(self._type):
            return _UNITS[self._type.unit]
        least, greatest = min(low for low, _ in found), max(high for _, high in found)
        for unit in _UNITS.values():
            if least * unit >= _EARLIEST and greatest * unit <= _LATEST:
                return unit
        raise SourceSchemaError(
            f"the integers of column {self.name!r} are no times in ns, us, ms or s: they go from {least} to "
            f"{greatest}",
            url=self._url,
            hint="Give timestamp_column another column, or read without timestamp_range.",
        )


def _holds_times(kind: pa.DataType) -> bool:
    return bool(pt.is_timestamp(kind) or pt.is_integer(kind))
