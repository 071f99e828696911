"""`ticklake init`: a config for a lake from what is in it, which runs as it is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from cli_support import Cli, cli
from fetch_support import BTC_PERP, BTC_SPOT, INSTRUMENTS, TICKS, cloud_lake, cloud_of
from lake_support import parquet, tick_path, trades
from ticklake.backtesting.venues import check_venues
from ticklake.config import load_config
from ticklake.lake import Lake
from ticklake.synth import SyntheticLake, write_synthetic_lake

__all__ = ["cli"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> SyntheticLake:
    return write_synthetic_lake(
        tmp_path_factory.mktemp("lake"),
        start=dt.date(2024, 8, 8),
        days=3,
        trades_per_day=40_000,
        snapshots_per_day=5_000,
        row_group_size=2_000,
    )


class Told(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def ticklake(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """Run a command in the folder of the test, in a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments, code=0: Told(*cli(code, *arguments))


def trades_in(lake: SyntheticLake, key: str, start: int, end: int) -> int:
    files = [str(file.path) for file in lake.files if (file.key, file.data_type) == (key, "trades")]
    times = pl.concat([pl.read_parquet(file, columns=["ts_init"]) for file in files])["ts_init"]
    return times.is_between(start, end, closed="left").sum()


def test_the_config_of_a_synthetic_lake_runs_as_it_is(ticklake, lake, tmp_path):
    done = ticklake("init", lake.ticks_url)
    assert max(map(len, done.stdout.splitlines()[1:4])) <= 80
    assert "layout default, 3 days, 2024-08-08 to 2024-08-10" in done.stdout
    assert "run.yaml" in done.stdout

    text = (tmp_path / "run.yaml").read_text()
    assert len([line for line in text.splitlines() if line.lstrip().startswith("#")]) >= 10
    config = load_config(tmp_path / "run.yaml")
    check_venues(config.venues, config.instruments)
    (instrument,) = config.instruments
    assert instrument.key in lake.keys
    assert instrument.data == ("trades", "book_snapshot_5")
    # Five minutes of the last day but one, as many trades as the comment says.
    window = config.window.as_window()
    assert window.end - window.start == 300 * 10**9
    assert window.days == (dt.date(2024, 8, 9),)
    count = trades_in(lake, instrument.key, window.start, window.end)
    assert count > 0
    assert f"{count:,} trades" in text
    other = next(key for key in lake.keys if key != instrument.key)
    assert f"#   {other}: book_snapshot_5, trades" in text

    summary = json.loads(ticklake("backtest", "run.yaml", "--json").stdout)
    assert summary["events"] > count
    assert summary["data"]["holes"] == []


def test_nothing_that_is_there_is_replaced(ticklake, lake, tmp_path):
    (tmp_path / "run.yaml").write_text("mine")
    (tmp_path / "trade_momentum.py").write_text("mine, too")
    refused = ticklake("init", lake.ticks, code=2)
    assert "run.yaml is there already" in refused.stderr
    assert "Name another file" in refused.stderr
    ticklake("init", lake.ticks, "other.yaml")
    assert (tmp_path / "run.yaml").read_text() == "mine"
    assert (tmp_path / "trade_momentum.py").read_text() == "mine, too"
    assert load_config(tmp_path / "other.yaml").lake.ticks == str(lake.ticks)
    assert "no-folder" in ticklake("init", lake.ticks, "no-folder/x.yaml", code=2).stderr


def test_a_config_in_another_folder_works_from_there(ticklake, lake, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "lake").symlink_to(lake.ticks.parent)
    ticklake("init", f"lake/{TICKS}", "own/run.yaml")
    for folder in (tmp_path, tmp_path / "own"):
        monkeypatch.chdir(folder)
        plan = json.loads(ticklake("fetch", tmp_path / "own" / "run.yaml", "--dry-run", "--json").stdout)
        assert plan["bytes"] > 0
    found = load_config(tmp_path / "own" / "run.yaml").lake
    assert (found.ticks, found.instruments) == (f"{tmp_path}/lake/{TICKS}", f"{tmp_path}/lake/{INSTRUMENTS}")


