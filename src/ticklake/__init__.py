"""Backtest NautilusTrader strategies straight from a tick-data lake in object storage.

The names below are imported when they are first used, so that importing the package costs nothing. All errors
that a caller can see are in `ticklake.errors`; `ticklake.__version__` is the installed version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake import errors as errors
from ticklake.lazily import lazily

if TYPE_CHECKING:
    from ticklake.backtesting import Run, backtest, list_runs
    from ticklake.catalog import Catalog, Coverage
    from ticklake.config import (
        DialectConfig,
        InstrumentDefinition,
        RunConfig,
        StorageConfig,
        load_config,
        parse_config,
    )
    from ticklake.conversion import Conversion, convert
    from ticklake.errors import TicklakeError
    from ticklake.fetching import FetchReport, FetchRequest, fetch, plan_fetch, requests_of
    from ticklake.lake import Lake, Scan, ScanPlan
    from ticklake.types import BookAs, DataType, InstrumentKey, InstrumentSpec, Window

    __version__: str

_of_home = lazily(
    __name__,
    {
        "BookAs": "types",
        "Catalog": "catalog",
        "Conversion": "conversion",
        "Coverage": "catalog",
        "DataType": "types",
        "DialectConfig": "config",
        "FetchReport": "fetching",
        "FetchRequest": "fetching",
        "InstrumentDefinition": "config",
        "InstrumentKey": "types",
        "InstrumentSpec": "types",
        "Lake": "lake",
        "Run": "backtesting",
        "RunConfig": "config",
        "Scan": "lake",
        "ScanPlan": "lake",
        "StorageConfig": "config",
        "TicklakeError": "errors",
        "Window": "types",
        "backtest": "backtesting",
        "convert": "conversion",
        "fetch": "fetching",
        "list_runs": "backtesting",
        "load_config": "config",
        "parse_config": "config",
        "plan_fetch": "fetching",
        "requests_of": "fetching",
    },
)

__all__ = [
    "BookAs",
    "Catalog",
    "Conversion",
    "Coverage",
    "DataType",
    "DialectConfig",
    "FetchReport",
    "FetchRequest",
    "InstrumentDefinition",
    "InstrumentKey",
    "InstrumentSpec",
    "Lake",
    "Run",
    "RunConfig",
    "Scan",
    "ScanPlan",
    "StorageConfig",
    "TicklakeError",
    "Window",
    "backtest",
    "convert",
    "fetch",
    "list_runs",
    "load_config",
    "parse_config",
    "plan_fetch",
    "requests_of",
]


def __getattr__(name: str) -> object:
    if name != "__version__":
        return _of_home(name)
    from importlib.metadata import version

    globals()[name] = version(__name__)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
