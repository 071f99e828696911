"""Fewer points of a long series, without losing an extreme of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

__all__ = ["Stretch", "extremes", "stretches"]


def extremes(values: Sequence[float | Decimal], most: int) -> list[int]:
    """Return the indices of points that draw the same line as all of them.

    The points are cut into equal parts; of each, the first, lowest, highest and last one stay (M4). A series
    of no more than `most` points stays as it is.

    Args:
        values: The values, in time order.
        most: How many indices come back at most; at least 5.
    """
    if len(values) <= most:
        return list(range(len(values)))
    from tsdownsample import M4Downsampler

    # By count: cut by time, tsdownsample 0.1.5 panics or finds nothing where the times are very uneven. The
    # last point may be missing from what it returns.
    thinner = M4Downsampler()  # type: ignore[no-untyped-call]  # it has no types
    kept = thinner.downsample(np.asarray(values, np.float64), n_out=(most - 1) // 4 * 4)
    return sorted({int(index) for index in kept} | {len(values) - 1})


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
