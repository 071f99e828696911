"""The run folder: complete or absent, exact, without secrets, and read back as it was written."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from backtest_support import ETH, WINDOW, job, write_catalog
from ticklake.backtesting import Run, execute, new_run_id, public_config
from ticklake.backtesting.equity import equity_step_ms
from ticklake.backtesting.log import ENGINE_LOG, kind_of, read_log
from ticklake.backtesting.prices import downsample
from ticklake.backtesting.results import check_runs, run_folder
from ticklake.backtesting.returns import daily_returns, return_statistics
from ticklake.backtesting.summary import _drawdown, results_digest
from ticklake.backtesting.tables import SCHEMAS
from ticklake.config import StrategyConfig, load_config, parse_config
from ticklake.errors import BacktestError, ConfigError
from ticklake.types import CatalogType, Window

RUN_ID = re.compile(r"\d{8}T\d{6}Z-[A-Za-z0-9-]+-[0-9a-f]{6}")
DATA = {"data": {"rows": {"trades": 14_043}, "holes": [], "quarantined": 0}, "bytes_read": 0, "requests": 0}


@pytest.fixture(scope="module")
def run(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("results")
    made = job(write_catalog(real_lake, folder))
    return execute(
        made, folder / "runs", config={"window": str(WINDOW)}, provenance={"files": []}, figures_of_data=DATA
    )


def test_the_folder_holds_what_it_should(run: Run) -> None:
    assert {path.name for path in run.path.iterdir()} == {
        "account.parquet",
        "book.parquet",
        "config.yaml",
        "engine-log.jsonl",
        "equity.parquet",
        "fills.parquet",
        "latency.parquet",
        "orders.parquet",
        "positions.parquet",
        "prices.parquet",
        "provenance.json",
        "report.html",
        "summary.json",
    }


def test_a_loaded_run_equals_the_one_returned(run: Run) -> None:
    again = Run.load(run.path)
    assert again == run
    assert again.summary == run.summary
    assert again.fills == run.fills
    assert (again.config, again.provenance) == ({"window": str(WINDOW)}, {"files": []})
    assert again.report() == run.path / "report.html"
    moved = run.path.rename(run.path.with_name("moved"))
    assert Run.load(moved).id == run.id
    moved.rename(run.path)


def test_a_folder_without_a_run_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BacktestError, match=r"holds no run: it lacks summary\.json, "):
        Run.load(tmp_path)
    with pytest.raises(BacktestError, match="no such folder"):
        Run.load(tmp_path / "nowhere")
    with pytest.raises(BacktestError, match=rf"There are runs in it, for example .*{run.id}"):
        Run.load(run.path.parent)
    damaged = shutil.copytree(run.path, tmp_path / "damaged")
    (damaged / "summary.json").write_text("{")
    with pytest.raises(BacktestError, match=r"summary\.json is not what a run wrote"):
        Run.load(damaged)


def test_a_run_says_what_it_is(run: Run) -> None:
    pnl = Decimal(str(run.summary["net_pnl"]["USDT"]))
    assert repr(run) == (
        f"<Run {run.id}: 2024-08-08T23:54:16Z to 2024-08-09T00:00:00Z, net PnL {pnl:+} USDT>"
    )


def test_tables_have_their_documented_columns(run: Run) -> None:
    for name, schema in SCHEMAS.items():
        assert getattr(run, name).schema.equals(schema), name


def test_the_summary_is_plain_json_with_what_was_run(run: Run) -> None:
    summary = json.loads((run.path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["window"] == {"start": "2024-08-08T23:54:16Z", "end": "2024-08-09T00:00:00Z"}
    assert summary["instruments"] == [ETH]
    assert summary["strategies"] == ["backtest_strategies:Busy"]
    assert summary["data"] == DATA["data"]
    assert summary["events"] == 14_043 - 8 + 5_921 + 8  # rows in the window; a group of deltas is one
    assert summary["engine_version"] == "2.0.0rc7"
    assert summary["log"]["counts"].keys() <= {"WARN", "ERROR"}
    assert sum(kind["count"] for kind in summary["log"]["kinds"]) == sum(summary["log"]["counts"].values())
    assert summary["orders_by_status"] == dict(
        pl.from_arrow(run.orders)["status"].value_counts().sort("status").iter_rows()
    )


def test_figures_agree_with_the_tables(run: Run) -> None:
    summary = run.summary
    fills, account, equity = (pl.from_arrow(t) for t in (run.fills, run.account, run.equity))
    assert isinstance(fills, pl.DataFrame)
    assert isinstance(account, pl.DataFrame)
    assert isinstance(equity, pl.DataFrame)
    assert summary["fills"] == len(fills) > 500
    assert summary["fees"] == {"USDT": float(fills["commission"].sum())}
    assert summary["turnover"] == {"USDT": pytest.approx(float((fills["quantity"] * fills["price"]).sum()))}
    assert summary["starting_balance"] == {"USDT": 1_000_000.0}
    assert summary["ending_balance"] == {"USDT": float(equity["equity"][-1])}
    assert summary["net_pnl"] == {"USDT": pytest.approx(float(equity["equity"][-1]) - 1_000_000)}
    # Nothing is made or lost between the tables: what positions realised is what the balance moved by.
    realised = pl.from_arrow(run.positions)["realized_pnl"].sum()
    assert account["total"][-1] - account["total"][0] == realised
    assert float(equity["equity"][-1] - account["total"][-1]) == pytest.approx(
        float(equity["unrealized_pnl"][-1])
    )


def test_filled_quantities_of_orders_are_those_of_their_fills(run: Run) -> None:
    fills = pl.from_arrow(run.fills).group_by("client_order_id").agg(pl.col("quantity").sum())
    orders = pl.from_arrow(run.orders).filter(pl.col("filled_quantity") > 0)
    joined = orders.join(fills, on="client_order_id", suffix="_filled")
    assert len(joined) == len(fills) == len(orders)
    assert joined["filled_quantity"].equals(joined["quantity_filled"])


def test_reopened_positions_have_a_row_each(run: Run) -> None:
    positions = pl.from_arrow(run.positions)
    assert len(positions) > 1
    assert positions["position_id"].n_unique() == 1
    assert positions["cycle"].to_list() == list(range(len(positions)))
    assert (positions["ts_opened"].diff().drop_nulls() > dt.timedelta(0)).all()


def test_prices_keep_the_extremes(run: Run) -> None:
    prices = pl.from_arrow(run.prices)
    fills = pl.from_arrow(run.fills).filter(pl.col("liquidity") == "MAKER")
    assert len(prices) <= 3_000
    assert prices["ts_event"].is_sorted()
    assert prices["price"].min() <= float(fills["price"].min())


def test_a_failed_run_leaves_nothing(real_lake: Path, tmp_path: Path) -> None:
    made = job(
        write_catalog(real_lake, tmp_path), strategy="backtest_strategies:Trouble", config={"where": "trade"}
    )
    with pytest.raises(BacktestError):
        execute(made, tmp_path / "runs", config={}, provenance={})
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_runs_folder_that_cannot_be_written_is_told_before_anything_moves(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for runs in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/ticklake/runs")):
        with pytest.raises(ConfigError, match=rf"runs: no folder can be written at {runs}"):
            check_runs(runs)
        with pytest.raises(BacktestError, match="cannot be written"), run_folder(runs, "a"):
            pass
    check_runs(tmp_path / "new" / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_trades_that_the_simulated_market_ignores_are_told(real_lake: Path, tmp_path: Path) -> None:
    catalog = write_catalog(real_lake, tmp_path)
    for path in (catalog / "data" / "trades").rglob("*.parquet"):
        table = pq.read_table(path)
        column = table.schema.get_field_index("ts_event")
        late = pc.equal(pc.bit_wise_and(pa.array(range(len(table))), 1), 1)
        earlier = pc.subtract(table["ts_event"].cast("int64"), pc.multiply(late.cast("int64"), 500_000_000))
        field = table.schema.field(column)
        pq.write_table(table.set_column(column, field, earlier.cast(field.type)), path)
    made = job(catalog, strategy="backtest_strategies:Hasty", types=(CatalogType.TRADES,))
    run = execute(made, tmp_path / "runs", config={}, provenance={})
    [kind] = run.summary["log"]["kinds"]
    assert kind["message"].startswith("Skipping stale trade: ts_event # < book.ts_last #")
    assert kind["count"] == run.summary["log"]["counts"]["WARN"] > 5_000
    assert any(
        f"{kind['count']:,} trades did not move the simulated market" in n for n in run.summary["notes"]
    )
    assert len((run.path / "engine-log.jsonl").read_text().splitlines()) == 20


def test_a_run_without_an_order_says_so_and_names_instruments_that_it_did_not_have(
    real_lake: Path, tmp_path: Path
) -> None:
    catalog = write_catalog(real_lake, tmp_path)
    made = [
        job(catalog, types=(CatalogType.TRADES,), strategy="backtest_strategies:Hasty", config=config)
        for config in ({}, {"instrument_id": "SOLUSDT-PERP.BINANCE"})
    ]
    trading, idle = (
        execute(
            dataclasses.replace(each, run_id=new_run_id(each.strategies)),
            tmp_path / "runs",
            config={},
            provenance={},
        )
        for each in made
    )
    assert trading.summary["notes"] == []
    unknown, none = idle.summary["notes"]
    assert unknown == (
        "strategies[0].config.instrument_id: SOLUSDT-PERP.BINANCE is not among the instruments of the run, "
        f"which are {ETH}: the strategy got no data of it"
    )
    assert none == "no strategy sent an order"


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    with run_folder(tmp_path, "a") as folder:
        (folder / "x").touch()
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "x").exists()
    with pytest.raises(BacktestError, match="already"), run_folder(tmp_path, "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_folder_goes_when_the_run_is_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), run_folder(tmp_path, "a"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_run_ids_are_readable_sortable_and_distinct() -> None:
    strategies = [StrategyConfig(path="a.b:My_<Strategy>/..", config_path="a:B")]
    early = new_run_id(strategies, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))
    assert early.startswith("20260102T030405Z-My-Strategy-")
    ids = {new_run_id(strategies) for _ in range(200)}
    assert len(ids) == 200
    assert all(RUN_ID.fullmatch(name) and name > early for name in ids)


CONFIG: dict[str, Any] = {
    "lake": {
        "ticks": "s3://ticks",
        "storage": {"secret_access_key": "CANARY", "account_key": "CANARY", "region": "eu-west-1"},
    },
    "window": {"start": "2024-08-08T23:55:00.000000001Z", "end": "2024-08-09T00:00:00Z"},
    "instruments": [{"key": "BINANCE:SPOT_PAIR:BTC-USDT"}],
    "venues": {
        "BINANCE": {
            "account": "CASH",
            "book": "L1_MBP",
            "balances": ["1000 USDT"],
            "fees": {"maker": "0.0001", "taker": 0.0005},
            "latency": "1.5ms",
        }
    },
    "strategies": [{"path": "a:B", "config_path": "a:C", "config": {"x": [1, 2.5, "y"]}}],
}


def test_a_written_config_has_no_secrets_and_loads_again(tmp_path: Path) -> None:
    config = parse_config(CONFIG)
    text = yaml.safe_dump(public_config(config))
    assert "CANARY" not in text
    assert "**" not in text
    (tmp_path / "config.yaml").write_text(text)
    again = load_config(tmp_path / "config.yaml")
    assert again.model_dump(exclude={"lake"}) == config.model_dump(exclude={"lake"})
    assert again.lake.storage.region == "eu-west-1"


@given(st.lists(st.decimals(min_value=1, max_value=10**9, places=2), min_size=1, max_size=40))
def test_drawdown_is_the_deepest_fall_below_an_earlier_value(curve: list[Decimal]) -> None:
    falls = [(later - earlier) for i, earlier in enumerate(curve) for later in curve[i:]]
    shares = [(later - earlier) / earlier for i, earlier in enumerate(curve) for later in curve[i:]]
    fraction, amount = _drawdown(curve)
    assert amount == min(falls)
    assert fraction == pytest.approx(float(min(shares)))


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(-1e6, 1e6)), min_size=1, max_size=300),
    st.integers(1, 50),
    st.integers(1, 300),
)
def test_downsampling_keeps_order_and_every_buckets_extremes(
    points: list[tuple[int, float]], buckets: int, batch: int
) -> None:
    points.sort(key=lambda point: point[0])
    times = np.array([at for at, _ in points], dtype=np.int64)
    prices = np.array([price for _, price in points], dtype=np.float64)
    parts = [(times[i : i + batch], prices[i : i + batch]) for i in range(0, len(times), batch)]
    kept_times, kept_prices = downsample(parts, Window(0, 10_001), buckets)
    assert len(kept_times) <= 2 * buckets
    assert (np.diff(kept_times) >= 0).all()
    assert set(zip(kept_times, kept_prices, strict=True)) <= set(zip(times, prices, strict=True))
    width = -(-10_001 // buckets)
    for bucket in set(times // width):
        inside = prices[times // width == bucket]
        kept = kept_prices[kept_times // width == bucket]
        assert (kept.min(), kept.max()) == (inside.min(), inside.max())


@given(st.integers(1, 4_000 * 86_400 * 10**9), st.none() | st.integers(10**6, 10**12))
def test_an_equity_curve_has_a_bounded_number_of_steps(length: int, wanted: int | None) -> None:
    assert length / 1e6 / equity_step_ms(Window(0, length), wanted) <= (3_000 if wanted is None else 50_000)


DAY = 86_400 * 10**9


def test_daily_returns_know_idle_days_and_no_tail() -> None:
    hour = DAY // 24
    window = Window(5 * hour, 3 * DAY)
    curve = [(5 * hour, 100), (6 * hour, 90), (DAY - 1, 110), (2 * DAY + 5, 99), (3 * DAY + hour, 121)]
    returns = daily_returns([(at, Decimal(value)) for at, value in curve], window)
    assert list(returns.values()) == pytest.approx([0.1, 0.0, 0.1])
    assert daily_returns([(0, Decimal(0)), (1, Decimal(5))], Window(0, DAY)) == {}


def test_statistics_of_a_single_day_are_undefined() -> None:
    found = return_statistics([(0, Decimal(100)), (1, Decimal(101))], Window(0, DAY))
    assert found["Sharpe Ratio (252 days)"] is None
    assert found["Average (Return)"] == pytest.approx(0.01)


def test_messages_that_differ_in_numbers_are_of_one_kind() -> None:
    one = "Order overfill rejected: O-20240808-235424-001-000-16 potential=2.249, at 2024-08-08T23:54:24.5Z"
    two = "Order overfill rejected: O-20240809-000001-001-000-1 potential=-12, at 2024-08-09T00:00:01Z"
    assert kind_of(one) == kind_of(two) == "Order overfill rejected: O-# potential=#, at #"
    assert kind_of("book of 1000SHIBUSDT-PERP.BINANCE is L2_MBP") == (
        "book of 1000SHIBUSDT-PERP.BINANCE is L2_MBP"
    )
    assert kind_of("word " * 1_000).endswith("word …")


def test_the_engine_log_is_bounded_and_counted_in_full(tmp_path: Path) -> None:
    record = {"level": "WARN", "component": "a", "timestamp": "t"}
    lines = [json.dumps({**record, "message": f"Skipping stale trade: {i}"}) for i in range(45_000)]
    lines += [json.dumps({**record, "level": "ERROR", "message": "once"})]
    (tmp_path / ENGINE_LOG).write_text("\n".join(lines) + "\n")
    found = read_log(tmp_path)
    assert [(kind.level, kind.message, kind.count) for kind in found.kinds] == [
        ("WARN", "Skipping stale trade: #", 45_000),
        ("ERROR", "once", 1),
    ]
    kept = (tmp_path / ENGINE_LOG).read_text().splitlines()
    assert kept == [*lines[:20], lines[-1]]
    assert [path.name for path in tmp_path.iterdir()] == [ENGINE_LOG]


def test_the_digest_sees_every_value() -> None:
    table = pa.table({"a": [1, None], "b": pa.array([Decimal("1.50"), None], pa.decimal128(38, 16))})
    base = results_digest({"t": table}, 1)
    assert base == results_digest({"t": table.slice(0)}, 1)
    others = [
        results_digest({"t": table}, 2),
        results_digest({"u": table}, 1),
        results_digest({"t": table.slice(1)}, 1),
        results_digest({"t": table.rename_columns(["a", "c"])}, 1),
        results_digest({"t": table.set_column(0, "a", pa.array([2, None]))}, 1),
    ]
    assert len({base, *others}) == 6


def test_both_examples_trade_in_one_run(real_lake: Path, tmp_path: Path) -> None:
    catalog = write_catalog(real_lake, tmp_path)
    first = job(catalog, strategy="trade_momentum:TradeMomentum", config={"size": "1"})
    second = job(
        catalog, strategy="book_imbalance:BookImbalance", config={"size": "0.5", "max_position": "1"}
    )
    both = dataclasses.replace(first, strategies=(*first.strategies, *second.strategies))
    run = execute(both, tmp_path / "runs", config={}, provenance={})
    traded = set(run.fills["strategy_id"].to_pylist())
    assert len(traded) == 2
    assert run.summary["positions"] > 2