def test_a_bucket_with_storage_options(ticklake, real_lake, tmp_path):
    with cloud_of(real_lake) as server:
        options = ("--storage", f"endpoint={server.url}", "--storage", "anonymous=true")
        ticklake("init", f"gs://{TICKS}", *options)
        config = load_config(tmp_path / "run.yaml")
        assert config.lake.instruments == f"gs://{INSTRUMENTS}"
        assert config.lake.storage.endpoint == server.url
        assert config.lake.storage.anonymous
        plan = json.loads(ticklake("fetch", "run.yaml", "--dry-run", "--json").stdout)
        assert {window["status"] for window in plan["windows"]} == {"planned"}
    assert config.instruments[0].key == BTC_PERP


def test_secrets_are_not_written(ticklake, real_lake, tmp_path):
    with cloud_of(real_lake) as server:
        given = {
            "endpoint": server.url,
            "region": "us-east-1",
            "access_key_id": "s3cret-id",
            "secret_access_key": "s3cret-key",
        }
        options = [text for name, value in given.items() for text in ("--storage", f"{name}={value}")]
        done = ticklake("init", f"s3://{TICKS}", *options)
    text = (tmp_path / "run.yaml").read_text()
    assert "s3cret" not in text + done.stdout + done.stderr
    assert "access_key_id, secret_access_key: left out" in text
    assert load_config(tmp_path / "run.yaml").lake.storage.region == "us-east-1"


def test_a_store_that_cannot_be_listed_says_so(ticklake, real_lake, tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(real_lake))  # type: ignore[arg-type]  # handed on as they come

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = ticklake("init", f"http://127.0.0.1:{server.server_port}/{TICKS}", code=1)
        server.shutdown()
    assert "cannot list what it has" in done.stderr
    assert "name instrument and window instead" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_spot_pair_gets_a_cash_account_and_a_bucket_of_its_own_lists(ticklake, real_lake, tmp_path):
    ticks = tmp_path / "lake"
    for kind in ("trades", "book_snapshot_5"):
        path = tick_path(BTC_SPOT, data_type=kind)
        (ticks / path).parent.mkdir(parents=True)
        (ticks / path).write_bytes((real_lake / TICKS / path).read_bytes())
    listing = "instrument_availability/by_date/day-2024-08-08/instruments.parquet"
    (ticks / listing).parent.mkdir(parents=True)
    (ticks / listing).write_bytes((real_lake / INSTRUMENTS / listing).read_bytes())
    ticklake("init", "lake")
    config = load_config(tmp_path / "run.yaml")
    assert (config.lake.ticks, config.lake.instruments) == ("lake", "lake")
    assert config.venues["BINANCE"].account == "CASH"
    check_venues(config.venues, config.instruments)
    summary = json.loads(ticklake("backtest", "run.yaml", "--json").stdout)
    assert summary["fills"] > 0


def test_what_is_not_found_is_told_and_left_to_the_user(ticklake, tmp_path):
    # The rows of a single row group in the hive layout, trades only, no list anywhere.
    start = 1_723_075_200 * 10**9 + 7 * 3_600 * 10**9
    path = tmp_path / "lake" / tick_path(BTC_PERP).replace("day-", "day=").replace("type-", "type=")
    path.parent.mkdir(parents=True)
    path.write_bytes(parquet(trades([start + step * 10**9 for step in range(60)])))
    done = ticklake("init", "lake")
    assert "to do: no instrument lists were found" in done.stderr
    config = load_config(tmp_path / "run.yaml")
    assert config.lake.layout == "hive"
    assert config.lake.instruments is None
    assert config.instruments[0].data == ("trades",)
    assert config.venues["BINANCE"].book == "L1_MBP"
    assert config.window.start <= start < config.window.end
    refused = ticklake("fetch", "run.yaml", code=2)
    assert "lake.instruments" in refused.stderr


