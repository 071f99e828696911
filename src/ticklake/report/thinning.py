"""Fewer points of a long series, without losing an extreme of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Stretch", "extremes", "stretches"]


def extremes(times: Sequence[int], values: Sequence[float | Decimal], most: int) -> list[int]:
    """Return the indices of points that draw the same line as all of them.

    Time is cut into equal cells; of each, the first, lowest, highest and last point stay (the first of equal
    ones). A series of no more than `most` points stays as it is.

    Args:
        times: Times in order.
        values: A value for each.
        most: How many indices come back at most; at least 4.
    """
    if len(times) <= most:
        return list(range(len(times)))
    width = max(1, -(-(times[-1] - times[0] + 1) // (most // 4)))
    kept: set[int] = set()
    start = 0
    while start < len(times):
        cell, stop = (times[start] - times[0]) // width, start + 1
        while stop < len(times) and (times[stop] - times[0]) // width == cell:
            stop += 1
        inside = range(start, stop)
        lowest, highest = min(inside, key=values.__getitem__), max(inside, key=values.__getitem__)
        kept |= {start, lowest, highest, stop - 1}
        start = stop
    return sorted(kept)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a step function does in a stretch of time.

    Attributes:
        start: Begin of the stretch.
        mean: Its mean over time.
        lowest, highest: Its range.
    """

    start: int
    mean: float
    lowest: float
    highest: float


def stretches(
    times: Sequence[int], values: Sequence[float], start: int, end: int, count: int
) -> list[Stretch]:
    """Return what a step function does in each of equal stretches; it is 0 before its first step.

    Args:
        times: Times of the steps, in order; those before `start` or from `end` on only carry over.
        values: The value from each of them on.
        start: Begin of the first stretch.
        end: End of the last one.
        count: How many stretches there are, at most.
    """
    width = -(-(end - start) // count)
    found, index, value = [], 0, 0.0
    for begin in range(start, end, width):
        stop = min(begin + width, end)
        while index < len(times) and times[index] <= begin:
            value, index = values[index], index + 1
        at, area, low, high = begin, 0.0, value, value
        while index < len(times) and times[index] < stop:
            area += value * (times[index] - at)
            at, value = times[index], values[index]
            low, high = min(low, value), max(high, value)
            index += 1
        area += value * (stop - at)
        found.append(Stretch(begin, area / (stop - begin), low, high))
    return found
