"""What is read of a footer is what pyarrow reads, also where row groups are passed over by their shape."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticklake.parquet.shapes import Shapes
from ticklake.parquet.structure import Chunk, Structure
from ticklake.parquet.thrift import BYTES, I32, I64, CompactError, Fields, Many, Parts, read_struct

LENGTHS = st.sampled_from([0, 1, 9, 10, 100, 127, 128, 300])
COLUMNS = st.lists(
    st.one_of(
        st.sampled_from([pa.int64(), pa.int32(), pa.float64(), pa.bool_(), pa.timestamp("ns")]),
        LENGTHS,
    ),
    min_size=1,
    max_size=6,
)


def column(kind: pa.DataType | int, rows: int, numbers: list[int]) -> pa.Array:
    """Return a column: texts of about a length, or numbers; where the number is 0, null."""
    found = [numbers[row % len(numbers)] for row in range(rows)]
    if isinstance(kind, int):
        return pa.array([str(n).rjust(kind, "x") if n else None for n in found], pa.string())
    if pa.types.is_boolean(kind):
        return pa.array([n % 2 == 0 if n else None for n in found])
    return pa.array([n or None for n in found]).cast(kind)


def footer_of(data: bytes) -> bytes:
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8]


def told(data: bytes) -> list[list[tuple[object, ...]]]:
    """Return what pyarrow reads of all columns of all row groups."""
    metadata = pq.read_metadata(io.BytesIO(data))
    found = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        columns = [group.column(number) for number in range(metadata.num_columns)]
        found.append([_told(one) for one in columns])
    return found


def _told(one: pq.ColumnChunkMetaData) -> tuple[object, ...]:
    known = one.statistics
    first = one.data_page_offset
    start = min(first, one.dictionary_page_offset or first)
    bounds = (known.min_raw, known.max_raw) if known is not None and known.has_min_max else (None, None)
    return (
        one.physical_type,
        one.num_values,
        one.total_uncompressed_size,
        (start, start + one.total_compressed_size),
        first,
        *bounds,
        one.has_column_index,
        one.has_offset_index,
    )


FORMATS = {"INT32": "<i", "INT64": "<q", "DOUBLE": "<d", "BOOLEAN": "<?"}


def _read(chunk: Chunk) -> tuple[object, ...]:
    def value(stored: bytes | None) -> object:
        if stored is None or chunk.physical_type == "BYTE_ARRAY":
            return stored
        return struct.unpack(FORMATS[chunk.physical_type], stored)[0]

    return (
        chunk.physical_type,
        chunk.values,
        chunk.uncompressed,
        (chunk.range.start, chunk.range.end),
        chunk.first_page,
        value(chunk.least),
        value(chunk.greatest),
        chunk.column_index is not None,
        chunk.offset_index is not None,
    )


def read(footer: bytes) -> list[list[tuple[object, ...]]]:
    groups = Structure.parse(footer).row_groups
    return [[_read(group.chunk(number)) for number in range(group.columns)] for group in groups]


@given(
    kinds=COLUMNS,
    numbers=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40),
    groups=st.integers(1, 40),
    rows=st.integers(1, 3),
    dictionary=st.booleans(),
    statistics=st.booleans(),
    index=st.booleans(),
)
def test_row_groups_are_read_as_pyarrow_reads_them(
    kinds: list[pa.DataType | int],
    numbers: list[int],
    groups: int,
    rows: int,
    *,
    dictionary: bool,
    statistics: bool,
    index: bool,
) -> None:
    columns = {str(n): column(kind, groups * rows, numbers) for n, kind in enumerate(kinds)}
    file = io.BytesIO()
    pq.write_table(
        pa.table(columns),
        file,
        row_group_size=rows,
        use_dictionary=dictionary,
        write_statistics=statistics,
        write_page_index=index,
    )
    data = file.getvalue()
    assert read(footer_of(data)) == told(data)


def test_what_polars_writes_is_read_as_pyarrow_reads_it() -> None:
    numbers = range(200)
    frame = pl.DataFrame({"a": numbers, "b": [str(10**n) for n in numbers], "c": [n / 7 for n in numbers]})
    file = io.BytesIO()
    frame.write_parquet(file, row_group_size=4)
    data = file.getvalue()
    assert len(told(data)) == 50
    assert read(footer_of(data)) == told(data)


_STATISTICS: Fields = {1: BYTES, 2: BYTES, 5: BYTES, 6: BYTES}
_COLUMN: Fields = {1: I32, 4: I32, 5: I64, 6: I64, 7: I64, 9: I64, 11: I64, 12: _STATISTICS}
_CHUNK: Fields = {1: BYTES, 3: _COLUMN, 4: I64, 5: I32, 6: I64, 7: I32, 8: {}}


def _one_by_one(footer: bytes) -> object:
    """Read a footer value by value: nothing of it is passed over by its shape."""
    try:
        found, end = read_struct(footer, {3: I64, 4: Many({1: Many(_CHUNK, 9, ""), 3: I64}, 99, "")})
    except CompactError:
        return None
    return found, end


SHAPES = Shapes()


def _by_shape(footer: bytes) -> object:
    try:
        found, end = read_struct(footer, {3: I64, 4: Many({1: Parts(SHAPES, 9, ""), 3: I64}, 99, "")})
        for group in found.get(4, []):
            if 1 in group:
                group[1] = [_whole(part) for part in group[1]]
    except CompactError:
        return None
    return found, end


def _whole(part: bytes) -> dict[int, Any]:
    found, end = read_struct(part, _CHUNK)
    assert end == len(part)
    return found


@pytest.fixture(scope="module")
def alike() -> bytes:
    table = pa.table({"a": range(120), "b": [str(n) for n in range(120)], "c": [n / 3 for n in range(120)]})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=4)
    return footer_of(file.getvalue())


@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_damage_is_read_as_if_value_by_value(alike: bytes, place: float, byte: int, *, cut: bool) -> None:
    position = int(place * len(alike))
    damaged = bytearray(alike)
    damaged[position] = byte
    footer = bytes(damaged[: position + 1] if cut else damaged)
    assert _by_shape(footer) == _one_by_one(footer)


def test_damage_that_changes_nothing_is_read(alike: bytes) -> None:
    assert _by_shape(alike) is not None
    assert _by_shape(alike) == _one_by_one(alike)


@pytest.fixture
def patterns(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The patterns that are compiled: what learning shapes takes."""
    made: list[bytes] = []
    compiled = re.compile

    def compile_one(pattern: bytes, flags: int = 0) -> re.Pattern[bytes]:
        made.append(pattern)
        return compiled(pattern, flags)

    monkeypatch.setattr(re, "compile", compile_one)
    return made


def flags(number: int, length: int = 60) -> bytes:
    """Return a struct of truth values, which stand in its shape: no other number has the same."""
    return bytes(0x11 + (number >> bit & 1) for bit in range(length)) + b"\0"


def pass_over(shapes: Shapes, place: int, structs: Iterable[bytes]) -> int:
    """Pass over structs at a place, and return of how many the shape was known."""
    known = 0
    for struct_ in structs:
        found = shapes.find(place, struct_, 0)
        assert found in (None, (len(struct_), 0))
        known += found is not None
        if found is None:
            shapes.missed(place, struct_)
    return known


def test_structs_of_ever_other_shapes_are_learnt_ever_less(patterns: list[bytes]) -> None:
    shapes = Shapes()
    assert pass_over(shapes, 0, map(flags, range(10_000))) == 0
    assert 1 < len(patterns) < 15
    assert pass_over(shapes, 1, [flags(20_000)] * 100) > 90, "another place is none the worse for it"


@pytest.mark.parametrize(("place", "length"), [(0, 600), (100_000, 60)])
def test_what_would_take_much_memory_is_not_learnt(patterns: list[bytes], place: int, length: int) -> None:
    assert pass_over(Shapes(), place, [flags(1, length)] * 100) == 0
    assert patterns == []
