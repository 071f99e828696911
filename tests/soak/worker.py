"""A worker: does one thing after another with the catalog until it is told to stop, or is killed."""

from __future__ import annotations

import faulthandler
import json
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fetch_support import DAY, HOUR, START
from soak.audit import audit_place
from soak.log import Log
from soak.source import DAYS, DEFINITIONS, IDS, PLACES, SOURCES, Marks, problems_of
from ticklake import backtest
from ticklake.catalog import Catalog, verify
from ticklake.catalog.compaction import compact
from ticklake.catalog.maintenance import prune
from ticklake.config import StorageConfig
from ticklake.errors import (
    AccessDeniedError,
    CatalogError,
    CorruptObjectError,
    LakeError,
    NotCachedError,
    ObjectChangedError,
    TransientLakeError,
)
from ticklake.fetching import FetchReport, FetchRequest, fetch
from ticklake.lake import Lake
from ticklake.types import CatalogType, Window, format_nanos

__all__ = ["EVERYTHING", "OPERATIONS", "STORAGE", "WORKERS", "Setting", "asking", "config_of", "work"]

WORKERS = 4
EVERYTHING = Window(START, START + DAYS * DAY)
STORAGE = {"max_retries": 2, "retry_wait": "20ms", "timeout": "2s", "retry_timeout": "6s"}
"""So short that what has to end by itself does so within a minute."""

OPERATIONS = {
    "fetch": 35,
    "refresh": 15,
    "read": 20,
    "verify": 6,
    "compact": 8,
    "prune": 8,
    "offline": 4,
    "backtest": 4,
}
"""What a worker does, and of a hundred times how often."""

_SOURCE = {LakeError, TransientLakeError, CorruptObjectError, ObjectChangedError, AccessDeniedError}
"""What a fetch may fail with when answers are bad and objects are overwritten."""

_RUN = _SOURCE | {CatalogError}
"""What a run may fail with; a `CatalogError` where its files are pruned while it begins."""


@dataclass(frozen=True)
class Setting:
    """Where a soak takes place."""

    url: str
    folder: Path
    seed: str

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.folder / "catalog")

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def stop(self) -> Path:
        """A file that tells everybody to stop."""
        return self.folder / "stop"

    @property
    def lake(self) -> Lake:
        return Lake(self.url, storage=StorageConfig.model_validate(STORAGE))


def work(setting: Setting, number: int, life: int) -> None:
    """Work until the end; `life` counts how often this worker was begun."""
    faulthandler.register(signal.SIGUSR1, file=(setting.logs / f"worker-{number}-{life:03}.stack").open("w"))
    worker = _Worker(setting, number, life)
    while not setting.stop.exists():
        worker.step()


