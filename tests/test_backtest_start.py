"""How a run begins: the engine's process waits while data are fetched, and leaves no trace in any case."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nautilus_trader.backtest import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.common import LoggerConfig, LogLevel
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import InstrumentId, NautilusDataType, TradeTick
from nautilus_trader.persistence import ParquetDataCatalog
from nautilus_trader.trading import Strategy, StrategyConfig

from backtest_support import ETH, WINDOW, job, perpetual, write_catalog
from fetch_support import ETH_PERP, INSTRUMENTS, TICKS
from lake_support import RangeServer
from test_cli import TICKLAKE
from test_security import SPY, config
from ticklake.backtesting import backtest, execute
from ticklake.backtesting.child import EngineProcess
from ticklake.backtesting.process import running
from ticklake.errors import BacktestError, NotCachedError
from ticklake.types import CatalogType

WORKER = "ticklake.backtesting.worker"


@pytest.fixture(scope="module")
def catalog(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(real_lake, tmp_path_factory.mktemp("start"))


def engines(parent: int) -> list[int]:
    """The engine processes that a process began."""
    children = Path("/proc", str(parent), "task").glob("*/children")
    pids = [pid for path in children for pid in path.read_text().split()]
    return [int(pid) for pid in pids if WORKER in Path("/proc", pid, "cmdline").read_text()]


def within(seconds: float, happened) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.02)
    return False


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def stalled(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A `ticklake backtest` whose lake does not answer, in a group of its own, and its engine process."""
    (folder / "spy.py").write_text(SPY.format(log=str(folder / "imported.log")))
    values = config(folder)
    values["strategies"] = values["strategies"][:1]
    with RangeServer() as server:
        server.before = lambda _: time.sleep(20)
        values["lake"] = {"ticks": server.url}
        (folder / "run.json").write_text(json.dumps(values))
        process = subprocess.Popen(
            [TICKLAKE, "backtest", "run.json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert within(30, lambda: server.requests)
        assert within(5, lambda: engines(process.pid))
        (engine,) = engines(process.pid)
        yield process, engine


def test_ctrl_c_while_the_engine_waits_for_data_ends_both_without_a_word(tmp_path: Path) -> None:
    with stalled(tmp_path) as (process, engine):
        os.killpg(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert not out
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors
    assert gone(engine)
    assert not list((tmp_path / "runs").glob("*"))


def test_the_waiting_engine_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    with stalled(tmp_path) as (process, engine):
        process.kill()
        process.communicate(timeout=10)
        assert within(5, lambda: gone(engine))


def test_an_error_before_the_run_leaves_no_process_and_no_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spy.py").write_text(SPY.format(log=str(tmp_path / "imported.log")))
    values = config(tmp_path)
    values["strategies"] = values["strategies"][:1]
    began = []
    with pytest.raises(NotCachedError):
        backtest(values, offline=True, on_import=lambda *_: began.extend(engines(os.getpid())))
    assert len(began) == 1
    assert gone(began[0])
    assert capfd.readouterr() == ("", "")


def test_a_run_does_not_need_pandas(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    run = execute(job(catalog), tmp_path / "runs", config={}, provenance={})
    assert run.summary["events"] > 0


def test_an_engine_that_died_while_it_waited_is_replaced(catalog: Path, tmp_path: Path) -> None:
    with EngineProcess() as process:
        assert within(5, lambda: engines(os.getpid()))
        (engine,) = engines(os.getpid())
        os.kill(engine, signal.SIGKILL)
        assert within(5, lambda: not process.waits)
        with running(job(catalog), tmp_path, process=process) as outcome:
            assert outcome.events > 0
    assert engines(os.getpid()) == []


def test_a_process_that_fails_at_its_very_end_fails_the_run(catalog: Path, tmp_path: Path) -> None:
    (tmp_path / "last.py").write_text(
        "import atexit, os\nfrom backtest_strategies import Busy, BusyConfig\natexit.register(os._exit, 3)\n"
    )
    made = job(catalog, strategy="last:Busy", search_path=(str(tmp_path), str(Path(__file__).parent)))
    with pytest.raises(BacktestError, match="ended with exit code 3"):
        execute(made, tmp_path / "runs", config={}, provenance={})
    assert list((tmp_path / "runs").iterdir()) == []


class LateConfig(StrategyConfig):
    def __init__(self, *, late: tuple[Path, Path], early: Path) -> None:
        super().__init__()
        self.late, self.early = late, early


class Late(Strategy):
    """At its first trade, puts one file into the catalog and takes another away."""

    def __init__(self, settings: LateConfig) -> None:
        super().__init__(settings)
        self.settings, self.trades = settings, 0

    def on_start(self) -> None:
        self.subscribe_trades(InstrumentId.from_str(ETH))

    def on_trade(self, trade: TradeTick) -> None:
        if not self.trades:
            shutil.copyfile(*self.settings.late)
            self.settings.early.unlink()
        self.trades += 1


def test_the_engine_opens_all_files_before_it_begins(catalog: Path, tmp_path: Path) -> None:
    """So a run cannot begin before its last day is there; see docs/architecture.md."""
    root = tmp_path / "catalog"
    root.mkdir()
    trades = ParquetDataCatalog(str(catalog)).query_trade_ticks([ETH])
    writer = ParquetDataCatalog(str(root))
    writer.write_instruments([perpetual()])
    parts = [trades[:2_000], trades[2_000:4_000], trades[4_000:]]
    for part in parts:
        writer.write_trade_ticks(part)
    _, second, third = sorted((root / "data" / CatalogType.TRADES / ETH).iterdir())
    kept = tmp_path / third.name
    third.rename(kept)
    node = BacktestNode(
        [
            BacktestRunConfig(
                venues=[
                    BacktestVenueConfig(
                        "BINANCE", "NETTING", "MARGIN", ["1 USDT"], fee_model=MakerTakerFeeModel("0", "0")
                    )
                ],
                data=[
                    BacktestDataConfig(
                        NautilusDataType.TradeTick, str(root), instrument_id=InstrumentId.from_str(ETH)
                    )
                ],
                engine=BacktestEngineConfig(logging=LoggerConfig(stdout_level=LogLevel.ERROR)),
                id="late",
                chunk_size=1_000,
                raise_exception=True,
                start=WINDOW.start,
                end=WINDOW.end,
            )
        ]
    )
    node.build()
    strategy = Late(LateConfig(late=(kept, third), early=second))
    node.add_strategy("late", strategy)
    node.run()
    assert third.exists()
    assert not second.exists()
    replayed = [sum(trade.ts_init in range(WINDOW.start, WINDOW.end) for trade in part) for part in parts]
    assert strategy.trades == replayed[0] + replayed[1]
    assert all(replayed)


COLD = {
    "obstore",
    "asyncio",
    "filelock",
    "ticklake.lake.lake",
    "ticklake.conversion.converter",
    "ticklake.v1",
}
LAST = {"pandas", "plotly", "pyarrow.dataset", "pyarrow.compute", "ticklake.report.html"}


# The command, which tells what is imported when the engine gets its job.
TOLD = """
import sys
from ticklake.cli import main
from ticklake.backtesting.child import EngineProcess
run = EngineProcess.run

def told(*args, **options):
    with open("modules", "w") as file:
        print(*sys.modules, file=file)
    return run(*args, **options)

EngineProcess.run = told
main()
"""


def test_a_run_that_finds_all_in_the_catalog_imports_nothing_that_reads_or_converts(
    real_lake: Path, tmp_path: Path
) -> None:
    (tmp_path / "told.py").write_text(TOLD)
    values = {
        "lake": {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)},
        "catalog": "catalog",
        "window": {"start": WINDOW.start, "end": WINDOW.end},
        "instruments": [{"key": ETH_PERP, "data": ["trades"]}],
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "book": "L1_MBP",
                "balances": ["1_000_000 USDT"],
                "fees": {"maker": "0", "taker": "0"},
            }
        },
        "strategies": [
            {
                "path": "backtest_strategies:Busy",
                "config_path": "backtest_strategies:BusyConfig",
                "config": {"instrument_id": ETH},
            }
        ],
    }
    (tmp_path / "run.json").write_text(json.dumps(values))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    imported = []
    for _ in ("cold", "checks what another process wrote", "warm"):
        done = subprocess.run(
            [sys.executable, "told.py", "backtest", "run.json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        imported.append({*(tmp_path / "modules").read_text().split()})
    cold, _, warm = imported
    assert {"obstore", "ticklake.lake.lake", "ticklake.conversion.converter"} <= cold
    assert "nautilus_trader.trading" in warm
    assert not COLD & warm


def test_what_a_run_imports_first_leaves_out_what_it_needs_last() -> None:
    script = "import sys, ticklake.cli.starting, ticklake.backtesting.run; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "nautilus_trader.trading" in found.stdout.split()
    assert not (COLD | LAST) & set(found.stdout.split())


def test_the_engine_begins_without_what_reads_configs_and_shows_things() -> None:
    script = "import sys, ticklake.backtesting.worker, ticklake.backtesting.engine; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "nautilus_trader.backtest" in found.stdout.split()
    assert not (COLD | LAST | {"pydantic", "typer", "rich", "yaml"}) & set(found.stdout.split())
