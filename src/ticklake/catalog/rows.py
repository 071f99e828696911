"""Rows of a window in a catalog file, of which no more is read than the row groups that may hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.parquet.footers import read_structure
from ticklake.parquet.structure import RowGroup
from ticklake.types import Window

__all__ = ["count_rows", "pick", "read_rows", "row_groups"]

# Files are opened by Arrow and not by Python: its threads may hold on to a Python object for a moment longer
# than the reading takes, and abort the process where the interpreter ends first.


def count_rows(path: str | Path, window: Window) -> int:
    """Return how many rows of a catalog file lie in a window, by `ts_init`.

    Row groups that lie wholly inside are counted by the footer.
    """
    with pa.OSFile(str(path)) as stream:
        structure = read_structure(stream)
        with pq.ParquetFile(stream) as file:
            return sum(
                structure.row_groups[index].rows
                if whole
                else int(_inside(_times(file.read_row_group(index, columns=["ts_init"])), window).sum())
                for index, whole in _meeting(file, structure.row_groups, window)
            )


def read_rows(path: str | Path, window: Window, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of a catalog file that lie in a window, a row group at a time; `ts_init` is as int64.

    Args:
        path: The file.
        window: What of it, by `ts_init`.
        columns: Which columns, `ts_init` among them.
    """
    with pa.OSFile(str(path)) as stream:
        structure = read_structure(stream)
        with pq.ParquetFile(stream) as file:
            for index, _ in _meeting(file, structure.row_groups, window):
                rows = file.read_row_group(index, columns=list(columns))
                times = _times(rows)
                inside = _inside(times, window)
                if inside.any():
                    rows = rows.set_column(rows.schema.get_field_index("ts_init"), "ts_init", times)
                    yield pick(rows, inside)


def row_groups(path: str | Path, window: Window) -> list[int]:
    """Return the numbers of the row groups of a catalog file that may hold rows of a window, by `ts_init`."""
    with pa.OSFile(str(path)) as stream:
        structure = read_structure(stream)
        with pq.ParquetFile(stream) as file:
            return [index for index, _ in _meeting(file, structure.row_groups, window)]


def _meeting(file: pq.ParquetFile, groups: Sequence[RowGroup], window: Window) -> Iterator[tuple[int, bool]]:
    """Yield the row groups that may hold rows of the window, and whether all of their rows are."""
    column = file.schema.names.index("ts_init")
    for index, group in enumerate(groups):
        limits = group.chunk(column).integers()
        if limits is None:
            yield index, False
        elif limits[0] < window.end and limits[1] >= window.start:
            yield index, window.start <= limits[0] and limits[1] < window.end


def pick[T: (pa.RecordBatch, pa.Table)](rows: T, mask: npt.NDArray[np.bool_]) -> T:
    """Return the rows of a mask; where they are one stretch, without a copy, nor any import."""
    picked = np.flatnonzero(mask)
    if len(picked) == 0:
        return rows.slice(0, 0)
    first, last = int(picked[0]), int(picked[-1])
    if last - first + 1 == len(picked):
        return rows.slice(first, len(picked))
    return rows.filter(pa.array(mask))


def _times(rows: pa.Table) -> pa.ChunkedArray:
    # Not a cast, for which Arrow imports all of its compute module.
    return pa.chunked_array([chunk.view(pa.int64()) for chunk in rows["ts_init"].chunks], pa.int64())


def _inside(times: pa.ChunkedArray, window: Window) -> npt.NDArray[np.bool_]:
    """Return which of some times, as integers, are in a window."""
    array = times.combine_chunks()
    # Not `to_numpy`, which imports pandas: a run that finds its data in the catalog begins without it.
    nanos = np.frombuffer(array.buffers()[1], np.int64, len(array), 8 * array.offset)
    return (nanos >= window.start) & (nanos < window.end)
