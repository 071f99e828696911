"""From the bytes of a row group to a table: pages are checked and limited, then pyarrow decodes them.

Some rows are decoded from the pages that hold them: pyarrow is given a small file of those pages, made in
memory, to which everything applies that applies to a file of somebody else.
"""

from __future__ import annotations

import io
import os
import threading
from collections import Counter
from collections.abc import Buffer, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from ticklake.errors import CorruptObjectError
from ticklake.parquet.excerpt import dictionary_file, footer_of
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

__all__ = ["Budget", "SparseFile", "decode", "pages_of", "row_decoders", "whole"]

_CODECS = {1: "snappy", 6: "zstd", 7: "lz4_raw"}
"""Compressions of pages by number that Arrow undoes by itself as well."""
_LENGTH = 4  # bytes before each text of a plain page, which tell how many it has
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

    def source(self) -> SparseFile | pa.BufferReader:
        """Return what pyarrow is to read, with a position of its own, so that several threads may read."""
        return SparseFile(self._size, self._pieces)

    def view(self, wanted: ByteRange) -> Buffer:
        """Return the bytes of a range, wherever the file's position is.

        Raises:
            OSError: Some are not there.
        """
        for piece in self._pieces:
            if piece.range.covers(wanted):
                return piece.data[wanted.start - piece.range.start : wanted.end - piece.range.start]
        parts: list[memoryview] = []
        position = wanted.start
        for piece in self._pieces:
            if piece.range.start <= position < min(piece.range.end, wanted.end):
                offset = piece.range.start
                parts.append(piece.data[position - offset : wanted.end - offset])
                position += parts[-1].nbytes
        if position < wanted.end:
            raise OSError(f"bytes {position} to {wanted.end} were not fetched")
        return b"".join(parts)


class _MemoryFile(SparseFile):
    """A file in Arrow's memory. Arrow's threads let go of it when they like, which takes no Python.

    They may be late: an object of Python's that goes with one of them takes the process down if that is just
    ending.
    """

    def __init__(self, parts: Sequence[memoryview]) -> None:
        size = sum(part.nbytes for part in parts)
        self._buffer = pa.allocate_buffer(size)
        data, position = memoryview(self._buffer).cast("B"), 0
        for part in parts:
            data[position : position + part.nbytes] = part
            position += part.nbytes
        super().__init__(size, [_Piece(data, ByteRange(0, size))])

    def source(self) -> pa.BufferReader:
        """As of the base class; it needs no Python to be read."""
        return pa.BufferReader(self._buffer)


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
    names = None if columns is None else list(columns)
    return _decode(file, metadata, group, index, names, index, threads=False)


def row_decoders(
    file: SparseFile,
    structure: Structure,
    index: int,
    pages: Mapping[int, Sequence[Page]],
    rows: range,
    *,
    by_index: bool,
    budget: Budget,
    threads: bool,
) -> list[Callable[[], pa.Table]]:
    """Prepare to decode columns of some rows of a row group.

    Args:
        file: The file, with all bytes of those pages and of the dictionaries before them.
        structure: What its footer says.
        index: Number of the row group.
        pages: By the number of the column, neighbouring pages that have those rows. No column is nested.
        rows: Positions in the row group.
        by_index: Whether the pages are known from a page index, and to be held against what they say.
        budget: What all that is decoded of the row group may take.
        threads: Whether columns are decoded side by side, in threads of Arrow's.

    Returns:
        What decodes some of the columns each, in whatever thread, the largest first; a `CorruptObjectError`
        as from here.

    Raises:
        CorruptObjectError: They cannot be decoded, are not what footer or page index say, or are beyond a
            limit.
    """
    group = structure.row_groups[index]
    sizes: Counter[tuple[int, int]] = Counter()
    spans: dict[tuple[int, int], list[int]] = {}
    for column, mine in pages.items():
        span = mine[0].first_row, mine[-1].end_row
        spans.setdefault(span, []).append(column)
        sizes[span] += group.chunk(column).uncompressed
    largest_first = [(span, spans[span]) for span, _ in sizes.most_common()]
    sets = [{column: pages[column] for column in columns} for _, columns in largest_first]
    try:
        small = _SmallFile.of(file, structure, group, sets)
    except OSError as exc:
        raise CorruptObjectError(f"row group {index} cannot be decoded: {exc}") from exc
    if by_index:
        small.check(sets)

    def decoded(number: int, start: int, end: int, columns: Sequence[int]) -> pa.Table:
        table = small.decode(number, columns, index, threads=threads)
        budget.take(table.nbytes)
        if table.num_rows != end - start:
            raise CorruptObjectError(f"row group {index} has other rows in its pages than they say")
        return table.slice(rows.start - start, len(rows))

    return [
        partial(decoded, number, start, end, columns)
        for number, ((start, end), columns) in enumerate(largest_first)
    ]


