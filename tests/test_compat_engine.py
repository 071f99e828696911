"""`BacktestEngine` and `ticklake migrate-config`: the JSON configs of such code over real ticks."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from nautilus_trader.persistence import ParquetDataCatalog

from backtest_support import EXAMPLES
from cli_support import Cli, cli
from compat_support import s3_of
from fetch_support import BTC_PERP, INSTRUMENTS, TICKS, cloud_of
from ticklake.backtesting import Run, backtest
from ticklake.compat.configs import translate
from ticklake.compat.engine import BacktestEngine
from ticklake.config import parse_config
from ticklake.errors import ConfigError
from ticklake.types import Window

__all__ = ["cli"]

START = dt.datetime(2024, 8, 8, 23, 55, tzinfo=dt.UTC)
END = dt.datetime(2024, 8, 9, tzinfo=dt.UTC)
DAY = "raw_tick_data/by_date/day-*"
PATHS = {
    "trades_path": f"{DAY}/data_type-trades/{BTC_PERP}.parquet",
    "book_snapshot_5_path": f"{DAY}/data_type-book_snapshot_5/{BTC_PERP}.parquet",
}


def old_config(**sections: dict[str, Any]) -> dict[str, Any]:
    """Return such a config; `sections` lays values over its sections."""
    config: dict[str, Any] = {
        "instrument": {"id": BTC_PERP, "price_precision": 1, "size_precision": 3},
        "venue": {
            "name": "BINANCE-FUTURES",
            "oms_type": "NETTING",
            "account_type": "MARGIN",
            "base_currency": "USDT",
            "starting_balance": 1_000_000,
            "maker_fee": 0.0002,
            "taker_fee": 0.0004,
        },
        "data_catalog": {**PATHS, "auto_discover": True},
        "time_window": {"start": "2024-08-08T23:55:00Z", "end": "2024-08-09T00:00:00Z"},
        "strategy": {
            "path": "trade_momentum:TradeMomentum",
            "config": {"instrument_id": "BTCUSDT-PERP.BINANCE", "size": "0.1"},
        },
        "environment": {"UNIFIED_CLOUD_SERVICES_GCS_BUCKET": TICKS, "DATA_CATALOG_PATH": "catalog"},
    }
    return {name: config.get(name, {}) | sections.get(name, {}) for name in config | sections}


@pytest.fixture(autouse=True)
def beside_the_examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)


def test_it_reads_the_lake_once_and_runs_as_our_own_config_does(real_lake: Path, tmp_path: Path) -> None:
    with cloud_of(real_lake) as server:
        engine = BacktestEngine(old_config(), buckets=s3_of(server))
        first = engine.run("BTC", START, END, dataset="day-2024-08-08", export_ticks=True)
        sent = sum(request.sent for request in server.requests.log if request.status == 206)
        assert first["metadata"]["bytes_read"] == sent > 0
        server.requests.clear()
        again = BacktestEngine(old_config(), buckets=s3_of(server)).run("BTC", START, END, fast_mode=True)
        assert len(server.requests) == 0
        assert again["summary"] == first["summary"]
        assert set(again) == {
            "run_id",
            "mode",
            "instrument",
            "dataset",
            "start",
            "end",
            "summary",
            "metadata",
        }
        lake = {"ticks": f"s3://{TICKS}", "storage": s3_of(server)["*"]["storage"]}
        ours = backtest(
            {
                "lake": lake,
                "window": {"start": START.isoformat(), "end": END.isoformat()},
                "catalog": "ours",
                "instruments": [
                    {
                        "key": BTC_PERP,
                        "data": ["trades", "book_snapshot_5"],
                        "definition": {
                            "type": "perpetual",
                            "base": "BTC",
                            "quote": "USDT",
                            "raw_symbol": "BTCUSDT",
                            "tick_size": "0.1",
                            "min_size": "0.001",
                        },
                    }
                ],
                "venues": {
                    "BINANCE": {
                        "account": "MARGIN",
                        "balances": ["1000000 USDT"],
                        "fees": {"maker": "0.0002", "taker": "0.0004"},
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
        )
    run = Run.load(first["path"])
    assert run.summary["results_digest"] == ours.summary["results_digest"]
    assert first["summary"]["orders"] == ours.summary["orders"] > 0
    assert first["summary"]["pnl"] == ours.summary["net_pnl"]["USDT"]
    assert (first["mode"], again["mode"]) == ("report", "fast")
    assert all(Path(path).exists() for name, path in first.items() if name.endswith("path"))
    ticks = pl.read_parquet(first["ticks_path"])
    assert ticks.height == first["summary"]["trades"] > 100
    assert not list(tmp_path.rglob("*@LIN*.parquet")), "no raw file on disk"


def test_a_folder_a_mode_and_a_catalog_of_the_engine(real_lake: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    config = old_config(
        environment={"UNIFIED_CLOUD_LOCAL_PATH": str(real_lake / TICKS), "DATA_CATALOG_PATH": "unused"},
        risk={"throttling_per_sec": 1_000_000},
    )
    (tmp_path / "old.json").write_text(json.dumps(config))
    catalog = ParquetDataCatalog(str(tmp_path / "mine"))
    engine = BacktestEngine(tmp_path / "old.json", catalog)
    found = engine.run("BTC", START, END, snapshot_mode="trades", data_source="local", close_positions=False)
    assert found["metadata"]["snapshot_mode"] == "trades"
    assert found["metadata"]["without_equivalent"] == ["risk.throttling_per_sec"]
    assert any("L1_MBP is simulated from trades alone" in note for note in found["metadata"]["notes"])
    window = Window.parse(START, END)
    kept = catalog.query_trade_ticks(["BTCUSDT-PERP.BINANCE"])
    inside = sum(window.start <= trade.ts_init < window.end for trade in kept)
    assert inside == found["summary"]["trades"]
    assert not (tmp_path / "unused").exists()
    positions = pl.read_parquet(found["positions_path"])
    assert found["summary"]["pnl"] == pytest.approx(float(positions["realized_pnl"].sum()))


def test_instruments_of_a_bucket_and_loaders_with_a_config(real_lake: Path, tmp_path: Path) -> None:
    class Loader:
        config = None

        def load(self) -> dict[str, Any]:
            return old_config(data_catalog={"instruments_bucket": INSTRUMENTS})

    class Manager:
        catalog_path = tmp_path / "managed"

    buckets = {TICKS: real_lake / TICKS, INSTRUMENTS: real_lake / INSTRUMENTS}
    found = BacktestEngine(Loader(), Manager(), buckets=buckets).run("BTC", START, END, fast_mode=True)
    assert any("the lake's instrument list" in note for note in found["metadata"]["notes"])
    assert (tmp_path / "managed" / "data" / "trades").is_dir()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"start": START.replace(tzinfo=None)}, "no time zone"),
        ({"dataset": "day-2024-08-09"}, "not a day of the window"),
        ({"dataset": "yesterday"}, "is no day"),
        ({"snapshot_mode": "l2"}, "not one of trades, book, both"),
        ({"data_source": "disk"}, "not one of gcs, local, auto"),
        ({"data_source": "local"}, "names no folder"),
        ({"exec_algorithm_type": "TWAP"}, "TWAP has no equivalent"),
        ({"fast_mode": True, "export_ticks": True}, "needs fast_mode=False"),
    ],
)
def test_bad_arguments_are_refused_before_anything_moves(how: dict[str, Any], message: str) -> None:
    engine = BacktestEngine(old_config(), buckets={TICKS: "/nowhere"})
    with pytest.raises(ValueError, match=message):
        engine.run(**{"instrument": "BTC", "start": START, "end": END} | how)


def test_a_config_that_names_no_class_is_refused() -> None:
    config = old_config()
    config["strategy"] = {"name": "TempBacktestStrategy", "submission_mode": "per_trade_tick"}
    with pytest.raises(ConfigError, match="no strategy that can be imported"):
        BacktestEngine(config, buckets={TICKS: "/nowhere"}).run("BTC", START, END)
    with pytest.raises(ConfigError, match="is no config"):
        BacktestEngine(3)


# What keys become


def test_every_key_is_used_or_listed() -> None:
    known = old_config()
    assert translate(known, buckets={}).without_equivalent == ()
    extra = {section: {"surprise": 1} for section in known} | {"fx_stub": {"USDT_USD": 1.0}}
    found = translate(old_config(**extra), buckets={})
    assert set(found.without_equivalent) == {*(f"{name}.surprise" for name in known), "fx_stub.USDT_USD"}
    assert found.values == translate(known, buckets={}).values


def test_values_are_what_the_keys_say() -> None:
    found = translate(
        old_config(
            instrument={"margin_init": 0.05, "tick_size": 0.5, "is_inverse": False},
            venue={"default_leverage": 3, "latency_ms": 5, "starting_balances": ["1 BTC"]},
            environment={"GOOGLE_APPLICATION_CREDENTIALS": "/key.json", "log_level": "warning"},
        ),
        start="2024-08-08",
        snapshot_mode="book",
        buckets={},
        environ={"DATA_CATALOG_PATH": "/elsewhere"},
    )
    config = parse_config(found.values)
    assert config.lake.ticks == f"gs://{TICKS}"
    assert str(config.lake.storage.service_account) == "/key.json"
    assert str(config.catalog) == "/elsewhere"
    assert config.instruments[0].data == ("book_snapshot_5",)
    definition = config.instruments[0].definition
    assert definition is not None
    assert (str(definition.tick_size), str(definition.min_size)) == ("0.5", "0.001")
    venue = config.venues["BINANCE"]
    assert (venue.latency, str(venue.leverage), venue.balances) == (5_000_000, "3", ("1 BTC",))
    assert config.engine.log_level == "WARNING"
    assert config.window.start < config.window.end


@pytest.mark.parametrize(
    ("path", "ticks", "template"),
    [
        (f"data_downloads/{DAY}/data_type-trades/{BTC_PERP}.parquet", "/lake", None),
        (f"/mnt/ticks/{DAY}/data_type-trades/{BTC_PERP}.parquet", "/mnt/ticks", None),
        (f"2024-08-08/trades/{BTC_PERP}.parquet", "/lake", "{date}/{data_type}/{instrument}.parquet"),
    ],
)
def test_layouts_are_those_of_the_paths(path: str, ticks: str, template: str | None) -> None:
    old = old_config(environment={"UNIFIED_CLOUD_LOCAL_PATH": "/lake"})
    old["data_catalog"] = {"trades_path": path}
    lake = translate(old, data_source="local").values["lake"]
    assert lake["ticks"] == ticks
    assert lake.get("layout", {}).get("ticks") == template


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instrument": {"id": "BTCUSDT"}, "data_catalog": {}}, "nothing in the config is the lake's key"),
        ({"instrument": {"id": "BINANCE:SPOT_PAIR:BTC-USDT"}}, "two instruments"),
        ({"instrument": {"id": BTC_PERP, "price_precision": "x"}}, "not a number of decimals"),
        ({"environment": {}}, "names no bucket"),
    ],
)
def test_configs_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate(old_config() | changes, data_source="gcs", buckets={})


def test_the_command_prints_a_run_config_and_lists_what_has_no_equivalent(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(old_config(risk={"throttling_per_sec": 1})))
    out, err = cli(0, "migrate-config", tmp_path / "old.json")
    assert parse_config(yaml.safe_load(out)).lake.ticks == f"gs://{TICKS}"
    assert "no equivalent: risk.throttling_per_sec" in err
    (tmp_path / "bad.json").write_text(json.dumps({"venue": {}}))
    assert "nothing in the config" in cli(2, "migrate-config", tmp_path / "bad.json")[1]
    venue = old_config(venue={"account_type": "SAVINGS"})
    (tmp_path / "venue.json").write_text(json.dumps(venue))
    assert "venues.BINANCE.account" in cli(2, "migrate-config", tmp_path / "venue.json")[1]


def test_a_run_config_needs_no_migration(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("lake: {ticks: gs://bucket}\nwindow: {start: 2024-08-08}\n")
    _, err = cli(2, "migrate-config", tmp_path / "my.yaml")
    assert err == (
        f"error: {tmp_path / 'my.yaml'} is a run config already. "
        f"Run it as it is: `ticklake backtest {tmp_path / 'my.yaml'}`.\n"
    )
