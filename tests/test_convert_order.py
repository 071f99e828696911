"""The orderer equals a stable sort of everything, and holds back no more than it must."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticklake.conversion import Orderer
from ticklake.errors import ConversionError

BATCHES = st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=8)


def _table(keys: list[int], start: int = 0) -> pa.Table:
    return pa.table(
        {"ts_init": pa.array(keys, pa.int64()), "n": pa.array(range(start, start + len(keys)), pa.int64())}
    )


def _rows(table: pa.Table | None) -> list[tuple[int, int]]:
    if table is None:
        return []
    return list(zip(table["ts_init"].to_pylist(), table["n"].to_pylist(), strict=True))


def _tables(batches: list[list[int]]) -> list[pa.Table]:
    starts = [sum(map(len, batches[:i])) for i in range(len(batches))]
    return [_table(batch, start) for batch, start in zip(batches, starts, strict=True)]


@given(BATCHES, st.data())
def test_equals_a_stable_sort_of_everything(batches: list[list[int]], data: st.DataObject) -> None:
    tables = _tables(batches)
    everything = [row for table in tables for row in _rows(table)]
    orderer = Orderer()
    out: list[tuple[int, int]] = []
    for i, table in enumerate(tables):
        least = min((key for later in batches[i + 1 :] for key in later), default=None)
        # A caller may know less than the truth, never more.
        watermark = None if least is None else data.draw(st.integers(-1, least))
        got = _rows(orderer.push(table, watermark))
        out += got
        arrived = [row for earlier in tables[: i + 1] for row in _rows(earlier)]
        due = [row for row in arrived if watermark is None or row[0] <= watermark]
        assert len(out) >= len(due)  # what could go, went
        assert orderer.held_rows == len(arrived) - len(out)
    out += _rows(orderer.flush())

    assert out == sorted(everything, key=lambda row: row[0])  # sorted() is stable
    assert orderer.held_rows == 0
    assert orderer.flush() is None


def test_timestamps_are_keys_too() -> None:
    keys = pa.array([5, 3, 5, 4], pa.int64()).cast(pa.timestamp("ns", "UTC"))
    table = pa.table({"ts_init": keys, "n": [0, 1, 2, 3]})
    assert Orderer().push(table, None)["n"].to_pylist() == [1, 3, 0, 2]


def test_sorted_input_is_passed_on_without_a_copy() -> None:
    orderer = Orderer()
    for start in (0, 100, 200):
        table = _table(list(range(start, start + 100)), start)
        passed = orderer.push(table, start + 99)
        assert passed["n"].chunk(0).buffers()[1].address == table["n"].chunk(0).buffers()[1].address
        assert passed.num_rows == 100
    assert orderer.held_rows == 0


def test_holds_back_only_rows_after_the_watermark() -> None:
    orderer = Orderer()
    assert _rows(orderer.push(_table([1, 2, 3, 4]), 2)) == [(1, 0), (2, 1)]
    assert orderer.held_rows == 2
    assert _rows(orderer.push(_table([2, 3], 4), 3)) == [(2, 4), (3, 2), (3, 5)]
    assert _rows(orderer.push(_table([]), None)) == [(4, 3)]


def test_chunked_tables_and_dictionaries() -> None:
    chunk = pa.table({"ts_init": [9, 1], "s": pa.array(["a", "b"]).dictionary_encode()})
    table = pa.concat_tables([chunk, chunk])
    ordered = Orderer().push(table, None)
    assert ordered["ts_init"].to_pylist() == [1, 1, 9, 9]
    assert ordered["s"].to_pylist() == ["b", "b", "a", "a"]


def test_a_row_that_comes_too_late_is_an_error() -> None:
    orderer = Orderer()
    orderer.push(_table([10, 20]), 20)
    with pytest.raises(ConversionError, match=r"arrived after rows up to 1970-01-01T00:00:00\.00000002Z"):
        orderer.push(_table([19]), 20)
