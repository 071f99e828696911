"""Cutting long reads at midnights, so that there is work for all jobs. Pure."""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ticklake.lake import RowGroupPlan, ScanPlan
from ticklake.types import Window

__all__ = ["cut"]

_READ_TWICE = 1 / 16
"""Row groups with rows of both sides of a cut are read twice: no more than this share of what is cut."""

_IDLE = 1.1
"""How much longer than with even work all may take, at most, before more is cut."""

_SMALL_SHARE = 1 / 4
"""What is smaller than this share of a job's even part is not cut any further."""

SMALL = 8 * 1024 * 1024
"""Nor is what has fewer bytes than this: some 100,000 trades, which take less than 50 ms."""


def cut(reads: Sequence[tuple[ScanPlan, Sequence[Window]]], jobs: int) -> list[tuple[Window, ...]]:
    """Return the windows to read each scan in: the whole of it, or parts, where else jobs would be idle.

    Parts begin and end where catalog files do. Work is measured by the bytes that are decoded.

    Args:
        reads: Plans, in the order in which they are begun, each with the windows of its catalog files, which
            follow each other without gaps.
        jobs: How many parts are read at once.
    """
    runs = [_Run.of(number, plan, pieces) for number, (plan, pieces) in enumerate(reads)]
    whole = sum(run.weight for run in runs)
    while jobs > 1 and _takes(runs, jobs) * jobs > _IDLE * whole:
        least = max(SMALL, _SMALL_SHARE * whole / jobs)
        large = sorted((run for run in runs if run.weight >= least), key=_weight)
        found = next(((run, halves) for run in reversed(large) if (halves := run.halves())), None)
        if found is None:
            break
        place = runs.index(found[0])
        runs[place : place + 1] = found[1]
    return [tuple(run.window for run in runs if run.number == number) for number in range(len(reads))]


def _takes(runs: Iterable[_Run], jobs: int) -> int:
    """Return how much work the job has that is done last."""
    done = [0] * jobs
    for run in runs:
        heapq.heapreplace(done, done[0] + run.weight)
    return max(done)


@dataclass(frozen=True, slots=True)
class _Run:
    """Catalog files that are read together.

    Attributes:
        number: Which scan it is of.
        pieces: The windows of the files.
        weights: Bytes that are decoded for each, less those that the file before it needs as well.
        shared: The latter.
    """

    number: int
    pieces: tuple[Window, ...]
    weights: tuple[int, ...]
    shared: tuple[int, ...]

    @classmethod
    def of(cls, number: int, plan: ScanPlan, pieces: Sequence[Window]) -> _Run:
        by_day = {found.day: found.row_groups for found in plan.objects}
        weights, shared = [], []
        for piece in pieces:
            groups = [group for group in _near(by_day, piece) if group.greatest >= piece.start]
            # Those that have rows before it were read for the file before it.
            before = [group for group in groups if group.least < piece.start and piece != pieces[0]]
            shared.append(sum(group.decoded_bytes for group in before))
            weights.append(sum(group.decoded_bytes for group in groups if group.least < piece.end))
            weights[-1] -= shared[-1]
        return cls(number, tuple(pieces), tuple(weights), tuple(shared))

    @property
    def window(self) -> Window:
        return Window(self.pieces[0].start, self.pieces[-1].end)

    @property
    def weight(self) -> int:
        return self.shared[0] + sum(self.weights)

    def halves(self) -> tuple[_Run, _Run] | None:
        """Cut it as evenly as possible; None where it cannot be, or too much would be read twice."""
        places = [
            place for place in range(1, len(self.pieces)) if self.shared[place] <= _READ_TWICE * self.weight
        ]
        if not places:
            return None
        return min(
            ((self._part(0, place), self._part(place, len(self.pieces))) for place in places),
            key=lambda halves: max(half.weight for half in halves),
        )

    def _part(self, start: int, end: int) -> _Run:
        return _Run(self.number, self.pieces[start:end], self.weights[start:end], self.shared[start:end])


def _weight(run: _Run) -> int:
    return run.weight


def _near(by_day: dict[dt.date, tuple[RowGroupPlan, ...]], piece: Window) -> Iterable[RowGroupPlan]:
    """Return the row groups of the files that can have rows of a piece."""
    days = sorted({day.toordinal() + side for day in piece.days for side in (-1, 0, 1)})
    return [group for day in days for group in by_day.get(dt.date.fromordinal(day), ())]
