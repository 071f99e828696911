"""The engine in this process: the only importer of `nautilus_trader.backtest`.

What was learnt of nautilus_trader 2.0.0rc7, and is tested:

- A chunked run replays several data types merged by `ts_init`, as an unchunked one does, in bounded memory.
  Rows of equal `ts_init` come in the order of the data configs; here books come before trades, so that a
  strategy never trades against a quote that the same instant took away.
- Exceptions of a strategy's handlers are logged and swallowed; `strategies.guard` makes them count.
- Where an instrument has no trades, the engine derives quotes from its book; with deltas only for a strategy
  that subscribes with `managed=True`.
- Fills at prices that are no multiple of the instrument's tick are dropped with a warning in the log.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import nautilus_trader
import pyarrow.parquet as pq
from nautilus_trader.backtest import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.common import DataActor, FileWriterConfig, LoggerConfig, LogLevel
from nautilus_trader.data import DataEngineConfig
from nautilus_trader.execution import MakerTakerFeeModel, StaticLatencyModel
from nautilus_trader.model import Currency, InstrumentId, NautilusDataType, Venue
from nautilus_trader.portfolio import PortfolioConfig

from ticklake.backtesting.equity import EquityCurve, equity_step_ms
from ticklake.backtesting.job import EngineJob, EngineOutcome, JobVenue
from ticklake.backtesting.log import ENGINE_LOG
from ticklake.backtesting.strategies import Failure, guard, importable, load_strategy
from ticklake.backtesting.tables import (
    account_table,
    equity_table,
    fills_table,
    orders_table,
    positions_table,
)
from ticklake.backtesting.view import SEED_AFTER_ROWS, CatalogView, build_view
from ticklake.display import refused
from ticklake.errors import BacktestError
from ticklake.types import CatalogType, Window

if TYPE_CHECKING:
    from ticklake.config import VenueConfig

__all__ = ["simulate"]

# Books before trades; see above.
_DATA_TYPES = {
    CatalogType.DELTAS: NautilusDataType.OrderBookDelta,
    CatalogType.DEPTHS: NautilusDataType.OrderBookDepth,
    CatalogType.TRADES: NautilusDataType.TradeTick,
}
_LOG_LEVELS = {
    "OFF": LogLevel.OFF,
    "ERROR": LogLevel.ERROR,
    "WARNING": LogLevel.WARNING,
    "INFO": LogLevel.INFO,
    "DEBUG": LogLevel.DEBUG,
}

_SECONDS_BETWEEN_REPORTS = 0.2


def simulate(
    job: EngineJob, folder: Path, on_simulated: Callable[[float], None] | None = None
) -> EngineOutcome:
    """Run a job in this process and write its result tables into a folder.

    The folder must exist, and its path be absolute; it gets `orders.parquet`, `fills.parquet`,
    `positions.parquet`, `account.parquet`, `equity.parquet` and the engine's warnings and errors as
    `engine-log.jsonl`. What the engine and the strategies print goes to standard error.

    Args:
        job: What to run.
        folder: Where the results go.
        on_simulated: Called a few times a second with the share of the window that was replayed.

    Raises:
        BacktestError: The catalog does not hold what the job needs, the engine refused the job, or a
            strategy raised an exception.
        ConfigError: A strategy cannot be imported or constructed.
    """
    try:
        view = build_view(job, folder / ".view")
        with importable(job.search_path), _stdout_on_stderr():
            return _run(job, view, folder, on_simulated)
    except OSError as exc:
        raise BacktestError(
            f"the catalog cannot be read, or the run folder not written: {refused(exc)}"
        ) from exc


def _run(
    job: EngineJob, view: CatalogView, folder: Path, on_simulated: Callable[[float], None] | None
) -> EngineOutcome:
    failure = Failure()
    strategies = [
        load_strategy(strategy, f"strategies[{index}]", job.search_path)
        for index, strategy in enumerate(job.strategies)
    ]
    try:
        node = BacktestNode([_run_config(job, view, folder)])
        node.build()
        equity = EquityCurve(
            node.get_engine_portfolio(job.run_id), sorted(job.venues), job.window, _equity_step_ms(job)
        )
        for strategy in strategies:
            guard(strategy, failure, _reporter(job.window, on_simulated) if on_simulated else None)
            equity.watch(strategy)
            node.add_strategy(job.run_id, strategy)
        node.add_actor(job.run_id, _Edges(job.window, equity))
        started = time.perf_counter()
        result = node.run()[0]
        seconds = time.perf_counter() - started
    except (RuntimeError, ValueError, TypeError) as exc:
        if failure:
            raise _strategy_error(failure) from exc
        raise BacktestError(f"the engine refused the run: {exc}") from exc
    if failure:
        raise _strategy_error(failure)
    _write_tables(job, node, equity.rows(), folder)
    outcome = EngineOutcome(
        events=result.iterations,
        seconds=seconds,
        pnl_statistics={code: _defined(values) for code, values in sorted(result.stats_pnls.items())},
        general_statistics=_defined(result.stats_general),
        notes=view.notes,
        engine_version=nautilus_trader.__version__,
    )
    node.dispose()
    return outcome


class _Edges(DataActor):
    """Begins the equity curve, and takes the engine's clocks to the end of the window.

    Without it, strategies would be stopped at the time of the last row.
    """

    # The engine's base class is made in __new__, with the configuration or nothing.
    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(self, window: Window, equity: EquityCurve) -> None:
        super().__init__()
        self.window, self.equity = window, equity

    def on_start(self) -> None:
        self.equity.begin()
        # The last whole microsecond: without pandas, Arrow gives Python no finer times.
        last = max(self.window.start, self.window.closed[1] // 1_000 * 1_000)
        self.clock.set_time_alert_ns("end of window", last)


def _reporter(window: Window, on_simulated: Callable[[float], None]) -> Callable[[int], None]:
    """Return what turns engine times into shares of the window, a few of them a second."""
    told = time.monotonic()

    def report(nanos: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _SECONDS_BETWEEN_REPORTS:
            told = time.monotonic()
            on_simulated((nanos - window.start) / (window.end - window.start))

    return report


def _strategy_error(failure: Failure) -> BacktestError:
    return BacktestError(f"the strategy failed in {failure.handler}:\n{failure.traceback}")


def _run_config(job: EngineJob, view: CatalogView, folder: Path) -> BacktestRunConfig:
    first, last = job.window.closed
    return BacktestRunConfig(
        venues=[_venue_config(name, venue) for name, venue in sorted(job.venues.items())],
        data=list(_data_configs(job, view)),
        engine=BacktestEngineConfig(
            logging=LoggerConfig(
                stdout_level=_LOG_LEVELS[job.engine.log_level],
                fileout_level=LogLevel.WARNING,
                file_config=FileWriterConfig(str(folder), Path(ENGINE_LOG).stem, "json"),
                is_colored=False,
            ),
            data_engine=_data_engine_config(job, view),
            portfolio=PortfolioConfig(equity_curve=True, snapshot_interval_ms=_equity_step_ms(job)),
        ),
        id=job.run_id,
        chunk_size=max(job.engine.chunk_size, SEED_AFTER_ROWS),
        raise_exception=True,
        dispose_on_completion=False,
        start=first,
        end=last,
    )


def _data_engine_config(job: EngineJob, view: CatalogView) -> DataEngineConfig | None:
    # The engine denies market orders and values no position where it knows neither quote nor trade.
    if all((data.nautilus_id, CatalogType.TRADES) in view.files for data in job.instruments):
        return None
    return DataEngineConfig(emit_quotes_from_book=True, emit_quotes_from_book_depths=True)


def _data_configs(job: EngineJob, view: CatalogView) -> Iterator[BacktestDataConfig]:
    first, last = job.window.closed
    streams = [
        (NautilusDataType.OrderBookDelta, view.seed, nautilus_id) for nautilus_id in sorted(view.seeded)
    ]
    streams += [
        (engine_type, view.root, data.nautilus_id)
        for kind, engine_type in _DATA_TYPES.items()
        for data in sorted(job.instruments, key=lambda item: item.nautilus_id)
        if (data.nautilus_id, kind) in view.files
    ]
    for engine_type, catalog, nautilus_id in streams:
        yield BacktestDataConfig(
            engine_type,
            str(catalog),
            instrument_id=InstrumentId.from_str(nautilus_id),
            start_time=first,
            end_time=last,
        )


def _venue_config(name: str, venue: VenueConfig | JobVenue) -> BacktestVenueConfig:
    return BacktestVenueConfig(
        name,
        oms_type=venue.oms,
        account_type=venue.account,
        starting_balances=list(venue.balances),
        book_type=venue.book,
        base_currency=Currency.from_str(venue.base_currency) if venue.base_currency else None,
        default_leverage=Decimal(venue.leverage),
        fee_model=MakerTakerFeeModel(venue.fees.maker, venue.fees.taker),
        latency_model=StaticLatencyModel(venue.latency) if venue.latency else None,
    )


def _equity_step_ms(job: EngineJob) -> int:
    return equity_step_ms(job.window, job.engine.equity_interval)


def _write_tables(job: EngineJob, node: BacktestNode, equity: Iterable[dict[str, Any]], folder: Path) -> None:
    cache, portfolio = node.get_engine_cache(job.run_id), node.get_engine_portfolio(job.run_id)
    found = [portfolio.account(Venue(name)) for name in sorted(job.venues)]
    accounts = [account for account in found if account is not None]
    orders = cache.orders()
    tables = {
        "orders": orders_table(orders),
        "fills": fills_table(orders, {str(item.id): item for item in cache.instruments()}),
        "positions": positions_table(cache.position_snapshots(), cache.positions()),
        "account": account_table(accounts),
        "equity": equity_table(equity),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def _defined(statistics: Mapping[str, float]) -> dict[str, float | None]:
    """Return statistics in a fixed order, with None where they are undefined."""
    return {name: value if math.isfinite(value) else None for name, value in sorted(statistics.items())}


@contextlib.contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Send what the engine writes to file descriptor 1 to standard error for a while."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