class Budget:
    """Holds what is decoded of a row group, side by side, against the limit."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._size = 0

    def take(self, size: int) -> None:
        """Count bytes in memory."""
        with self._lock:
            self._size += size
            if self._size > MAX_ROW_GROUP_BYTES:
                raise too_large(self._index, self._size)


def whole(group: RowGroup, column: int) -> tuple[Page, ...]:
    """Return all pages of a column that is not nested as if they were one: for who does not care."""
    chunk = group.chunk(column)
    return (Page(ByteRange(chunk.first_page, chunk.range.end), 0, group.rows),)


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
        if page.is_dictionary and (page.start, page.end) == (chunk.range.start, chunk.first_page):
            continue
        if page.start != position or page.values <= 0:
            return ()
        place = ByteRange(page.start, page.end)
        found.append(Page(place, row, page.values, page.needs_dictionary, page.least, page.greatest))
        row, position = row + page.values, page.end
    return tuple(found) if row == group.rows else ()


@dataclass(frozen=True, slots=True)
class _SmallFile:
    """A file made in memory of pages of a row group of another file; columns without pages have no bytes.

    It has a row group for each set of columns whose pages have the same rows, and no end: its footer is at
    hand.
    """

    file: _MemoryFile
    metadata: pq.FileMetaData
    groups: tuple[RowGroup, ...]

    @classmethod
    def of(
        cls,
        file: SparseFile,
        structure: Structure,
        group: RowGroup,
        sets: Sequence[Mapping[int, Sequence[Page]]],
    ) -> _SmallFile:
        parts: list[memoryview] = []
        position = 0
        groups: list[tuple[int, dict[int, Chunk]]] = []
        for pages in sets:
            chunks: dict[int, Chunk] = {}
            rows = 0
            for column, mine in pages.items():
                chunk, start = group.chunk(column), position
                rows = mine[-1].end_row - mine[0].first_row
                for wanted in _ranges(chunk, mine):
                    parts.append(memoryview(file.view(wanted)))
                    position += wanted.length
                # Its pages may claim no more than all of them. A dictionary comes as the first.
                place = ByteRange(start, position)
                chunks[column] = replace(chunk, values=rows, range=place, first_page=start)
            groups.append((rows, chunks))
        made, row_groups = footer_of(structure.encoded, group.columns, groups)
        metadata = read_footer(made + len(made).to_bytes(4, "little") + MAGIC)
        return cls(_MemoryFile(parts), metadata, row_groups)

    def check(self, sets: Sequence[Mapping[int, Sequence[Page]]]) -> None:
        """Hold page headers against what a page index said."""
        for group, pages in zip(self.groups, sets, strict=True):
            for column, expected in pages.items():
                chunk = group.chunk(column)
                shift = chunk.range.end - expected[-1].range.end
                check_pages(chunk, expected, shift, lambda wanted: bytes(self.file.view(wanted)))

    def decode(self, number: int, columns: Sequence[int], index: int, *, threads: bool) -> pa.Table:
        """Return one of its row groups; `index` is the number of the row group in the other file."""
        names = [self.metadata.schema.column(column).path for column in columns]
        return _decode(self.file, self.metadata, self.groups[number], number, names, index, threads=threads)


def _ranges(chunk: Chunk, pages: Sequence[Page]) -> Iterator[ByteRange]:
    """Yield where pages of a column are, with the dictionary before them if one of them needs it."""
    own = ByteRange(pages[0].range.start, pages[-1].range.end)
    dictionary = ByteRange(chunk.range.start, chunk.first_page)
    if not dictionary.length or not any(page.needs_dictionary for page in pages):
        yield own
    elif dictionary.end == own.start:
        yield ByteRange(dictionary.start, own.end)
    else:
        yield from (dictionary, own)


def _decode(
    file: SparseFile,
    metadata: pq.FileMetaData,
    group: RowGroup,
    index: int,
    names: list[str] | None,
    number: int,
    *,
    threads: bool,
) -> pa.Table:
    """Decode row group `index` of a file, which errors call `number`."""
    try:
        at_a_time = _rows_at_a_time(file, metadata, group, names, number)
        with pq.ParquetFile(
            file.source(), metadata=metadata, pre_buffer=False, page_checksum_verification=True
        ) as parquet:
            if at_a_time is None:
                table = parquet.read_row_group(index, columns=names, use_threads=threads)
            else:
                table = _limited(parquet.iter_batches(at_a_time, [index], names, use_threads=threads), number)
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
    if not 0 < pages.entries <= pages.dictionary // _LENGTH:
        return pages.dictionary
    page = file.view(pages.dictionary_body)
    if (length := _length_of_all(page, chunk.codec, pages)) is not None:
        return length
    made = dictionary_file(bytes(page), chunk.codec, pages.dictionary, pages.entries)
    try:
        with pq.ParquetFile(pa.BufferReader(made)) as parquet:
            texts = parquet.read_row_group(0, use_threads=False).column(0)
    except (pa.ArrowException, OSError):
        return pages.dictionary  # those who decode the column will tell
    longest: int = (
        pc.max(pc.binary_length(texts)).as_py() if len(texts) == pages.entries else pages.dictionary
    )
    return longest


def _length_of_all(page: Buffer, codec: int, pages: Expansion) -> int | None:
    """Return the bytes of each text of a dictionary if all have the same, as numbers in a row mostly have.

    Then each length is where the one before says that it is, which is seen without decoding a text.
    """
    stride, rest = divmod(pages.dictionary, pages.entries)
    if rest or codec not in _CODECS:
        return None
    try:
        plain = pa.decompress(page, pages.dictionary, _CODECS[codec])
    except (pa.ArrowException, OSError):
        return None
    lengths = np.ndarray(pages.entries, "<u4", plain, strides=(stride,))
    return stride - _LENGTH if (lengths == stride - _LENGTH).all() else None


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
