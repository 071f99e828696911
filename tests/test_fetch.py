"""From a lake into a catalog: on real ticks, over real servers, read back by the engine."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.model import AggressorSide
from nautilus_trader.persistence import ParquetDataCatalog

from fetch_support import (
    BTC_PERP,
    BTC_SPOT,
    ETH_PERP,
    INSTRUMENTS,
    MIDNIGHT,
    TICKS,
    cloud_lake,
    cloud_of,
    files_of,
    local_lake,
    request,
)
from lake_support import RangeServer
from ticklake.catalog import Catalog, read_provenance
from ticklake.config import DialectConfig, InstrumentDefinition
from ticklake.errors import (
    CatalogConflictError,
    ConfigError,
    ConversionError,
    LakeError,
    MissingDataError,
    NotCachedError,
    PrecisionError,
    SourceSchemaError,
)
from ticklake.fetching import FetchRequest, WindowStatus, fetch, plan_fetch
from ticklake.lake import Lake
from ticklake.lake.footers import FOOTER_GUESS
from ticklake.types import CatalogType, DataType, InstrumentKey, Window, merge_windows, parse_nanos

IDS = {BTC_PERP: "BTCUSDT-PERP.BINANCE", ETH_PERP: "ETHUSDT-PERP.BINANCE", BTC_SPOT: "BTCUSDT.BINANCE"}
# The perpetual's trades of 2024-08-09 are not in the lake; everything else reaches past midnight.
ENDS = {BTC_PERP: MIDNIGHT, ETH_PERP: MIDNIGHT, BTC_SPOT: "2024-08-09T00:10:00Z"}
EVERYTHING = [
    request(key, data_type, end=end, book_as=book_as)
    for key, end in ENDS.items()
    for data_type, book_as in (
        ("trades", "deltas"),
        ("book_snapshot_5", "deltas"),
        ("book_snapshot_5", "depth"),
    )
]


def day_of(nanos: int) -> str:
    return str(dt.datetime.fromtimestamp(nanos // 10**9, dt.UTC).date())


def level(order) -> list[Decimal]:
    return [order.price.as_decimal(), order.size.as_decimal()]


@pytest.fixture(scope="module")
def whole(real_lake, tmp_path_factory):
    """A catalog of all the real ticks that have no hole."""
    path = tmp_path_factory.mktemp("whole") / "catalog"
    report = fetch(local_lake(real_lake), Catalog(path), EVERYTHING)
    return path, report


@pytest.fixture
def lake_copy(real_lake, tmp_path) -> Path:
    shutil.copytree(real_lake, tmp_path / "lake", ignore=shutil.ignore_patterns("*.md", "*.json"))
    for path in (tmp_path / "lake").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tmp_path / "lake"


def tick_file(folder: Path, key: str, data_type: str, day: str = "2024-08-08") -> Path:
    return folder / TICKS / f"raw_tick_data/by_date/day-{day}/data_type-{data_type}/{key}.parquet"


@pytest.mark.parametrize("key", IDS)
def test_trades_of_the_recordings_come_back_out_of_the_catalog(whole, facts, key):
    engine = ParquetDataCatalog(str(whole[0]))
    trades = engine.query_trade_ticks([IDS[key]])
    for day in ("2024-08-08", "2024-08-09"):
        fact = facts.get(f"{key} {day} trades")
        if fact is None:
            continue
        found = [trade for trade in trades if day_of(trade.ts_event) == day]
        found.sort(key=lambda trade: int(trade.trade_id.value))
        assert len(found) == fact["rows"]
        volume = sum((trade.size.as_decimal() for trade in found), Decimal())
        assert volume == Decimal(str(fact["volume"]))
        assert (found[0].trade_id.value, found[-1].trade_id.value) == (fact["first_id"], fact["last_id"])
        assert sum(trade.aggressor_side == AggressorSide.BUY for trade in found) == fact["buys"]


@pytest.mark.parametrize("key", IDS)
def test_books_of_the_recordings_come_back_out_of_the_catalog(whole, facts, key):
    engine = ParquetDataCatalog(str(whole[0]))
    depths = engine.query_order_book_depths([IDS[key]])
    deltas = engine.query_order_book_deltas([IDS[key]])
    for day in ("2024-08-08", "2024-08-09"):
        fact = facts[f"{key} {day} book_snapshot_5"]
        found = [depth for depth in depths if day_of(depth.ts_event) == day]
        if day == "2024-08-08":
            assert level(found[0].bids[0]) == [Decimal(str(number)) for number in fact["first_bid"]]
        if ENDS[key] != MIDNIGHT or day == "2024-08-08":
            assert len(found) == fact["rows"]
            clears = [delta for delta in deltas if delta.is_clear and day_of(delta.ts_event) == day]
            assert len(clears) == fact["rows"]
            assert level(found[-1].asks[0]) == [Decimal(str(number)) for number in fact["last_ask"]]


def test_rows_are_in_the_order_of_the_engines_clock(whole):
    for path in (whole[0] / "data").glob("[to]*/*/*.parquet"):
        times = pq.read_table(path, columns=["ts_init"]).column(0).cast(pa.int64()).to_pylist()
        assert times == sorted(times)
        name = path.stem
        assert day_of(times[0]) == day_of(times[-1]) == name[:10]


def test_every_source_row_is_accounted_for(whole, facts):
    report = whole[1]
    sources = sum(fact["rows"] * (2 if "book" in name else 1) for name, fact in facts.items())
    assert report.source_rows == sources
    assert report.outside == 0
    assert not report.quarantined
    values = report.to_dict()
    assert values["rows"] == sum(window["rows"] for window in values["windows"])
    assert {"rows", "files", "requests", "bytes_read", "seconds", "quarantined", "windows"} <= set(values)


def test_crossed_books_of_the_recording_are_counted_and_kept(whole, real_lake):
    files = tick_file(real_lake, BTC_SPOT, "book_snapshot_5", "*")
    crossed = duckdb.sql(f"select count(*) from '{files}' where bid_price_1 >= ask_price_1").fetchall()[0][0]
    assert f"{BTC_SPOT} book_snapshot_5: {crossed:,} rows have a crossed book" in " ".join(whole[1].warnings)


def test_definitions_are_the_live_adapters(whole):
    found = {str(one.id): one for one in ParquetDataCatalog(str(whole[0])).instruments()}
    assert set(found) == set(IDS.values())
    assert str(found["BTCUSDT-PERP.BINANCE"].price_increment) == "0.1"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_same_comes_over_a_cloud_store_in_the_requests_and_bytes_reported(real_lake, tmp_path, scheme):
    requests = [request(BTC_PERP, "trades"), request(BTC_SPOT, "book_snapshot_5", end=ENDS[BTC_SPOT])]
    local = fetch(local_lake(real_lake), Catalog(tmp_path / "local"), requests)
    with cloud_of(real_lake) as server:
        lake = cloud_lake(server, scheme)
        catalog = Catalog(tmp_path / "cloud")
        plan = plan_fetch(lake, catalog, requests)
        planning = len(server.requests)
        report = fetch(lake, catalog, requests)
        assert report.rows == local.rows
        # Two more than planned: the perpetual's absent neighbour day is asked for again, under two names.
        assert len(server.requests) - planning == report.requests == plan.requests + 2
        assert report.bytes_read == plan.bytes
        server.requests.clear()

        again = fetch(cloud_lake(server, scheme), catalog, requests)
        assert (again.requests, again.bytes_read, again.files) == (0, 0, 0)
        assert len(server.requests) == 0
    # The server is gone: what is covered needs none.
    assert fetch(cloud_lake(server, scheme), catalog, requests, offline=True).rows == 0
    # A Parquet file differs in its provenance, so rows are compared.
    for name in files_of(tmp_path / "local"):
        assert pq.read_table(tmp_path / "local" / name, partitioning=None).equals(
            pq.read_table(tmp_path / "cloud" / name, partitioning=None)
        )


def test_a_window_costs_one_footer_and_the_row_groups_it_meets(real_lake, tmp_path):
    with cloud_of(real_lake) as server:
        asked = request(BTC_PERP, "trades", "2024-08-08T23:56:00Z", "2024-08-08T23:56:30Z")
        report = fetch(cloud_lake(server, "s3"), Catalog(tmp_path / "c"), [asked], keep="window")
        ticks = [one for one in server.requests.log if TICKS in one.path]
        assert ticks[0].range == f"bytes=-{FOOTER_GUESS}"
        assert len(ticks) == 2
        assert sum(one.sent for one in ticks) < 200_000  # of 399,170
    path = tick_file(real_lake, BTC_PERP, "trades")
    start, end = asked.window.start, asked.window.end
    rows = duckdb.sql(
        f"select count(*) from '{path}' where ts_init >= {start} and ts_init < {end}"
    ).fetchall()
    assert report.rows == rows[0][0]


def test_only_the_rest_of_a_longer_window_is_read(real_lake, tmp_path):
    catalog = Catalog(tmp_path / "c")
    lake = local_lake(real_lake)
    first = fetch(lake, catalog, [request(BTC_SPOT, "trades", end="2024-08-08T23:58:00Z")], keep="window")
    kept = files_of(catalog.path)
    second = fetch(lake, catalog, [request(BTC_SPOT, "trades", end=ENDS[BTC_SPOT])])
    assert [(w.status.value, str(w.window)) for w in second.windows] == [
        ("cached", "2024-08-08T23:50:00Z/2024-08-08T23:58:00Z"),
        ("fetched", "2024-08-08T23:58:00Z/2024-08-09T00:00:00Z"),
        ("fetched", "2024-08-09T00:00:00Z/2024-08-09T00:10:00Z"),
    ]
    assert first.rows + second.rows == 9738 + 10166
    now = files_of(catalog.path)
    assert {name: now[name] for name in kept} == kept
    assert sorted(name.rpartition("/")[2] for name in now) == [
        "2024-08-08T23-50-00-000000000Z_2024-08-08T23-57-59-999999999Z.parquet",
        "2024-08-08T23-58-00-000000000Z_2024-08-08T23-59-59-999999999Z.parquet",
        "2024-08-09T00-00-00-000000000Z_2024-08-09T00-09-59-999999999Z.parquet",
    ]


def test_a_file_tells_where_its_rows_come_from(real_lake, tmp_path):
    catalog = Catalog(tmp_path / "c")
    fetch(local_lake(real_lake), catalog, [request(BTC_SPOT, "trades", end=ENDS[BTC_SPOT])])
    first, second = catalog.files(CatalogType.TRADES, IDS[BTC_SPOT])
    provenance = read_provenance(first.path)
    assert (provenance.lake_key, provenance.data_type) == (BTC_SPOT, "trades")
    # Trades of the first second of 2024-08-09 reached the recorder before its midnight.
    assert [Path(source.url).parts[-3] for source in provenance.sources] == [
        "day-2024-08-08",
        "day-2024-08-09",
    ]
    assert [source.rows for source in provenance.sources] == [9738, 10166]
    assert all(source.etag and source.size for source in provenance.sources)
    counts = [read_provenance(file.path).counts["rows"] for file in (first, second)]
    assert sum(counts) == 9738 + 10166
    assert counts[0] > 9738


def test_a_window_without_a_trade_is_known_to_be_empty(real_lake, tmp_path):
    catalog, lake = Catalog(tmp_path / "c"), local_lake(real_lake)
    asked = request(BTC_PERP, "trades", "2024-08-08T10:00:00Z", "2024-08-08T10:05:00Z")
    report = fetch(lake, catalog, [asked])
    assert [(window.status, window.rows) for window in report.windows] == [(WindowStatus.EMPTY, 0)]
    assert fetch(lake, catalog, [asked], offline=True).windows[0].status is WindowStatus.CACHED
    assert ParquetDataCatalog(str(catalog.path)).query_trade_ticks([IDS[BTC_PERP]]) == []


def test_offline_lists_all_that_is_missing_and_connects_to_nothing(real_lake, tmp_path):
    with RangeServer() as server:
        lake = Lake(server.url, server.url)
        catalog = Catalog(tmp_path / "c")
        first = [request(BTC_PERP, "trades", "2024-08-08T23:55:00Z")]
        fetch(local_lake(real_lake), catalog, first, keep="window")
        asked = [request(BTC_PERP, "trades"), request(ETH_PERP, "trades")]
        with pytest.raises(NotCachedError) as caught:
            fetch(lake, catalog, asked, offline=True)
        assert caught.value.missing == (
            f"{BTC_PERP} trades 2024-08-08T23:50:00Z/2024-08-08T23:55:00Z",
            f"{ETH_PERP} trades 2024-08-08T23:50:00Z/2024-08-09T00:00:00Z (and the instrument's definition)",
        )
        assert len(server.requests) == 0


def test_holes_stop_before_anything_is_written_and_can_be_skipped(real_lake, tmp_path):
    lake, catalog = local_lake(real_lake), Catalog(tmp_path / "c")
    asked = [request(BTC_SPOT, "trades"), request(BTC_PERP, "trades", end="2024-08-10T00:00:00Z")]
    with pytest.raises(MissingDataError, match="on_hole: skip") as caught:
        fetch(lake, catalog, asked)
    assert caught.value.holes == (f"{BTC_PERP} trades 2024-08-09T00:00:00Z/2024-08-10T00:00:00Z",)
    assert files_of(catalog.path) == {}

    report = fetch(lake, catalog, asked, on_hole="skip")
    assert [str(hole) for hole in report.holes] == list(caught.value.holes)
    assert sum(window.rows or 0 for window in report.windows if window.instrument == BTC_PERP) == 21313
    # A hole is not covered: it is looked for again.
    assert fetch(lake, catalog, asked, on_hole="skip").holes == report.holes


def test_the_neighbouring_day_is_no_hole(real_lake, tmp_path):
    # The perpetual has no trades file of 2024-08-09, whose first rows could belong to this window.
    report = fetch(local_lake(real_lake), Catalog(tmp_path / "c"), [request(BTC_PERP, "trades")])
    assert not report.holes


def test_a_refresh_replaces_what_the_source_changed(lake_copy, tmp_path):
    catalog = Catalog(tmp_path / "c")
    asked = [request(BTC_PERP, "trades", "2024-08-08T23:55:00Z", "2024-08-08T23:56:00Z")]
    path = tick_file(lake_copy, BTC_PERP, "trades")
    before = fetch(local_lake(lake_copy), catalog, asked)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.filter(pa.compute.equal(table["aggressor_side"], 1)), path)

    assert fetch(local_lake(lake_copy), catalog, asked).bytes_read == 0
    after = fetch(local_lake(lake_copy), catalog, asked, refresh=True)
    assert 0 < after.rows < before.rows
    trades = ParquetDataCatalog(str(catalog.path)).query_trade_ticks([IDS[BTC_PERP]])
    assert len(trades) == after.rows
    assert {trade.aggressor_side for trade in trades} == {AggressorSide.BUY}
    assert len(files_of(catalog.path)) == 1


def test_a_refresh_uses_nothing_that_the_lake_kept(lake_copy, tmp_path):
    catalog, lake = Catalog(tmp_path / "c"), local_lake(lake_copy)
    asked = [request(BTC_PERP, "trades", "2024-08-08T23:55:00Z", "2024-08-08T23:56:00Z")]
    path = tick_file(lake_copy, BTC_PERP, "trades")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.filter(pa.compute.equal(table["aggressor_side"], 1)), path)
    before = fetch(lake, catalog, asked)
    pq.write_table(table, path)
    after = fetch(lake, catalog, asked, refresh=True)
    assert after.rows > before.rows
    assert after.rows == fetch(local_lake(lake_copy), Catalog(tmp_path / "new"), asked).rows


def test_a_window_of_a_file_that_grew_is_not_known_to_be_empty(lake_copy, tmp_path):
    catalog, lake = Catalog(tmp_path / "c"), local_lake(lake_copy)
    path = tick_file(lake_copy, BTC_PERP, "trades")
    table = pq.read_table(path, partitioning=None)
    late = parse_nanos("2024-08-08T23:55:00Z")
    pq.write_table(table.filter(pa.compute.less(table["ts_init"], late)), path)
    fetch(lake, catalog, [request(BTC_PERP, "trades", "2024-08-08T23:50:00Z", "2024-08-08T23:51:00Z")])
    pq.write_table(table, path)
    report = fetch(
        lake, catalog, [request(BTC_PERP, "trades", "2024-08-08T23:56:00Z", "2024-08-08T23:57:00Z")]
    )
    assert report.rows > 0


def test_a_refresh_of_part_of_a_file_reads_the_whole_of_it_anew(lake_copy, tmp_path):
    catalog, lake = Catalog(tmp_path / "c"), local_lake(lake_copy)
    fetch(lake, catalog, [request(BTC_SPOT, "trades")])
    report = fetch(
        lake,
        catalog,
        [request(BTC_SPOT, "trades", "2024-08-08T23:59:00Z", "2024-08-09T00:01:00Z")],
        refresh=True,
    )
    assert [str(window.window) for window in report.windows] == [
        "2024-08-08T23:50:00Z/2024-08-09T00:00:00Z",
        "2024-08-09T00:00:00Z/2024-08-09T00:01:00Z",
    ]


@pytest.mark.parametrize("failing", ["first", "second"])
def test_a_failing_read_publishes_nothing(real_lake, tmp_path, failing):
    with RangeServer() as server:
        for bucket in (TICKS, INSTRUMENTS):
            for path in (real_lake / bucket).rglob("*.parquet"):
                server.objects[path.relative_to(real_lake).as_posix()] = path.read_bytes()
        lake = Lake(f"{server.url}/{TICKS}", f"{server.url}/{INSTRUMENTS}")
        catalog = Catalog(tmp_path / "c")
        day = "08" if failing == "first" else "09"

        def refuse(one):
            if one.range and "bytes=-" not in one.range and f"day-2024-08-{day}" in one.path:
                server.status[one.path] = 403

        server.before = refuse
        with pytest.raises(LakeError, match=r"403|denied|refused"):
            fetch(lake, catalog, [request(BTC_SPOT, "trades", end=ENDS[BTC_SPOT])])
        assert files_of(catalog.path) == {}
        assert list(catalog.path.rglob("*.tmp")) == []


def spoiled(path: Path, column: str, row: int, value: object) -> None:
    table = pq.read_table(path, partitioning=None)
    values = table[column].to_pylist()
    values[row] = value
    index = table.schema.get_field_index(column)
    pq.write_table(table.set_column(index, column, pa.array(values, table.schema.field(column).type)), path)


def test_bad_rows_are_kept_whole_in_quarantine_and_counted(lake_copy, tmp_path):
    path = tick_file(lake_copy, BTC_PERP, "trades")
    spoiled(path, "price", 100, 61800.123)
    spoiled(path, "size", 200, -1.0)
    spoiled(path, "ts_init", 300, None)
    source = pq.read_table(path, partitioning=None).to_pylist()
    catalog = Catalog(tmp_path / "c")
    report = fetch(local_lake(lake_copy), catalog, [request(BTC_PERP, "trades")])
    assert dict(report.quarantined) == {"off_precision": 1, "negative_size": 1, "null_time": 1}
    assert report.rows == 21313 - 3
    (kept,) = (catalog.path / "quarantine").rglob("*.parquet")
    rows = pq.read_table(kept, partitioning=None).to_pylist()
    assert [(row["row"], row["reason"]) for row in rows] == [
        (100, "off_precision"),
        (200, "negative_size"),
        (300, "null_time"),
    ]
    assert {row["source"] for row in rows} == {path.as_uri().replace("%40", "@").replace("%3A", ":")}
    for row in rows:
        expected = source[row["row"]]
        assert {name: row[name] for name in ("price", "size", "trade_id", "ts_event")} == {
            name: expected[name] for name in ("price", "size", "trade_id", "ts_event")
        }
    (file,) = catalog.files(CatalogType.TRADES, IDS[BTC_PERP])
    counts = read_provenance(file.path).counts
    assert counts["rows"] + sum(n for name, n in counts.items() if name.startswith("quarantined")) == 21313


def test_bad_rows_beyond_the_limit_or_with_fail_are_errors_that_name_them(lake_copy, tmp_path):
    path = tick_file(lake_copy, BTC_PERP, "trades")
    spoiled(path, "price", 12_345, 61800.123)
    asked = [request(BTC_PERP, "trades")]
    lake = local_lake(lake_copy)
    with pytest.raises(PrecisionError, match=r"row 12345 .*61800\.123"):
        fetch(lake, Catalog(tmp_path / "a"), asked, on_bad_row="fail")
    with pytest.raises(ConversionError, match="more than 0 rows cannot be converted: 1 off_precision"):
        fetch(lake, Catalog(tmp_path / "b"), asked, max_bad_rows=0)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") == {}


def test_a_refetch_after_the_source_was_mended_empties_the_quarantine(lake_copy, tmp_path):
    path = tick_file(lake_copy, BTC_PERP, "trades")
    good = path.read_bytes()
    spoiled(path, "price", 100, -1.0)
    catalog, asked = Catalog(tmp_path / "c"), [request(BTC_PERP, "trades")]
    fetch(local_lake(lake_copy), catalog, asked)
    path.write_bytes(good)
    assert fetch(local_lake(lake_copy), catalog, asked, refresh=True).rows == 21313
    assert list((catalog.path / "quarantine").rglob("*.parquet")) == []


def test_files_without_the_suffix_are_found(lake_copy, tmp_path):
    for data_type in ("trades", "book_snapshot_5"):
        path = tick_file(lake_copy, BTC_PERP, data_type)
        path.rename(tick_file(lake_copy, BTC_PERP.removesuffix("@LIN"), data_type))
    report = fetch(local_lake(lake_copy), Catalog(tmp_path / "c"), [request(BTC_PERP, "trades")])
    assert report.rows == 21313


def test_an_instrument_of_the_config_needs_no_instrument_list(real_lake, tmp_path):
    definition = InstrumentDefinition(
        type="perpetual", base="BTC", quote="USDT", raw_symbol="BTCUSDT", tick_size="0.1", min_size="0.001"
    )
    asked = FetchRequest(
        InstrumentKey(BTC_PERP),
        DataType("trades"),
        Window.parse("2024-08-08T23:50:00Z", MIDNIGHT),
        nautilus_id="MYBTC.BINANCE",
        definition=definition,
    )
    catalog = Catalog(tmp_path / "c")
    lake = Lake(real_lake / TICKS)
    assert fetch(lake, catalog, [asked]).rows == 21313
    assert fetch(lake, catalog, [asked], offline=True).windows[0].status is WindowStatus.CACHED
    assert len(ParquetDataCatalog(str(catalog.path)).query_trade_ticks(["MYBTC.BINANCE"])) == 21313


def test_without_list_or_definition_the_error_says_what_to_do(real_lake, tmp_path):
    with pytest.raises(ConfigError, match="define the instrument"):
        fetch(Lake(real_lake / TICKS), Catalog(tmp_path / "c"), [request(BTC_PERP, "trades")])
    with pytest.raises(ConfigError, match=r"BTC-USDT@LIN"):
        fetch(
            local_lake(real_lake),
            Catalog(tmp_path / "c"),
            [request("BINANCE-FUTURES:PERPETUAL:BTC-USD", "trades")],
        )


def test_a_cached_book_of_another_depth_is_a_conflict(real_lake, tmp_path, lake_copy):
    catalog = Catalog(tmp_path / "c")
    fetch(local_lake(lake_copy), catalog, [request(BTC_PERP, "book_snapshot_5")])
    with pytest.raises(CatalogConflictError, match="book_snapshot_5 there, book_snapshot_3 asked for"):
        fetch(local_lake(lake_copy), catalog, [request(BTC_PERP, "book_snapshot_3")])


def test_a_dry_run_writes_nothing_and_tells_what_would_move(real_lake, tmp_path):
    catalog = Catalog(tmp_path / "c")
    with cloud_of(real_lake) as server:
        lake = cloud_lake(server, "s3")
        asked = [request(BTC_PERP, "trades", "2024-08-08T23:56:00Z", "2024-08-08T23:56:30Z")]
        plan = plan_fetch(lake, catalog, asked)
        assert not catalog.path.exists()
        values = json.loads(json.dumps(plan.to_dict()))
        planned = len(server.requests)
        report = fetch(lake, catalog, asked)
        assert (values["bytes"], values["requests"]) == (report.bytes_read, len(server.requests) - planned)
        (entry,) = values["objects"]
        assert entry["url"].endswith(f"{BTC_PERP}.parquet")
        assert 0 < entry["share"] < 0.5


def test_rows_far_from_their_day_are_warned_about_and_kept(lake_copy, tmp_path):
    path = tick_file(lake_copy, BTC_PERP, "trades")
    spoiled(path, "ts_init", 21_312, parse_nanos("2024-08-09T00:30:00Z"))
    report = fetch(local_lake(lake_copy), Catalog(tmp_path / "c"), [request(BTC_PERP, "trades")])
    assert any("partition_slack" in warning for warning in report.warnings)
    assert (report.outside, report.quarantined) == (0, {"far_from_day": 1})


windows = st.tuples(st.integers(-400, 380), st.integers(1, 300)).map(
    lambda pair: Window(
        parse_nanos(MIDNIGHT) + pair[0] * 10**9, parse_nanos(MIDNIGHT) + (pair[0] + pair[1]) * 10**9
    )
)


@settings(max_examples=25)
@given(asked=st.lists(windows, min_size=1, max_size=5), keep=st.sampled_from(["row_groups", "window"]))
def test_any_sequence_of_windows_ends_in_the_rows_of_their_union_once(
    real_lake, tmp_path_factory, asked, keep
):
    catalog, lake = Catalog(tmp_path_factory.mktemp("any") / "c"), local_lake(real_lake)
    for window in asked:
        request_ = FetchRequest(InstrumentKey(BTC_SPOT), DataType("trades"), window)
        fetch(lake, catalog, [request_], keep=keep)
    (covered,) = catalog.coverage()
    assert merge_windows([*covered.windows, *asked]) == covered.windows
    if keep == "window":
        assert merge_windows(asked) == covered.windows
    condition = " or ".join(f"(ts_init >= {w.start} and ts_init < {w.end})" for w in covered.windows)
    source = str(tick_file(real_lake, BTC_SPOT, "trades", "*"))
    expected = duckdb.sql(
        f"select trade_id from read_parquet('{source}', filename = true, file_row_number = true) "
        f"where {condition} order by ts_init, filename, file_row_number"
    ).fetchall()
    files = catalog.files(CatalogType.TRADES, IDS[BTC_SPOT])
    found = [
        id_ for file in files for id_ in pq.read_table(file.path, partitioning=None)["trade_id"].to_pylist()
    ]
    assert found == [row[0] for row in expected]


@pytest.mark.parametrize("unit", ["ms", "s", "ns"])
def test_a_wrong_unit_is_an_error_and_not_an_empty_window(real_lake, tmp_path, unit):
    # The file's times are microseconds.
    dialect = DialectConfig(
        unit=unit, ts_event="timestamp", ts_init="local_timestamp", price="price", size="amount", side="side"
    )
    asked = replace(request(ETH_PERP, "trades"), dialect=dialect)
    catalog = Catalog(tmp_path / "c")
    with pytest.raises(SourceSchemaError, match="unit of the time columns"):
        fetch(local_lake(real_lake), catalog, [asked])
    assert files_of(catalog.path) == {}
    right = replace(asked, dialect=dialect.model_copy(update={"unit": "us"}))
    assert fetch(local_lake(real_lake), catalog, [right]).rows == 14051 + 25
