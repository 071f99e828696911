"""From the bytes of a row group to its rows: all of them, or those of a window and not many more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from ticklake.conversion.kernels import without_views
from ticklake.errors import CorruptObjectError
from ticklake.lake.footers import Footer
from ticklake.lake.loop import wait
from ticklake.lake.pages import covering
from ticklake.lake.scan import ObjectPlan, RowGroupPlan
from ticklake.lake.store import Fetched
from ticklake.lake.times import moment, rows_within, time_range
from ticklake.types import ByteRange, Window

__all__ = ["DECODERS", "SHARE", "Inside", "Unit", "decode_unit"]

DECODERS = min(4, os.process_cpu_count() or 1)
"""Threads in which a read decodes ahead by default."""


SHARE = 131_072
"""Rows whose times are worth a thread. Of fewer all columns are decoded, as choosing pages would not pay."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A row group, and the requests that it waits for by path and range."""

    plan: ObjectPlan
    footer: Footer
    group: RowGroupPlan
    fetches: tuple[tuple[str, ByteRange], ...]


class Inside:
    """Which rows alone are decoded, and the threads in which the columns of a row group are, side by side.

    Nothing that runs in them waits for anything else that does.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="ticklake-columns")


def decode_unit(unit: Unit, fetches: Sequence[Future[Fetched]], inside: Inside | None) -> pa.Table:
    """Return the rows of a row group, or of the stretch of it that is planned, with the dialect's columns.

    Args:
        unit: What is to be decoded.
        fetches: What its requests bring, in order.
        inside: Which rows are wanted, if not all; others may be among those that are returned.

    Raises:
        CorruptObjectError: It cannot be decoded, is beyond a limit, or is not what footer, page index or page
            headers say of its times.
        LakeError: A request failed.
    """
    columns = list(unit.plan.dialect.columns)
    pieces = [wait(fetch) for fetch in fetches]
    table = None if inside is None else _decode_inside(unit, pieces, inside)
    if table is None:
        table = _decode_columns(unit, columns, pieces)
        _check_times(unit, table)
    return without_views(table.select(columns).replace_schema_metadata(None))


def _decode_columns(unit: Unit, columns: Sequence[str], pieces: Sequence[Fetched]) -> pa.Table:
    group = unit.group
    if group.stretch is None:
        return unit.footer.decode(group.index, columns, pieces)
    names = unit.footer.leaves
    pages = {part.column: part.pages for part in group.parts if names[part.column] in columns}
    decoders = unit.footer.row_decoders(group.index, pages, group.stretch, pieces, by_index=True)
    return _side_by_side([decoder() for decoder in decoders])


def _side_by_side(tables: Iterable[pa.Table]) -> pa.Table:
    """Return a table of the columns of several."""
    return pa.table(
        {
            name: column
            for table in tables
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    )


def _decode_inside(unit: Unit, pieces: Sequence[Fetched], inside: Inside) -> pa.Table | None:
    """Decode the times, then of the other columns the pages with rows of the window.

    Returns:
        None where that spares nothing, or it takes all pages to tell what is wrong with them.
    """
    group, dialect, footer, window = unit.group, unit.plan.dialect, unit.footer, inside.window
    if group.time_min is None or group.time_max is None:
        return None
    if window.start <= group.time_min and group.time_max < window.end:
        return None
    if group.stretch is None and group.rows <= SHARE:
        return _decode_small(unit, pieces, inside)
    parts = [inside.pool.submit(decoder) for decoder in _time_decoders(unit, pieces)]
    # Meanwhile, as this takes no thread of theirs.
    others = [name for name in dialect.columns if name != dialect.time_column]
    found = footer.pages(group.index, others, pieces, group.parts)
    times = pa.concat_tables([part.result() for part in parts])
    _check_times(unit, times)
    rows_inside = rows_within(times, dialect, window)
    if 2 * len(rows_inside) > group.rows or not all(found.values()):
        return None
    # One row at least tells the types.
    first = group.stretch.start if group.stretch else 0
    rows = range(first + rows_inside.start, first + max(rows_inside.stop, rows_inside.start + 1))
    needed = {column: covering(pages, rows) for column, pages in found.items()}
    decoders = footer.row_decoders(group.index, needed, rows, pieces, by_index=group.stretch is not None)
    table = _side_by_side(inside.pool.map(_call, decoders)).slice(0, len(rows_inside))
    own = times.slice(rows_inside.start, len(rows_inside))
    return table.append_column(own.schema.field(0), own.column(0))


def _decode_small(unit: Unit, pieces: Sequence[Fetched], inside: Inside) -> pa.Table:
    """Decode all of a row group that is too small for choosing pages to pay, its columns side by side."""
    dialect = unit.plan.dialect
    decoders = unit.footer.column_decoders(unit.group.index, dialect.columns, pieces)
    table = _side_by_side(inside.pool.map(_call, decoders))
    _check_times(unit, table)
    rows = rows_within(table, dialect, inside.window)
    return table.slice(rows.start, len(rows))


def _time_decoders(unit: Unit, pieces: Sequence[Fetched]) -> list[Callable[[], pa.Table]]:
    """Return what decodes the times, a part each, in order."""
    group, footer, name = unit.group, unit.footer, unit.plan.dialect.time_column
    ((column, pages),) = footer.pages(group.index, [name], pieces, group.parts).items()
    if not pages:
        return [partial(_decode_columns, unit, [name], pieces)]
    shares = max(1, min(DECODERS, group.rows // SHARE))
    size = -(-len(pages) // shares)
    found: list[Callable[[], pa.Table]] = []
    for first in range(0, len(pages), size):
        run = pages[first : first + size]
        rows = range(run[0].first_row, run[-1].end_row)
        by_index = group.stretch is not None
        found += footer.row_decoders(group.index, {column: run}, rows, pieces, by_index=by_index)
    return found


def _call[T](work: Callable[[], T]) -> T:
    return work()


def _check_times(unit: Unit, table: pa.Table) -> None:
    """Check that no row lies outside what the file says of it: by that it was decided what to read."""
    group = unit.group
    if group.pages:
        row = 0
        for page in group.pages:
            _check_range(unit, table.slice(row, page.rows), page.least, page.greatest, "page index")
            row += page.rows
    elif group.time_min is not None and group.time_max is not None:
        _check_range(unit, table, group.time_min, group.time_max, "footer")


def _check_range(unit: Unit, table: pa.Table, least: int, greatest: int, told_by: str) -> None:
    if (found := time_range(table, unit.plan.dialect)) is None:
        return
    if found[0] < least or found[1] > greatest:
        raise CorruptObjectError(
            f"row group {unit.group.index} has rows from {moment(found[0])} to {moment(found[1])}, the "
            f"{told_by} says {moment(least)} to {moment(greatest)}",
            url=unit.footer.version.url,
        )
