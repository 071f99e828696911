"""Planning a read: which row groups of which files a window needs, and which bytes those are.

Pure: works on footers that were read before, and moves no byte itself.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import pyarrow.types as pt

from ticklake.conversion.dialects import Dialect, nanos
from ticklake.display import card, format_bytes, table
from ticklake.errors import CorruptObjectError
from ticklake.lake.objects import SourceObject
from ticklake.lake.pages import ColumnPages, IndexedPages, PageTimes, place_of_index
from ticklake.lake.times import check_day
from ticklake.parquet.structure import MAX_ROW_GROUP_BYTES, RowGroup, Structure, too_large
from ticklake.types import NANOS_PER_DAY, ByteRange, DataType, InstrumentKey, Window, format_nanos

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = [
    "MAX_GAP",
    "MAX_RANGE",
    "ObjectPlan",
    "RowGroupPlan",
    "ScanPlan",
    "candidate_days",
    "coalesce",
    "facts_of",
    "plan_object",
    "watermarks",
]

MAX_GAP = 64 * 1024
"""Ranges with fewer unneeded bytes between them than this become one request: cheaper than a round trip."""

MAX_RANGE = 8 * 1024 * 1024
"""No request is for more bytes than this, so that one ends well within a timeout and several run at once."""

# Pages of many columns lie apart. As many requests run at once by default; more are joined over such gaps.
_MAX_REQUESTS = 8
_MAX_PAGE_GAP = 1024 * 1024

_MAX_NANOS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RowGroupPlan:
    """A row group that a window needs, or a stretch of its rows, where a page index tells the times of pages.

    Attributes:
        index: Its number in the file.
        rows: Its rows, or those of the stretch; the window may need fewer.
        first_row: Position of the first of them in the file.
        time_min, time_max: Least and greatest `ts_init` by the statistics or the page index, both inclusive,
            in nanoseconds since the epoch (UTC); None where the file does not say.
        least, greatest: Where `ts_init` can lie that counts, both inclusive: what the statistics say, or else
            anywhere, as far as it is near the file's day; a moment of that day where nothing of it is. The
            windows that meet it read the row group.
        decoded_bytes: About how many bytes the needed columns take in memory.
        ranges: The needed column chunks or their pages, in order of position.
        pages: The times of its pages, in order; none where no page index was looked at. That depends on the
            file and the days of the window, not on what else the window needs.
        stretch: Position of its rows in the row group; None where it is the whole row group.
        parts: The pages of each needed column that have the stretch; none where it is the whole row group.
    """

    index: int
    rows: int
    first_row: int
    time_min: int | None
    time_max: int | None
    least: int
    greatest: int
    decoded_bytes: int
    ranges: tuple[ByteRange, ...]
    pages: tuple[PageTimes, ...] = ()
    stretch: range | None = None
    parts: tuple[ColumnPages, ...] = ()

    def rows_for(self, window: Window) -> int:
        """Return the rows that are looked at for a part of the window: those of its pages, or all."""
        if self.least >= window.end or self.greatest < window.start:
            return 0
        return sum(page.rows for page in self.pages if page.meets(window)) if self.pages else self.rows


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """What is read of one file.

    Attributes:
        source: The file and its version.
        day: The UTC day that its rows are filed under.
        reach: Where `ts_init` of its rows can lie: in that day, and outside by the slack at most.
        dialect: What its columns mean.
        row_groups: The row groups that the window needs, or stretches of them, in file order; none if no row
            can be in it.
        ranges: The requests: needed bytes that are not at hand yet, coalesced, in order of position.
        index: Where the page index is by which less is read, once it is at hand; None if there is none.
        before: The last moment before the window of which rows can be that are not read, inclusive; None
            where nothing that is not read lies before the window.
        after: The first moment after the window of which rows can be that are not read; None likewise.
    """

    source: SourceObject
    day: dt.date
    reach: Window
    dialect: Dialect
    row_groups: tuple[RowGroupPlan, ...]
    ranges: tuple[ByteRange, ...]
    before: int | None = None
    after: int | None = None
    index: ByteRange | None = None

    @property
    def bytes(self) -> int:
        """Bytes that the requests move."""
        return sum(r.length for r in self.ranges)

    @property
    def rows(self) -> int:
        """Rows in the row groups, or stretches of them."""
        return sum(group.rows for group in self.row_groups)

    def undated(self, group: RowGroupPlan) -> int:
        """Return the time that stands in for that of a row without a usable one: it counts to that window.

        It depends on the file alone, and every window that it lies in reads the row group.
        """
        return min(max(group.least, Window.of_day(self.day).start), group.greatest)

    def ranges_of(self, group: RowGroupPlan) -> tuple[ByteRange, ...]:
        """Return the requests that a row group waits for."""
        found: dict[ByteRange, None] = {}
        for chunk in group.ranges:
            first = bisect_left(self.ranges, chunk.start, key=lambda r: r.end - 1)
            for fetched in self.ranges[first:]:
                if fetched.start >= chunk.end:
                    break
                found[fetched] = None
        return tuple(found)


@dataclass(frozen=True, slots=True, repr=False)
class ScanPlan:
    """What a scan reads, before it reads it. The footers that it is made from were read already.

    Attributes:
        key: The instrument.
        data_type: The data type.
        window: The window of `ts_init` that is asked for.
        objects: The files found, in order of days, also those that hold no row of the window.
        absent_days: Days of the window for which there is no file ("holes").
        notes: What the user should know, in sentences.
    """

    key: InstrumentKey
    data_type: DataType
    window: Window
    objects: tuple[ObjectPlan, ...]
    absent_days: tuple[dt.date, ...]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes that the requests move."""
        return sum(item.bytes for item in self.objects)

    @property
    def requests(self) -> int:
        """Requests that are to be made."""
        return sum(len(item.ranges) for item in self.objects)

    @property
    def row_groups(self) -> int:
        """Row groups that are decoded, or stretches of them."""
        return sum(len(item.row_groups) for item in self.objects)

    @property
    def rows(self) -> int:
        """Rows in those row groups: the window has at most as many."""
        return sum(item.rows for item in self.objects)

    @property
    def object_bytes(self) -> int:
        """Size of the files that rows are read from."""
        return sum(item.source.size for item in self.objects if item.row_groups)

    @property
    def share(self) -> float:
        """The part of those files that the requests move, 0 to 1."""
        return self.bytes / self.object_bytes if self.object_bytes else 0.0

    def __repr__(self) -> str:
        return (
            f"ScanPlan({self.key}, {self.data_type}, {self.window}: {len(self.objects)} objects, "
            f"{self.row_groups} row groups, {self.bytes} bytes in {self.requests} requests, "
            f"{len(self.absent_days)} days absent)"
        )

    def _repr_html_(self) -> str:
        facts = {
            **facts_of(self.key, self.data_type, self.window),
            "to read": f"{format_bytes(self.bytes)} in {self.requests:,} requests, {self.share:.1%} of files",
            "rows": f"at most {self.rows:,}, in {self.row_groups:,} row groups",
            "days absent": ", ".join(map(str, self.absent_days)) or None,
            "notes": "; ".join(self.notes) or None,
        }
        rows = [
            (
                item.source.url,
                str(item.day),
                format_bytes(item.source.size),
                len(item.row_groups),
                format_bytes(item.bytes),
                len(item.ranges),
            )
            for item in self.objects
        ]
        columns = ("object", "day", "size", "row groups", "to read", "requests")
        return card("ScanPlan", facts, table(columns, rows))


