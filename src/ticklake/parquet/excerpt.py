"""Footers of small files that hold some pages of a row group, so that those are decoded without the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ticklake.parquet.footers import MAGIC
from ticklake.parquet.structure import PHYSICAL_TYPES, Chunk, RowGroup
from ticklake.parquet.thrift import (
    BYTES,
    I32,
    I64,
    LIST,
    STRUCT,
    Encoded,
    write_bytes,
    write_integer,
    write_list,
    write_struct,
)
from ticklake.types import ByteRange

__all__ = ["dictionary_file", "footer_of"]

_ROWS, _ROW_GROUPS = 3, 4
# Version, schema, what the writer left (its Arrow schema too) and its name.
_KEPT = (1, 2, 5, 6)


def footer_of(
    footer: Encoded, columns: int, groups: Sequence[tuple[int, Mapping[int, Chunk]]]
) -> tuple[bytes, tuple[RowGroup, ...]]:
    """Return the footer of a file with some columns of another file, and what it says of row groups.

    Args:
        footer: The footer of the other file, as `Structure.encoded` has it.
        columns: How many columns it has.
        groups: For each row group how many rows it has, and its columns with content, by number, with the
            places of their pages in the small file; the others have no pages.
    """
    found = [
        RowGroup.of(rows, [chunks.get(number) or _without_pages(rows) for number in range(columns)])
        for rows, chunks in groups
    ]
    made = write_struct(
        {field: footer[field] for field in _KEPT if field in footer}
        | {
            _ROWS: (I64, write_integer(sum(rows for rows, _ in groups))),
            _ROW_GROUPS: (LIST, write_list(STRUCT, [_group(group) for group in found])),
        }
    )
    return made, tuple(found)


def dictionary_file(page: bytes, codec: int, uncompressed: int, entries: int) -> bytes:
    """Return a file whose one column of texts has the entries of a dictionary, each once.

    A dictionary is stored like a page of plain values.

    Args:
        page: What the dictionary's page holds, without its header.
        codec: Number of its compression.
        uncompressed: Bytes that it has without that.
        entries: How many texts.
    """
    head = {1: _number(0), 2: _number(uncompressed), 3: _number(len(page))}
    levels = {number: _number(value) for number, value in ((1, entries), (2, 0), (3, 3), (4, 3))}
    data = write_struct(head | {5: (STRUCT, write_struct(levels))}) + page
    start = len(MAGIC)
    nothing = (LIST, write_list(I32, []))
    numbers = {1: _number(6), 4: _number(codec), 5: _long(entries), 6: _long(uncompressed + len(data))}
    meta = write_struct(numbers | {2: nothing, 3: nothing, 7: _long(len(data)), 9: _long(start)})
    chunk = write_struct({2: _long(0), 3: (STRUCT, meta)})
    columns = (LIST, write_list(STRUCT, [chunk]))
    group = write_struct({1: columns, 2: _long(len(data)), 3: _long(entries)})
    root = write_struct({4: (BYTES, write_bytes(b"root")), 5: _number(1)})
    column = write_struct({1: _number(6), 3: _number(0), 4: (BYTES, write_bytes(b"entry"))})
    footer = write_struct(
        {
            1: _number(1),
            2: (LIST, write_list(STRUCT, [root, column])),
            3: _long(entries),
            4: (LIST, write_list(STRUCT, [group])),
        }
    )
    return MAGIC + data + footer + len(footer).to_bytes(4, "little") + MAGIC


def _number(value: int) -> tuple[int, bytes]:
    return I32, write_integer(value)


def _long(value: int) -> tuple[int, bytes]:
    return I64, write_integer(value)


def _without_pages(rows: int) -> Chunk:
    """Return a column that is never read."""
    nowhere = ByteRange(0, 0)
    return Chunk("INT32", 0, rows, 0, nowhere, nowhere.start, None, None, None, None)


def _group(group: RowGroup) -> bytes:
    chunks = [group.chunk(number) for number in range(group.columns)]
    return write_struct(
        {
            1: (LIST, write_list(STRUCT, [_column(chunk) for chunk in chunks])),
            2: (I64, write_integer(sum(chunk.range.length for chunk in chunks))),
            3: (I64, write_integer(group.rows)),
        }
    )


def _column(chunk: Chunk) -> bytes:
    nothing = (LIST, write_list(I32, []))
    numbers = {1: _number(PHYSICAL_TYPES.index(chunk.physical_type)), 4: _number(chunk.codec)}
    sizes = {5: chunk.values, 6: chunk.uncompressed, 7: chunk.range.length, 9: chunk.first_page}
    meta = numbers | {field: _long(size) for field, size in sizes.items()} | {2: nothing, 3: nothing}
    return write_struct({2: _long(0), 3: (STRUCT, write_struct(meta))})
