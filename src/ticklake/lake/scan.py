"""Planning a read: which row groups of which files a window needs, and which bytes those are.

Pure: works on footers that were read before, and moves no byte itself.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import pyarrow.types as pt

from ticklake.conversion.dialects import Dialect, nanos
from ticklake.errors import CorruptObjectError
from ticklake.lake.objects import SourceObject
from ticklake.lake.times import check_day
from ticklake.parquet.structure import MAX_ROW_GROUP_BYTES, RowGroup, Structure, too_large
from ticklake.types import ByteRange, DataType, InstrumentKey, Window

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
    "plan_object",
    "watermarks",
]

MAX_GAP = 64 * 1024
"""Ranges with fewer unneeded bytes between them than this become one request: cheaper than a round trip."""

MAX_RANGE = 8 * 1024 * 1024
"""No request is for more bytes than this, so that one ends well within a timeout and several run at once."""

_MAX_NANOS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RowGroupPlan:
    """A row group that a window needs.

    Attributes:
        index: Its number in the file.
        rows: Its rows; the window may need fewer.
        first_row: Position of its first row in the file.
        time_min, time_max: Least and greatest `ts_init` by its statistics, both inclusive, in nanoseconds
            since the epoch (UTC); None where the file does not say.
        least, greatest: Where `ts_init` can lie that counts, both inclusive: what the statistics say, or else
            anywhere, as far as it is near the file's day; a moment of that day where nothing of it is. The
            windows that meet it read the row group.
        decoded_bytes: About how many bytes the needed columns take in memory.
        ranges: The needed column chunks, in order of position.
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


@dataclass(frozen=True, slots=True)
class ObjectPlan:
    """What is read of one file.

    Attributes:
        source: The file and its version.
        day: The UTC day that its rows are filed under.
        reach: Where `ts_init` of its rows can lie: in that day, and outside by the slack at most.
        dialect: What its columns mean.
        row_groups: The row groups that the window needs, in file order; none if no row can be in it.
        ranges: The requests: needed chunks that are not at hand yet, coalesced, in order of position.
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
    before: int | None
    after: int | None

    @property
    def bytes(self) -> int:
        """Bytes that the requests move."""
        return sum(r.length for r in self.ranges)

    @property
    def rows(self) -> int:
        """Rows in the row groups."""
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
        """Row groups that are decoded."""
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

    Returns:
        The plan, and notes for the user.

    Raises:
        CorruptObjectError: What the footer says of needed columns makes no sense, or a row group is beyond a
            limit. It has no URL yet.
        SourceSchemaError: All rows are more than a day away from `day`; the unit of the times must be wrong.
    """
    columns = _Columns.of(schema, dialect)
    groups: list[RowGroupPlan] = []
    least, greatest = _MAX_NANOS, -_MAX_NANOS
    before: int | None = None
    after: int | None = None
    first_row = 0
    reach = _reach(day, slack)
    for index, group in enumerate(structure.row_groups):
        times = columns.times(group)
        if times is not None:
            least, greatest = min(least, times[0]), max(greatest, times[1])
        near = _near(times, day, reach)
        if not group.rows:
            continue
        if near[1] < window.start:
            before = near[1] if before is None else max(before, near[1])
        elif near[0] >= window.end:
            after = near[0] if after is None else min(after, near[0])
        else:
            groups.append(columns.plan(group, index, first_row, times, near, source))
        first_row += group.rows
    wanted = (chunk for group in groups for chunk in group.ranges if not at_hand.covers(chunk))
    plan = ObjectPlan(source, day, reach, dialect, tuple(groups), coalesce(wanted), before, after)
    if not first_row:
        return plan, (f"{source.url} has no rows at all",)
    return plan, check_day(source, day, slack, least, greatest) if least <= greatest else ()


def _reach(day: dt.date, slack: int) -> Window:
    own = Window.of_day(day)
    return Window(max(0, own.start - slack), min(_MAX_NANOS, own.end + slack))


def _near(times: tuple[int, int] | None, day: dt.date, reach: Window) -> tuple[int, int]:
    """Return the part of a row group's times that is near its day; where none is, the moment next to it."""
    if times is None:
        return reach.start, reach.end - 1
    own = Window.of_day(day)
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
        )

    def times(self, group: RowGroup) -> tuple[int, int] | None:
        """Return the least and greatest `ts_init` of a row group in ns; None where it does not say."""
        found = group.chunk(self.time_index).integers(signed=not pt.is_unsigned_integer(self.time_type))
        if found is None:
            return None
        least, greatest = (nanos(self.dialect, self.time_type, value) for value in found)
        return least, greatest

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


def _bytes_per_row(field_type: pa.DataType) -> int:
    # Text is taken as short: an offset and a dozen characters.
    return -(-field_type.bit_width // 8) if pt.is_primitive(field_type) or pt.is_decimal(field_type) else 16
