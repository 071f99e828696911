"""Footers of small files that hold some pages of a row group, so that those are decoded without the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ticklake.parquet.structure import PHYSICAL_TYPES, Chunk
from ticklake.parquet.thrift import (
    I32,
    I64,
    LIST,
    STRUCT,
    Encoded,
    write_integer,
    write_list,
    write_struct,
)
from ticklake.types import ByteRange

__all__ = ["Excerpt", "footer_of"]

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