@pytest.mark.parametrize("statistics", [True, False])
def test_the_window_has_data_wherever_in_the_day_they_are(ticklake, tmp_path, statistics):
    midnight = 1_723_075_200 * 10**9
    last = [midnight + 86_399 * 10**9 + step for step in range(5)]
    path = tmp_path / "lake" / tick_path(BTC_PERP)
    path.parent.mkdir(parents=True)
    path.write_bytes(parquet(trades([midnight - 10**9, *last]), write_statistics=statistics))
    ticklake("init", "lake")
    window = load_config(tmp_path / "run.yaml").window
    assert (window.start, window.end) == (midnight + 86_100 * 10**9, midnight + 86_400 * 10**9)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([], ["no tick file lies under", "day-{date}", "day={date}", "too high or too deep"]),
        ([tick_path("ACME:PERPETUAL:BTC-USDT")], ["ACME:PERPETUAL:BTC-USDT", "nautilus_id"]),
        ([tick_path(data_type="quotes")], ["quotes of BINANCE-FUTURES", "trades"]),
    ],
)
def test_a_lake_without_anything_to_run_is_an_error(ticklake, tmp_path, paths, words):
    (tmp_path / "lake").mkdir()
    for path in paths:
        (tmp_path / "lake" / path).parent.mkdir(parents=True)
        pq.write_table(trades([1_723_075_200 * 10**9]), tmp_path / "lake" / path)
    done = ticklake("init", "lake", code=1)
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "run.yaml").exists()


def test_days_are_found_without_a_listing_of_the_whole_lake(real_lake, lake):
    with cloud_of(real_lake) as server:
        found = cloud_lake(server, "s3")
        assert found.all_days() == (dt.date(2024, 8, 8), dt.date(2024, 8, 9))
        assert len(server.requests) == 1
        one_day = list(found.list("2024-08-08"))
    listed = [file.path for file in Lake(real_lake / TICKS).list() if file.day == dt.date(2024, 8, 8)]
    assert [file.path for file in one_day] == listed != []
    assert Lake(lake.ticks).all_days() == lake.days


def test_days_of_a_layout_without_folders_of_days(tmp_path):
    from ticklake.config import LayoutConfig

    for day in ("2024-08-09", "2024-08-07"):
        path = tmp_path / "trades" / f"{BTC_PERP}_{day}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    layout = LayoutConfig(ticks="{data_type}/{instrument}_{date}.parquet", instruments="{date}.parquet")
    found = Lake(tmp_path, layout=layout)
    assert found.all_days() == (dt.date(2024, 8, 7), dt.date(2024, 8, 9))
    assert [file.day for file in found.list(dt.date(2024, 8, 9))] == [dt.date(2024, 8, 9)]


def test_the_written_text_is_plain_yaml_without_surprises(ticklake, lake, tmp_path):
    odd = tmp_path / "a folder: with #odd 'names'"
    odd.mkdir()
    (odd / "lake").symlink_to(lake.ticks.parent)
    ticklake("init", odd / "lake" / TICKS)
    values = yaml.safe_load((tmp_path / "run.yaml").read_text())
    assert values["lake"]["ticks"] == str(odd / "lake" / TICKS)


def test_without_the_examples_the_strategy_is_left_to_the_user(ticklake, lake, tmp_path, monkeypatch):
    monkeypatch.setattr("ticklake.cli.template.example_strategies", lambda: None)
    told = ticklake("init", lake.ticks)
    assert "to do: strategies: name one of your own" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
    assert load_config(tmp_path / "run.yaml").strategies == ()
    assert '#   - path: "trade_momentum:TradeMomentum"' in (tmp_path / "run.yaml").read_text()
    assert "strategies is empty" in ticklake("backtest", "run.yaml", code=2).stderr
