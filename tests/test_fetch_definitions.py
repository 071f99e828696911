"""Which definition of an instrument a fetch takes for each day, and keeps in the catalog."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nautilus_trader.persistence import ParquetDataCatalog

from fetch_support import (
    BTC_SPOT,
    DAY,
    DEFINITION,
    INSTRUMENTS,
    TICKS,
    ask,
    local_lake,
    made_trades,
    minutes,
    put_trades,
    request,
)
from lake_support import RangeServer
from ticklake.catalog import Catalog
from ticklake.errors import ConfigError
from ticklake.fetching import fetch, plan_fetch
from ticklake.lake import Lake
from ticklake.types import parse_nanos


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


LISTS = "instrument_availability/by_date"
ACROSS = request(BTC_SPOT, "trades", "2024-08-08T23:58:00Z", "2024-08-09T00:02:00Z")


@pytest.fixture
def gappy(real_lake, tmp_path) -> tuple[Path, Lake]:
    """The real ticks with instrument lists that a test may remove or change."""
    lists = tmp_path / "lists"
    shutil.copytree(real_lake / INSTRUMENTS, lists)
    for path in lists.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return lists / LISTS, Lake(real_lake / TICKS, lists)


def without(lists: Path, day: str) -> None:
    path = lists / f"day-{day}/instruments.parquet"
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.filter(pa.compute.not_equal(table["instrument_key"], BTC_SPOT)), path)


@pytest.mark.parametrize("gap", ["no list", "not in it"])
@pytest.mark.parametrize(("lacks", "has"), [("2024-08-09", "2024-08-08"), ("2024-08-08", "2024-08-09")])
def test_a_day_without_definition_takes_the_nearest_and_keeps_it(gappy, real_lake, catalog, gap, lacks, has):
    lists, lake = gappy
    shutil.rmtree(lists / f"day-{lacks}") if gap == "no list" else without(lists, lacks)
    warning = f"{BTC_SPOT}: no instrument list of {lacks} has it; the definition of {has} is used"
    assert warning in plan_fetch(lake, catalog, [ACROSS]).warnings
    assert warning in fetch(lake, catalog, [ACROSS]).warnings
    lake.forget()
    warm = fetch(lake, catalog, [ACROSS])
    assert (warm.requests, warning in warm.warnings) == (0, True)
    fetch(lake, catalog, [ACROSS], offline=True)
    # A refresh asks again.
    shutil.copytree(
        real_lake / INSTRUMENTS / LISTS / f"day-{lacks}", lists / f"day-{lacks}", dirs_exist_ok=True
    )
    fetch(lake, catalog, [ACROSS], refresh=True)
    assert warning not in fetch(lake, catalog, [ACROSS]).warnings
    times = [one.ts_init for one in ParquetDataCatalog(str(catalog.path)).instruments()]
    assert sorted(times) == [parse_nanos("2024-08-08"), parse_nanos("2024-08-09")]


def test_an_earlier_definition_is_preferred_to_a_later_one(gappy, catalog):
    lists, lake = gappy
    (lists / "day-2024-08-09").rename(lists / "day-2024-08-10")
    long = request(BTC_SPOT, "trades", "2024-08-08T23:58:00Z", "2024-08-11T00:00:00Z")
    report = fetch(lake, catalog, [long], on_hole="skip")
    assert [text for text in report.warnings if "definition" in text] == [
        f"{BTC_SPOT}: no instrument list of 2024-08-09 has it; the definition of 2024-08-08 is used"
    ]


def test_a_refresh_takes_the_definition_at_hand_where_the_list_is_gone(gappy, catalog):
    lists, lake = gappy
    fetch(lake, catalog, [ACROSS])
    shutil.rmtree(lists)
    assert fetch(lake, catalog, [ACROSS], refresh=True).rows > 0


@pytest.mark.parametrize(
    ("start", "end"),
    [("2024-08-07T23:00:00Z", "2024-08-08T23:56:00Z"), ("2024-08-09T00:01:00Z", "2024-08-10T01:00:00Z")],
)
def test_a_day_without_ticks_needs_no_definition(real_lake, catalog, start, end):
    asked = request(BTC_SPOT, "trades", start, end)
    report = fetch(local_lake(real_lake), catalog, [asked], on_hole="skip")
    assert {window.status.value for window in report.windows} == {"hole", "fetched"}
    assert not [text for text in report.warnings if "definition" in text]
    (kept,) = ParquetDataCatalog(str(catalog.path)).instruments()
    assert kept.id.value == "BTCUSDT.BINANCE"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("2024-08-08T23:59:00Z", "of 2024-08-08 ("),
        ("2024-08-09T00:02:00Z", "of 2024-08-08 nor of the day after it ("),
        ("2024-08-11T00:00:00Z", "of 2024-08-08 nor of the 2 days after it ("),
    ],
)
def test_without_any_list_of_the_window_there_is_nothing_to_go_by(gappy, catalog, end, told):
    lists, lake = gappy
    shutil.rmtree(lists)
    with pytest.raises(ConfigError) as failed:
        fetch(lake, catalog, [request(BTC_SPOT, "trades", "2024-08-08T23:58:00Z", end)], on_hole="skip")
    assert f"the lake has no instrument list {told}" in str(failed.value)
    assert str(failed.value).endswith(
        ". Give the instrument a definition in the config, or ask for another window."
    )


def test_a_window_beyond_all_ticks_is_told_the_days_that_there_are(gappy, catalog, real_lake):
    _, lake = gappy
    before, after = "2024-09-08", "2024-09-09"
    with pytest.raises(ConfigError) as failed:
        fetch(lake, catalog, [request(BTC_SPOT, "trades", before, after)])
    assert str(failed.value).endswith(
        ". It has ticks of 2024-08-08 to 2024-08-09: ask for a window within those days."
    )


def test_where_days_cannot_be_listed_the_error_is_the_same_without_them(real_lake, catalog):
    with RangeServer() as server:  # which answers to GET alone
        lake = Lake(f"{server.url}/{TICKS}", f"{server.url}/{INSTRUMENTS}")
        with pytest.raises(ConfigError, match=r"no instrument list of 2024-09-08 .*a definition in"):
            fetch(lake, catalog, [request(BTC_SPOT, "trades", "2024-09-08", "2024-09-09")])


def test_the_engines_definition_at_midnight_is_in_nobodys_way(real_lake, catalog):
    asked = [request(BTC_SPOT, "trades")]
    fetch(local_lake(real_lake), catalog, asked)
    (made,) = ParquetDataCatalog(str(catalog.path)).instruments()
    shutil.rmtree(catalog.path)
    catalog.path.mkdir()
    ParquetDataCatalog(str(catalog.path)).write_instruments([made])
    assert fetch(local_lake(real_lake), catalog, asked).rows > 0
    assert fetch(local_lake(real_lake), catalog, asked, offline=True).files == 0


def test_an_instrument_of_any_script_is_fetched(tmp_path, catalog):
    key = "BINANCE:SPOT_PAIR:币安人生-USDT"
    put_trades(tmp_path / "lake", made_trades(minutes()), 0, key)
    spot = DEFINITION | {"type": "spot", "base": "币安人生", "raw_symbol": "币安人生USDT"}
    asked = [ask(0, DAY, key=key, definition=spot)]
    report = fetch(Lake(tmp_path / "lake"), catalog, asked)
    assert fetch(Lake(tmp_path / "lake"), catalog, asked, offline=True).files == 0
    (window,) = report.windows
    assert len(ParquetDataCatalog(str(catalog.path)).query_trade_ticks([window.nautilus_id])) == 1_440
