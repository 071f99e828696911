"""What a page index says of the pages of a chunk, and whether the chunk and its pages agree with that.

Pure: works on bytes. An index that contradicts the footer or the pages is an error, as no row read by it
could be trusted. Errors get their URL by `placed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ticklake.errors import CorruptObjectError
from ticklake.parquet.structure import MAX_PAGES, Chunk, page_headers
from ticklake.parquet.thrift import BOOL, BYTES, I32, I64, CompactError, Fields, Many, Values, read_struct
from ticklake.types import ByteRange

__all__ = ["Page", "bounds", "check_pages", "pages"]

_OFFSET_INDEX: Fields = {1: Many({1: I64, 2: I32, 3: I64}, MAX_PAGES, "pages of a column")}
_COLUMN_INDEX: Fields = {
    1: Values(BOOL, MAX_PAGES, "pages of a column"),
    2: Values(BYTES, MAX_PAGES, "least values"),
    3: Values(BYTES, MAX_PAGES, "greatest values"),
    5: Values(I64, MAX_PAGES, "counts of nulls"),
}


@dataclass(frozen=True, slots=True)
class Page:
    """A data page.

    Attributes:
        range: Where it is, with its header.
        first_row: Position of its first row in the row group.
        rows: How many it has.
        needs_dictionary: Whether its values are told by the dictionary, as far as is known.
        least, greatest: By its own header, as stored; None where that does not tell.
    """

    range: ByteRange
    first_row: int
    rows: int
    needs_dictionary: bool = True
    least: bytes | None = None
    greatest: bytes | None = None

    @property
    def end_row(self) -> int:
        """Position of the row after its last one."""
        return self.first_row + self.rows


def pages(chunk: Chunk, rows: int, index: bytes) -> tuple[Page, ...]:
    """Return the data pages of a chunk.

    Args:
        chunk: A column that is not nested.
        rows: Rows of its row group.
        index: Its offset index.

    Raises:
        CorruptObjectError: It is damaged, or the pages are not the whole of the chunk.
    """
    found = _read(index, _OFFSET_INDEX).get(1, [])
    try:
        places = [(place[1], place[2], place[3]) for place in found]
    except KeyError as exc:
        raise CorruptObjectError(f"the page index is damaged: field {exc} of a page is missing") from exc
    edges = [*(first_row for _, _, first_row in places), rows]
    starts = [*(start for start, _, _ in places), chunk.range.end]
    if (
        not places
        or edges[0]
        or starts[0] != chunk.first_page
        or any(start + size != after for (start, size, _), after in zip(places, starts[1:], strict=True))
        or any(size <= 0 for _, size, _ in places)
        or any(first >= after for first, after in pairwise(edges))
    ):
        raise CorruptObjectError("the page index contradicts the footer: its pages are not the column")
    return tuple(
        Page(ByteRange(start, start + size), first, after - first)
        for (start, size, first), after in zip(places, edges[1:], strict=True)
    )


def bounds(chunk: Chunk, count: int, index: bytes, *, signed: bool) -> tuple[tuple[int, int], ...] | None:
    """Return the least and the greatest value of each page of whole numbers, as stored.

    Args:
        chunk: The column.
        count: How many data pages it has.
        index: Its column index.
        signed: Whether its values are.

    Returns:
        None where the index does not tell, or there may be nulls, which lie between no bounds.

    Raises:
        CorruptObjectError: It is damaged, of another number of pages, or contradicts the statistics.
    """
    found = _read(index, _COLUMN_INDEX)
    empty, least, greatest, nulls = (found.get(field, []) for field in (1, 2, 3, 5))
    if {len(empty), len(least), len(greatest)} != {count} or (5 in found and len(nulls) != count):
        raise CorruptObjectError(f"the page index contradicts itself: bounds of other than its {count} pages")
    whole = chunk.integers(signed=signed)
    if whole is None or 5 not in found or any(empty) or any(nulls):
        return None
    width = 4 if chunk.physical_type == "INT32" else 8
    if any(len(value) != width for value in (*least, *greatest)):
        raise CorruptObjectError("the page index is damaged: a bound has not the width of its column")
    of_pages = tuple(
        (int.from_bytes(low, "little", signed=signed), int.from_bytes(high, "little", signed=signed))
        for low, high in zip(least, greatest, strict=True)
    )
    if any(not whole[0] <= low <= high <= whole[1] for low, high in of_pages):
        raise CorruptObjectError("the page index contradicts the statistics of its row group")
    return of_pages


def check_pages(
    chunk: Chunk, expected: Sequence[Page], shift: int, read: Callable[[ByteRange], bytes]
) -> None:
    """Hold the headers of pages against what the index says of them.

    Args:
        chunk: A column made of a dictionary, if there is one, and those pages.
        expected: The pages by the index.
        shift: What is to be added to their positions in there to find them in the chunk.
        read: Returns bytes of what the chunk is in.

    Raises:
        CorruptObjectError: They are not the same pages, or have other numbers of rows.
    """
    found = [
        (page.start, page.end, page.values) for page in page_headers(chunk, read) if not page.is_dictionary
    ]
    wanted = [(page.range.start + shift, page.range.end + shift, page.rows) for page in expected]
    if found != wanted:
        raise CorruptObjectError("the page index contradicts the pages: other places, or numbers of rows")


def _read(index: bytes, fields: Fields) -> dict[int, Any]:
    try:
        found, length = read_struct(index, fields)
    except CompactError as exc:
        raise CorruptObjectError(f"the page index is damaged: {exc}") from exc
    if length != len(index):
        raise CorruptObjectError("the page index is damaged: it has not the length that the footer says")
    return found