def facts_of(key: InstrumentKey, data_type: DataType, window: Window) -> dict[str, object]:
    """Return what is asked of a lake, for people."""
    return {
        "instrument": key,
        "data type": data_type,
        "from (UTC)": format_nanos(window.start),
        "to, exclusive": format_nanos(window.end),
    }


def candidate_days(window: Window, slack: int) -> tuple[dt.date, ...]:
    """Return the days whose files can hold rows of a window, in order.

    Args:
        window: The window of `ts_init`.
        slack: How far `ts_init` may lie outside the day that a row is filed under, in nanoseconds.
    """
    return Window(max(0, window.start - slack), min(_MAX_NANOS, window.end + slack)).days


def coalesce(
    ranges: Iterable[ByteRange], *, max_gap: int = MAX_GAP, max_range: int = MAX_RANGE
) -> tuple[ByteRange, ...]:
    """Return requests that bring all of `ranges`, in order and without overlap.

    Args:
        ranges: What is needed, in any order.
        max_gap: Ranges with fewer bytes than this between them are joined; those bytes are moved in vain.
        max_range: The most bytes of one request; what is longer is cut in even parts.
    """
    joined: list[ByteRange] = []
    for wanted in sorted(ranges):
        if joined and wanted.start - joined[-1].end < max_gap:
            joined[-1] = ByteRange(joined[-1].start, max(joined[-1].end, wanted.end))
        else:
            joined.append(wanted)
    return tuple(part for extent in joined for part in _cut(extent, max_range))


