"""Rows in `ts_init` order across batches and files, holding back no more than the order needs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ticklake.errors import ConversionError
from ticklake.types import format_nanos

__all__ = ["Orderer"]

type Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows in order, with their keys at hand."""

    table: pa.Table
    keys: Ints

    def split(self, at: int) -> tuple[_Run, _Run]:
        return (
            _Run(self.table.slice(0, at), self.keys[:at]),
            _Run(self.table.slice(at), self.keys[at:]),
        )


class Orderer:
    """Puts rows in `ts_init` order; rows of the same time stay in the order in which they arrived.

    What is pushed comes out of `push` as soon as nothing earlier can follow, and the rest out of `flush`.
    Input that is in order already passes through without a copy.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._emitted: int | None = None

    @property
    def held_rows(self) -> int:
        """Rows held back."""
        return sum(len(run.keys) for run in self._runs)

    def push(self, table: pa.Table, watermark: int | None) -> pa.Table:
        """Take rows in and return those that can go.

        Args:
            table: Rows with a `ts_init` column without nulls, int64 or timestamp in nanoseconds; all tables
                of an orderer have the same schema.
            watermark: The least `ts_init` (ns) that a later push can still bring; None where nothing follows.

        Returns:
            All rows held or pushed with a `ts_init` up to the watermark, in order; perhaps none.

        Raises:
            ConversionError: A row is earlier than what was returned before: an earlier watermark was wrong.
        """
        if table.num_rows:
            self._runs.append(self._run(table))
        ready: list[_Run] = []
        held: list[_Run] = []
        for run in self._runs:
            if watermark is None or run.keys[-1] <= watermark:
                ready.append(run)
            elif run.keys[0] > watermark:
                held.append(run)
            else:
                now, later = run.split(int(run.keys.searchsorted(watermark, side="right")))
                ready.append(now)
                held.append(later)
        self._runs = held
        if not ready:
            return table.slice(0, 0)
        merged = _merge(ready)
        self._emitted = int(merged.keys[-1])
        return merged.table

    def flush(self) -> pa.Table | None:
        """Return the rows still held, in order; None where there are none."""
        return self.push(self._runs[0].table.slice(0, 0), None) if self._runs else None

    def _run(self, table: pa.Table) -> _Run:
        run = _Run(table, _keys(table))
        if (run.keys[1:] < run.keys[:-1]).any():
            run = _sorted(run)
        if self._emitted is not None and run.keys[0] < self._emitted:
            raise ConversionError(
                f"a row of {format_nanos(int(run.keys[0]))} arrived after rows up to "
                f"{format_nanos(self._emitted)} had been handed on",
                hint="The statistics of the source file do not fit its rows; write the file anew.",
            )
        return run


def _merge(runs: list[_Run]) -> _Run:
    if all(before.keys[-1] <= after.keys[0] for before, after in pairwise(runs)):
        return _concatenated(runs)
    # Most often a few rows held back meet a long run: what lies after them stays as it is.
    *earlier, last = runs
    latest = max(run.keys[-1] for run in earlier)
    overlapping, rest = last.split(int(last.keys.searchsorted(latest, side="right")))
    return _concatenated([_sorted(_concatenated([*earlier, overlapping])), rest])


def _concatenated(runs: list[_Run]) -> _Run:
    if len(runs) == 1:
        return runs[0]
    return _Run(pa.concat_tables([run.table for run in runs]), np.concatenate([run.keys for run in runs]))


def _sorted(run: _Run) -> _Run:
    order = np.argsort(run.keys, kind="stable")
    return _Run(run.table.take(pa.array(order)), run.keys[order])


def _keys(table: pa.Table) -> Ints:
    column = table.column("ts_init").combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    keys: Ints = chunk.view(pa.int64()).to_numpy()
    return keys
