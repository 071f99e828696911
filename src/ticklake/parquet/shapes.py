"""Structs of Thrift's compact protocol that have the same shape as one before them.

The row groups of a file have the same columns: their structs have the same fields, and texts of the same
lengths more often than not. Where one like that ends a pattern tells at once, a tenth as long as it takes to
pass over its values one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Shape", "levelled"]

# With all bytes that have more of a number behind them made the same, a number is any of those and one other.
_GOES_ON = 0x80
_LEVELLED = bytes(min(byte, _GOES_ON) for byte in range(256))
_NUMBER = rb"\x80*+."
_NUMBERS = (4, 5, 6)
_BYTE, _DOUBLE, _BYTES, _LIST, _SET, _STRUCT = 3, 7, 8, 9, 10, 12
_WIDTHS = {1: 0, 2: 0, _BYTE: 1, _DOUBLE: 8}


def levelled(data: bytes) -> bytes:
    """Return bytes as `Shape` takes them, of the same number."""
    return data.translate(_LEVELLED)


@dataclass(frozen=True, slots=True)
class Shape:
    """What structs with the same fields have in common; numbers may be of any length, texts not.

    Attributes:
        elements: Elements of all lists in them together.
    """

    elements: int
    _pattern: re.Pattern[bytes]

    @classmethod
    def of(cls, data: bytes) -> Shape | None:
        """Return the shape of a struct that has been passed over; None where it is not worth a pattern.

        Args:
            data: The struct, levelled.
        """
        walk = _Walk(data)
        pattern = walk.pattern()
        return None if pattern is None else cls(walk.elements, _compiled(pattern))

    def end(self, data: bytes, start: int) -> int | None:
        """Return where a struct of this shape ends that begins at `start`; None where there is none.

        Args:
            data: Levelled bytes.
            start: Where to look.
        """
        found = self._pattern.match(data, start)
        return None if found is None else found.end()


@lru_cache(maxsize=256)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern once: the files of a lake have the same columns, and compiling takes a while."""
    return re.compile(pattern, re.DOTALL)


class _NoShape(Exception):  # noqa: N818 (no error: nothing failed)
    """Something of a struct is too rare for a pattern."""


class _Walk:
    """Goes over a struct once more, value by value, and makes the pattern of those like it."""

    def __init__(self, data: bytes) -> None:
        self.elements = 0
        self._data = data
        self._position = 0
        self._parts: list[bytes] = []

    def pattern(self) -> bytes | None:
        try:
            self._struct()
        except _NoShape:
            return None
        return b"".join(self._parts)

    def _struct(self) -> None:
        while header := self._same():
            if header < 16:  # the number of the field comes after it
                raise _NoShape
            self._value(header & 15)

    def _value(self, kind: int) -> None:
        if kind in _NUMBERS:
            while self._data[self._position] == _GOES_ON:
                self._position += 1
            self._position += 1
            self._parts.append(_NUMBER)
        elif kind in _WIDTHS:
            self._any(_WIDTHS[kind])
        elif kind == _BYTES:
            self._any(self._same())
        elif kind == _STRUCT:
            self._struct()
        elif kind in (_LIST, _SET):
            header = self._same()
            count, kind = header >> 4, header & 15
            self.elements += count
            for _ in range(count):
                # A truth value has a byte, other than as a field.
                self._value(kind if _WIDTHS.get(kind) != 0 else _BYTE)
        else:
            raise _NoShape

    def _same(self) -> int:
        """Take a byte that all of the shape have there."""
        byte = self._data[self._position]
        if byte == _GOES_ON:
            raise _NoShape
        self._position += 1
        self._parts.append(re.escape(bytes([byte])))
        return byte

    def _any(self, width: int) -> None:
        """Take bytes that can be others in others of the shape."""
        self._position += width
        if width:
            self._parts.append(b".{%d}" % width)
