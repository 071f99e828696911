"""The times of source rows: which lie in a window, and whether a file's are near its day."""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from ticklake.catalog.rows import pick
from ticklake.conversion.dialects import Dialect, nanos_per_unit
from ticklake.errors import SourceSchemaError
from ticklake.lake.objects import SourceObject
from ticklake.types import NANOS_PER_DAY, Window, format_nanos

__all__ = ["check_day", "in_order", "moment", "rows_within", "time_range", "within"]

_MAX_NANOS = 2**63 - 1


def within(table: pa.Table, dialect: Dialect, window: Window) -> pa.Table:
    """Return the rows that are in the window; a row without a time is in none."""
    column, unit = _integers(table, dialect)
    # The window in the column's unit, rounded up at both ends, instead of the column in nanoseconds.
    start, end = -(-window.start // unit), -(-window.end // unit)
    masks = [_within(chunk, start, end) for chunk in column.chunks]
    return pick(table, np.concatenate(masks)) if masks else table


def in_order(table: pa.Table, dialect: Dialect) -> pa.Table:
    """Return the rows in the order of `ts_init`, stable; all of them have one."""
    times = _integers(table, dialect)[0].to_numpy()
    if bool((times[1:] >= times[:-1]).all()):
        return table
    return table.take(pa.array(np.argsort(times, kind="stable")))


def rows_within(table: pa.Table, dialect: Dialect, window: Window) -> range:
    """Return the rows from the first to the last that is in the window; there may be others between them."""
    column, unit = _integers(table, dialect)
    start, end = -(-window.start // unit), -(-window.end // unit)
    first = stop = position = 0
    for chunk in column.chunks:
        inside = _within(chunk, start, end)
        if inside.any():
            first = first if stop else position + int(inside.argmax())
            stop = position + len(inside) - int(inside[::-1].argmax())
        position += len(inside)
    return range(first, stop)


def _within(times: pa.Array, start: int, end: int) -> npt.NDArray[np.bool]:
    """Return which of some whole numbers are in `[start, end)`; nulls are not."""
    if times.null_count:
        valid: npt.NDArray[np.bool] = times.is_valid().to_numpy(zero_copy_only=False)
        return _within(times.fill_null(0), start, end) & valid
    values: npt.NDArray[np.integer] = times.to_numpy()
    return (values >= start) & (values < end)


def time_range(table: pa.Table, dialect: Dialect) -> tuple[int, int] | None:
    """Return the least and greatest `ts_init` in nanoseconds, of whatever size; None where there is none."""
    column, unit = _integers(table, dialect)
    found = pc.min_max(column)
    least, greatest = found["min"].as_py(), found["max"].as_py()
    return None if least is None else (least * unit, greatest * unit)


def _integers(table: pa.Table, dialect: Dialect) -> tuple[pa.ChunkedArray, int]:
    """Return the clock's column as integers, and the nanoseconds in one."""
    column = table[dialect.time_column]
    unit = nanos_per_unit(dialect, column.type)
    return (column.cast(pa.int64()) if pt.is_timestamp(column.type) else column), unit


def check_day(source: SourceObject, day: dt.date, slack: int, least: int, greatest: int) -> tuple[str, ...]:
    """Hold the least and greatest `ts_init` of a file against its day.

    Args:
        source: The file.
        day: The UTC day that it is filed under.
        slack: How far `ts_init` may lie outside of it, in nanoseconds.
        least: In nanoseconds since the epoch.
        greatest: In nanoseconds since the epoch.

    Returns:
        A note for the user where rows lie further outside than that.

    Raises:
        SourceSchemaError: All rows are more than a day away from `day`; the unit of the times must be wrong.
    """
    own = Window.of_day(day)
    if least >= own.end + NANOS_PER_DAY or greatest < own.start - NANOS_PER_DAY:
        raise SourceSchemaError(
            f"no row is within a day of {day}, under which the file lies: they are of {moment(least)} "
            f"to {moment(greatest)}",
            url=source.url,
            hint="Check the unit of the time columns: a declared dialect may have the wrong one.",
        )
    outside = max(own.start - least, greatest - (own.end - 1))
    if outside <= slack:
        return ()
    note = (
        f"{source.url} has rows from {moment(least)} to {moment(greatest)}, up to {outside / 1e9:.3f} s "
        f"outside its day {day}; a window that far from midnight misses those. Raise lake.partition_slack "
        f"({slack / 1e9:g} s) above that."
    )
    return (note,)


def moment(nanos: int) -> str:
    """Return a time as text, whatever it is."""
    return format_nanos(nanos) if 0 <= nanos <= _MAX_NANOS else f"{nanos} ns"
