"""From byte ranges to batches: footers, and row groups that are fetched and decoded ahead of the consumer."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.conversion.dialects import Dialect
from ticklake.conversion.kernels import without_views
from ticklake.errors import CorruptObjectError, ObjectNotFoundError
from ticklake.lake.decoding import SparseFile, column_decoders, decode, pages_of, row_decoders
from ticklake.lake.loop import start, wait
from ticklake.lake.objects import ObjectVersion, SourceObject
from ticklake.lake.pages import ColumnPages, covering
from ticklake.lake.scan import ObjectPlan, RowGroupPlan, watermarks
from ticklake.lake.store import Fetched, Store
from ticklake.lake.times import check_day, moment, rows_within, time_range, within
from ticklake.parquet.footers import MAGIC, TRAILER
from ticklake.parquet.footers import read_footer as parse_footer
from ticklake.parquet.pageindex import Page
from ticklake.parquet.structure import MAX_FOOTER, Structure, placed
from ticklake.types import ByteRange, Window

__all__ = [
    "DECODERS",
    "FOOTER_GUESS",
    "SHARE",
    "Footer",
    "SourceBatch",
    "find_footer",
    "read_ahead",
    "read_footer",
]

FOOTER_GUESS = 44 * 1024
"""What a first request asks for where nothing is known of such files.

