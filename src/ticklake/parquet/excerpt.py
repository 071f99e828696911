"""Footers of small files that hold some pages of a row group, so that those are decoded without the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """

    of: Chunk
    range: ByteRange


def footer_of(
    footer: Encoded, columns: int, groups: Sequence[tuple[int, Mapping[int, Excerpt]]]
) -> tuple[bytes, tuple[RowGroup, ...]]:
    """Return the footer of a file with some columns of another file, and what it says of row groups.

    Args:
        footer: The footer of the other file, as `Structure.encoded` has it.
        columns: How many columns it has.
        groups: For each row group how many rows it has, and its columns with content, by number; the others
            have no pages.
    """
    fields = [
        (rows, [_fields(excerpts.get(number), rows) for number in range(columns)])
        for rows, excerpts in groups
    ]
    made = write_struct(
        {field: footer[field] for field in _KEPT if field in footer}
        | {
            _ROWS: (I64, write_integer(sum(rows for rows, _ in groups))),
            _ROW_GROUPS: (LIST, write_list(STRUCT, [_group(*group) for group in fields])),
        }
    )
    return made, tuple(RowGroup.of(*group) for group in fields)


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


def _fields(excerpt: Excerpt | None, rows: int) -> dict[int, int]:
    """Return what the footer says of a column (`ColumnMetaData`), besides two lists that are empty."""
    if excerpt is None:
        return {1: 1, 4: 0, 5: rows, 6: 0, 7: 0, 9: 0}
    of = excerpt.of
    # No more than the whole chunk may claim. A dictionary comes as the first of the pages.
    numbers = {1: PHYSICAL_TYPES.index(of.physical_type), 4: of.codec, 5: rows, 6: of.uncompressed}
    return numbers | {7: excerpt.range.length, 9: excerpt.range.start}


def _group(rows: int, columns: Sequence[Mapping[int, int]]) -> bytes:
    return write_struct(
        {
            1: (LIST, write_list(STRUCT, [_column(fields) for fields in columns])),
            2: (I64, write_integer(sum(fields[7] for fields in columns))),
            3: (I64, write_integer(rows)),
        }
    )


def _column(fields: Mapping[int, int]) -> bytes:
    nothing = (LIST, write_list(I32, []))
    meta = {field: (I32 if field in (1, 4) else I64, write_integer(n)) for field, n in fields.items()}
    return write_struct({2: _long(0), 3: (STRUCT, write_struct(meta | {2: nothing, 3: nothing}))})
