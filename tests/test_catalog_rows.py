"""Rows of a window of a catalog file, against a plain filter."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from ticklake.catalog.rows import count_rows, read_rows
from ticklake.types import Window

TIMES = st.lists(st.integers(0, 60), min_size=1, max_size=40).map(sorted)


@given(TIMES, st.integers(1, 7), st.booleans(), st.integers(0, 60), st.integers(1, 60))
def test_they_are_those_that_a_filter_leaves(
    tmp_path_factory, times: list[int], group: int, statistics: bool, start: int, length: int
) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "rows.parquet"
    window = Window(start, start + length)
    columns = {
        "price": pa.array(range(len(times)), pa.int64()),
        "ts_init": pa.array(times, pa.timestamp("ns", tz="UTC")),
    }
    pq.write_table(pa.table(columns), path, row_group_size=group, write_statistics=statistics)
    expected = [(i, at) for i, at in enumerate(times) if window.start <= at < window.end]
    found = [
        (row["price"], row["ts_init"])
        for part in read_rows(path, window, ["ts_init", "price"])
        for row in part.to_pylist()
    ]
    assert found == expected
    assert count_rows(path, window) == len(expected)
