"""Thrift's compact protocol, in which Parquet has footers and page headers: as much as it takes to read them.

Pure Python for files that cannot be trusted: pyarrow's accessors of column metadata end the process where a
field makes no sense. Only fields that are asked for become objects, the others are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BYTES", "I32", "I64", "CompactError", "Fields", "Many", "read_struct"]

_TRUE, _FALSE, _BYTE, _I16, I32, I64, _DOUBLE, BYTES, _LIST, _SET, _MAP, _STRUCT = range(1, 13)

_MAX_DEPTH = 32
"""How deep unknown values may be nested; Parquet's own are at most seven deep."""

_MAX_ELEMENTS = 2_000_000
"""Elements of all lists together. A footer of 100 columns in 1,000 row groups has 920,000."""


class CompactError(ValueError):
    """The bytes are no struct of that kind, or end in the middle of it."""


@dataclass(frozen=True, slots=True)
class Many:
    """A list of structs.

    Attributes:
        fields: What to read of each.
        limit: How many there may be.
        what: What they are, in the plural.
    """

    fields: Fields
    limit: int
    what: str


type Fields = Mapping[int, int | Many | Fields]
"""What to read of a struct by field id: a wire type (`I32`, `I64`, `BYTES`), a struct or a list of them."""


def read_struct(data: bytes, fields: Fields) -> tuple[dict[int, Any], int]:
    """Read the struct at the beginning of `data`.

    Returns:
        The fields that are there, by id, and the number of bytes that the struct takes.

    Raises:
        CompactError: There is none, a field has another type than asked for, or a list is too long.
    """
    reader = _Reader(data)
    try:
        found = reader.struct(fields)
    except IndexError:
        raise CompactError("it ends in the middle of a value") from None
    return found, reader.position


class _Reader:
    """Reads on from a position. Beyond the end of the data that is an IndexError."""

    __slots__ = ("_data", "_elements", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._elements = 0
        self.position = 0

    def struct(self, fields: Fields) -> dict[int, Any]:
        data = self._data
        found: dict[int, Any] = {}
        field = 0
        while header := data[self.position]:
            self.position += 1
            field = field + (header >> 4) if header > 15 else self._signed()
            wanted = fields.get(field)
            if wanted is None:
                self._skip(header & 15, _MAX_DEPTH)
            elif isinstance(wanted, int):
                if header & 15 != wanted:
                    raise CompactError(f"field {field} has type {header & 15}, not {wanted}")
                found[field] = self._bytes() if wanted == BYTES else self._signed()
            elif isinstance(wanted, Many):
                found[field] = self._many(header & 15, wanted)
            elif header & 15 == _STRUCT:
                found[field] = self.struct(wanted)
            else:
                raise CompactError(f"field {field} has type {header & 15}, not a struct")
        self.position += 1
        return found

    def _many(self, kind: int, wanted: Many) -> list[dict[int, Any]]:
        if kind != _LIST:
            raise CompactError(f"the {wanted.what} have type {kind}, not that of a list")
        count, kind = self._list_header()
        if count > wanted.limit:
            raise CompactError(f"{count} {wanted.what}, at most {wanted.limit} are read")
        self._count(count)
        if count and kind != _STRUCT:
            raise CompactError(f"the {wanted.what} have type {kind}, not a struct")
        return [self.struct(wanted.fields) for _ in range(count)]

    def _list_header(self) -> tuple[int, int]:
        header = self._data[self.position]
        self.position += 1
        return header >> 4 if header < 0xF0 else self._unsigned(), header & 15

    def _bytes(self) -> bytes:
        length = self._unsigned()
        start = self.position
        self.position = start + length
        if self.position > len(self._data):
            raise IndexError
        return self._data[start : self.position]

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _unsigned(self) -> int:
        data = self._data
        byte = data[self.position]
        self.position += 1
        if byte < 0x80:
            return byte
        value, shift = byte & 0x7F, 7
        while True:
            byte = data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise CompactError("a number of more than 64 bits")
        if value >> 64:
            raise CompactError("a number of more than 64 bits")
        return value

    def _skip(self, kind: int, depth: int) -> None:
        """Pass over a value. Each looks at a byte of its own at least, so that this ends with the data."""
        if kind in (_I16, I32, I64):
            while self._data[self.position] > 0x7F:
                self.position += 1
            self.position += 1
        elif kind == BYTES:
            # In two steps: the length moves the position too.
            length = self._unsigned()
            self.position += length
        elif kind in (_BYTE, _DOUBLE):
            self.position += 1 if kind == _BYTE else 8
            self._data[self.position - 1]
        elif kind not in (_TRUE, _FALSE):  # whose value is the type itself
            if not depth:
                raise CompactError(f"values nested more than {_MAX_DEPTH} deep")
            self._skip_nested(kind, depth - 1)

    def _skip_nested(self, kind: int, depth: int) -> None:
        if kind == _STRUCT:
            while header := self._data[self.position]:
                self.position += 1
                if header < 16:
                    self._unsigned()
                self._skip(header & 15, depth)
            self.position += 1
        elif kind in (_LIST, _SET):
            count, kind = self._list_header()
            self._skip_elements(count, (kind,), depth)
        elif kind == _MAP:
            if count := self._unsigned():
                kinds = self._data[self.position]
                self.position += 1
                self._skip_elements(count, (kinds >> 4, kinds & 15), depth)
        else:
            raise CompactError(f"unknown type {kind}")

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > _MAX_ELEMENTS:
            raise CompactError(f"lists of {self._elements} elements, at most {_MAX_ELEMENTS} are read")

    def _skip_elements(self, count: int, kinds: tuple[int, ...], depth: int) -> None:
        self._count(count)
        for _ in range(count):
            for kind in kinds:
                if kind in (_TRUE, _FALSE):  # a byte each, other than as a field
                    self._data[self.position]
                    self.position += 1
                else:
                    self._skip(kind, depth)
