"""Which pages of a row group a window needs, by the page index of its file.

Pure: works on the bytes of an index that was read before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ticklake.parquet.pageindex import Page, bounds, pages
from ticklake.parquet.structure import RowGroup, Structure
from ticklake.types import ByteRange, Window

__all__ = ["ColumnPages", "IndexedPages", "PageTimes", "covering", "place_of_index"]


@dataclass(frozen=True, slots=True)
class PageTimes:
    """The `ts_init` of a page.

    Attributes:
        rows: Its rows.
        least, greatest: By the page index, both inclusive, in nanoseconds since the epoch (UTC).
    """

    rows: int
    least: int
    greatest: int

    def meets(self, window: Window) -> bool:
        """Whether rows of it may be in a window."""
        return self.least < window.end and self.greatest >= window.start


@dataclass(frozen=True, slots=True)
class ColumnPages:
    """Neighbouring pages of a column.

    Attributes:
        column: Its number in the file.
        dictionary: Where its dictionary is; empty where it has none.
        pages: In order.
    """

    column: int
    dictionary: ByteRange
    pages: tuple[Page, ...]

    @property
    def ranges(self) -> tuple[ByteRange, ...]:
        """The bytes that it takes to decode them."""
        own = ByteRange(self.pages[0].range.start, self.pages[-1].range.end)
        return (self.dictionary, own) if self.dictionary.length else (own,)


def place_of_index(
    structure: Structure, group: RowGroup, columns: Collection[int], time_column: int
) -> ByteRange | None:
    """Return where the page index of a row group is, with what lies between it and that of the first one.

    So what is read for one row group serves its neighbours too: the indexes of a file lie together, before
    the footer. None where a column has no index, and where the index is no shorter than the columns: then it
    is not worth reading.
    """
    found: list[ByteRange] = []
    for one in (structure.row_groups[0], group, structure.row_groups[-1]):
        chunks = {column: one.chunk(column) for column in columns}
        places = [chunk.offset_index for chunk in chunks.values()]
        places.append(chunks[time_column].column_index)
        found += [place for place in places if place is not None]
        if one is group and None in places:
            return None
    whole = ByteRange(min(place.start for place in found), max(place.end for place in found))
    size = sum(group.chunk(column).range.length for column in columns)
    return whole if whole.length < size else None


@dataclass(frozen=True, slots=True)
class IndexedPages:
    """The pages of a row group.

    Attributes:
        columns: By number of the column.
        dictionaries: Where the dictionaries of the columns are.
        times: Of the pages of the clock's column.
        time_column: Its number.
    """

    columns: Mapping[int, tuple[Page, ...]]
    dictionaries: Mapping[int, ByteRange]
    times: tuple[PageTimes, ...]
    time_column: int

    @classmethod
    def read(
        cls,
        group: RowGroup,
        columns: Collection[int],
        time_column: int,
        read: Callable[[ByteRange], bytes],
        *,
        nanos: Callable[[int], int],
        signed: bool,
    ) -> IndexedPages | None:
        """Read the index of a row group that has one.

        Args:
            group: The row group.
            columns: Numbers of the needed columns.
            time_column: That of the clock's column.
            read: Returns bytes of the file.
            nanos: Turns a time as stored into nanoseconds.
            signed: Whether the times are signed.

        Returns:
            None where the index does not tell the times of all rows.

        Raises:
            CorruptObjectError: It is damaged or contradicts the footer.
        """
        found: dict[int, tuple[Page, ...]] = {}
        dictionaries: dict[int, ByteRange] = {}
        for column in columns:
            chunk = group.chunk(column)
            if chunk.offset_index is None:
                return None
            found[column] = pages(chunk, group.rows, read(chunk.offset_index))
            dictionaries[column] = ByteRange(chunk.range.start, chunk.first_page)
        chunk, timed = group.chunk(time_column), found[time_column]
        if chunk.column_index is None:
            return None
        told = bounds(chunk, len(timed), read(chunk.column_index), signed=signed)
        if told is None:
            return None
        times = tuple(
            PageTimes(page.rows, nanos(least), nanos(greatest))
            for page, (least, greatest) in zip(timed, told, strict=True)
        )
        return cls(found, dictionaries, times, time_column)

    def stretches(self, window: Window, max_gap: int) -> Iterator[tuple[range, tuple[PageTimes, ...]]]:
        """Yield rows by position in the row group, with their pages' times, that hold those of a window.

        Args:
            window: Of `ts_init`.
            max_gap: Pages that the window does not need are read where so many rows at most lie between
                two that it does.
        """
        timed = self.columns[self.time_column]
        needed = [number for number, times in enumerate(self.times) if times.meets(window)]
        stretches: list[list[int]] = []
        for number in needed:
            if stretches and timed[number].first_row - timed[stretches[-1][-1]].end_row <= max_gap:
                stretches[-1].append(number)
            else:
                stretches.append([number])
        for first, *_, last in ([*one, one[-1]] for one in stretches):
            yield range(timed[first].first_row, timed[last].end_row), self.times[first : last + 1]

    def besides(self, read: Iterable[range]) -> Iterator[PageTimes]:
        """Yield the times of the pages that are in none of some stretches."""
        stretches = list(read)
        for page, times in zip(self.columns[self.time_column], self.times, strict=True):
            if not any(page.first_row in rows for rows in stretches):
                yield times

    def parts(self, rows: range) -> tuple[ColumnPages, ...]:
        """Return the pages of all columns that have some rows."""
        return tuple(
            ColumnPages(column, self.dictionaries[column], covering(mine, rows))
            for column, mine in self.columns.items()
        )


def covering(found: Sequence[Page], rows: range) -> tuple[Page, ...]:
    """Return the pages that have some rows."""
    return tuple(page for page in found if page.first_row < rows.stop and page.end_row > rows.start)
