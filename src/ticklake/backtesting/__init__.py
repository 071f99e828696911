"""The whole way to a run on disk, and its parts from a ready catalog on.

The names below are imported when they are first used: the engine and its process need few of them each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake.lazily import lazily

if TYPE_CHECKING:
    from ticklake.backtesting.job import EngineJob, EngineOutcome, InstrumentData
    from ticklake.backtesting.listing import list_runs
    from ticklake.backtesting.process import run_engine
    from ticklake.backtesting.results import Run, execute, new_run_id, public_config
    from ticklake.backtesting.run import backtest
    from ticklake.backtesting.strategies import check_strategies
    from ticklake.backtesting.venues import check_venues

__all__ = [
    "EngineJob",
    "EngineOutcome",
    "InstrumentData",
    "Run",
    "backtest",
    "check_strategies",
    "check_venues",
    "execute",
    "list_runs",
    "new_run_id",
    "public_config",
    "run_engine",
]

__getattr__ = lazily(
    __name__,
    {
        "EngineJob": "job",
        "EngineOutcome": "job",
        "InstrumentData": "job",
        "Run": "results",
        "backtest": "run",
        "check_strategies": "strategies",
        "check_venues": "venues",
        "execute": "results",
        "list_runs": "listing",
        "new_run_id": "results",
        "public_config": "results",
        "run_engine": "process",
    },
)
