"""From the bytes of a row group to its rows: all of them, or those of a window and not many more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import pyarrow as pa
import pyarrow.types as pt

from ticklake.conversion.dialects import nanos
from ticklake.conversion.kernels import without_views
from ticklake.errors import CorruptObjectError
from ticklake.lake.decoding import Budget
from ticklake.lake.footers import Footer
from ticklake.lake.loop import wait
from ticklake.lake.pages import PageTimes, covering
from ticklake.lake.scan import ObjectPlan, RowGroupPlan
from ticklake.lake.store import Fetched
from ticklake.lake.times import moment, rows_within, time_range
from ticklake.parquet.pageindex import Page
from ticklake.parquet.structure import placed
from ticklake.types import ByteRange, Window

__all__ = ["DECODERS", "SHARE", "Inside", "Unit", "decode_unit"]

DECODERS = min(4, os.process_cpu_count() or 1)
"""Threads in which a read decodes ahead by default."""


SHARE = 131_072
"""Rows whose times are worth a thread. Of fewer all columns are decoded, where no page tells its times."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A row group, and the requests that it waits for by path and range."""

    plan: ObjectPlan
    footer: Footer
    group: RowGroupPlan
    fetches: tuple[tuple[str, ByteRange], ...]


class Inside:
    """Which rows alone are decoded, and the threads in which parts of a row group are, side by side.

    Nothing that runs in them waits for anything else that does.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="ticklake-parts")


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
    decoders = unit.footer.row_decoders(
        group.index, pages, group.stretch, pieces, by_index=True, budget=Budget(group.index)
    )
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
    """Decode the pages with rows of the window, by their times; where no page tells its own, all times first.

    Returns:
        None where that spares nothing, or it takes all pages to tell what is wrong with them.
    """
    group, window = unit.group, inside.window
    if group.time_min is None or group.time_max is None:
        return None
    if window.start <= group.time_min and group.time_max < window.end:
        return None
    footer = unit.footer
    ((column, pages),) = footer.pages(
        group.index, [unit.plan.dialect.time_column], pieces, group.parts
    ).items()
    timed = _timed(unit, column, pages, (group.time_min, group.time_max))
    if timed:
        rows = _meeting(timed, window)
        if group.parts or 2 * len(rows) <= group.rows:
            return _decode_pages(unit, pieces, inside, rows, timed, {column: pages})
    if group.rows <= SHARE:
        return _decode_small(unit, pieces, inside)
    return None if timed else _decode_in_two(unit, pieces, inside, column, pages)


def _timed(unit: Unit, column: int, pages: Sequence[Page], whole: tuple[int, int]) -> dict[range, PageTimes]:
    """Return the times of all pages by their rows; none where not all of them tell theirs.

    Args:
        unit: The row group, or a stretch of it.
        column: Number of the times' column.
        pages: Its pages, by what is known of them.
        whole: The least and the greatest time by the footer.

    Raises:
        CorruptObjectError: A page header contradicts the footer.
    """
    group, footer, dialect = unit.group, unit.footer, unit.plan.dialect
    if group.pages:
        # Of the index, not of the headers: whether these contradict it, those tell who decode the pages.
        first = group.stretch.start if group.stretch else 0
        edges = accumulate((page.rows for page in group.pages), initial=first)
        return {range(*edge): page for edge, page in zip(pairwise(edges), group.pages, strict=True)}
    if not pages:
        return {}
    with placed(footer.version.url):
        chunk = footer.structure.row_groups[group.index].chunk(column)
    kind = footer.metadata.schema.to_arrow_schema().field(dialect.time_column).type
    is_signed = not pt.is_unsigned_integer(kind)
    found: dict[range, PageTimes] = {}
    for page in pages:
        bounds = chunk.integers_of(page.least, page.greatest, signed=is_signed)
        if bounds is None:
            return {}
        least, greatest = (nanos(dialect, kind, bound) for bound in bounds)
        _check_bounds(unit, (least, greatest), whole, "footer")
        found[range(page.first_row, page.end_row)] = PageTimes(page.rows, least, greatest)
    return found


def _meeting(timed: Mapping[range, PageTimes], window: Window) -> range:
    """Return the rows from the first page to the last that meets the window; of a page where none does."""
    met = [rows for rows, times in timed.items() if times.meets(window)] or [*timed][:1]
    return range(met[0].start, met[-1].stop)


def _decode_pages(
    unit: Unit,
    pieces: Sequence[Fetched],
    inside: Inside,
    rows: range,
    timed: Mapping[range, PageTimes],
    pages: Mapping[int, Sequence[Page]],
) -> pa.Table | None:
    """Decode the rows of pages of times; `pages` are those of the times' column, by its number."""
    table = _decode_rows(unit, pieces, inside, rows, {**pages, **_pages_of_others(unit, pieces)})
    if table is None:
        return None
    told_by = "page index" if unit.group.pages else "page header"
    for page, times in timed.items():
        if page.start in rows:
            of_page = table.slice(page.start - rows.start, len(page))
            _check_range(unit, of_page, times.least, times.greatest, told_by)
    return _slice(table, rows_within(table, unit.plan.dialect, inside.window))