def _joined(requests: tuple[ByteRange, ...]) -> tuple[ByteRange, ...]:
    """Return fewer requests for the same, where they are many and near."""
    max_gap = MAX_GAP
    while len(requests) > _MAX_REQUESTS and max_gap < _MAX_PAGE_GAP:
        max_gap *= 2
        requests = coalesce(requests, max_gap=max_gap)
    return requests


def _cut(extent: ByteRange, max_range: int) -> list[ByteRange]:
    parts = -(-extent.length // max_range)
    edges = [extent.start + extent.length * part // parts for part in range(parts + 1)]
    return [ByteRange(start, end) for start, end in pairwise(edges)]


def watermarks(groups: Sequence[RowGroupPlan]) -> tuple[int | None, ...]:
    """Return for each row group the least `ts_init` that those after it can bring; None for the last."""
    after = [*accumulate(reversed([group.least for group in groups]), min)][::-1]
    return (*after[1:], None) if groups else ()


def plan_object(
    schema: pq.ParquetSchema,
    structure: Structure,
    source: SourceObject,
    *,
    day: dt.date,
    dialect: Dialect,
    window: Window,
    slack: int,
    at_hand: ByteRange,
    data: memoryview | None = None,
) -> tuple[ObjectPlan, tuple[str, ...]]:
    """Plan the reading of one file.

    Args:
        schema: Its columns.
        structure: Its row groups.
        source: The file and its version.
        day: The UTC day that its rows are filed under.
        dialect: What its columns mean.
        window: The window of `ts_init`.
        slack: How far `ts_init` may lie outside `day`, in nanoseconds; it is noted where statistics say
            otherwise.
        at_hand: Bytes that need no request: the end of the file, which came with the footer.
        data: Those bytes; None plans without a page index.

    Returns:
        The plan, and notes for the user.

    Raises:
        CorruptObjectError: What the footer or the page index says of needed columns makes no sense, or a row
            group is beyond a limit. It has no URL yet.
        SourceSchemaError: All rows are more than a day away from `day`; the unit of the times must be wrong.
    """
    columns = _Columns.of(schema, dialect)
    index = _Index(structure, columns, window, reach := _reach(day, slack), at_hand, data)
    groups: list[RowGroupPlan] = []
    least, greatest = _MAX_NANOS, -_MAX_NANOS
    unread = _Unread(window)
    own = Window.of_day(day)
    first_row = 0
    for number, group in enumerate(structure.row_groups):
        times = columns.times(group)
        if times is not None:
            least, greatest = min(least, times[0]), max(greatest, times[1])
        near = _near(times, own, reach)
        if group.rows and near[0] < window.end and near[1] >= window.start:
            whole = columns.plan(group, number, first_row, times, near, source)
            groups += index.stretches(group, whole, unread)
        elif group.rows:
            unread.add(*near)
        first_row += group.rows
    wanted = [needed for group in groups for needed in group.ranges if not at_hand.covers(needed)]
    requests = coalesce(wanted)
    if any(group.parts for group in groups):
        requests = _joined(requests)
    plan = ObjectPlan(
        source, day, reach, dialect, tuple(groups), requests, unread.before, unread.after, index.place
    )
    if not first_row:
        return plan, (f"{source.url} has no rows at all",)
    return plan, check_day(source, day, slack, least, greatest) if least <= greatest else ()


def _reach(day: dt.date, slack: int) -> Window:
    own = Window.of_day(day)
    return Window(max(0, own.start - slack), min(_MAX_NANOS, own.end + slack))


def _near(times: tuple[int, int] | None, own: Window, reach: Window) -> tuple[int, int]:
    """Return the part of a row group's times that is near its day; where none is, the moment next to it."""
    if times is None:
        return reach.start, reach.end - 1
    if times[1] < reach.start:
        return own.start, own.start
    if times[0] >= reach.end:
        return own.end - 1, own.end - 1
    return max(times[0], reach.start), min(times[1], reach.end - 1)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a dialect in a footer."""

    dialect: Dialect
    physical_types: Mapping[int, str]
    bytes_per_row: int
    time_index: int
    time_type: pa.DataType
    is_nested: bool

    @classmethod
    def of(cls, schema: pq.ParquetSchema, dialect: Dialect) -> _Columns:
        arrow = schema.to_arrow_schema()
        columns = [schema.column(index) for index in range(len(schema))]
        positions = {column.path: index for index, column in enumerate(columns)}
        indices = [positions[name] for name in dialect.columns]
        return cls(
            dialect,
            {index: columns[index].physical_type for index in indices},
            sum(_bytes_per_row(arrow.field(name).type) for name in dialect.columns),
            positions[dialect.time_column],
            arrow.field(dialect.time_column).type,
            any(columns[index].max_repetition_level for index in indices),
        )

    @property
    def is_signed(self) -> bool:
        """Whether times are stored as signed numbers."""
        return not pt.is_unsigned_integer(self.time_type)

    def nanos(self, stored: int) -> int:
        """Return a time as stored in nanoseconds."""
        return nanos(self.dialect, self.time_type, stored)

    def times(self, group: RowGroup) -> tuple[int, int] | None:
        """Return the least and greatest `ts_init` of a row group in ns; None where it does not say."""
        found = group.chunk(self.time_index).integers(signed=self.is_signed)
        return None if found is None else (self.nanos(found[0]), self.nanos(found[1]))

    def plan(
        self,
        group: RowGroup,
        index: int,
        first_row: int,
        times: tuple[int, int] | None,
        near: tuple[int, int],
        source: SourceObject,
    ) -> RowGroupPlan:
        """Return the plan of a row group; `near` are the times of it that count."""
        chunks = {column: group.chunk(column) for column in self.physical_types}
        ranges = sorted(chunk.range for chunk in chunks.values())
        # Magic and footer length are 4 bytes before the first chunk and 8 after the last.
        if ranges[0].start < 4 or any(r.length <= 0 or r.end > source.size - 8 for r in ranges):
            raise CorruptObjectError(f"the footer places columns of row group {index} outside the file")
        for column, chunk in chunks.items():
            if (chunk.values, chunk.physical_type) != (group.rows, self.physical_types[column]):
                raise CorruptObjectError(
                    f"the footer contradicts itself: row group {index} has {group.rows} rows, its column "
                    f"{column} {chunk.values} values, {chunk.physical_type} for {self.physical_types[column]}"
                )
        uncompressed = sum(chunk.uncompressed for chunk in chunks.values())
        decoded = max(uncompressed, group.rows * self.bytes_per_row)
        if decoded > MAX_ROW_GROUP_BYTES:
            raise too_large(index, decoded)
        least, greatest = times or (None, None)
        return RowGroupPlan(
            index,
            group.rows,
            first_row,
            least,
            greatest,
            *near,
            decoded,
            tuple(ranges),
        )


class _Unread:
    """Where the times of rows lie that a window does not need, as near to it as they come.

    Attributes:
        before: The last such moment before the window, inclusive; None where there is none.
        after: The first such moment after it; None likewise.
    """

    def __init__(self, window: Window) -> None:
        self.before: int | None = None
        self.after: int | None = None
        self._window = window

    def add(self, least: int, greatest: int) -> None:
        """Take in the times of rows of which none is in the window, both inclusive."""
        if greatest < self._window.start:
            self.before = greatest if self.before is None else max(self.before, greatest)
        else:
            self.after = least if self.after is None else min(self.after, least)


class _Index:
    """The page index of a file, as far as a window is better off with it.

    Whether it is used for a row group, and so how many rows are counted to which part of a window, depends on
    the file and on where windows and days end in it; what else is read has no part in it.

    Attributes:
        place: Where it is; None as long as no row group needs it.
    """

    def __init__(
        self,
        structure: Structure,
        columns: _Columns,
        window: Window,
        reach: Window,
        at_hand: ByteRange,
        data: memoryview | None,
    ) -> None:
        self.place: ByteRange | None = None
        self._structure = structure
        self._columns = columns
        self._window = window
        self._reach = reach
        self._at_hand = at_hand
        self._data = data

    def stretches(self, group: RowGroup, whole: RowGroupPlan, unread: _Unread) -> Iterator[RowGroupPlan]:
        """Yield the stretches of a row group that the window needs: all of it where no index tells.

        Args:
            group: The row group.
            whole: The plan of all of it.
            unread: Learns the times of the pages that are left out.

        Raises:
            CorruptObjectError: The index is damaged or contradicts the footer.
        """
        found = self._pages(group, whole)
        if found is None:
            yield whole
            return
        size = sum(r.length for r in whole.ranges)
        max_gap = MAX_GAP * group.rows // size
        needed = list(found.stretches(self._window, max_gap))
        for left_out in found.besides(rows for rows, _ in needed):
            unread.add(left_out.least, left_out.greatest)
        for rows, times in needed:
            if len(rows) == group.rows:
                yield replace(whole, pages=times)
                continue
            parts = found.parts(rows)
            ranges = tuple(sorted(r for part in parts for r in part.ranges))
            least, greatest = min(t.least for t in times), max(t.greatest for t in times)
            decoded = -(-whole.decoded_bytes * sum(r.length for r in ranges) // size)
            yield RowGroupPlan(
                whole.index,
                len(rows),
                whole.first_row + rows.start,
                least,
                greatest,
                least,
                greatest,
                max(decoded, len(rows) * self._columns.bytes_per_row),
                ranges,
                times,
                rows,
                parts,
            )

    def _pages(self, group: RowGroup, whole: RowGroupPlan) -> IndexedPages | None:
        columns, reach = self._columns, self._reach
        if self._data is None or columns.is_nested or not self._is_cut(whole):
            return None
        # Rows without a time, or far from the day, count to a window that is no matter of a page's times.
        if whole.time_min is None or whole.time_max is None:
            return None
        if whole.time_min < reach.start or whole.time_max >= reach.end:
            return None
        place = place_of_index(self._structure, group, columns.physical_types, columns.time_index)
        if place is None or place.start < whole.ranges[-1].end or place.end > self._at_hand.end:
            return None
        self.place = place if self.place is None else ByteRange(min(self.place.start, place.start), place.end)
        if not self._at_hand.covers(place):
            return None
        return IndexedPages.read(
            group,
            columns.physical_types,
            columns.time_index,
            self._read,
            nanos=columns.nanos,
            signed=columns.is_signed,
        )

    def _is_cut(self, whole: RowGroupPlan) -> bool:
        """Whether the window, or a day of it, ends within the row group."""
        window, days = self._window, (whole.least // NANOS_PER_DAY, whole.greatest // NANOS_PER_DAY)
        return whole.least < window.start or whole.greatest >= window.end or days[0] != days[1]

    def _read(self, wanted: ByteRange) -> bytes:
        if not self._at_hand.covers(wanted) or self._data is None:
            raise CorruptObjectError("the footer places the page index outside of what lies before it")
        start = self._at_hand.start
        return bytes(self._data[wanted.start - start : wanted.end - start])


def _bytes_per_row(field_type: pa.DataType) -> int:
    # Text is taken as short: an offset and a dozen characters.
    return -(-field_type.bit_width // 8) if pt.is_primitive(field_type) or pt.is_decimal(field_type) else 16
