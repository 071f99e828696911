"""What a Parquet footer and page headers say, read and limited before pyarrow decodes anything by them.

Pure: works on bytes. Errors get their URL by `placed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ticklake.errors import CorruptObjectError
from ticklake.parquet.shapes import Shapes
from ticklake.parquet.thrift import BYTES, I32, I64, CompactError, Encoded, Fields, Many, Parts, read_struct
from ticklake.types import ByteRange

__all__ = [
    "MAX_COLUMNS",
    "MAX_DEPTH",
    "MAX_FOOTER",
    "MAX_PAGES",
    "MAX_ROW_GROUPS",
    "MAX_ROW_GROUP_BYTES",
    "PHYSICAL_TYPES",
    "Chunk",
    "Expansion",
    "PageHeader",
    "RowGroup",
    "Structure",
    "expansion",
    "page_headers",
    "placed",
    "too_large",
]

MAX_FOOTER = 16 * 1024 * 1024
"""Bytes of a footer: 100 columns in 1,000 row groups have 13 MB. In memory it can be some 20 times that."""

MAX_ROW_GROUPS = 32_768
"""Row groups of a file: 200,000,000 rows in row groups of 8,192 have fewer."""

MAX_COLUMNS = 8_192
"""Columns of a file, with their parents: a book of 1,000 levels has half of it."""

MAX_DEPTH = 64
"""How deep columns may be nested; ticks are not."""

MAX_ROW_GROUP_BYTES = 2 * 1024 * 1024 * 1024
"""Bytes in memory of the needed columns of a row group: 1,048,576 rows of a book of 25 levels have 0.9 GB."""

MAX_PAGES = 65_536
"""Pages of a column in a row group: a million rows in pages of 20 have fewer."""

PHYSICAL_TYPES = (
    "BOOLEAN",
    "INT32",
    "INT64",
    "INT96",
    "FLOAT",
    "DOUBLE",
    "BYTE_ARRAY",
    "FIXED_LEN_BYTE_ARRAY",
)
"""As pyarrow names them, by number."""
_INTEGER_BYTES = {"INT32": 4, "INT64": 8}
_DICTIONARY_PAGE = 2
_DATA_PAGES = {
    0: (5, 2, 5),
    3: (8, 4, 8),
}  # where the header of that type of page stands, and its encoding and statistics in there
_DICTIONARY_ENCODINGS = (2, 8)  # PLAIN_DICTIONARY, RLE_DICTIONARY
_DELTA_BYTE_ARRAY = 7

_STATISTICS: Fields = {1: BYTES, 2: BYTES, 5: BYTES, 6: BYTES}
_COLUMN: Fields = {1: I32, 4: I32, 5: I64, 6: I64, 7: I64, 9: I64, 11: I64, 12: _STATISTICS}
_CHUNK: Fields = {1: BYTES, 3: _COLUMN, 4: I64, 5: I32, 6: I64, 7: I32, 8: {}}
_ROW_GROUP: Fields = {1: Parts(Shapes(), MAX_COLUMNS, "columns of a row group"), 3: I64}
_ROW_GROUPS = 4
_FOOTER: Fields = {
    2: Many({5: I32}, MAX_COLUMNS, "columns"),
    3: I64,
    _ROW_GROUPS: Many(_ROW_GROUP, MAX_ROW_GROUPS, "row groups"),
}
_PAGE: Fields = {
    1: I32,
    2: I32,
    3: I32,
    5: {1: I32, 2: I32, 5: _STATISTICS},
    7: {1: I32},
    8: {1: I32, 4: I32, 8: _STATISTICS},
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column of a row group.

    Attributes:
        physical_type: As pyarrow names it, like `INT64`.
        codec: Number of the compression.
        values: How many, nulls included.
        uncompressed: Bytes of its pages.
        range: Where they are.
        first_page: Where the first data page is; before it there can be a dictionary.
        least, greatest: By its statistics, as stored; None where they do not tell.
        column_index, offset_index: Where the bounds and the places of its pages are told; None where they are
            not.
    """

    physical_type: str
    codec: int
    values: int
    uncompressed: int
    range: ByteRange
    first_page: int
    least: bytes | None
    greatest: bytes | None
    column_index: ByteRange | None
    offset_index: ByteRange | None

    def integers(self, *, signed: bool = True) -> tuple[int, int] | None:
        """Return the least and the greatest value of whole numbers, None where that is not told."""
        return self.integers_of(self.least, self.greatest, signed=signed)

    def integers_of(
        self, least: bytes | None, greatest: bytes | None, *, signed: bool
    ) -> tuple[int, int] | None:
        """Return bounds of some of its values as whole numbers; None where there are none that make sense."""
        width = _INTEGER_BYTES.get(self.physical_type)
        if least is None or greatest is None or {len(least), len(greatest)} != {width}:
            return None
        low, high = (int.from_bytes(value, "little", signed=signed) for value in (least, greatest))
        return (low, high) if low <= high else None


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group.

    Attributes:
        rows: How many.
    """

    rows: int
    _encoded: Sequence[bytes]
    # Each window that is planned asks for the times of every row group.
    _chunks: dict[int, Chunk] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, rows: int, chunks: Sequence[Chunk]) -> RowGroup:
        """Return a row group of these columns, none of which is a parent."""
        return cls(rows, [b""] * len(chunks), dict(enumerate(chunks)))

    @property
    def columns(self) -> int:
        """How many columns it has that are no parents."""
        return len(self._encoded)

    def chunk(self, column: int) -> Chunk:
        """Return a column by its number among those that are no parents.

        Raises:
            CorruptObjectError: It is not there, or what is said of it makes no sense.
        """
        if column not in self._chunks:
            self._chunks[column] = self._chunk(column)
        return self._chunks[column]

    def _chunk(self, column: int) -> Chunk:
        try:
            column_chunk, _ = read_struct(self._encoded[column], _CHUNK)
            data = column_chunk[3]
            kind, first_page, statistics = data[1], data[9], data.get(12, {})
            # Some writers leave 0 where there is no dictionary page.
            start = min(first_page, data.get(11) or first_page)
            found = Chunk(
                PHYSICAL_TYPES[kind],
                data.get(4, 0),
                data[5],
                data[6],
                ByteRange(start, start + data[7]),
                first_page,
                *_bounds(statistics),
                _index_range(column_chunk.get(6), column_chunk.get(7)),
                _index_range(column_chunk.get(4), column_chunk.get(5)),
            )
        except CompactError as exc:
            raise CorruptObjectError(f"the Parquet footer is damaged: {exc}") from exc
        except (KeyError, IndexError) as exc:
            raise CorruptObjectError(
                f"the footer lacks column {column} of a row group, or parts of it"
            ) from exc
        if column_chunk.get(8) is not None:
            raise CorruptObjectError("the Parquet file has encrypted columns, which ticklake cannot read")
        if column_chunk.get(1):
            raise CorruptObjectError("the footer places columns in another file")
        if kind < 0 or found.values < 0 or found.uncompressed < 0:
            raise CorruptObjectError(f"the footer has negative numbers for column {column} of a row group")
        return found


def _bounds(statistics: Mapping[int, bytes]) -> tuple[bytes | None, bytes | None]:
    return statistics.get(6, statistics.get(2)), statistics.get(5, statistics.get(1))


def _index_range(start: int | None, length: int | None) -> ByteRange | None:
    # Some writers leave 0 where there is none.
    return ByteRange(start, start + length) if start and length and start > 0 and length > 0 else None


@dataclass(frozen=True, slots=True)
class Structure:
    """What a footer says of row groups.

    Attributes:
        row_groups: In file order.
        encoded: The other fields of the footer, as they are written.
    """

    row_groups: tuple[RowGroup, ...]
    encoded: Encoded

    @classmethod
    def parse(cls, footer: bytes) -> Structure:
        """Read a footer, without its length and magic.

        Raises:
            CorruptObjectError: It is damaged, contradicts itself, or is beyond a limit.
        """
        try:
            encoded: dict[int, tuple[int, bytes]] = {}
            found, _ = read_struct(footer, _FOOTER, encoded)
            del encoded[_ROW_GROUPS]
            groups = tuple(RowGroup(group[3], group[1]) for group in found[_ROW_GROUPS])
            rows, schema = found[3], found[2]
        except CompactError as exc:
            raise CorruptObjectError(f"the Parquet footer is damaged: {exc}") from exc
        except KeyError as exc:
            raise CorruptObjectError(f"the Parquet footer is damaged: field {exc} is missing") from exc
        _check_depth([element.get(5, 0) for element in schema])
        found_rows = sum(group.rows for group in groups)
        if rows != found_rows or any(group.rows < 0 for group in groups):
            raise CorruptObjectError(
                f"the Parquet footer is damaged: {rows} rows, but {found_rows} in its row groups"
            )
        return cls(groups, encoded)


def _check_depth(children: Sequence[int]) -> None:
    """Check a schema: elements in depth-first order, of which the numbers of children are given."""
    missing = [1]
    for count in children:
        while missing and not missing[-1]:
            missing.pop()
        if not missing or count < 0:
            raise CorruptObjectError("the Parquet footer is damaged: its schema is no tree")
        missing[-1] -= 1
        if count:
            missing.append(count)
        if len(missing) > MAX_DEPTH:
            raise CorruptObjectError(f"the columns are nested more than {MAX_DEPTH} deep")


class PageHeader(NamedTuple):
    """What a page says of itself.

    Attributes:
        start: Where its header begins.
        body: Where it begins without.
        end: Where it ends.
        is_dictionary: Whether it holds no rows, but the dictionary of those that follow.
        uncompressed: Bytes without the header.
        values: How many, nulls included.
        encoding: Number of the encoding; None for pages that are ignored.
        least, greatest: By its statistics, as stored; None where they do not tell.
    """

    start: int
    body: int
    end: int
    is_dictionary: bool
    uncompressed: int
    values: int
    encoding: int | None
    least: bytes | None
    greatest: bytes | None

    @property
    def needs_dictionary(self) -> bool:
        """Whether its values are told by their numbers in the dictionary."""
        return self.encoding in _DICTIONARY_ENCODINGS


@dataclass(frozen=True, slots=True)
class Expansion:
    """What decoding a chunk takes, by the headers of its pages.

    Attributes:
        uncompressed: Bytes of all its pages, without their headers.
        named: How many values stand in pages that name them by their number in the dictionary.
        dictionary: Bytes of the dictionary. A text that is named can be as long, however often it is.
        entries: Values in the dictionary.
        dictionary_body: Where the dictionary is, without its header; empty where there is none.
        stretch: Bytes that values in pages of shared prefixes can have at most.
        longest: Bytes that one of those can have.
    """

    uncompressed: int
    named: int
    dictionary: int
    entries: int
    dictionary_body: ByteRange
    stretch: int
    longest: int


def expansion(chunk: Chunk, read: Callable[[ByteRange], bytes]) -> Expansion:
    """Walk over the pages of a chunk, whose own sizes and counts are what pyarrow goes by.

    Args:
        chunk: Which.
        read: Returns bytes of the file.

    Raises:
        CorruptObjectError: A page header is damaged or leads out of the chunk, or there are too many.
    """
    uncompressed = named = dictionary = entries = stretch = longest = 0
    body = ByteRange(0, 0)
    for page in page_headers(chunk, read):
        uncompressed += page.uncompressed
        if page.is_dictionary:
            dictionary, entries, body = page.uncompressed, page.values, ByteRange(page.body, page.end)
        elif page.needs_dictionary:
            named += page.values
        elif page.encoding == _DELTA_BYTE_ARRAY:
            stretch += page.values * page.uncompressed
            longest = max(longest, page.uncompressed)
    return Expansion(uncompressed, named, dictionary, entries, body, stretch, longest)


def page_headers(chunk: Chunk, read: Callable[[ByteRange], bytes]) -> Iterator[PageHeader]:
    """Yield the headers of the pages of a chunk up to the one with its last value.

    Args and errors are those of `expansion`.
    """
    position, end = chunk.range.start, chunk.range.end
    pages = values = 0
    while values < chunk.values and position < end:
        page, length = _page(position, end, read)
        stored, size = page.get(3, -1), page.get(2, -1)
        start, position = position, position + length + stored
        pages += 1
        if stored < 0 or size < 0 or position > end:
            raise CorruptObjectError(f"page {pages} of a column has no size that fits into it")
        if pages > MAX_PAGES:
            raise CorruptObjectError(f"a column has more than {MAX_PAGES:,} pages in a row group")
        is_dictionary = page.get(1) == _DICTIONARY_PAGE
        if is_dictionary:
            count, encoding, least, greatest = page.get(7, {}).get(1, 0), None, None, None
        else:
            count, encoding, least, greatest = _content(page)
            values += count
        yield PageHeader(
            start, position - stored, position, is_dictionary, size, count, encoding, least, greatest
        )


def _content(page: dict[int, Any]) -> tuple[int, int | None, bytes | None, bytes | None]:
    """Return how many values a data page has, their encoding and bounds; none for others, to be ignored."""
    place, encoding, statistics = _DATA_PAGES.get(page.get(1, -1), (0, 0, 0))
    header = page.get(place, {})
    count: int = header.get(1, 0)
    if count < 0:
        raise CorruptObjectError(f"a page claims {count} values")
    return count, header.get(encoding), *_bounds(header.get(statistics, {}))


def _page(start: int, limit: int, read: Callable[[ByteRange], bytes]) -> tuple[dict[int, Any], int]:
    # Nearly all are shorter than the first guess; statistics of long texts make longer ones.
    for guess in (128, 64 * 1024, MAX_FOOTER):
        end = min(start + guess, limit)
        try:
            return read_struct(read(ByteRange(start, end)), _PAGE)
        except CompactError as exc:
            error = exc
            if end == limit:
                break
    raise CorruptObjectError(f"a page header is damaged: {error}") from error


def too_large(index: int, size: int) -> CorruptObjectError:
    """Return the error for a row group beyond the limit; `size` is what its needed columns take in memory."""
    return CorruptObjectError(
        f"row group {index} takes {size:,} bytes in memory, at most {MAX_ROW_GROUP_BYTES:,} are read",
        hint="If the file is sound, write it with smaller row groups.",
    )


@contextmanager
def placed(url: str) -> Iterator[None]:
    """Say in an error which object it is about."""
    try:
        yield
    except CorruptObjectError as exc:
        exc.url = url
        raise
