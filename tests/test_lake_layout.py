"""Path templates: object keys from values and back."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticklake.config import LayoutConfig
from ticklake.errors import ConfigError
from ticklake.lake import Layout
from ticklake.types import DataType, InstrumentKey

KEY = InstrumentKey("BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN")
TRADES = DataType("trades")
DAY = dt.date(2024, 8, 8)

LAYOUTS = [
    Layout.of("default"),
    Layout.of("hive"),
    Layout("{instrument}/{data_type}/{date}.parquet", "{date}.parquet"),
    Layout("{data_type}-{instrument}-{date}.pq", "i/{date}"),
    Layout("x.y/{date}{data_type}/{instrument}@{date}+", "lists/{date}/a"),
    Layout("{instrument}@{data_type}/{date}", "{date}"),
]

names = st.text("ABCXYZabcxyz0123456789-_.=+ é", min_size=1, max_size=12).filter(
    lambda text: ".." not in text
)
keys = st.builds(
    lambda venue, kind, symbol, margin: InstrumentKey(f"{venue}:{kind}:{symbol}{margin}"),
    names,
    names,
    names,
    st.sampled_from(["", "@LIN", "@INV"]),
)
data_types = st.one_of(
    st.just(TRADES), st.integers(1, 1_000).map(lambda depth: DataType(f"book_snapshot_{depth}"))
)
days = st.dates(dt.date(1970, 1, 1), dt.date(2262, 4, 10))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.ticks)
@given(key=keys, data_type=data_types, day=days)
def test_a_path_says_what_it_was_made_from(
    layout: Layout, key: InstrumentKey, data_type: DataType, day: dt.date
) -> None:
    for path, name in zip(layout.tick_paths(data_type, day, key), (key.text, key.bare), strict=False):
        file = layout.parse_tick_path(path)
        assert file is not None
        assert (file.path, file.data_type, file.day, file.instrument) == (path, data_type.name, day, name)
        assert path.startswith(layout.tick_prefix)
        assert not path.startswith("/")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.ticks)
@given(key=keys, data_type=data_types, day=days)
def test_folders_of_days_lead_to_the_files(
    layout: Layout, key: InstrumentKey, data_type: DataType, day: dt.date
) -> None:
    found = set()
    for folder in layout.day_folders(data_type, key):
        for path in layout.tick_paths(data_type, day, key):
            if folder.prefix and not path.startswith(f"{folder.prefix}/"):
                continue
            rest = path.removeprefix(folder.prefix).lstrip("/")
            child = f"{folder.prefix}/{rest.split('/')[0]}".lstrip("/")
            found.add(folder.day(child))
    assert day in found


def test_the_named_layouts_are_those_of_the_field() -> None:
    default, hive = Layout.of("default"), Layout.of("hive")
    assert default.tick_paths(TRADES, DAY, KEY) == (
        "raw_tick_data/by_date/day-2024-08-08/data_type-trades/BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN.parquet",
        "raw_tick_data/by_date/day-2024-08-08/data_type-trades/BINANCE-FUTURES:PERPETUAL:BTC-USDT.parquet",
    )
    assert (
        default.instruments_path(DAY) == "instrument_availability/by_date/day-2024-08-08/instruments.parquet"
    )
    assert hive.tick_paths(DataType("book_snapshot_5"), DAY, InstrumentKey("B:SPOT:X"))[0] == (
        "raw_tick_data/by_date/day=2024-08-08/data_type=book_snapshot_5/B:SPOT:X.parquet"
    )
    assert hive.instruments_path(DAY) == "instrument_availability/by_date/day=2024-08-08/instruments.parquet"
    assert default.tick_prefix == hive.tick_prefix == "raw_tick_data/by_date"


def test_a_key_without_suffix_has_one_path() -> None:
    assert len(Layout.of("default").tick_paths(TRADES, DAY, InstrumentKey("BINANCE:SPOT_PAIR:BTC-USDT"))) == 1


@pytest.mark.parametrize(
    "path",
    [
        "",
        "README.md",
        "raw_tick_data/by_date/day-2024-08-08/data_type-trades/X.parquet.tmp",
        "raw_tick_data/by_date/day-2024-08-08/data_type-trades/sub/X.parquet",
        "raw_tick_data/by_date/day-2024-02-30/data_type-trades/X.parquet",
        "raw_tick_data/by_date/day-2024-8-8/data_type-trades/X.parquet",
        "raw_tick_data/by_date/day-2024-08-08/data_type-Trades/X.parquet",
        "x/raw_tick_data/by_date/day-2024-08-08/data_type-trades/X.parquet",
    ],
)
def test_other_paths_say_nothing(path: str) -> None:
    assert Layout.of("default").parse_tick_path(path) is None


def test_files_that_ticklake_cannot_read_yet_are_seen_all_the_same() -> None:
    file = Layout.of("default").parse_tick_path(
        "raw_tick_data/by_date/day-2024-08-08/data_type-liquidations/X.parquet"
    )
    assert file is not None
    assert (file.data_type, file.instrument) == ("liquidations", "X")


@pytest.mark.parametrize(
    ("ticks", "problem"),
    [
        ("{date}/{data_type}.parquet", "misses {instrument}"),
        ("trades.parquet", "misses {date}, {data_type}, {instrument}"),
        ("{date}/{data_type}/{instrument}/{venue}", "unknown placeholders: {venue}"),
        ("{date:%Y}/{data_type}/{instrument}", "unknown placeholders: {date:%Y}"),
        ("/{date}/{data_type}/{instrument}", "begins with /"),
        ("../{date}/{data_type}/{instrument}", ".. part"),
        ("a/./{date}/{data_type}/{instrument}", ". or .. part"),
        ("a//{date}/{data_type}/{instrument}", "empty"),
        ("{date}/{data_type}/{instrument}/", "empty"),
        ("{date}/{data_type}/{instrument}}", "brace"),
        ("{{date}}/{data_type}/{instrument}/{date}", "brace"),
        ("{date}\\{data_type}/{instrument}", "backslash"),
        ("{date}/{data_type}\n/{instrument}", "control character"),
        ("{date}/{data_type}_{instrument}", "cannot be read backwards"),
        ("{date}/{instrument}{data_type}", "cannot be read backwards"),
    ],
)
def test_a_template_that_cannot_work_is_refused(ticks: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        Layout(ticks, "{date}")
    assert caught.value.hint


def test_the_instruments_template_needs_a_date_only() -> None:
    with pytest.raises(ConfigError, match=r"layout\.instruments .* misses \{date\}"):
        Layout("{date}/{data_type}/{instrument}", "instruments.parquet")
    with pytest.raises(ConfigError, match=r"unknown placeholders: \{instrument\}"):
        Layout("{date}/{data_type}/{instrument}", "{date}/{instrument}")


def test_layouts_come_by_name_or_from_the_config() -> None:
    config = LayoutConfig(ticks="{date}/{data_type}/{instrument}", instruments="{date}")
    assert Layout.of(config) == Layout("{date}/{data_type}/{instrument}", "{date}")
    assert Layout.of(Layout.of("hive")) is Layout.of("hive")
    with pytest.raises(ConfigError, match="'parquet' is not known; known are default, hive"):
        Layout.of("parquet")