Trades of a day in 30 row groups have a footer of 27 KB, and one of 4 KB with a page index of 32 KB in three.
"""

_ENCRYPTED = b"PARE"

DECODERS = min(4, os.process_cpu_count() or 1)
"""Threads in which a read decodes ahead by default."""


@dataclass(frozen=True, slots=True)
class Footer:
    """The footer of a file, with the bytes that came along with it.

    Attributes:
        path: The file's key in its store.
        version: The version that the footer is of, and to which later reads are pinned.
        metadata: What the footer says. Its row groups are not to be asked for their columns: where one makes
            no sense, pyarrow ends the process.
        structure: What the footer says of row groups.
        tail: The end of the file.
    """

    path: str
    version: ObjectVersion
    metadata: pq.FileMetaData
    structure: Structure
    tail: Fetched

    @property
    def source(self) -> SourceObject:
        """The file as the source of rows."""
        version = self.version
        return SourceObject(
            version.url, version.etag, version.size, self.metadata.num_rows, version.last_modified
        )

    @property
    def start(self) -> int:
        """Where the footer begins in the file."""
        return _footer_start(self.tail)

    def extended(self, head: Fetched) -> Footer:
        """Return the footer with more of the end of the file, which is what lies before its tail."""
        return replace(self, tail=_joined(head, self.tail))

    def decode(self, index: int, columns: Sequence[str] | None, pieces: Sequence[Fetched]) -> pa.Table:
        """Return columns of a row group.

        Args:
            index: Number of the row group.
            columns: Names of top-level columns; None for all.
            pieces: The bytes of those columns, as far as they are not in the tail.

        Raises:
            CorruptObjectError: It cannot be decoded, is not what the footer says, or is beyond a limit.
        """
        file = SparseFile(self.version.size, [*pieces, self.tail])
        with placed(self.version.url):
            return decode(file, self.metadata, self.structure.row_groups[index], index, columns)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Names of the columns that have values, with those of their parents, by number."""
        schema = self.metadata.schema
        return tuple(schema.column(number).path for number in range(len(schema)))

    def pages(
        self, index: int, columns: Sequence[str], pieces: Sequence[Fetched], known: Sequence[ColumnPages]
    ) -> dict[int, tuple[Page, ...]]:
        """Return the pages of columns of a row group by number, none of a column that does not tell.

        Args:
            index: Number of the row group.
            columns: Their names.
            pieces: The bytes of the columns, as far as they are not in the tail.
            known: What is known of them already; where it is nothing, their headers are read.

        Raises:
            CorruptObjectError: A page header is damaged.
        """
        wanted = {number: name for number, name in enumerate(self.leaves) if name in columns}
        if known:
            return {part.column: part.pages for part in known if part.column in wanted}
        file = SparseFile(self.version.size, [*pieces, self.tail])
        group, schema = self.structure.row_groups[index], self.metadata.schema
        if len(wanted) < len(columns) or any(schema.column(n).max_repetition_level for n in wanted):
            return {-1: ()}
        with placed(self.version.url):
            return {number: pages_of(file, group, number) for number in wanted}

    def column_decoders(
        self, index: int, columns: Sequence[str], pieces: Sequence[Fetched]
    ) -> list[Callable[[], pa.Table]]:
        """Return what decodes one column of a row group each, in whatever thread; otherwise as `decode`."""
        file = SparseFile(self.version.size, [*pieces, self.tail])
        with placed(self.version.url):
            group = self.structure.row_groups[index]
            return self._placing(column_decoders(file, self.metadata, group, index, columns))

    def row_decoders(
        self,
        index: int,
        pages: Mapping[int, Sequence[Page]],
        rows: range,
        pieces: Sequence[Fetched],
        *,
        by_index: bool,
    ) -> list[Callable[[], pa.Table]]:
        """Prepare to decode columns of some rows of a row group from the pages that have them.

        Args:
            index: Number of the row group.
            pages: By the number of the column, neighbouring pages that have those rows.
            rows: Positions in the row group.
            pieces: The bytes of those pages and of their dictionaries, as far as they are not in the tail.
            by_index: Whether the pages are known from the page index.

        Returns:
            What decodes some of the columns each, in whatever thread; a `CorruptObjectError` as from here.

        Raises:
            CorruptObjectError: They cannot be decoded, are not what the footer or the page index says, or
                are beyond a limit.
        """
        file = SparseFile(self.version.size, [*pieces, self.tail])
        with placed(self.version.url):
            return self._placing(row_decoders(file, self.structure, index, pages, rows, by_index=by_index))

    def _placing(self, decoders: Iterable[Callable[[], pa.Table]]) -> list[Callable[[], pa.Table]]:
        def placing(decoder: Callable[[], pa.Table]) -> pa.Table:
            with placed(self.version.url):
                return decoder()

        return [partial(placing, decoder) for decoder in decoders]


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """The rows of one row group or a stretch of it, also those outside the window.

    Attributes:
        table: The dialect's columns in the source's types, text in views (`string_view`) as `string`.
        dialect: What they mean.
        source: The file.
        row_group: Number of the row group in it.
        first_row: Position of the first row in the file.
        watermark: The least `ts_init` in the window, in nanoseconds, that batches after this one can still
            bring; None where this is the last.
        reach: Where `ts_init` can lie; rows elsewhere are not near the file's day, and no watermark is about
            them.
        undated: Stands in for the `ts_init` of a row that has no usable one, so that such a row counts to one
            window only, however often its row group is read.
        notes: What the user should know of the file, where only reading it could tell.
    """

    table: pa.Table
    dialect: Dialect
    source: SourceObject
    row_group: int
    first_row: int
    watermark: int | None
    reach: Window
    undated: int
    notes: tuple[str, ...]


async def find_footer(store: Store, paths: Sequence[str], guess: int = FOOTER_GUESS) -> Footer | None:
    """Return the footer of the first of several objects that exists, or None where none does.

    Args:
        store: Where they are.
        paths: Their paths.
        guess: As for `read_footer`.

    Raises:
        LakeError: One could not be read.
    """
    for path in paths:
        try:
            return await read_footer(store, path, guess)
        except ObjectNotFoundError:
            continue
    return None


async def read_footer(store: Store, path: str, guess: int = FOOTER_GUESS) -> Footer:
    """Read the footer of a Parquet file: one request, two where it is longer than that asks for.

    Args:
        store: Where it is.
        path: Its path.
        guess: Bytes that the first request asks for.

    Raises:
        CorruptObjectError: It is not a (whole) Parquet file.
        LakeError: It could not be read.
    """
    tail = await store.read_suffix(path, guess)
    version = tail.version
    start_of_footer = _footer_start(tail)
    if start_of_footer < tail.range.start:
        head = await store.read_range(ByteRange(start_of_footer, tail.range.start), path, version)
        tail = _joined(head, tail)
    footer = tail.data[start_of_footer - tail.range.start :]
    with placed(version.url):
        # First, as pyarrow has no limits.
        structure = Structure.parse(bytes(footer[:-TRAILER]))
    try:
        metadata = parse_footer(footer)
        # A name that is no text is an error here, and not wherever it is looked at first.
        _ = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        raise CorruptObjectError(f"the Parquet footer is damaged: {exc}", url=version.url) from exc
    return Footer(path, version, metadata, structure, tail)


