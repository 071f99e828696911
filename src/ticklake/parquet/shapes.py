"""Structs of Thrift's compact protocol that have the same shape as some before them.

The row groups of a lake's files have the same columns: their structs have the same fields, and texts of the
same lengths more often than not. Where one like that ends a pattern tells at once, in a tenth of the time
that it takes to pass over its values one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Shape", "Shapes", "levelled"]

# With all bytes that have more of a number behind them made the same, a number is any of those and one other.
_GOES_ON = 0x80
_LEVELLED = bytes(min(byte, _GOES_ON) for byte in range(256))
_NUMBER = rb"\x80*+."
_NUMBERS = (4, 5, 6)
_BYTE, _DOUBLE, _BYTES, _LIST, _SET, _STRUCT = 3, 7, 8, 9, 10, 12
_WIDTHS = {1: 0, 2: 0, _BYTE: 1, _DOUBLE: 8}

_LONGEST = 512
"""Bytes of a struct that is worth a pattern: compiling one takes longer the longer it is."""

_PLACES = 256
"""Places in a list that shapes are known of."""

_KEPT = 3
"""Shapes that are known of a place."""

_WORTH = 4
"""Structs of no known shape after which that of the next is learnt: it takes as long as some ten more."""


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
    def of(cls, level: bytes) -> Shape | None:
        """Return the shape of a struct that was passed over; None where it is not worth a pattern.

        Args:
            level: The struct, levelled.
        """
        if len(level) > _LONGEST:
            return None
        walk = _Walk(level)
        try:
            walk.struct()
        except _NoShape:
            return None
        return cls(walk.elements, _compiled(b"".join(walk.parts)))

    def end(self, level: bytes, start: int) -> int | None:
        """Return where a struct of this shape ends that begins at `start`; None where there is none.

        Args:
            level: Levelled bytes.
            start: Where to look.
        """
        found = self._pattern.match(level, start)
        return None if found is None else found.end()


class Shapes:
    """The shapes of structs that were passed over lately, by their place in lists; of all files together.

    Where shapes are learnt in vain, as texts have other lengths each time or as somebody means harm, less and
    less is learnt: in all it takes no longer than passing over the structs did.

    May be used by several threads: what one learns and another overwrites is learnt again.
    """

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def find(self, place: int, level: bytes, start: int) -> tuple[int, int] | None:
        """Return where a struct ends, and its number of elements of lists; None where its shape is not known.

        Args:
            place: Its place.
            level: Levelled bytes.
            start: Where it begins.
        """
        if place >= len(self._places):
            return None
        known = self._places[place]
        for shape in known.shapes:
            if (end := shape.end(level, start)) is not None:
                known.found += 1
                return end, shape.elements
        return None

    def missed(self, place: int, level: bytes) -> None:
        """Take note of a struct that `find` did not know.

        Args:
            place: Its place.
            level: The struct, levelled.
        """
        if place >= _PLACES:
            return
        while place >= len(self._places):
            self._places.append(_Place())
        self._places[place].missed_one(level)


@dataclass(slots=True)
class _Place:
    """What is known of a place.

    Attributes:
        shapes: That structs had there, the last one first.
        found: Structs of these shapes since the last was learnt.
        missed: Structs of none of them since then.
        needed: How many it takes until the next is learnt.
    """

    shapes: tuple[Shape, ...] = ()
    found: int = 0
    missed: int = 0
    needed: int = _WORTH

    def missed_one(self, level: bytes) -> None:
        self.missed += 1
        if self.missed <= self.needed:
            return
        if self.shapes and self.found < self.missed:
            self.needed *= 2
        self.found = self.missed = 0
        if (shape := Shape.of(level)) is not None:
            self.shapes = (shape, *self.shapes)[:_KEPT]


@lru_cache(maxsize=256)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern once: columns of the same type may have the same."""
    return re.compile(pattern, re.DOTALL)


class _NoShape(Exception):  # noqa: N818 (no error: nothing failed)
    """Something of a struct is too rare for a pattern."""


class _Walk:
    """Goes over a struct once more, value by value, and makes the pattern of those like it."""

    def __init__(self, level: bytes) -> None:
        self.elements = 0
        self.parts: list[bytes] = []
        self._level = level
        self._position = 0

    def struct(self) -> None:
        while header := self._same():
            if header < 16:  # the number of the field comes after it
                raise _NoShape
            self._value(header & 15)

    def _value(self, kind: int) -> None:
        if kind in _NUMBERS:
            while self._level[self._position] == _GOES_ON:
                self._position += 1
            self._position += 1
            self.parts.append(_NUMBER)
        elif kind in _WIDTHS:
            self._any(_WIDTHS[kind])
        elif kind == _BYTES:
            self._any(self._same())
        elif kind == _STRUCT:
            self.struct()
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
        byte = self._level[self._position]
        if byte == _GOES_ON:
            raise _NoShape
        self._position += 1
        self.parts.append(re.escape(bytes([byte])))
        return byte

    def _any(self, width: int) -> None:
        """Take bytes that can be others in others of the shape."""
        self._position += width
        self.parts.append(b".{%d}" % width)
