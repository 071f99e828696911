"""Thrift's compact protocol, in which Parquet has footers, page headers and page indexes.

As much of it as it takes to read them, and to write a footer. Pure Python for files that cannot be trusted:
pyarrow's accessors of column metadata end the process where a field makes no sense. Only fields that are
asked for become objects, the others are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BOOL",
    "BYTES",
    "I32",
    "I64",
    "LIST",
    "STRUCT",
    "CompactError",
    "Encoded",
    "Fields",
    "Many",
    "Values",
    "read_struct",
    "write_bytes",
    "write_integer",
    "write_list",
    "write_struct",
]

BOOL, _FALSE, _BYTE, _I16, I32, I64, _DOUBLE, BYTES, LIST, _SET, _MAP, STRUCT = range(1, 13)

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


@dataclass(frozen=True, slots=True)
class Values:
    """A list of plain values.

    Attributes:
        kind: Their wire type: `BOOL`, `I64` or `BYTES`.
        limit: How many there may be.
        what: What they are, in the plural.
    """

    kind: int
    limit: int
    what: str


type Fields = Mapping[int, int | Many | Values | Fields]
"""What to read of a struct by field id: a wire type (`I32`, `I64`, `BYTES`), a struct or a list."""


type Encoded = Mapping[int, tuple[int, bytes]]
"""Wire type and encoded value of fields by id."""


def read_struct(
    data: bytes, fields: Fields, encoded: dict[int, tuple[int, bytes]] | None = None
) -> tuple[dict[int, Any], int]:
    """Read the struct at the beginning of `data`.

    Args:
        data: The bytes.
        fields: What to read.
        encoded: Takes up wire type and encoded value of all fields, by id.

    Returns:
        The fields that are there, by id, and the number of bytes that the struct takes.

    Raises:
        CompactError: There is none, a field has another type than asked for, or a list is too long.
    """
    reader = _Reader(data)
    try:
        found = reader.struct(fields, encoded)
    except IndexError:
        raise CompactError("it ends in the middle of a value") from None
    return found, reader.position


def write_struct(fields: Encoded) -> bytes:
    """Encode a struct of fields, whose wire type and encoded value are given by id."""
    out, last = bytearray(), 0
    for field, (kind, value) in sorted(fields.items()):
        if field - last < 16:
            out.append(field - last << 4 | kind)
        else:
            out.append(kind)
            out += write_integer(field)
        out += value
        last = field
    out.append(0)
    return bytes(out)


def write_integer(value: int) -> bytes:
    """Encode a whole number of at most 64 bits."""
    return _write_unsigned(value << 1 ^ value >> 63)


def write_bytes(value: bytes) -> bytes:
    """Encode text or other bytes."""
    return _write_unsigned(len(value)) + value


def write_list(kind: int, values: Sequence[bytes]) -> bytes:
    """Encode a list of encoded values of a wire type."""
    return bytes([0xF0 | kind]) + _write_unsigned(len(values)) + b"".join(values)


def _write_unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Reads on from a position. Beyond the end of the data that is an IndexError."""

    __slots__ = ("_data", "_elements", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._elements = 0
        self.position = 0

    def struct(self, fields: Fields, encoded: dict[int, tuple[int, bytes]] | None = None) -> dict[int, Any]:
        data = self._data
        found: dict[int, Any] = {}
        field = 0
        while header := data[self.position]:
            self.position += 1
            field = field + (header >> 4) if header > 15 else self._signed()
            wanted = fields.get(field)
            start = self.position
            if wanted is None:
                self._skip(header & 15, _MAX_DEPTH)
            elif isinstance(wanted, int):
                if header & 15 != wanted:
                    raise CompactError(f"field {field} has type {header & 15}, not {wanted}")
                found[field] = self._bytes() if wanted == BYTES else self._signed()
            elif isinstance(wanted, Many):
                found[field] = self._many(header & 15, wanted)
            elif isinstance(wanted, Values):
                found[field] = self._values(header & 15, wanted)
            elif header & 15 == STRUCT:
                found[field] = self.struct(wanted)
            else:
                raise CompactError(f"field {field} has type {header & 15}, not a struct")
            if encoded is not None:
                encoded[field] = header & 15, data[start : self.position]
        self.position += 1
        return found

    def _many(self, kind: int, wanted: Many) -> list[dict[int, Any]]:
        count = self._length(kind, STRUCT, wanted)
        return [self.struct(wanted.fields) for _ in range(count)]

    def _values(self, kind: int, wanted: Values) -> list[Any]:
        count = self._length(kind, wanted.kind, wanted)
        if wanted.kind == BOOL:
            start = self.position
            self.position += count
            if self.position > len(self._data):
                raise IndexError
            return [value == BOOL for value in self._data[start : self.position]]
        read = self._bytes if wanted.kind == BYTES else self._signed
        return [read() for _ in range(count)]

    def _length(self, kind: int, of: int, wanted: Many | Values) -> int:
        """Read the beginning of a list and return how many elements it has."""
        if kind != LIST:
            raise CompactError(f"the {wanted.what} have type {kind}, not that of a list")
        count, kind = self._list_header()
        if count > wanted.limit:
            raise CompactError(f"{count} {wanted.what}, at most {wanted.limit} are read")
        self._count(count)
        if count and kind != of and {kind, of} != {BOOL, _FALSE}:
            raise CompactError(f"the {wanted.what} have type {kind}, not {of}")
        return count

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
        elif kind not in (BOOL, _FALSE):  # whose value is the type itself
            if not depth:
                raise CompactError(f"values nested more than {_MAX_DEPTH} deep")
            self._skip_nested(kind, depth - 1)

    def _skip_nested(self, kind: int, depth: int) -> None:
        if kind == STRUCT:
            while header := self._data[self.position]:
                self.position += 1
                if header < 16:
                    self._unsigned()
                self._skip(header & 15, depth)
            self.position += 1
        elif kind in (LIST, _SET):
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
                if kind in (BOOL, _FALSE):  # a byte each, other than as a field
                    self._data[self.position]
                    self.position += 1
                else:
                    self._skip(kind, depth)