def _joined(head: Fetched, tail: Fetched) -> Fetched:
    data = memoryview(b"".join((head.data, tail.data)))
    return replace(tail, data=data, range=ByteRange(head.range.start, tail.range.end))


def _footer_start(tail: Fetched) -> int:
    """Return where the footer begins in the file, by the trailer that names its length."""
    url, size = tail.version.url, tail.version.size
    magic = bytes(tail.data[-4:])
    if magic == _ENCRYPTED:
        raise CorruptObjectError("the Parquet file is encrypted, which ticklake cannot read", url=url)
    if size < len(MAGIC) + TRAILER or magic != MAGIC:
        raise CorruptObjectError(f"not a Parquet file, or a truncated one ({size} bytes)", url=url)
    length = int.from_bytes(tail.data[-TRAILER:-4], "little")
    footer_start = size - TRAILER - length
    if footer_start < len(MAGIC) or (tail.range.start == 0 and bytes(tail.data[:4]) != MAGIC):
        raise CorruptObjectError(f"not a Parquet file, or a truncated one ({size} bytes)", url=url)
    if length > MAX_FOOTER:
        raise CorruptObjectError(
            f"the Parquet footer has {length:,} bytes, at most {MAX_FOOTER:,} are read",
            url=url,
            hint="If the file is sound, write it with larger row groups.",
        )
    return footer_start


def read_ahead(
    store: Store,
    objects: Sequence[tuple[ObjectPlan, Footer]],
    *,
    window: Window,
    slack: int,
    max_in_flight_bytes: int,
    decoders: int,
    only_inside: bool = False,
) -> Generator[SourceBatch]:
    """Yield the planned row groups in order, while later ones are fetched and decoded.

    Args:
        store: Where the objects are.
        objects: What to read, with the footers that the plans were made from.
        window: The window that it was planned for.
        slack: The slack that it was planned with.
        max_in_flight_bytes: Bound on the bytes fetched, being fetched, decoded and not yet let go of.
            Besides the row group that the consumer has, one is always under way, however large it is.
        decoders: Threads that decode ahead; with 0 a row group is decoded when it is taken.
        only_inside: Decode what has rows of the window, and no more of a row group than that, as far as its
            times tell. The positions of batches do not tell which rows those are.

    Raises:
        ObjectChangedError: An object was overwritten since its footer was read.
        CorruptObjectError: A row group cannot be decoded, or is not what the footer says; or it has no
            statistics and rows of the window that are earlier than the slack allows.
        SourceSchemaError: A file without statistics has no row near its day.
        LakeError: An object could not be read.
    """
    todo = deque(
        _Unit(plan, footer, group, tuple((footer.path, wanted) for wanted in plan.ranges_of(group)))
        for plan, footer in objects
        for group in plan.row_groups
    )
    marks = watermarks([unit.group for unit in todo])
    unsaid = _UnsaidTimes(window, slack)
    users = Counter(key for unit in todo for key in unit.fetches)
    ahead = _ReadAhead(store, max_in_flight_bytes, users, decoders, window if only_inside else None)
    try:
        for watermark in marks:
            while todo and ahead.has_room_for(todo[0]):
                ahead.begin(todo.popleft())
            unit, table = ahead.next()
            plan, group = unit.plan, unit.group
            yield SourceBatch(
                table,
                plan.dialect,
                plan.source,
                group.index,
                group.first_row,
                watermark,
                plan.reach,
                plan.undated(group),
                unsaid.check(unit, table, watermark),
            )
            # Only now has the consumer let go of it.
            del table
            ahead.release()
    finally:
        ahead.close()


