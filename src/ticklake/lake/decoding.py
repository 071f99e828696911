"""From the bytes of a row group to a table: pages are checked and limited, then pyarrow decodes them.

Some rows are decoded from the pages that hold them: pyarrow is given a small file of those pages, made in
memory, to which everything applies that applies to a file of somebody else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Buffer, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from ticklake.errors import CorruptObjectError
from ticklake.parquet.excerpt import Excerpt, dictionary_file, footer_of
from ticklake.parquet.footers import MAGIC, read_footer
from ticklake.parquet.pageindex import Page, check_pages
from ticklake.parquet.structure import (
    MAX_ROW_GROUP_BYTES,
    Chunk,
    Expansion,
    RowGroup,
    Structure,
    expansion,
    page_headers,
    too_large,
)
from ticklake.types import ByteRange

__all__ = ["SparseFile", "decode", "decode_rows", "pages_of"]

_WIDTH = 8  # bytes in memory of a value that has no length of its own; text comes on top


class Piece(Protocol):
    """Bytes, and where in a file they stand."""

    @property
    def data(self) -> memoryview:
        """The bytes."""

    @property
    def range(self) -> ByteRange:
        """Where they stand."""


@dataclass(frozen=True, slots=True)
class _Piece:
    data: memoryview
    range: ByteRange


class SparseFile(io.RawIOBase):
    """A file of which only some ranges are there; reading elsewhere is an error, never zeros."""

    def __init__(self, size: int, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._size = size
        self._pieces = sorted(pieces, key=lambda piece: piece.range)
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    # Wider than the base class's `bytes`: a view of the fetched bytes spares pyarrow a copy.
    def read(self, size: int = -1, /) -> Buffer:
        """Return the bytes from the position on, and go behind them."""
        end = self._size if size < 0 else min(self._size, self._position + size)
        wanted = ByteRange(self._position, max(self._position, end))
        self._position = wanted.end
        return self.view(wanted)

    def view(self, wanted: ByteRange) -> Buffer:
        """Return the bytes of a range, wherever the file's position is.

        Raises:
            OSError: Some are not there.
        """
        parts: list[memoryview] = []
        position = wanted.start
        for piece in self._pieces:
            if piece.range.start <= position < min(piece.range.end, wanted.end):
                offset = piece.range.start
                parts.append(piece.data[position - offset : wanted.end - offset])
                position += parts[-1].nbytes
        if position < wanted.end:
            raise OSError(f"bytes {position} to {wanted.end} were not fetched")
        return parts[0] if len(parts) == 1 else b"".join(parts)


def decode(
    file: SparseFile, metadata: pq.FileMetaData, group: RowGroup, index: int, columns: Sequence[str] | None
) -> pa.Table:
    """Return columns of a row group.

    Args:
        file: The file, with all bytes of those columns.
        metadata: Its footer.
        group: The row group.
        index: Its number.
        columns: Names of top-level columns; None for all.

    Raises:
        CorruptObjectError: It cannot be decoded, is not what the footer says, or is beyond a limit.
    """
    return _decode(file, metadata, group, index, None if columns is None else list(columns), index)


def decode_rows(
    file: SparseFile,
    structure: Structure,
    index: int,
    pages: Mapping[int, Sequence[Page]],
    rows: range,
    *,
    by_index: bool,
) -> pa.Table:
    """Return columns of some rows of a row group.

    Args:
        file: The file, with all bytes of those pages and of the dictionaries before them.
        structure: What its footer says.
        index: Number of the row group.
        pages: By the number of the column, neighbouring pages that have those rows. No column is nested.
        rows: Positions in the row group.
        by_index: Whether the pages are known from a page index, and to be held against what they say.

    Raises:
        CorruptObjectError: They cannot be decoded, are not what footer or page index say, or are beyond a
            limit.
    """
    group = structure.row_groups[index]
    spans: dict[tuple[int, int], list[int]] = {}
    for column, mine in pages.items():
        spans.setdefault((mine[0].first_row, mine[-1].end_row), []).append(column)
    found: dict[str, pa.ChunkedArray] = {}
    size = 0
    for (start, end), columns in spans.items():
        try:
            small = _SmallFile.of(file, structure, group, {column: pages[column] for column in columns})
        except OSError as exc:
            raise CorruptObjectError(f"row group {index} cannot be decoded: {exc}") from exc
        if by_index:
            small.check({column: pages[column] for column in columns})
        table = small.decode(columns, index)
        size += table.nbytes
        if size > MAX_ROW_GROUP_BYTES:
            raise too_large(index, size)
        if table.num_rows != end - start:
            raise CorruptObjectError(f"row group {index} has other rows in its pages than they say")
        table = table.slice(rows.start - start, len(rows))
        found |= zip(table.column_names, table.columns, strict=True)
    return pa.table(found)


def pages_of(file: SparseFile, group: RowGroup, column: int) -> tuple[Page, ...]:
    """Return the data pages of a column that is not nested, as their headers tell.

    Returns:
        None where they do not have the rows of the row group, or do not lie one after the other behind a
        dictionary: what is wrong with them is for those to tell who decode all.

    Raises:
        CorruptObjectError: A page header is damaged or leads out of the column, or there are too many.
    """
    chunk = group.chunk(column)
    found: list[Page] = []
    row, position = 0, chunk.first_page
    for page in page_headers(chunk, lambda wanted: bytes(file.view(wanted))):
        if page.is_dictionary and page.range == ByteRange(chunk.range.start, chunk.first_page):
            continue
        if page.range.start != position or page.values <= 0:
            return ()
        found.append(Page(page.range, row, page.values))
        row, position = row + page.values, page.range.end
    return tuple(found) if row == group.rows else ()


@dataclass(frozen=True, slots=True)
class _SmallFile:
    """A file of one row group, made of pages of another file; columns without pages have no bytes."""

    file: SparseFile
    metadata: pq.FileMetaData
    group: RowGroup

    @classmethod
    def of(
        cls, file: SparseFile, structure: Structure, group: RowGroup, pages: Mapping[int, Sequence[Page]]
    ) -> _SmallFile:
        excerpts: dict[int, Excerpt] = {}
        pieces: list[_Piece] = []
        position = len(MAGIC)
        rows = 0
        for column, mine in pages.items():
            chunk, start = group.chunk(column), position
            rows = mine[-1].end_row - mine[0].first_row
            dictionary = ByteRange(chunk.range.start, chunk.first_page)
            for wanted in (dictionary, ByteRange(mine[0].range.start, mine[-1].range.end)):
                if wanted.length:
                    end = position + wanted.length
                    pieces.append(_Piece(memoryview(file.view(wanted)), ByteRange(position, end)))
                    position = end
            excerpts[column] = Excerpt(chunk, ByteRange(start, position), start + dictionary.length)
        made = footer_of(structure.encoded, group.columns, excerpts, rows)
        tail = made + len(made).to_bytes(4, "little") + MAGIC
        end = position + len(tail)
        pieces.append(_Piece(memoryview(tail), ByteRange(position, end)))
        return cls(SparseFile(end, pieces), read_footer(tail), Structure.parse(made).row_groups[0])

    def check(self, pages: Mapping[int, Sequence[Page]]) -> None:
        """Hold page headers against what a page index said."""
        for column, expected in pages.items():
            chunk = self.group.chunk(column)
            shift = chunk.first_page - expected[0].range.start
            check_pages(chunk, expected, shift, lambda wanted: bytes(self.file.view(wanted)))

    def decode(self, columns: Sequence[int], index: int) -> pa.Table:
        """Return all there is; `index` is the number of the row group in the other file."""
        names = [self.metadata.schema.column(column).path for column in columns]
        return _decode(self.file, self.metadata, self.group, 0, names, index)


def _decode(
    file: SparseFile,
    metadata: pq.FileMetaData,
    group: RowGroup,
    index: int,
    names: list[str] | None,
    number: int,
) -> pa.Table:
    """Decode row group `index` of a file, which errors call `number`."""
    try:
        at_a_time = _rows_at_a_time(file, metadata, group, names, number)
        with pq.ParquetFile(
            file, metadata=metadata, pre_buffer=False, page_checksum_verification=True
        ) as parquet:
            # One thread: several row groups are decoded at a time already.
            if at_a_time is None:
                table = parquet.read_row_group(index, columns=names, use_threads=False)
            else:
                table = _limited(parquet.iter_batches(at_a_time, [index], names, use_threads=False), number)
        _check_text(table)
    except CorruptObjectError:
        raise
    except (pa.ArrowException, OSError) as exc:
        raise CorruptObjectError(f"row group {number} cannot be decoded: {exc}") from exc
    if table.num_rows != group.rows:
        raise CorruptObjectError(
            f"row group {number} has {table.num_rows} rows, the footer says {group.rows}"
        )
    return table


def _rows_at_a_time(
    file: SparseFile,
    metadata: pq.FileMetaData,
    group: RowGroup,
    names: Sequence[str] | None,
    index: int,
) -> int | None:
    """Check what decoding will take; return how many rows may be decoded at once, None for all of them."""
    schema = metadata.schema
    uncompressed = decoded = stretch = longest = 0
    for number in range(len(schema)):
        column = schema.column(number)
        if names is not None and column.path.partition(".")[0] not in names and column.path not in names:
            continue
        chunk = group.chunk(number)
        decoded += chunk.values * max(column.length, _WIDTH)
        if decoded > MAX_ROW_GROUP_BYTES:
            raise too_large(index, decoded)
        pages = expansion(chunk, lambda wanted: bytes(file.view(wanted)))
        if pages.uncompressed > chunk.uncompressed:
            raise CorruptObjectError(
                f"the pages of column {number} in row group {index} claim {pages.uncompressed:,} bytes, the "
                f"footer says {chunk.uncompressed:,}"
            )
        uncompressed += pages.uncompressed
        if uncompressed > MAX_ROW_GROUP_BYTES:
            raise too_large(index, uncompressed)
        if chunk.physical_type == "BYTE_ARRAY":
            named = _longest_named(file, chunk, pages)
            stretch += pages.stretch + pages.named * named
            longest += max(pages.longest, named)
    # What could be too long mostly is not: decoding tells. Each step adds a part of the limit at most.
    return (
        None if uncompressed + stretch <= MAX_ROW_GROUP_BYTES else max(1, MAX_ROW_GROUP_BYTES // 8 // longest)
    )


def _longest_named(file: SparseFile, chunk: Chunk, pages: Expansion) -> int:
    """Return the bytes that a text of the dictionary has at most."""
    if pages.named * pages.dictionary <= MAX_ROW_GROUP_BYTES:
        return pages.dictionary
    # Each has its length before it, in four bytes.
    if not 0 < pages.entries <= pages.dictionary // 4:
        return pages.dictionary
    page = bytes(file.view(pages.dictionary_body))
    made = dictionary_file(page, chunk.codec, pages.dictionary, pages.entries)
    try:
        with pq.ParquetFile(pa.BufferReader(made)) as parquet:
            texts = parquet.read_row_group(0, use_threads=False).column(0)
    except (pa.ArrowException, OSError):
        return pages.dictionary  # those who decode the column will tell
    longest: int = (
        pc.max(pc.binary_length(texts)).as_py() if len(texts) == pages.entries else pages.dictionary
    )
    return longest


def _limited(batches: Iterable[pa.RecordBatch], index: int) -> pa.Table:
    """Return batches, none of which can be beyond the limit, as a table that is not either."""
    taken: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        taken.append(batch)
        size += batch.nbytes
        if size > MAX_ROW_GROUP_BYTES:
            raise too_large(index, size)
    if not taken:
        raise CorruptObjectError(f"row group {index} has no rows, the footer says otherwise")
    return pa.Table.from_batches(taken).combine_chunks()


def _check_text(table: pa.Table) -> None:
    """Check that text is UTF-8, which pyarrow takes on trust and all that comes later relies on."""
    for column in table.columns:
        if pt.is_string(column.type) or pt.is_large_string(column.type) or pt.is_string_view(column.type):
            column.validate(full=True)
