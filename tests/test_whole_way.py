"""From a bucket to a result, on real ticks: what a user does with one config."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

import ticklake
from fetch_support import BTC_PERP, BTC_SPOT, DEFINITION, INSTRUMENTS, TICKS, cloud_of, files_of
from runs_support import BUCKET, bucket, failing, options, storage_of
from ticklake.errors import AccessDeniedError, ConfigError, MissingDataError, NotCachedError
from ticklake.report.comparison import Comparison

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def config_of(folder: Path, ticks: str, instruments: str, **changes: Any) -> dict[str, Any]:
    return {
        "lake": {"ticks": ticks, "instruments": instruments},
        "catalog": str(folder / "catalog"),
        "window": {"start": "2024-08-08T23:55:00Z", "end": "2024-08-09T00:04:00Z"},
        "instruments": [
            {"key": BTC_PERP, "data": ["trades", "book_snapshot_5"], "book_as": "deltas"},
            {"key": BTC_SPOT, "data": ["trades", "book_snapshot_5"], "book_as": "deltas"},
        ],
        "on_hole": "skip",
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "oms": "NETTING",
                "book": "L2_MBP",
                "balances": ["1_000_000 USDT", "10 BTC"],
                "fees": {"maker": "0.0002", "taker": "0.0005"},
                "latency": "5ms",
            }
        },
        "strategies": [
            {
                "path": "trade_momentum:TradeMomentum",
                "config_path": "trade_momentum:TradeMomentumConfig",
                "config": {"instrument_id": nautilus_id, "size": "0.1", "order_id_tag": str(index)},
            }
            for index, nautilus_id in enumerate(("BTCUSDT-PERP.BINANCE", "BTCUSDT.BINANCE"))
        ],
        "runs": str(folder / "runs"),
        **changes,
    }


def local(folder: Path, real_lake: Path, **changes: Any) -> dict[str, Any]:
    return config_of(folder, str(real_lake / TICKS), str(real_lake / INSTRUMENTS), **changes)


@pytest.fixture(autouse=True)
def _examples_are_importable(monkeypatch):
    monkeypatch.chdir(EXAMPLES)


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_perpetual_and_spot_across_midnight_run_and_trade_from_a_bucket(real_lake, tmp_path, scheme):
    with cloud_of(real_lake) as server:
        values = config_of(tmp_path, f"{scheme}://{TICKS}", f"{scheme}://{INSTRUMENTS}")
        storage = {"endpoint": server.url, "anonymous": True}
        if scheme == "s3":
            storage["region"] = "us-east-1"
        values["lake"]["storage"] = storage
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values))

        run = ticklake.backtest(path)
        assert run.summary["requests"] == len(server.requests)
        assert 0 < run.summary["bytes_read"] < sum(one.sent for one in server.requests.log) + 1
        assert run.summary["data"]["holes"] == [
            f"{BTC_PERP} trades 2024-08-09T00:00:00Z/2024-08-09T00:04:00Z"
        ]
        server.requests.clear()

        again = ticklake.backtest(path)
        # Only the hole is looked for again: its file under both spellings, and the day before it.
        assert [one.status for one in server.requests.log].count(404) == 2
        assert len(server.requests) == again.summary["requests"] == 3
        assert again.summary["results_digest"] == run.summary["results_digest"]
    traded = set(run.fills["instrument_id"].to_pylist())
    assert traded == {"BTCUSDT-PERP.BINANCE", "BTCUSDT.BINANCE"}
    sides = set(run.fills["side"].to_pylist())
    assert sides == {"BUY", "SELL"}


def test_a_run_folder_holds_everything_and_loads_back(real_lake, tmp_path):
    run = ticklake.backtest(local(tmp_path, real_lake))
    names = {path.name for path in run.path.iterdir()}
    assert names >= {
        "config.yaml",
        "summary.json",
        "orders.parquet",
        "fills.parquet",
        "positions.parquet",
        "account.parquet",
        "equity.parquet",
        "prices.parquet",
        "provenance.json",
        "report.html",
    }
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.id]
    loaded = ticklake.Run.load(run.path)
    assert loaded.summary == run.summary == json.loads((run.path / "summary.json").read_text())
    assert loaded.fills.equals(run.fills)
    # The resolved config runs again, to the same result.
    again = ticklake.backtest(run.path / "config.yaml")
    assert again.summary["results_digest"] == run.summary["results_digest"]


def test_provenance_names_the_catalog_files_and_the_lake_objects(real_lake, tmp_path):
    run = ticklake.backtest(local(tmp_path, real_lake))
    files = run.provenance["files"]
    assert {file["path"] for file in files} == set(files_of(tmp_path / "catalog"))
    urls = {source["url"] for file in files for source in file["sources"]}
    assert {Path(url).name.removesuffix(".parquet") for url in urls} == {BTC_PERP, BTC_SPOT}
    assert all(source["etag"] for file in files for source in file["sources"])
    assert run.provenance["versions"]["nautilus_trader"] == "2.0.0rc7"


def test_the_rows_of_the_summary_are_the_rows_of_the_window(real_lake, tmp_path):
    run = ticklake.backtest(local(tmp_path, real_lake))
    window = ticklake.Window.parse("2024-08-08T23:55:00Z", "2024-08-09T00:04:00Z")
    kept = 0
    for name, rows in run.summary["data"]["rows"].items():
        nautilus_id, kind = name.split()
        files = (tmp_path / "catalog" / "data" / kind / nautilus_id).glob("*.parquet")
        times = [
            time
            for path in files
            for time in pq.read_table(path, partitioning=None)["ts_init"].cast("int64").to_pylist()
        ]
        assert rows == sum(window.start <= time < window.end for time in times)
        kept += len(times) - rows
    assert kept > 0, "the catalog has rows around the window, which are not replayed"
    fills = run.fills["ts_event"].cast("int64")
    assert pc.min(fills).as_py() >= window.start
    # What is closed at the end is filled when the latency of the order is over.
    assert pc.max(fills).as_py() < window.end + 5_000_000


def test_offline_runs_from_the_catalog_or_not_at_all(real_lake, tmp_path):
    lake = tmp_path / "lake"
    lake.symlink_to(real_lake)
    values = local(tmp_path, lake, window={"start": "2024-08-08T23:57:00Z", "end": "2024-08-09T00:00:00Z"})
    with pytest.raises(NotCachedError, match=r"ticklake coverage"):
        ticklake.backtest(values, offline=True)
    online = ticklake.backtest(values)
    # A lake that is not there is never asked.
    lake.unlink()
    offline = ticklake.backtest(values, offline=True)
    assert offline.summary["results_digest"] == online.summary["results_digest"]


def test_depth_rows_and_deltas_give_the_same_fills(real_lake, tmp_path):
    runs = []
    for book_as in ("deltas", "depth"):
        values = local(tmp_path, real_lake)
        values["window"]["end"] = "2024-08-09T00:00:00Z"
        values["instruments"] = [{"key": BTC_PERP, "data": ["trades", "book_snapshot_5"], "book_as": book_as}]
        values["strategies"] = values["strategies"][:1]
        runs.append(ticklake.backtest(values))
    deltas, depth = (run.fills.select(["ts_event", "price", "quantity", "side"]) for run in runs)
    assert deltas.num_rows > 0
    assert deltas.equals(depth)


def test_a_hole_stops_the_run_before_it_starts(real_lake, tmp_path):
    with pytest.raises(MissingDataError, match="on_hole: skip"):
        ticklake.backtest(local(tmp_path, real_lake, on_hole="stop"))
    assert not (tmp_path / "runs").exists()
    assert files_of(tmp_path / "catalog") == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strategies": []}, ["strategies"]),
        ({"venues": {}}, ["venues", "BINANCE"]),
        (
            {"strategies": [{"path": "no_such:X", "config_path": "no_such:Y"}]},
            ["strategies[0].path", "no_such"],
        ),
        (
            {
                "strategies": [
                    {
                        "path": "trade_momentum:TradeMomentm",
                        "config_path": "trade_momentum:TradeMomentumConfig",
                        "config": {"instrument_id": "A.B", "size": "1"},
                    }
                ]
            },
            ["strategies[0].path", "TradeMomentum"],
        ),
        (
            {
                "strategies": [
                    {
                        "path": "trade_momentum:TradeMomentum",
                        "config_path": "trade_momentum:TradeMomentumConfig",
                        "config": {"instrument_id": "A.B", "sise": "1"},
                    }
                ]
            },
            ["strategies[0].config", "sise"],
        ),
    ],
)
def test_a_wrong_config_moves_nothing(tmp_path, change, words):
    # The lake does not even exist.
    values = config_of(tmp_path, str(tmp_path / "no-ticks"), str(tmp_path / "no-lists"), **change)
    with pytest.raises(ConfigError) as caught:
        ticklake.backtest(values)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "catalog").exists()
    assert not (tmp_path / "runs").exists()


def test_a_relative_runs_folder_and_this_process_will_do(real_lake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    shares: list[float] = []
    values = local(tmp_path, real_lake, runs="my runs")
    run = ticklake.backtest(values, in_process=True, on_simulated=shares.append)
    assert run.path == Path("my runs") / run.id
    assert ticklake.Run.load(Path("my runs") / run.id).summary["fills"] > 0


def test_a_runs_folder_that_is_a_file_moves_nothing(real_lake, tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(ConfigError, match="runs: "):
        ticklake.backtest(local(tmp_path, real_lake))
    assert not (tmp_path / "catalog").exists()


def test_a_cash_account_for_a_perpetual_moves_nothing(tmp_path):
    values = config_of(tmp_path, str(tmp_path / "no-ticks"), str(tmp_path / "no-lists"))
    values["venues"]["BINANCE"]["account"] = "CASH"
    with pytest.raises(ConfigError, match=r"venues\.BINANCE\.account: .*PERPETUAL:BTC-USDT@LIN"):
        ticklake.backtest(values)


def test_an_account_without_what_is_traded_is_refused_before_ticks_move(real_lake, tmp_path):
    values = local(tmp_path, real_lake)
    values["venues"]["BINANCE"]["balances"] = ["1_000_000 BTC"]
    with pytest.raises(
        ConfigError, match=r"venues\.BINANCE\.balances: .*BTCUSDT-PERP\.BINANCE is booked in USDT"
    ):
        ticklake.backtest(values)
    # Where the config defines the instruments, nothing at all is asked for: this lake does not exist.
    values["lake"] = {"ticks": str(tmp_path / "no-ticks")}
    values["instruments"] = [
        {"key": BTC_PERP, "data": ["trades", "book_snapshot_5"], "definition": DEFINITION}
    ]
    with pytest.raises(ConfigError, match="is booked in USDT"):
        ticklake.backtest(values)
    assert not (tmp_path / "catalog").exists()


@pytest.mark.parametrize(
    ("more", "balance"),
    [({"settle": "USDC"}, "1_000_000 USDT"), ({"inverse": True, "contract_size": "100"}, "1_000 BTC")],
)
def test_the_engine_books_inverse_contracts_in_their_base_and_others_in_their_quote(
    real_lake, tmp_path, more, balance
):
    values = local(tmp_path, real_lake)
    values["venues"]["BINANCE"]["balances"] = [balance]
    values["instruments"] = [values["instruments"][0] | {"definition": DEFINITION | more}]
    values["strategies"] = values["strategies"][:1]
    values["strategies"][0]["config"] |= {"instrument_id": "BTC.BINANCE", "size": "1"}
    values["instruments"][0]["nautilus_id"] = "BTC.BINANCE"
    values["window"]["end"] = "2024-08-09T00:00:00Z"
    run = ticklake.backtest(values)
    amount, code = balance.replace("_", "").split()
    assert run.summary["starting_balance"] == {code: float(amount)}
    assert run.summary["notes"] == []
    made = sum(run.positions["realized_pnl"].to_pylist())
    assert run.summary["net_pnl"] == {code: pytest.approx(float(made))}


def test_what_could_not_be_booked_is_told(real_lake, tmp_path):
    values = local(tmp_path, real_lake)
    values["venues"]["BINANCE"] |= {"balances": ["10 BTC"], "base_currency": "BTC"}
    values["instruments"], values["strategies"] = values["instruments"][:1], values["strategies"][:1]
    values["window"]["end"] = "2024-08-09T00:00:00Z"
    run = ticklake.backtest(values)
    (note,) = run.summary["notes"]
    assert note.startswith(f"{run.summary['fills']} times the engine could not book a commission")


def test_an_account_begins_with_nothing_of_what_it_buys(real_lake, tmp_path):
    values = local(tmp_path, real_lake)
    values["instruments"], values["strategies"] = values["instruments"][1:], values["strategies"][1:]
    values["venues"]["BINANCE"] |= {"account": "CASH", "balances": ["1_000_000 USDT"]}
    values["window"]["end"] = "2024-08-09T00:00:00Z"
    run = ticklake.backtest(values)
    assert run.summary["starting_balance"] == {"BTC": 0.0, "USDT": 1_000_000.0}
    assert run.summary["net_pnl"]["BTC"] == run.summary["ending_balance"]["BTC"]
    bought = pc.max(run.equity.filter(pc.equal(run.equity["currency"], "BTC"))["equity"]).as_py()
    assert bought >= Decimal("0.1")


def test_an_account_that_is_overdrawn_and_orders_that_are_denied_are_told(real_lake, tmp_path):
    values = local(tmp_path, real_lake)
    values["venues"]["BINANCE"]["balances"] = ["10 USDT"]
    values["instruments"], values["strategies"] = values["instruments"][:1], values["strategies"][:1]
    values["window"]["end"] = "2024-08-09T00:00:00Z"
    values["strategies"][0]["config"]["size"] = "1"
    run = ticklake.backtest(values)
    denied = run.summary["orders_by_status"]["DENIED"]
    notes = "\n".join(run.summary["notes"])
    assert f"{denied:,} orders were denied" in notes
    assert "MARGIN_EXCEEDS_FREE_BALANCE" in notes
    assert "the balance of BINANCE-001 fell below zero" in notes
    reasons = [row["reason"] for row in run.orders.to_pylist() if row["status"] == "DENIED"]
    assert len(reasons) == denied
    assert all(reasons)


def test_a_cash_account_whose_currencies_were_exchanged_is_told(real_lake, tmp_path):
    values = local(tmp_path, real_lake)
    values["instruments"] = [{"key": "BINANCE:SPOT_PAIR:BTC-USDT", "data": ["trades"]}]
    values["venues"]["BINANCE"] |= {
        "account": "CASH",
        "book": "L1_MBP",
        "balances": ["1_000_000 USDT", "2 BTC"],
    }
    values["strategies"] = values["strategies"][:1]
    values["strategies"][0]["config"]["instrument_id"] = "BTCUSDT.BINANCE"
    values["window"]["end"] = "2024-08-09T00:00:00Z"
    run = ticklake.backtest(values)
    assert run.summary["fills"] > 0
    (note,) = (note for note in run.summary["notes"] if "CASH" in note)
    assert note.startswith("BINANCE-001 is a CASH account that exchanged BTC and USDT: ")
    assert note in (run.path / "report.html").read_text(encoding="utf-8")


def test_secrets_of_the_config_end_nowhere(real_lake, tmp_path):
    canary = "canary-secret-4711"
    values = local(tmp_path, real_lake)
    values["lake"]["storage"] = {"secret_access_key": canary, "account_key": canary, "bearer_token": canary}
    run = ticklake.backtest(values)
    left = [
        path for folder in (run.path, tmp_path / "catalog") for path in folder.rglob("*") if path.is_file()
    ]
    assert len(left) > 10
    assert [path for path in left if canary.encode() in path.read_bytes()] == []
    assert canary not in repr(run) + json.dumps(run.summary) + json.dumps(run.provenance) + repr(run.config)


def test_runs_go_to_a_bucket_and_come_to_the_same(real_lake, tmp_path):
    window = {"start": "2024-08-08T23:58:00Z", "end": "2024-08-09T00:00:00Z"}
    with bucket() as server:
        url, storage = f"gs://{BUCKET}/whole-way", storage_of(server, "gs")
        values = local(tmp_path, real_lake, window=window, runs=url, runs_storage=options(server, "gs"))
        with pytest.raises(ConfigError, match="offline: runs are to be written to gs://"):
            ticklake.backtest(values, offline=True)
        with (
            failing(server, lambda method, _: method == "PUT", "403 Made"),
            pytest.raises(AccessDeniedError, match="runs_storage"),
        ):
            ticklake.backtest(values)
        assert not (tmp_path / "catalog").exists(), (
            "nothing moves before it is known that runs can be written"
        )

        run = ticklake.backtest(values)
        here = ticklake.backtest(local(tmp_path, real_lake, window=window))
        again = ticklake.Run.load(f"{url}/{run.id}", storage=storage)
        assert again.location == run.location == f"{url}/{run.id}"
        assert again.summary == run.summary
        assert again.summary["results_digest"] == here.summary["results_digest"]
        assert again.fills == here.fills
        # What was written says all but the secrets, and differs from what is here in where it is.
        assert "CANARY" not in str(again.config) + str(again.summary) + str(again.provenance)
        keys = {each.key for each in Comparison((again, here)).differences}
        assert keys == {"runs", *(key for key in keys if key.startswith("runs_storage."))}
        assert again.config["runs_storage"]["endpoint"] == server.url
        (listed,) = ticklake.list_runs(url, storage=storage).runs
        assert listed.summary["results_digest"] == here.summary["results_digest"]