@dataclass(frozen=True, slots=True)
class _Unit:
    """A row group, and the requests that it waits for by path and range."""

    plan: ObjectPlan
    footer: Footer
    group: RowGroupPlan
    fetches: tuple[tuple[str, ByteRange], ...]


class _UnsaidTimes:
    """Checks the times that no statistics told, before anything is made of them.

    Those of statistics were checked when the plan was made.
    """

    def __init__(self, window: Window, slack: int) -> None:
        self._window = window
        self._slack = slack
        self._promised: int | None = None
        self._of_file: list[int] = []

    def check(self, unit: _Unit, table: pa.Table, watermark: int | None) -> tuple[str, ...]:
        """Check the row group that comes next; with the last of a file, return what is to be noted of it.

        Args:
            unit: The row group.
            table: Its rows.
            watermark: What is promised of those after it.

        Raises:
            CorruptObjectError: It breaks the promise made before it.
            SourceSchemaError: No row of the file is near its day.
        """
        plan, group = unit.plan, unit.group
        if group.time_min is None and (found := time_range(table, plan.dialect)) is not None:
            self._of_file += found
            if self._promised is not None and found[0] < self._promised:
                self._refuse_early(unit, table, self._promised)
        self._promised = watermark
        if group is not plan.row_groups[-1] or not self._of_file:
            return ()
        least, greatest = min(self._of_file), max(self._of_file)
        self._of_file.clear()
        return check_day(plan.source, plan.day, self._slack, least, greatest)

    def _refuse_early(self, unit: _Unit, table: pa.Table, promised: int) -> None:
        plan = unit.plan
        # Those outside the window are nobody's business.
        inside = time_range(within(table, plan.dialect, self._window), plan.dialect)
        if inside is None or inside[0] >= promised:
            return
        early = (Window.of_day(plan.day).start - inside[0]) / 1e9
        raise CorruptObjectError(
            f"row group {unit.group.index} has rows from {moment(inside[0])}, {early:.3f} s before its day "
            f"{plan.day}, and no statistics that say so",
            url=plan.source.url,
            hint=f"Raise lake.partition_slack ({self._slack / 1e9:g} s) above that, or write the file with "
            "statistics.",
        )


SHARE = 131_072
"""Rows whose times are worth a thread. Of fewer all columns are decoded, as choosing pages would not pay."""

_LEAST = 2
"""Row groups under way at any time, that of the consumer among them, however large they are."""


class _ReadAhead:
    """Row groups under way, in order. All its bookkeeping happens in the consumer's thread.

    What is fetched is small beside what is decoded of it: so that latency is hidden in little memory, row
    groups are fetched well ahead, and handed to the decoders only as far as there is room for them decoded.
    """

    def __init__(
        self,
        store: Store,
        max_bytes: int,
        users: Counter[tuple[str, ByteRange]],
        decoders: int,
        only: Window | None,
    ) -> None:
        self._store = store
        self._inside = None if only is None else _Inside(only)
        self._max_bytes = max_bytes
        self._fetched_bytes = self._decoded_bytes = 0
        # How many row groups still need a request: neighbours share one, and it is made once.
        self._users = users
        self._fetches: dict[tuple[str, ByteRange], Future[Fetched]] = {}
        self._waiting: deque[_Unit] = deque()
        self._decoding: deque[tuple[_Unit, Callable[[], pa.Table]]] = deque()
        self._pool = ThreadPoolExecutor(decoders, thread_name_prefix="ticklake-decode") if decoders else None

    def has_room_for(self, unit: _Unit) -> bool:
        if len(self._waiting) + len(self._decoding) < _LEAST:
            return True
        new = sum(key[1].length for key in unit.fetches if key not in self._fetches)
        return self._fetched_bytes + new <= self._max_bytes * 3 // 4

    def begin(self, unit: _Unit) -> None:
        """Start to fetch a row group."""
        for path, wanted in unit.fetches:
            if (path, wanted) not in self._fetches:
                self._fetches[path, wanted] = start(self._store.read_range(wanted, path, unit.footer.version))
                self._fetched_bytes += wanted.length
        self._waiting.append(unit)

    def next(self) -> tuple[_Unit, pa.Table]:
        """Wait for the first row group under way, and let go of what was fetched for it last."""
        least = 1 if self._pool is None else _LEAST
        while self._waiting and (len(self._decoding) < least or self._has_room_to_decode(self._waiting[0])):
            self._decode(self._waiting.popleft())
        unit, decoded = self._decoding[0]
        table = decoded()
        for key in unit.fetches:
            self._users[key] -= 1
            if not self._users[key]:
                del self._fetches[key]
                self._fetched_bytes -= key[1].length
        return unit, table

    def _has_room_to_decode(self, unit: _Unit) -> bool:
        in_flight = self._fetched_bytes + self._decoded_bytes
        return self._pool is not None and in_flight + unit.group.decoded_bytes <= self._max_bytes

    def _decode(self, unit: _Unit) -> None:
        decode = partial(_decode, unit, [self._fetches[key] for key in unit.fetches], self._inside)
        if self._pool is not None:
            decode = partial(wait, self._pool.submit(decode))
        self._decoding.append((unit, decode))
        self._decoded_bytes += unit.group.decoded_bytes

    def release(self) -> None:
        """Forget the first row group."""
        unit, _ = self._decoding.popleft()
        self._decoded_bytes -= unit.group.decoded_bytes

    def close(self) -> None:
        """Stop everything under way: requests at once, decoding at the end of the row group at hand."""
        for fetch in self._fetches.values():
            fetch.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._inside is not None:
            self._inside.pool.shutdown(wait=True, cancel_futures=True)


