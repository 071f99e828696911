"""1.x catalogs: written by us and read by the real 1.231.0, and the other way round."""

from __future__ import annotations

import errno
import json
import shutil
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.persistence import ParquetDataCatalog

from backtest_support import ETH, EXAMPLES, write_catalog
from cli_support import Cli, cli
from fetch_support import BTC_PERP, BTC_SPOT, INSTRUMENTS, MIDNIGHT, TICKS, local_lake, request
from ticklake.catalog import Catalog, disk, schema, verify
from ticklake.config import parse_config
from ticklake.errors import CatalogConflictError, CatalogCorruptError, CatalogError, ConfigError
from ticklake.fetching import fetch
from ticklake.types import CatalogType, InstrumentSpec
from ticklake.v1 import columns, convert_catalog
from v1_support import OldEngine, old_engine

__all__ = ["cli", "old_engine"]

_SIDES = {"BUY": "BUYER", "SELL": "SELLER", "NO_AGGRESSOR": "NO_AGGRESSOR"}
_V1_ONLY = {"maker_fee", "taker_fee", "tick_scheme_name"}


def objects_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return all objects of a 2.x catalog, as the engine reads them, in the words of 1.x."""
    catalog = ParquetDataCatalog(str(folder))
    trades = [tick.to_dict() for tick in catalog.query_trade_ticks()]
    return {
        "trades": [tick | {"aggressor_side": _SIDES[tick["aggressor_side"]]} for tick in trades],
        "deltas": [delta.to_dict() for delta in catalog.query_order_book_deltas()],
        "instruments": [each.to_dict() for each in catalog.instruments()],
    }


def same(ours: dict[str, list[dict[str, Any]]], theirs: dict[str, Any]) -> None:
    """Compare field by field, each instrument's objects in order."""
    for name in ("trades", "deltas"):
        by_id = [sorted(each[name], key=lambda one: one["instrument_id"]) for each in (ours, theirs)]
        assert len(by_id[0]) == len(by_id[1]) > 0
        for one, another in zip(*by_id, strict=True):
            assert one == another
    found = sorted(theirs["instruments"], key=lambda one: (one["id"], one["ts_init"]))
    wanted = sorted(ours["instruments"], key=lambda one: (one["id"], one["ts_init"]))
    assert len(found) == len(wanted) > 0
    for one, another in zip(wanted, found, strict=True):
        assert (one | {"info": one["info"] or None}) == {
            name: value for name, value in another.items() if name not in _V1_ONLY
        } | {"tick_scheme": another["tick_scheme_name"]}
        assert {name: another[name] for name in _V1_ONLY} == {
            "maker_fee": "0",
            "taker_fee": "0",
            "tick_scheme_name": None,
        }