def _decode_in_two(
    unit: Unit, pieces: Sequence[Fetched], inside: Inside, column: int, pages: Sequence[Page]
) -> pa.Table | None:
    """Decode the times, then of the other columns the pages with rows of the window."""
    parts = inside.pool.map(_call, _time_decoders(unit, pieces, column, pages))
    # Meanwhile, as this takes no thread of theirs.
    others = _pages_of_others(unit, pieces)
    times = pa.concat_tables(parts)
    _check_times(unit, times)
    wanted = rows_within(times, unit.plan.dialect, inside.window)
    if 2 * len(wanted) > unit.group.rows:
        return None
    # One row at least tells the types.
    rows = range(wanted.start, max(wanted.stop, wanted.start + 1))
    table = _decode_rows(unit, pieces, inside, rows, others)
    if table is None:
        return None
    own = _slice(times, wanted)
    return table.slice(0, len(wanted)).append_column(own.schema.field(0), own.column(0))


def _pages_of_others(unit: Unit, pieces: Sequence[Fetched]) -> dict[int, tuple[Page, ...]]:
    """Return the pages of all columns but the times' by number, none of a column that does not tell."""
    dialect, group = unit.plan.dialect, unit.group
    others = [name for name in dialect.columns if name != dialect.time_column]
    return unit.footer.pages(group.index, others, pieces, group.parts)


def _slice(table: pa.Table, rows: range) -> pa.Table:
    return table.slice(rows.start, len(rows))


def _decode_rows(
    unit: Unit,
    pieces: Sequence[Fetched],
    inside: Inside,
    rows: range,
    pages: Mapping[int, Sequence[Page]],
) -> pa.Table | None:
    """Decode some rows of columns from the pages that have them, columns side by side.

    Returns:
        None where the pages of a column do not tell their rows.
    """
    if not all(pages.values()):
        return None
    group, footer = unit.group, unit.footer
    budget, by_index = Budget(group.index), bool(group.parts)
    needed = {column: covering(mine, rows) for column, mine in pages.items()}
    decoders = footer.row_decoders(
        group.index, needed, rows, pieces, by_index=by_index, budget=budget, threads=True
    )
    if len(decoders) == 1:
        return decoders[0]()
    return _side_by_side(inside.pool.map(_call, decoders))


def _decode_small(unit: Unit, pieces: Sequence[Fetched], inside: Inside) -> pa.Table | None:
    """Decode all of a row group that is too small for its times to be decoded first."""
    group, dialect = unit.group, unit.plan.dialect
    pages = unit.footer.all_pages(group.index, dialect.columns)
    table = _decode_rows(unit, pieces, inside, range(group.rows), pages)
    if table is None:
        return None
    _check_times(unit, table)
    return _slice(table, rows_within(table, dialect, inside.window))


def _time_decoders(
    unit: Unit, pieces: Sequence[Fetched], column: int, pages: Sequence[Page]
) -> list[Callable[[], pa.Table]]:
    """Return what decodes the times, a part each, in order."""
    group, footer = unit.group, unit.footer
    if not pages:
        return [partial(_decode_columns, unit, [unit.plan.dialect.time_column], pieces)]
    shares = max(1, min(DECODERS, group.rows // SHARE))
    size = -(-len(pages) // shares)
    budget = Budget(group.index)
    found: list[Callable[[], pa.Table]] = []
    for first in range(0, len(pages), size):
        run = {column: pages[first : first + size]}
        rows = range(run[column][0].first_row, run[column][-1].end_row)
        found += footer.row_decoders(group.index, run, rows, pieces, by_index=False, budget=budget)
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
    if (found := time_range(table, unit.plan.dialect)) is not None:
        _check_bounds(unit, found, (least, greatest), told_by)


def _check_bounds(unit: Unit, found: tuple[int, int], told: tuple[int, int], told_by: str) -> None:
    if found[0] < told[0] or found[1] > told[1]:
        raise CorruptObjectError(
            f"row group {unit.group.index} has rows from {moment(found[0])} to {moment(found[1])}, the "
            f"{told_by} says {moment(told[0])} to {moment(told[1])}",
            url=unit.footer.version.url,
        )