class _Inside:
    """Which rows alone are decoded, and the threads in which the columns of a row group are, side by side.

    Nothing that runs in them waits for anything else that does.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="ticklake-columns")


def _decode(unit: _Unit, fetches: Sequence[Future[Fetched]], inside: _Inside | None) -> pa.Table:
    columns = list(unit.plan.dialect.columns)
    pieces = [wait(fetch) for fetch in fetches]
    table = None if inside is None else _decode_inside(unit, pieces, inside)
    if table is None:
        table = _decode_columns(unit, columns, pieces)
        _check_times(unit, table)
    return without_views(table.select(columns).replace_schema_metadata(None))


def _decode_columns(unit: _Unit, columns: Sequence[str], pieces: Sequence[Fetched]) -> pa.Table:
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


def _decode_inside(unit: _Unit, pieces: Sequence[Fetched], inside: _Inside) -> pa.Table | None:
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


def _decode_small(unit: _Unit, pieces: Sequence[Fetched], inside: _Inside) -> pa.Table:
    """Decode all of a row group that is too small for choosing pages to pay, its columns side by side."""
    dialect = unit.plan.dialect
    decoders = unit.footer.column_decoders(unit.group.index, dialect.columns, pieces)
    table = _side_by_side(inside.pool.map(_call, decoders))
    _check_times(unit, table)
    rows = rows_within(table, dialect, inside.window)
    return table.slice(rows.start, len(rows))


def _time_decoders(unit: _Unit, pieces: Sequence[Fetched]) -> list[Callable[[], pa.Table]]:
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


def _check_times(unit: _Unit, table: pa.Table) -> None:
    """Check that no row lies outside what the file says of it: by that it was decided what to read."""
    group = unit.group
    if group.pages:
        row = 0
        for page in group.pages:
            _check_range(unit, table.slice(row, page.rows), page.least, page.greatest, "page index")
            row += page.rows
    elif group.time_min is not None and group.time_max is not None:
        _check_range(unit, table, group.time_min, group.time_max, "footer")


def _check_range(unit: _Unit, table: pa.Table, least: int, greatest: int, told_by: str) -> None:
    if (found := time_range(table, unit.plan.dialect)) is None:
        return
    if found[0] < least or found[1] > greatest:
        raise CorruptObjectError(
            f"row group {unit.group.index} has rows from {moment(found[0])} to {moment(found[1])}, the "
            f"{told_by} says {moment(least)} to {moment(greatest)}",
            url=unit.footer.version.url,
        )