class _Worker:
    """One worker process; what it does depends on the seed, its number and its life."""

    def __init__(self, setting: Setting, number: int, life: int) -> None:
        self.setting = setting
        self.name = name = f"{number}-{life:03}"
        self.log = Log(setting.logs / f"worker-{name}.jsonl")
        self.random = random.Random(f"{setting.seed} {name}")
        self.catalog = setting.catalog
        self.lake = setting.lake
        self.runs = 0
        # So that a short soak has all of them, the first lives share them out.
        self.first = [*OPERATIONS][number::WORKERS] if life == 1 else []

    def step(self) -> None:
        """Do one thing."""
        if self.first:
            name = self.first.pop()
        else:
            (name,) = self.random.choices([*OPERATIONS], [*OPERATIONS.values()])
        operation: Callable[[], None] = getattr(self, name)
        operation()

    def window(self, longest: int) -> Window:
        hours = self.random.randrange(1, longest + 1)
        start = START + self.random.randrange(DAYS * 24 - hours + 1) * HOUR
        return Window(start, start + hours * HOUR)

    def asks(self, longest: int) -> list[FetchRequest]:
        places = self.random.sample(PLACES, self.random.randrange(1, 4))
        return [asking(kind, key, self.window(longest)) for kind, key in places]

    def fetch(self) -> None:
        with self.log.operation("fetch", _SOURCE) as told:
            self.report(told, fetch(self.lake, self.catalog, self.asks(DAYS * 24)))

    def refresh(self) -> None:
        with self.log.operation("refresh", _SOURCE) as told:
            self.report(told, fetch(self.lake, self.catalog, self.asks(24), refresh=True))

    def offline(self) -> None:
        with self.log.operation("offline", {NotCachedError}):
            report = fetch(self.lake, self.catalog, self.asks(24), offline=True)
            if report.rows or report.requests:
                self.log.problem(f"an offline fetch read {report.rows} rows in {report.requests} requests")

    def report(self, told: dict[str, Any], report: FetchReport) -> None:
        told |= {
            "rows": report.rows,
            "files": report.files,
            "requests": report.requests,
            "bytes": report.bytes_read,
            "changed": sum("was overwritten while" in warning for warning in report.warnings),
        }
        if report.source_rows != report.source_rows_written + report.outside + report.source_rows_quarantined:
            self.log.problem(f"rows are not conserved: {report.to_dict()}")

    def read(self) -> None:
        with self.log.operation("read") as told:
            told["files"], problems = audit_place(self.catalog, *self.random.choice(PLACES))
            for problem in problems:
                self.log.problem(problem)

    def verify(self) -> None:
        with self.log.operation("verify") as told:
            report = verify(self.catalog)
            told["files"] = len(report.files)
            if report.bad or report.strays:
                self.log.problem(f"verify found {report.to_dict()}")

    def compact(self) -> None:
        with self.log.operation("compact"):
            compact(self.catalog, self.random.choice([None, *CatalogType]))

    def prune(self) -> None:
        with self.log.operation("prune") as told:
            kind, key = self.random.choice(PLACES)
            told["files"] = len(prune(self.catalog, self.window(24), kind, IDS[key]).removed)

    def backtest(self) -> None:
        """Replay trades, and hold what the strategy was shown against the lake."""
        self.runs += 1
        folder = self.setting.folder / "runs" / f"{self.name}-{self.runs}"
        folder.mkdir(parents=True)
        key, window = self.random.choice([*IDS]), self.window(30)
        with self.log.operation("backtest", _RUN) as told:
            config = config_of(self.setting.url, self.catalog.path, folder, key, window)
            backtest(config, on_output=lambda _: None)
            trades = json.loads((folder / "told.json").read_text())
            times, sizes, prices = (np.array(column) for column in zip(*trades, strict=True))
            codes, numbers = (
                np.rint(values).astype(np.int64) for values in (sizes * 1_000, (prices - 60_000) * 10)
            )
            problems, _ = problems_of(CatalogType.TRADES, key, window, Marks(times, codes, numbers))
            for problem in problems:
                self.log.problem(f"a strategy was shown other trades: {problem}")
            told["rows"] = len(trades)
        shutil.rmtree(folder)


def asking(kind: CatalogType, key: str, window: Window) -> FetchRequest:
    """Return the request for a place's rows."""
    data_type, book_as = SOURCES[kind]
    return FetchRequest(key, data_type, window, book_as, definition=DEFINITIONS[key])


def config_of(url: str, catalog: Path, folder: Path, key: str, window: Window) -> dict[str, Any]:
    """Return the config of a run that writes down the trades which a strategy is shown."""
    return {
        "lake": {"ticks": url, "storage": STORAGE},
        "catalog": str(catalog),
        "window": {"start": format_nanos(window.start), "end": format_nanos(window.end)},
        "instruments": [{"key": key, "data": ["trades"], "definition": DEFINITIONS[key]}],
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "oms": "NETTING",
                "book": "L1_MBP",
                "balances": ["1_000 USDT"],
                "fees": {"maker": "0", "taker": "0"},
            }
        },
        "strategies": [
            {
                "path": "soak.strategy:Listener",
                "config_path": "soak.strategy:ListenerConfig",
                "config": {"instrument_id": IDS[key], "told": str(folder / "told.json")},
            }
        ],
        "runs": str(folder / "runs"),
    }
