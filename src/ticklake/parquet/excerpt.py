"""Footers of small files that hold some pages of a row group, so that those are decoded without the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ticklake.parquet.footers import MAGIC
from ticklake.parquet.structure import PHYSICAL_TYPES, Chunk
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

__all__ = ["Excerpt", "dictionary_file", "footer_of"]

_ROWS, _ROW_GROUPS = 3, 4
# Version, schema, what the writer left (its Arrow schema too) and its name.
_KEPT = (1, 2, 5, 6)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A column of a small file.

    Attributes:
        of: The chunk that its pages are of.
        range: Where they are in the small file, with the dictionary before them.
        first_page: Where the first data page is in there.
    """

    of: Chunk
    range: ByteRange
    first_page: int


def footer_of(footer: Encoded, columns: int, excerpts: Mapping[int, Excerpt], rows: int) -> bytes:
    """Return the footer of a file of one row group with some columns of another file.

    Args:
        footer: The footer of the other file, as `Structure.encoded` has it.
        columns: How many columns it has.
        excerpts: Those with content, by number; the others have no pages.
        rows: How many.
    """
    chunks = [_chunk(excerpts.get(number), rows) for number in range(columns)]
    group = {
        1: (LIST, write_list(STRUCT, chunks)),
        2: (I64, write_integer(sum(one.range.length for one in excerpts.values()))),
        3: (I64, write_integer(rows)),
    }
    return write_struct(
        {field: footer[field] for field in _KEPT if field in footer}
        | {
            _ROWS: (I64, write_integer(rows)),
            _ROW_GROUPS: (LIST, write_list(STRUCT, [write_struct(group)])),
        }
    )


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


def _chunk(excerpt: Excerpt | None, rows: int) -> bytes:
    if excerpt is None:
        numbers = {1: 1, 4: 0, 5: rows, 6: 0, 7: 0, 9: 4}
    else:
        start, of = excerpt.range.start, excerpt.of
        # No more than the whole chunk may claim.
        numbers = {1: PHYSICAL_TYPES.index(of.physical_type), 4: of.codec, 5: rows, 6: of.uncompressed}
        numbers |= {7: excerpt.range.length, 9: excerpt.first_page}
        if start < excerpt.first_page:
            numbers[11] = start
    nothing = write_list(I32, [])
    meta = {field: (I32 if field in (1, 4) else I64, write_integer(n)) for field, n in numbers.items()}
    column = write_struct(meta | {2: (LIST, nothing), 3: (LIST, nothing)})
    return write_struct({2: (I64, write_integer(0)), 3: (STRUCT, column)})
