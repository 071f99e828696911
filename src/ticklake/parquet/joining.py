"""One Parquet file out of files of a row group each, so that row groups are encoded side by side.

Encoded pages do not say where they stand, only the footer does: it is put together from those of the parts.
The parts are our own, made by one writer with one schema: nothing in them is limited or doubted.
"""

from __future__ import annotations

from collections.abc import Mapping

from ticklake.parquet.footers import MAGIC, TRAILER
from ticklake.parquet.thrift import (
    BYTES,
    I64,
    LIST,
    STRUCT,
    Encoded,
    Fields,
    read_struct,
    read_structs,
    write_bytes,
    write_integer,
    write_list,
    write_struct,
)

__all__ = ["Joined"]

# By `parquet.thrift` of the format's definition, https://github.com/apache/parquet-format.
_ROWS, _ROW_GROUPS, _KEY_VALUES = 3, 4, 5  # of FileMetaData
_COLUMNS, _FIRST_PAGE, _ORDINAL = 1, 5, 7  # of RowGroup
_OLD_PLACE, _META = 2, 3  # of ColumnChunk
_PLACES: Fields = {9: I64, 11: I64}  # of ColumnMetaData: of data pages, of the dictionary's page


class Joined:
    """The footer of a file that grows by a row group at a time.

    Attributes:
        position: Where the next row group begins.
    """

    def __init__(self) -> None:
        self.position = len(MAGIC)
        self._rows = 0
        self._groups: list[bytes] = []
        self._rest: Encoded = {}

    def add(self, part: memoryview) -> memoryview:
        """Take in a file of one row group, or of none.

        Args:
            part: The file, without page indexes and Bloom filters; all have the same schema and metadata.

        Returns:
            What belongs at `position` of the joined file.
        """
        end = len(part) - TRAILER - int.from_bytes(part[-TRAILER:-4], "little")
        rest: dict[int, tuple[int, bytes]] = {}
        found, _ = read_struct(bytes(part[end:-TRAILER]), {_ROWS: I64}, rest)
        self._rest = rest
        shift = self.position - len(MAGIC)
        for group in read_structs(rest[_ROW_GROUPS][1]):
            self._groups.append(_moved_group(group, shift, len(self._groups)))
        self._rows += found[_ROWS]
        self.position += end - len(MAGIC)
        return part[len(MAGIC) : end]

    def footer(self, metadata: Mapping[bytes, bytes]) -> bytes:
        """Return what the file ends with.

        Args:
            metadata: Keys and values besides those of the parts, of which there was one at least.
        """
        pairs = [
            write_struct({1: (BYTES, write_bytes(key)), 2: (BYTES, write_bytes(value))})
            for key, value in metadata.items()
        ]
        pairs += read_structs(self._rest[_KEY_VALUES][1]) if _KEY_VALUES in self._rest else []
        fields = {
            **self._rest,
            _ROWS: (I64, write_integer(self._rows)),
            _ROW_GROUPS: (LIST, write_list(STRUCT, self._groups)),
        }
        if pairs:
            fields[_KEY_VALUES] = LIST, write_list(STRUCT, pairs)
        footer = write_struct(fields)
        return footer + len(footer).to_bytes(4, "little") + MAGIC


def _moved_group(group: bytes, shift: int, ordinal: int) -> bytes:
    fields: dict[int, tuple[int, bytes]] = {}
    _move(group, {_FIRST_PAGE: I64}, shift, fields)
    columns = [_moved_column(column, shift) for column in read_structs(fields[_COLUMNS][1])]
    fields[_COLUMNS] = LIST, write_list(STRUCT, columns)
    if _ORDINAL in fields:
        fields[_ORDINAL] = fields[_ORDINAL][0], write_integer(ordinal)
    return write_struct(fields)


def _moved_column(column: bytes, shift: int) -> bytes:
    fields: dict[int, tuple[int, bytes]] = {}
    _move(column, {_OLD_PLACE: I64}, shift, fields)
    meta: dict[int, tuple[int, bytes]] = {}
    _move(fields[_META][1], _PLACES, shift, meta)
    fields[_META] = STRUCT, write_struct(meta)
    return write_struct(fields)


def _move(struct: bytes, places: Fields, shift: int, fields: dict[int, tuple[int, bytes]]) -> None:
    """Read a struct into `fields`, with what tells places moved on; 0 is none."""
    found, _ = read_struct(struct, places, fields)
    for field, place in found.items():
        if place:
            fields[field] = I64, write_integer(place + shift)
