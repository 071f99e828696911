"""No type of a library is made because a source file names it: its columns are what they are stored as."""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convert_support import BTC, TRADES, trades
from fetch_support import DAY, ask, made_trades, minutes, put_trades, rows_of
from ticklake.catalog import Catalog
from ticklake.conversion import convert
from ticklake.fetching import fetch
from ticklake.lake import Lake
from ticklake.lake.layout import Layout
from ticklake.parquet.footers import read_footer


class Trap(pa.ExtensionType):  # type: ignore[misc]  # the base class has no types
    """A type that counts how often a file makes Arrow make one."""

    made = 0

    def __init__(self, storage: pa.DataType) -> None:
        super().__init__(storage, "tests.trap")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, _: bytes) -> Trap:
        cls.made += 1
        return cls(storage)


@pytest.fixture(params=[True, False], ids=["registered", "unknown"])
def registered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Register the type, or do not."""
    if request.param:
        pa.register_extension_type(Trap(pa.string()))
    yield
    if request.param:
        pa.unregister_extension_type("tests.trap")


@contextmanager
def none_made() -> Iterator[None]:
    before = Trap.made
    yield
    assert Trap.made == before


def trapped(table: pa.Table, *names: str) -> pa.Table:
    """Return the table with columns in the type."""
    for name in names:
        column = table[name].combine_chunks()
        made = pa.ExtensionArray.from_storage(Trap(column.type), column)
        table = table.set_column(table.column_names.index(name), name, made)
    return table


def with_extensions(table: pa.Table) -> pa.Table:
    beside = table.append_column("note", pa.array(["x"] * len(table)))
    return trapped(beside, "trade_id", "price", "ts_init", "note")


def test_a_fetch_reads_what_is_stored(registered: None, tmp_path: Path) -> None:
    plain = made_trades(minutes())
    put_trades(tmp_path / "lake", with_extensions(plain))
    put_trades(tmp_path / "plain", plain)
    with none_made():
        for lake in ("lake", "plain"):
            report = fetch(Lake(tmp_path / lake), Catalog(tmp_path / f"of-{lake}"), [ask(0, DAY)])
            assert (report.rows, report.warnings) == (1_440, ())
    assert rows_of(tmp_path / "of-lake") == rows_of(tmp_path / "of-plain") == plain["trade_id"].to_pylist()


def test_bad_rows_are_kept_as_stored(registered: None, tmp_path: Path) -> None:
    plain = made_trades(minutes(), price=pa.array([-1.0] + [1.0] * 1_439))
    put_trades(tmp_path / "lake", with_extensions(plain))
    with none_made():
        fetch(Lake(tmp_path / "lake"), Catalog(tmp_path / "catalog"), [ask(0, DAY)])
        (kept,) = (tmp_path / "catalog" / "quarantine").rglob("*.parquet")
        assert pq.read_table(kept, partitioning=None)["price"].to_pylist() == [-1.0]


def test_files_that_are_converted_by_hand(registered: None, tmp_path: Path) -> None:
    path = tmp_path / "trades.parquet"
    pq.write_table(with_extensions(trades(5)), path)
    with none_made():
        result = convert(path, spec=BTC, data_type=TRADES)
    assert result.table.equals(convert(trades(5), spec=BTC, data_type=TRADES).table)


def footer_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    data = sink.getvalue()
    return data[-8 - int.from_bytes(data[-8:-4], "little") :]


def test_other_files_keep_the_types_of_their_writer() -> None:
    sides = pa.array(["buy", "sell", "buy"]).dictionary_encode()
    found = read_footer(footer_of(trades(3, aggressor_side=sides))).schema.to_arrow_schema()
    assert found.field("aggressor_side").type == sides.type


@pytest.mark.parametrize(
    "spoil",
    [
        lambda footer, schema: footer.replace(schema, schema[:-5] + b"=!!!="),
        lambda footer, schema: footer.replace(schema, schema[:-5] + b"\0AAAA"),
        # The same header of the field in Thrift's long form; and of the schema itself.
        lambda footer, schema: footer.replace(b"\x18\x0cARROW:schema\x18", b"\x08\x02\x0cARROW:schema\x18"),
        lambda footer, schema: footer.replace(b"\x0cARROW:schema\x18", b"\x0cARROW:schema\x08\x04"),
    ],
)
def test_a_schema_that_cannot_be_looked_into_is_left_out(
    registered: None, spoil: Callable[[bytes, bytes], bytes]
) -> None:
    footer = footer_of(with_extensions(trades(3)))
    (schema,) = re.findall(rb"ARROW:schema\x18[\x80-\xff]*[\x00-\x7f]([A-Za-z0-9+/=]+)", footer)
    spoilt = spoil(footer, schema)
    length = len(spoilt) - 8
    with none_made():
        found = read_footer(spoilt[:-8] + length.to_bytes(4, "little") + b"PAR1")
        assert b"ARROW:schema" not in (found.metadata or {})
        assert found.num_rows == 3


def test_two_schemas_are_left_out(registered: None) -> None:
    plain, trap = (
        footer_of(table.replace_schema_metadata({"second": "x" * 40}))
        for table in (trades(3), with_extensions(trades(3)))
    )
    assert plain.count(b"ARROW:schema") == trap.count(b"ARROW:schema") == 1
    with none_made():
        found = read_footer(trap.replace(b"x" * 40, b"ARROW:schema" + b"x" * 28))
        assert b"ARROW:schema" not in found.metadata


def test_an_instrument_list_is_read_so_too(registered: None, tmp_path: Path) -> None:
    listed = pa.table({"instrument_key": ["A:B:C"], "symbol": ["x"]})
    path = tmp_path / "lists" / Layout.of("default").instruments_path(dt.date(2024, 8, 8))
    path.parent.mkdir(parents=True)
    pq.write_table(trapped(listed, "symbol"), path)
    with none_made():
        table, _ = Lake(tmp_path, tmp_path / "lists").instruments("2024-08-08")
        assert table.to_pylist() == listed.to_pylist()
