"""Row groups that were encoded each by itself, joined: byte for byte the file that pyarrow writes at once."""

from __future__ import annotations

import io
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticklake.parquet.footers import MAGIC
from ticklake.parquet.joining import Joined

LEVEL = pa.struct([pa.field("price", pa.decimal128(38, 16), nullable=False), pa.field("count", pa.uint32())])
SCHEMA = pa.schema(
    [
        pa.field("levels", pa.list_(pa.field("item", LEVEL, nullable=False)), nullable=False),
        pa.field("side", pa.dictionary(pa.int8(), pa.string())),
        pa.field("id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("ns", "UTC")),
        pa.field("flag", pa.bool_()),
    ],
    metadata={"instrument_id": "X.Y", "type_name": "Z"},
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "levels": st.lists(
                st.fixed_dictionaries(
                    {"price": st.decimals(-1_000, 1_000, places=3), "count": st.integers(0, 9) | st.none()}
                ),
                max_size=4,
            ),
            "side": st.sampled_from(["BUY", "SELL", None]),
            "id": st.text(max_size=12),
            "time": st.integers(0, 2**40) | st.none(),
            "flag": st.booleans() | st.none(),
        }
    ),
    max_size=30,
)
OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "zstd"]),
        "use_dictionary": st.sampled_from([True, False, ["id"]]),
        "write_page_checksum": st.booleans(),
        "write_statistics": st.sampled_from([True, False, ["time"]]),
        "store_schema": st.booleans(),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "data_page_size": st.sampled_from([20, 1_000_000]),
    }
)


def at_once(groups: list[pa.Table], added: dict[str, str], options: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, SCHEMA, **options) as writer:
        for group in groups:
            writer.write_table(group)
        if added:
            writer.add_key_value_metadata(added)
    return sink.getvalue()


def joined(groups: list[pa.Table], added: dict[str, str], options: dict[str, Any]) -> bytes:
    made, out = Joined(), bytearray(MAGIC)
    for group in groups or [None]:
        out += made.add(memoryview(at_once([] if group is None else [group], {}, options)))
        assert made.position == len(out)
    return bytes(out) + made.footer({key.encode(): value.encode() for key, value in added.items()})


@given(
    st.lists(ROWS.filter(bool), max_size=20),
    st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=300), max_size=2),
    OPTIONS,
)
@settings(deadline=None)
def test_the_file_is_that_of_pyarrow(
    groups: list[list[dict[str, Any]]], added: dict[str, str], options: dict[str, Any]
) -> None:
    tables = [pa.Table.from_pylist(rows, SCHEMA) for rows in groups]
    assert joined(tables, added, options) == at_once(tables, added, options)


@pytest.mark.parametrize("count", [14, 15, 300])
def test_many_row_groups_are_read_by_others(count: int) -> None:
    ids = [f"{number}" * (number % 40) for number in range(count * 3)]
    table = pa.table({"id": ids, "number": range(count * 3)})
    made, out = Joined(), bytearray(MAGIC)
    for start in range(0, table.num_rows, 3):
        sink = io.BytesIO()
        pq.write_table(table.slice(start, 3), sink, compression="zstd")
        out += made.add(memoryview(sink.getvalue()))
    out += made.footer({b"key": b"value" * 100})
    data = bytes(out)
    assert pq.read_metadata(io.BytesIO(data)).num_row_groups == count
    assert pq.read_metadata(io.BytesIO(data)).metadata[b"key"] == b"value" * 100
    assert pq.read_table(io.BytesIO(data)).to_pylist() == table.to_pylist()
    assert pl.read_parquet(io.BytesIO(data)).rows() == [*zip(ids, range(count * 3), strict=True)]


def test_duckdb_reads_it_as_well(tmp_path: Any) -> None:
    tables = [
        pa.Table.from_pylist([{"levels": [], "id": str(n)} | dict.fromkeys(["side", "time", "flag"])], SCHEMA)
        for n in range(40)
    ]
    (tmp_path / "file.parquet").write_bytes(joined(tables, {"a": "b"}, {"compression": "zstd"}))
    found = duckdb.sql(f"select id from read_parquet('{tmp_path}/file.parquet')").fetchall()
    assert found == [(str(n),) for n in range(40)]
