"""Thrift's compact protocol, in which Parquet has footers, page headers and page indexes.

As much of it as it takes to read them, and to write a footer. Pure Python for files that cannot be trusted:
pyarrow's accessors of column metadata end the process where a field makes no sense. Only fields that are
asked for become objects, the others are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ticklake.parquet.shapes import Shapes, levelled

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
    "Parts",
    "Values",
    "read_struct",
    "read_structs",
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
class Parts:
    """A list of structs, found as the bytes of each: most are never read.

    Attributes:
        shapes: Of those that were passed over.
        limit: How many there may be.
        what: What they are, in the plural.
    """

    shapes: Shapes
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


type Fields = Mapping[int, int | Many | Parts | Values | Fields]
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


def read_structs(data: bytes) -> list[bytes]:
    """Return the elements of an encoded list of structs, encoded.

    Raises:
        CompactError: It is none.
    """
    reader = _Reader(data)
    try:
        return reader.elements()
    except IndexError:
        raise CompactError("it ends in the middle of a value") from None


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
    count = len(values)
    header = bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + _write_unsigned(count)
    return header + b"".join(values)


def _write_unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Reads on from a position. Beyond the end of the data that is an IndexError.

    Much of the time that a first window's footer takes is spent here, so that numbers and texts, nine fields
    of ten, are read and passed over in place, by a position that is no attribute.
    """

    __slots__ = ("_data", "_elements", "_level", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._level: bytes | None = None
        self._elements = 0
        self.position = 0

    def struct(self, fields: Fields, encoded: dict[int, tuple[int, bytes]] | None = None) -> dict[int, Any]:
        data, position = self._data, self.position
        found: dict[int, Any] = {}
        field = 0
        while header := data[position]:
            position += 1
            if header > 15:
                field += header >> 4
            else:
                self.position = position
                field = self._signed()
                position = self.position
            kind, start, wanted = header & 15, position, fields.get(field)
            if wanted is None:
                position = self._after(kind, position, _MAX_DEPTH)
            elif wanted == kind:
                value = data[position]
                position += 1
                if value > 0x7F:
                    self.position = start
                    value = self._unsigned()
                    position = self.position
                if kind == BYTES:
                    value, position = position, position + value
                    if position > len(data):
                        raise IndexError
                    found[field] = data[value:position]
                else:
                    found[field] = (value >> 1) ^ -(value & 1)
            else:
                self.position = position
                found[field] = self._nested(field, kind, wanted)
                position = self.position
            if encoded is not None:
                encoded[field] = kind, data[start:position]
        self.position = position + 1
        return found

    def elements(self) -> list[bytes]:
        count, kind = self._list_header()
        if kind != STRUCT:
            raise CompactError(f"elements have type {kind}, not that of a struct")
        self._count(count)
        return self._cut(count, lambda _, start: self._after(STRUCT, start, _MAX_DEPTH))

    def _parts(self, shapes: Shapes, count: int) -> list[bytes]:
        self._level = level = self._level or levelled(self._data)
        return self._cut(count, lambda place, start: self._after_part(shapes, place, level, start))

    def _cut(self, count: int, after: Callable[[int, int], int]) -> list[bytes]:
        """Pass over structs, and return each; `after` tells by place and beginning where one ends."""
        edges = [self.position]
        for place in range(count):
            edges.append(after(place, edges[-1]))
        self.position = edges[-1]
        return [self._data[start:end] for start, end in pairwise(edges)]

    def _after_part(self, shapes: Shapes, place: int, level: bytes, start: int) -> int:
        """Return where a part ends, by its place in the list: mostly those there have the same shape."""
        if (known := shapes.find(place, level, start)) is not None:
            end, elements = known
            self._count(elements)
            return end
        end = self._after(STRUCT, start, _MAX_DEPTH)
        shapes.missed(place, level[start:end])
        return end

    def _nested(self, field: int, kind: int, wanted: int | Many | Parts | Values | Fields) -> Any:
        if isinstance(wanted, int):
            raise CompactError(f"field {field} has type {kind}, not {wanted}")
        if isinstance(wanted, Parts):
            return self._parts(wanted.shapes, self._length(kind, STRUCT, wanted))
        if isinstance(wanted, Many):
            count = self._length(kind, STRUCT, wanted)
            return [self.struct(wanted.fields) for _ in range(count)]
        if isinstance(wanted, Values):
            return self._values(kind, wanted)
        if kind != STRUCT:
            raise CompactError(f"field {field} has type {kind}, not a struct")
        return self.struct(wanted)

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

    def _length(self, kind: int, of: int, wanted: Many | Parts | Values) -> int:
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

    def _after(self, kind: int, position: int, depth: int) -> int:
        """Return where a value ends. Each looks at a byte of its own at least: that ends with the data."""
        data = self._data
        if _I16 <= kind <= I64:
            while data[position] > 0x7F:
                position += 1
            return position + 1
        if kind == BYTES:
            length = data[position]
            if length < 0x80:
                return position + 1 + length
            self.position = position
            length = self._unsigned()
            return self.position + length
        if kind <= _FALSE:  # the value is the type itself
            if not kind:
                raise CompactError(f"unknown type {kind}")
            return position
        if kind in (_BYTE, _DOUBLE):
            position += 1 if kind == _BYTE else 8
            data[position - 1]
            return position
        if not depth:
            raise CompactError(f"values nested more than {_MAX_DEPTH} deep")
        return self._after_nested(kind, position, depth - 1)

    def _after_nested(self, kind: int, position: int, depth: int) -> int:
        data = self._data
        if kind == STRUCT:
            while header := data[position]:
                position += 1
                if header < 16:
                    position = self._after(I32, position, depth)
                position = self._after(header & 15, position, depth)
            return position + 1
        self.position = position
        if kind in (LIST, _SET):
            count, kind = self._list_header()
            return self._after_elements(count, (kind,), depth)
        if kind != _MAP:
            raise CompactError(f"unknown type {kind}")
        count = self._unsigned()
        if not count:
            return self.position
        kinds = data[self.position]
        self.position += 1
        return self._after_elements(count, (kinds >> 4, kinds & 15), depth)

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > _MAX_ELEMENTS:
            raise CompactError(f"lists of {self._elements} elements, at most {_MAX_ELEMENTS} are read")

    def _after_elements(self, count: int, kinds: tuple[int, ...], depth: int) -> int:
        self._count(count)
        # A truth value has a byte, other than as a field.
        sized = [_BYTE if kind in (BOOL, _FALSE) else kind for kind in kinds]
        position = self.position
        for _ in range(count):
            for kind in sized:
                position = self._after(kind, position, depth)
        return position
