"""The engine run: right whatever the chunk size and process, and honest about what goes wrong."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from nautilus_trader.backtest import BacktestNode, BacktestResult, BacktestRunConfig
from nautilus_trader.model import CurrencyPair
from nautilus_trader.persistence import ParquetDataCatalog
from nautilus_trader.portfolio import PortfolioConfig

import ticklake
from backtest_support import ETH, TESTS, WINDOW, job, late_book, oracle, perpetual, write_catalog
from ticklake.backtesting import EngineJob, InstrumentData, engine, run_engine
from ticklake.backtesting.equity import EquityCurve
from ticklake.backtesting.returns import return_statistics
from ticklake.backtesting.summary import _drawdown, results_digest
from ticklake.backtesting.worker import JOB
from ticklake.config import EngineConfig, StrategyConfig, VenueConfig
from ticklake.errors import BacktestError, ConfigError
from ticklake.types import CatalogType, Window

TRADES, DELTAS, DEPTHS = CatalogType.TRADES, CatalogType.DELTAS, CatalogType.DEPTHS
LAST_ROW = Window.parse("2024-08-08T23:59:58.5Z", "2024-08-09T00:00:00Z").start
SECOND = 10**9
KINDS = [(TRADES, DELTAS), (TRADES, DEPTHS), (TRADES,)]


@pytest.fixture(scope="module")
def catalog(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(real_lake, tmp_path_factory.mktemp("engine"))


@pytest.fixture
def strategies_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TESTS)


def run(job: EngineJob, folder: Path, *, in_process: bool = False) -> tuple[str, dict]:
    """Run a job; return the digest and the tables."""
    folder.mkdir()
    outcome = run_engine(job, folder, in_process=in_process)
    names = ("orders", "fills", "positions", "account", "equity")
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in names}
    return results_digest(tables, outcome.events), tables


def fills_of(tables: dict) -> list[tuple[int, str, str, str, str]]:
    rows = tables["fills"].to_pylist()
    times = tables["fills"]["ts_event"].cast("int64").to_pylist()
    return sorted(
        (at, row["side"], f"{row['price']:.2f}", f"{row['quantity']:.3f}", f"{row['commission']:.8f} USDT")
        for at, row in zip(times, rows, strict=True)
    )


@pytest.mark.parametrize("types", KINDS)
def test_fills_are_those_of_a_run_made_by_hand_in_one_chunk(
    catalog: Path, tmp_path: Path, types: tuple[CatalogType, ...], strategies_importable: None
) -> None:
    made = job(catalog, types=types, chunk_size=1_000)
    expected = oracle(catalog, made)
    assert len(expected) > 500
    found = fills_of(run(made, tmp_path / "r")[1])
    # By hand, strategies are stopped, and close their positions, when the last timer happens to have run.
    assert [row for row in found if row[0] < LAST_ROW] == [row for row in expected if row[0] < LAST_ROW]


@pytest.mark.parametrize("types", KINDS)
def test_chunk_size_and_process_do_not_change_results(
    catalog: Path, tmp_path: Path, types: tuple[CatalogType, ...]
) -> None:
    digests = {
        run(job(catalog, types=types, chunk_size=size), tmp_path / f"{size}-{inside}", in_process=inside)[0]
        for size, inside in ((1_000, False), (1_777, True), (5_000, True), (10**6, True))
    }
    assert len(digests) == 1


def test_deltas_and_depths_of_the_same_book_give_the_same_results(catalog: Path, tmp_path: Path) -> None:
    deltas, _ = run(job(catalog, types=(TRADES, DELTAS)), tmp_path / "deltas", in_process=True)
    depths, _ = run(job(catalog, types=(TRADES, DEPTHS)), tmp_path / "depths", in_process=True)
    assert deltas == depths


def test_another_seed_gives_another_digest(catalog: Path, tmp_path: Path) -> None:
    one, _ = run(job(catalog), tmp_path / "one", in_process=True)
    two, _ = run(job(catalog, config={"seed": 2}), tmp_path / "two", in_process=True)
    assert one != two


@pytest.mark.parametrize("types", KINDS[:2])
def test_a_book_that_starts_late_is_the_same_for_every_chunk_size(
    catalog: Path, tmp_path: Path, types: tuple[CatalogType, ...], strategies_importable: None
) -> None:
    late = late_book(catalog, tmp_path, WINDOW.start + 200 * 10**9)
    small = run(job(late, types=types, chunk_size=1_000), tmp_path / "small", in_process=True)
    large = run(job(late, types=types, chunk_size=10**6), tmp_path / "large", in_process=True)
    assert small[0] == large[0]
    assert "REJECTED" in small[1]["orders"]["status"].to_pylist()


def test_without_trades_market_orders_fill_and_positions_are_valued(catalog: Path, tmp_path: Path) -> None:
    config = {"size": "0.500", "max_position": "2"}
    for types, book_as in (((DELTAS,), "deltas"), ((DEPTHS,), "depth")):
        made = job(
            catalog,
            types=types,
            strategy="book_imbalance:BookImbalance",
            config={**config, "book_as": book_as},
        )
        _, tables = run(made, tmp_path / book_as, in_process=True)
        kinds = set(zip(*(tables["orders"][c].to_pylist() for c in ("type", "status")), strict=True))
        assert ("MARKET", "FILLED") in kinds
        assert "DENIED" not in tables["orders"]["status"].to_pylist()
        assert not any(tables["equity"]["stale"].to_pylist()[1:])


def test_a_later_definition_does_not_reach_back(catalog: Path, tmp_path: Path) -> None:
    plain, _ = run(job(catalog), tmp_path / "plain", in_process=True)
    other = tmp_path / "catalog"
    for path in catalog.rglob("*.parquet"):
        (other / path.relative_to(catalog)).parent.mkdir(parents=True, exist_ok=True)
        (other / path.relative_to(catalog)).hardlink_to(path)
    # With this one the engine would drop four of five fills, with a warning in its log.
    ParquetDataCatalog(str(other)).write_instruments([perpetual(WINDOW.end, tick="0.05")])
    assert run(job(other), tmp_path / "r", in_process=True)[0] == plain


def test_a_change_of_tick_within_the_window_is_simulated_with_the_finer_one_and_noted(
    catalog: Path, tmp_path: Path
) -> None:
    other = late_book(catalog, tmp_path, 0)
    ParquetDataCatalog(str(other)).write_instruments([perpetual(WINDOW.start + 10**9, tick="0.05")])
    (tmp_path / "r").mkdir()
    outcome = run_engine(job(other), tmp_path / "r")
    assert ["price 0.01" in note for note in outcome.notes] == [True]


def test_dropped_fills_fail_the_run(catalog: Path, tmp_path: Path) -> None:
    other = late_book(catalog, tmp_path, 0)
    for path in (other / "data" / "crypto_perpetual").rglob("*.parquet"):
        path.unlink()
    ParquetDataCatalog(str(other)).write_instruments([perpetual(tick="0.05")])
    with pytest.raises(BacktestError, match=r"dropped \d+ fills .*price_increment=0.05"):
        run(job(other), tmp_path / "r")


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("init", "failed in __init__"),
        ("start", "failed in Trouble.on_start"),
        ("trade", "failed in Trouble.on_trade"),
        ("timer", "failed in Trouble.on_time_event"),
        ("callback", "a callback of the strategy failed"),
        ("fill", "failed in Trouble.on_order_filled"),
        ("stop", "failed in Trouble.on_stop"),
    ],
)
def test_a_strategy_that_raises_fails_the_run_with_its_traceback(
    catalog: Path, tmp_path: Path, where: str, what: str
) -> None:
    with pytest.raises(BacktestError) as caught:
        run(job(catalog, strategy="backtest_strategies:Trouble", config={"where": where}), tmp_path / "r")
    text = str(caught.value)
    assert what in text
    assert f"ValueError: trouble in {where}" in text
    assert "backtest_strategies.py" in text
    assert str(Path(ticklake.__file__).parent) not in text  # none of our frames
    assert text.count("Traceback") == 1


@pytest.mark.parametrize("where", ["start", "trade", "stop"])
def test_a_failing_handler_is_told_once(
    catalog: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], where: str
) -> None:
    with pytest.raises(BacktestError):
        run(job(catalog, strategy="backtest_strategies:Trouble", config={"where": where}), tmp_path / "r")
    assert "Traceback" not in capfd.readouterr().err


def test_a_strategy_that_raises_fails_a_run_in_this_process_too(catalog: Path, tmp_path: Path) -> None:
    made = job(catalog, strategy="backtest_strategies:Trouble", config={"where": "trade"})
    with pytest.raises(BacktestError, match="trouble in trade"):
        run(made, tmp_path / "r", in_process=True)


def test_a_strategy_that_exits_fails_the_run(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(BacktestError, match="SystemExit: 3"):
        run(job(catalog, strategy="backtest_strategies:Trouble", config={"where": "exit"}), tmp_path / "r")


def test_an_abort_is_the_runs_failure_with_signal_and_last_words(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(BacktestError) as caught:
        run(job(catalog, strategy="backtest_strategies:Trouble", config={"where": "abort"}), tmp_path / "r")
    text = str(caught.value)
    assert "SIGABRT" in text
    assert "last words" in text
    assert "in on_trade" in text  # the Python stack of the abort
    assert "--in-process" in text


def test_standard_output_stays_clean(
    catalog: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = job(catalog, strategy="backtest_strategies:Trouble")
    run(made, tmp_path / "child")
    run(made, tmp_path / "inside", in_process=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("a strategy prints this") == 2


def test_output_can_be_taken_by_the_caller(
    catalog: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    run_engine(job(catalog, strategy="backtest_strategies:Trouble"), tmp_path, on_output=lines.append)
    assert "a strategy prints this\n" in lines
    assert capfd.readouterr() == ("", "")


def _hanging(catalog: Path, tmp_path: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a parent whose engine process hangs in a strategy; return both."""
    pid_file = tmp_path / "pid"
    made = job(
        catalog, strategy="backtest_strategies:Trouble", config={"where": "hang", "pid_file": str(pid_file)}
    )
    (tmp_path / "r").mkdir()
    (tmp_path / "made.json").write_text(made.to_json())
    script = (
        "import sys; from pathlib import Path; from ticklake.backtesting import EngineJob, run_engine\n"
        "run_engine(EngineJob.from_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "made.json"), str(tmp_path / "r")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return parent, int(pid_file.read_text())


def _gone(pid: int, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_ctrl_c_ends_the_engine_within_two_seconds(catalog: Path, tmp_path: Path) -> None:
    parent, child = _hanging(catalog, tmp_path)
    started = time.monotonic()
    parent.send_signal(signal.SIGINT)
    _, err = parent.communicate(timeout=10)
    assert time.monotonic() - started < 2
    assert b"KeyboardInterrupt" in err
    assert _gone(child, 0.5)
    assert list((tmp_path / "r").glob(JOB)) == []


def test_the_engine_does_not_outlive_a_killed_parent(catalog: Path, tmp_path: Path) -> None:
    parent, child = _hanging(catalog, tmp_path)
    parent.kill()
    parent.communicate(timeout=10)
    assert _gone(child, 5)


def test_the_view_of_the_catalog_is_gone_after_the_run(catalog: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in catalog.rglob("*")}
    run(job(catalog), tmp_path / "r")
    assert {path: path.stat().st_mtime_ns for path in catalog.rglob("*")} == before
    assert all(path.suffix == ".parquet" or path.suffix == ".jsonl" for path in (tmp_path / "r").iterdir())


def test_a_catalog_without_the_data_is_refused(catalog: Path, tmp_path: Path) -> None:
    later = Window.parse("2024-08-10", "2024-08-11")
    with pytest.raises(BacktestError, match=f"holds nothing of {ETH}"):
        run(job(catalog, window=later), tmp_path / "a")
    unknown = (InstrumentData("BTCUSDT-PERP.BINANCE", (TRADES,)),)
    with pytest.raises(BacktestError, match=r"BTCUSDT-PERP\.BINANCE"):
        run(job(catalog, instruments=unknown), tmp_path / "b")


def test_a_window_without_one_book_row_is_refused(catalog: Path, tmp_path: Path) -> None:
    late = late_book(catalog, tmp_path, WINDOW.start + 200 * 10**9)
    early = Window(WINDOW.start, WINDOW.start + 100 * 10**9)
    with pytest.raises(BacktestError, match="not one book row"):
        run(job(late, window=early), tmp_path / "r")


def test_a_strategy_that_cannot_be_imported_is_a_config_error_from_the_child(
    catalog: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"strategies\[0\]\.path: there is no module 'nowhere'"):
        run(job(catalog, strategy="nowhere:Strategy"), tmp_path / "r")


def test_a_job_survives_json(catalog: Path) -> None:
    strategy, venue = {"seed": 3, "at": Decimal("0.10")}, {"latency": "5ms", "leverage": "12.5"}
    made = job(catalog, config=strategy, engine=EngineConfig.model_validate({"equity_interval": "2s"}))
    venues = {"BINANCE": VenueConfig.model_validate(made.venues["BINANCE"].model_dump() | venue)}
    made = dataclasses.replace(made, venues=venues)
    read = EngineJob.from_json(made.to_json())
    assert read.to_json() == made.to_json()
    for name in ("run_id", "catalog", "window", "instruments", "search_path"):
        assert getattr(read, name) == getattr(made, name)
    # In the engine's process these are plain values.
    venue = venues["BINANCE"]
    assert dataclasses.asdict(read.venues["BINANCE"]) == {**dict(venue), "fees": dict(venue.fees)}
    assert dataclasses.asdict(read.engine) == dict(made.engine)
    assert [dataclasses.asdict(each) for each in read.strategies] == [
        each.model_dump(mode="json") for each in made.strategies
    ]


def test_the_equity_curve_does_not_change_what_happens(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tables_of(name: str, interval: str) -> dict:
        made = job(catalog, engine=EngineConfig.model_validate({"equity_interval": interval}))
        return run(made, tmp_path / name, in_process=True)[1]

    fine, coarse = tables_of("fine", "1ms"), tables_of("coarse", "60s")
    assert len(coarse["equity"]) < len(fine["equity"]) < 110_000
    # Without a curve at all: nothing is asked of the engine at fills, and it takes no snapshots.
    monkeypatch.setattr(EquityCurve, "watch", lambda *_: None)
    monkeypatch.setattr(engine, "PortfolioConfig", lambda **_: PortfolioConfig(equity_curve=False))
    without = tables_of("without", "1h")
    for name in ("orders", "fills", "positions", "account"):
        assert fine[name] == coarse[name] == without[name], name


def test_the_equity_curve_sees_what_is_held_for_milliseconds(catalog: Path, tmp_path: Path) -> None:
    results = [
        run(
            job(
                catalog,
                strategy="backtest_strategies:Hasty",
                types=(TRADES,),
                engine=EngineConfig.model_validate({"chunk_size": size, "equity_interval": "1s"}),
            ),
            tmp_path / str(size),
            in_process=True,
        )
        for size in (1_000, 10**6)
    ]
    assert results[0][0] == results[1][0]
    tables = results[0][1]
    equity, account = tables["equity"], tables["account"]
    held = [int(nanos) for nanos in tables["positions"]["duration_ns"].to_pylist()]
    assert len(held) > 20
    assert max(held) < SECOND  # the spacing of the curve
    times = equity["ts_event"].cast("int64").to_pylist()
    assert times == sorted(set(times))
    assert len(times) >= (WINDOW.end - WINDOW.start) / SECOND
    assert times[0] == WINDOW.start
    assert max(later - earlier for earlier, later in pairwise(times)) <= 2 * SECOND
    # Flat at the end: the equity is the balance. Between, no balance is lower than the equity ever was.
    assert equity["equity"].to_pylist()[-1] == account["total"].to_pylist()[-1]
    assert min(equity["equity"].to_pylist()) <= min(account["total"].to_pylist())
    fall, deepest = _drawdown(equity["equity"].to_pylist()), _drawdown(account["total"].to_pylist())
    assert fall[1] <= deepest[1] < 0


def test_statistics_of_returns_are_the_engines_where_it_knows_the_days(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs: list[dict[str, float]] = []

    class Watched:
        def __init__(self, configs: list[BacktestRunConfig]) -> None:
            self.node = BacktestNode(configs)

        def run(self) -> list[BacktestResult]:
            results = self.node.run()
            theirs.append(results[0].stats_returns)
            return results

        def __getattr__(self, name: str) -> object:
            return getattr(self.node, name)

    monkeypatch.setattr(engine, "BacktestNode", Watched)
    # The ticks end with the first day; the position is closed on the second, well before its end. (At its end
    # the engine would count the latency of the closing order as a third day.)
    window = Window(WINDOW.start, WINDOW.end + 3_600 * SECOND)
    made = job(catalog, window=window, strategy="backtest_strategies:Holder", types=(TRADES,))
    _, tables = run(made, tmp_path / "r", in_process=True)
    curve = list(
        zip(
            tables["equity"]["ts_event"].cast("int64").to_pylist(),
            tables["equity"]["equity"].to_pylist(),
            strict=True,
        )
    )
    ours = return_statistics(curve, window)
    assert ours["Sharpe Ratio (252 days)"] is not None
    for name, value in ours.items():
        assert value == (pytest.approx(theirs[0][name]) if math.isfinite(theirs[0][name]) else None), name


def test_it_is_told_how_far_the_run_is(catalog: Path, tmp_path: Path) -> None:
    for inside in (False, True):
        shares: list[float] = []
        (tmp_path / str(inside)).mkdir()
        run_engine(
            job(catalog, strategy="backtest_strategies:Slow"),
            tmp_path / str(inside),
            in_process=inside,
            on_simulated=shares.append,
        )
        assert len(shares) > 2
        assert shares == sorted(shares)
        assert 0 < shares[0] < shares[-1] < 1


def test_a_relative_run_folder_will_do(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len({run(job(catalog), Path(str(inside)), in_process=inside)[0] for inside in (True, False)}) == 1


def test_a_definition_of_another_type_is_refused(catalog: Path, tmp_path: Path) -> None:
    mixed = late_book(catalog, tmp_path, 0)
    like = perpetual()
    spot = CurrencyPair(
        like.id,
        like.raw_symbol,
        like.base_currency,
        like.quote_currency,
        price_precision=2,
        size_precision=3,
        price_increment=like.price_increment,
        size_increment=like.size_increment,
        ts_event=WINDOW.start,
        ts_init=WINDOW.start,
    )
    ParquetDataCatalog(str(mixed)).write_instruments([spot])
    with pytest.raises(BacktestError, match=f"holds {ETH} as CryptoPerpetual and as CurrencyPair"):
        run(job(mixed), tmp_path / "r")


def test_positions_are_closed_at_the_end_of_the_window(catalog: Path, tmp_path: Path) -> None:
    _, tables = run(
        job(catalog, strategy="trade_momentum:TradeMomentum", config={"size": "1"}), tmp_path / "r"
    )
    last = tables["fills"]["ts_event"].cast("int64").to_pylist()[-1]
    assert last == WINDOW.end - 1_000 + 5_000_000  # and the order's latency
    assert tables["positions"]["side"].to_pylist()[-1] == "FLAT"


def test_a_data_type_that_the_catalog_lacks_is_left_out_and_noted(catalog: Path, tmp_path: Path) -> None:
    without = late_book(catalog, tmp_path, 0)
    for path in (without / "data" / "trades").rglob("*.parquet"):
        path.unlink()
    config = {"size": "0.5", "max_position": "1"}
    made = job(without, strategy="book_imbalance:BookImbalance", config=config)
    (tmp_path / "r").mkdir()
    outcome = run_engine(made, tmp_path / "r")
    assert outcome.notes == (f"the catalog holds no trades of {ETH} in the window; run without them",)
    assert "DENIED" not in pq.read_table(tmp_path / "r" / "orders.parquet")["status"].to_pylist()


OTHER = "ETHUSDC-PERP.BINANCE"


def two_instruments(
    catalog: Path, tmp_path: Path
) -> tuple[Path, tuple[StrategyConfig, ...], tuple[InstrumentData, ...]]:
    """Return a catalog with a second instrument, whose ticks all have times of the first, and what trades."""
    both = late_book(catalog, tmp_path, 0)
    ParquetDataCatalog(str(both)).write_instruments([perpetual(nautilus_id=OTHER)])
    for path in catalog.rglob(f"{ETH}/*.parquet"):
        if "crypto_perpetual" not in str(path):
            # The same ticks under another name: every time stamp is shared by the two.
            table = pq.read_table(path)
            target = both / str(path.relative_to(catalog)).replace(ETH, OTHER)
            target.parent.mkdir(parents=True)
            metadata = {**table.schema.metadata, b"instrument_id": OTHER.encode()}
            pq.write_table(table.replace_schema_metadata(metadata), target)
    strategies = tuple(
        StrategyConfig(
            path="backtest_strategies:Busy",
            config_path="backtest_strategies:BusyConfig",
            config={"instrument_id": nautilus_id, "seed": seed},
        )
        for seed, nautilus_id in enumerate((ETH, OTHER))
    )
    instruments = (InstrumentData(ETH, (TRADES, DELTAS)), InstrumentData(OTHER, (DEPTHS, TRADES)))
    return both, strategies, instruments


def test_two_instruments_are_replayed_together_whatever_the_chunk_size(catalog: Path, tmp_path: Path) -> None:
    both, strategies, instruments = two_instruments(catalog, tmp_path)
    results = [
        run(
            job(both, chunk_size=size, instruments=order, strategies=strategies),
            tmp_path / f"r{index}",
            in_process=True,
        )
        for index, (size, order) in enumerate(
            ((1_000, instruments), (10**6, instruments), (3_333, instruments[::-1]))
        )
    ]
    assert len({digest for digest, _ in results}) == 1
    fills = results[0][1]["fills"]
    assert set(fills["instrument_id"].to_pylist()) == {ETH, OTHER}