@pytest.fixture(scope="module")
def ours(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of two instruments with trades, books and a window in which nothing happened."""
    catalog = tmp_path_factory.mktemp("ours") / "catalog"
    requests = [
        request(BTC_PERP, "trades", "2024-08-08T23:58:00Z"),
        request(BTC_PERP, "book_snapshot_5", "2024-08-08T23:59:30Z"),
        request(BTC_SPOT, "trades", "2024-08-08T23:59:00Z", "2024-08-09T00:01:00Z"),
        request(BTC_SPOT, "book_snapshot_5", "2024-08-08T23:59:50Z", MIDNIGHT),
        request(BTC_PERP, "trades", "2024-08-08T01:00:00Z", "2024-08-08T01:00:01Z"),
    ]
    fetch(local_lake(real_lake), Catalog(catalog), requests, keep="window")
    return catalog


def test_the_old_engine_reads_and_replays_what_we_convert(
    ours: Path, real_lake: Path, tmp_path: Path, old_engine: OldEngine
) -> None:
    report = convert_catalog(ours, tmp_path / "v1", to="v1")
    assert report.left_out == ()
    assert {path.name for path in (tmp_path / "v1" / "data").iterdir()} == {
        "trade_tick",
        "order_book_deltas",
        "crypto_perpetual",
        "currency_pair",
    }
    theirs = old_engine("replay", tmp_path / "v1", "BTCUSDT-PERP.BINANCE")
    same(objects_of(ours), theirs)
    files = Catalog(ours).files(CatalogType.TRADES, "BTCUSDT-PERP.BINANCE")
    assert theirs["intervals"]["BTCUSDT-PERP.BINANCE"] == [list(file.window.closed) for file in files]
    assert len(files) == 2
    replayed = [
        each
        for name in ("trades", "deltas")
        for each in theirs[name]
        if each["instrument_id"] == "BTCUSDT-PERP.BINANCE"
    ]
    assert theirs["iterations"] == len(replayed)

    back = tmp_path / "v2"
    convert_catalog(tmp_path / "v1", back, to="v2")
    assert Catalog(back).content_digest() == Catalog(ours).content_digest()
    assert objects_of(back) == objects_of(ours)
    assert not verify(Catalog(back)).bad
    # What is not known of a converted file is not asked of it.
    asked = request(BTC_PERP, "book_snapshot_5", "2024-08-08T23:59:30Z")
    assert fetch(local_lake(real_lake), Catalog(back), [asked]).rows == 0


def test_we_read_what_the_old_engine_wrote(tmp_path: Path, old_engine: OldEngine) -> None:
    theirs = old_engine("write", tmp_path / "v1")
    report = convert_catalog(tmp_path / "v1", tmp_path / "v2", to="v2")
    assert (len(report.files), report.left_out) == (10, ())
    found = objects_of(tmp_path / "v2")
    for name in ("trades", "deltas"):
        by_id = [sorted(each[name], key=lambda one: one["instrument_id"]) for each in (found, theirs)]
        assert by_id[0] == by_id[1]
    perpetual = next(each for each in found["instruments"] if each["type"] == "CryptoPerpetual")
    assert perpetual["info"] == {"note": "größer", "n": [1, 2], "maker_fee": "0.0002", "taker_fee": "0.0005"}
    assert {each["id"] for each in found["instruments"]} == {"BTCUSDT-PERP.BINANCE", "BTC/USDT.KRAKEN"}
    assert not verify(Catalog(tmp_path / "v2")).bad
    convert_catalog(tmp_path / "v2", tmp_path / "again", to="v1")
    assert old_engine("read", tmp_path / "again") == theirs


def test_a_run_config_keeps_a_catalog_of_the_old_engine(
    real_lake: Path, tmp_path: Path, cli: Cli, old_engine: OldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "lake": {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)},
        "catalog": str(tmp_path / "old"),
        "catalog_format": "v1",
        "window": {"start": "2024-08-08T23:59:00Z", "end": MIDNIGHT},
        "instruments": [{"key": BTC_PERP, "data": ["trades", "book_snapshot_5"]}],
        "runs": str(tmp_path / "runs"),
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "balances": ["1_000_000 USDT"],
                "fees": {"maker": "0.0002", "taker": "0.0005"},
            }
        },
        "strategies": [
            {
                "path": "trade_momentum:TradeMomentum",
                "config_path": "trade_momentum:TradeMomentumConfig",
                "config": {"instrument_id": "BTCUSDT-PERP.BINANCE", "size": "0.1"},
            }
        ],
    }
    (tmp_path / "run.json").write_text(json.dumps(config))
    monkeypatch.syspath_prepend(EXAMPLES)
    cli(0, "backtest", tmp_path / "run.json")
    store = tmp_path / "old" / ".ticklake" / "v2"
    made = files_in(tmp_path / "old")
    shutil.rmtree(tmp_path / "old" / "data")
    cli(0, "fetch", tmp_path / "run.json")
    assert files_in(tmp_path / "old") == made
    same(objects_of(store), old_engine("read", tmp_path / "old"))
    before = stamps(tmp_path / "old" / "data")
    (report,) = (json.loads(text) for text in cli(0, "fetch", tmp_path / "run.json", "--json")[:1])
    assert (report["rows"], report["bytes_read"]) == (0, 0)
    assert stamps(tmp_path / "old" / "data") == before
    assert not verify(Catalog(store)).bad
    cli(0, "verify", tmp_path / "run.json")
    with pytest.raises(ConfigError, match="holds books as deltas"):
        parse_config(config | {"instruments": [{"key": BTC_PERP, "book_as": "depth"}]})


# Without the old engine


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_second_conversion_writes_nothing_and_one_that_broke_off_goes_on(
    ours: Path, tmp_path: Path
) -> None:
    whole = convert_catalog(ours, tmp_path / "a", to="v1")
    before = stamps(tmp_path / "a")
    again = convert_catalog(ours, tmp_path / "a", to="v1")
    assert [file.written for file in again.files] == [False] * len(whole.files)
    assert stamps(tmp_path / "a") == before

    class StopError(Exception):
        pass

    def stop(file: Any) -> None:
        if file.written:
            raise StopError

    for n in range(len(whole.files)):
        with pytest.raises(StopError):
            convert_catalog(ours, tmp_path / "b", to="v1", on_file=stop)
        assert len(list((tmp_path / "b" / "data").rglob("*.parquet"))) == n + 1
    assert not any(file.written for file in convert_catalog(ours, tmp_path / "b", to="v1").files)
    for path in sorted((tmp_path / "a" / "data").rglob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_whatever_step_fails_files_are_whole_and_the_next_call_goes_on(ours: Path, tmp_path: Path) -> None:
    steps: list[disk.Step] = []
    with disk.observe(steps.append):
        convert_catalog(ours, tmp_path / "whole", to="v1")
    wanted = files_in(tmp_path / "whole")
    for number in range(3, len(steps), 31):
        target, left = tmp_path / str(number), number

        def fail(_: disk.Step) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

        with disk.observe(fail), pytest.raises(CatalogError, match="No space left"):
            convert_catalog(ours, target, to="v1")
        assert files_in(target).items() <= wanted.items()
        convert_catalog(ours, target, to="v1")
        assert files_in(target) == wanted


def files_in(catalog: Path) -> dict[str, bytes]:
    """Return what readers of a catalog find in it."""
    found = (catalog / "data").rglob("*") if catalog.exists() else ()
    return {path.relative_to(catalog).as_posix(): path.read_bytes() for path in found if path.is_file()}


def test_what_does_not_read_back_as_its_source_is_removed(
    ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = columns.to_version

    def wrong(folder: str, rows: pa.Table, target: pa.Schema) -> pa.Table:
        made = right(folder, rows, target)
        if (
            folder == "trades"
            and "trade_id" in made.column_names
            and made.schema.field("price").type == pa.binary(16)
        ):
            index = made.schema.get_field_index("price")
            made = made.set_column(index, made.schema.field("price"), made["size"])
        return made

    monkeypatch.setattr("ticklake.v1.convert.to_version", wrong)
    with pytest.raises(CatalogCorruptError, match="does not read back"):
        convert_catalog(ours, tmp_path / "v1", to="v1")
    assert all(pq.read_metadata(tmp_path / "v1" / name).num_rows == 0 for name in files_in(tmp_path / "v1"))


def test_a_file_without_a_record_is_compared_and_a_changed_source_converted_anew(
    ours: Path, tmp_path: Path
) -> None:
    target = tmp_path / "v1"
    convert_catalog(ours, target, to="v1")
    for record in (target / ".ticklake" / "converted").rglob("*.json"):
        record.unlink()
    assert not any(file.written for file in convert_catalog(ours, target, to="v1").files)
    victim = next(
        path for path in (target / "data" / "trade_tick").rglob("*.parquet") if "T23-58" in path.name
    )
    table = pq.read_table(victim, partitioning=None)
    pq.write_table(table.slice(1), victim)
    with pytest.raises(CatalogConflictError, match="is not what"):
        convert_catalog(ours, target, to="v1")
    victim.unlink()
    assert sum(file.written for file in convert_catalog(ours, target, to="v1").files) == 1


def test_joined_sources_replace_what_they_were_converted_to(tmp_path: Path, real_lake: Path) -> None:
    catalog = Catalog(tmp_path / "v2")
    for start, end in (("23:58:00", "23:58:30"), ("23:58:30", "23:59:00")):
        asked = request(BTC_PERP, "trades", f"2024-08-08T{start}Z", f"2024-08-08T{end}Z")
        fetch(local_lake(real_lake), catalog, [asked], keep="window")
    convert_catalog(catalog.path, tmp_path / "v1", to="v1")
    from ticklake.catalog.compaction import compact

    compact(catalog)
    convert_catalog(catalog.path, tmp_path / "v1", to="v1")
    (file,) = (tmp_path / "v1" / "data" / "trade_tick").rglob("*.parquet")
    (source,) = catalog.files(CatalogType.TRADES, "BTCUSDT-PERP.BINANCE")
    assert file.name == source.path.name
    assert pq.read_metadata(file).num_rows == pq.read_metadata(source.path).num_rows


def test_what_is_left_out_is_told_and_what_is_wrong_refused(
    real_lake: Path, tmp_path: Path, cli: Cli
) -> None:
    catalog = write_catalog(real_lake, tmp_path)  # has depths too
    out, err = cli(1, "convert-catalog", catalog, tmp_path / "v1", "--to", "v1", "--json")
    report = json.loads(out)
    assert report["written"] == report["files"] == 3
    assert report["left_out"] == ["data/order_book_depths: its rows are not converted"]
    assert "order_book_depths" in err
    stray = next((tmp_path / "v1" / "data" / "trade_tick").iterdir()) / "part-0.parquet"
    stray.write_bytes(b"")
    _, err = cli(1, "convert-catalog", tmp_path / "v1", tmp_path / "back", "--to", "v2")
    assert f"{stray.relative_to(tmp_path / 'v1')}: its name does not say its window" in err
    assert Catalog(tmp_path / "back").files(CatalogType.DELTAS, ETH)
    with pytest.raises(CatalogError, match="is no trades of v1"):
        convert_catalog(_renamed(tmp_path / "wrong", catalog), tmp_path / "x", to="v2")
    with pytest.raises(ConfigError, match="is no catalog"):
        convert_catalog(tmp_path / "none", tmp_path / "x", to="v2")
    with pytest.raises(ConfigError, match="the source itself"):
        convert_catalog(catalog, catalog, to="v1")
    broken = next((catalog / "data" / "trades").rglob("*.parquet"))
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(CatalogCorruptError, match="no readable Parquet"):
        convert_catalog(catalog, tmp_path / "y", to="v1")


def _renamed(folder: Path, catalog: Path) -> Path:
    """Return a catalog of 2.x files under a folder's name of 1.x."""
    source = next((catalog / "data" / "trades").rglob("*.parquet"))
    target = folder / "data" / "trade_tick" / source.parent.name / source.name
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    return folder


def test_standard_precision_and_undefined_prices_are_refused(tmp_path: Path) -> None:
    at = 1_723_161_480 * 10**9
    name = "2024-08-08T23-58-00-000000000Z_2024-08-08T23-58-00-000000000Z.parquet"
    metadata = {"instrument_id": "X.Y", "price_precision": "1", "size_precision": "3"}
    for width, price, match in (
        (8, b"\1" * 8, "only those of 128 bits"),
        (16, b"\xff" * 15 + b"\x7f", "no equivalent"),
    ):
        columns = {
            "price": pa.array([price], pa.binary(width)),
            "size": pa.array([b"\0" * width], pa.binary(width)),
            "aggressor_side": pa.array([1], pa.uint8()),
            "trade_id": pa.array(["1"]),
            "ts_event": pa.array([at], pa.uint64()),
            "ts_init": pa.array([at], pa.uint64()),
        }
        path = tmp_path / str(width) / "data" / "trade_tick" / "X.Y" / name
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
        with pytest.raises(CatalogError, match=match):
            convert_catalog(tmp_path / str(width), tmp_path / f"to{width}", to="v2")
        assert not list((tmp_path / f"to{width}").rglob("*.parquet"))


_RAW = st.integers(0, 17_014_118_346_046 * 10**16)
_TIMES = st.integers(0, 2**63 - 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ADD", "UPDATE", "DELETE", "CLEAR"]),
            st.sampled_from(["NO_ORDER_SIDE", "BUY", "SELL"]),
            _RAW,
            _RAW,
            st.integers(0, 2**64 - 1),
            st.integers(0, 255),
            st.integers(0, 2**64 - 1),
            _TIMES,
            _TIMES,
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 7),
)
@settings(max_examples=50)
def test_any_rows_go_there_and_back(rows: list[tuple[Any, ...]], start: int) -> None:
    """Also slices of a table, whose arrays begin within their buffers."""
    ours = schema(CatalogType.DELTAS, InstrumentSpec("X.Y", 2, 3))
    values: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    for index in (2, 3):
        values[index] = [Decimal(raw).scaleb(-16, Context(prec=40)) for raw in values[index]]
    arrays = [
        pa.array(column, pa.int64()).cast(field.type) if index > 6 else pa.array(column, field.type)
        for index, (column, field) in enumerate(zip(values, ours, strict=True))
    ]
    table = pa.Table.from_arrays(arrays, schema=ours).slice(start)
    old = columns.target_schema("order_book_deltas", "v1", ours.metadata, "X.Y")
    there = columns.to_version("order_book_deltas", table, old)
    raws = [int.from_bytes(each, "little") for each in there["price"].to_pylist()]
    assert raws == [row[2] for row in rows[start:]]
    back = columns.to_version("order_book_deltas", there, ours)
    assert back.to_pydict() == table.to_pydict()
