"""What can be wrong with a number of a source file."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Fault"]


class Fault(IntEnum):
    """Why a number is not a usable price or size; the ones up to `ABSENT` make a book level an absent one."""

    NONE = 0
    NULL = 1
    NAN = 2
    ZERO = 3
    NOT_A_NUMBER = 4
    NEGATIVE = 5
    OUT_OF_RANGE = 6
    OFF_PRECISION = 7
