"""Runs on disk: a folder with the config, the figures, the tables, the provenance and the report of a run."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import SecretStr

from ticklake.backtesting.child import EngineProcess
from ticklake.backtesting.job import EngineJob, EngineOutcome
from ticklake.backtesting.process import running
from ticklake.backtesting.summary import figures, remarks, results_digest
from ticklake.config import RunConfig, StrategyConfig
from ticklake.errors import BacktestError, ConfigError
from ticklake.types import format_nanos

__all__ = ["Run", "check_runs", "execute", "new_run_id", "public_config", "run_folder"]

TABLES = ("orders", "fills", "positions", "account", "equity")
_FILES = (
    "summary.json",
    "provenance.json",
    "config.yaml",
    *(f"{name}.parquet" for name in (*TABLES, "prices")),
)


@dataclass(frozen=True, repr=False)
class Run:
    """One backtest: its config, figures, tables and provenance.

    Attributes:
        id: Name of the run, sortable by time.
        path: Its folder.
    """

    id: str
    path: Path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the run in a folder.

        Raises:
            BacktestError: The folder holds no complete run.
        """
        folder = Path(path)
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            found = f"it lacks {', '.join(missing)}" if folder.is_dir() else "there is no such folder"
            inside = sorted(inner.parent.name for inner in folder.glob("*/summary.json"))
            raise BacktestError(
                f"{folder} holds no run: {found}",
                hint=f"There are runs in it, for example {folder / inside[-1]}." if inside else None,
            )
        try:
            return cls(str(cls("", folder).summary["id"]), folder)
        except (ValueError, KeyError) as exc:
            raise BacktestError(f"{folder / 'summary.json'} is not what a run wrote: {exc!r}") from exc

    def __repr__(self) -> str:
        window, pnl = self.summary["window"], self.summary["net_pnl"]
        made = ", ".join(f"{value:+} {code}" for code, value in pnl.items())
        return f"<Run {self.id}: {window['start']} to {window['end']}, net PnL {made or 'none'}>"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`; see `execute`."""
        return self._json("summary.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, catalog files and the lake objects that they came from."""
        return self._json("provenance.json")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config, without secrets."""
        values: dict[str, Any] = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        return values

    @cached_property
    def orders(self) -> pa.Table:
        """All orders, in the order of their creation."""
        return self._table("orders")

    @cached_property
    def fills(self) -> pa.Table:
        """All fills, in time order."""
        return self._table("fills")

    @cached_property
    def positions(self) -> pa.Table:
        """All positions, one row for each time that one was opened."""
        return self._table("positions")

    @cached_property
    def account(self) -> pa.Table:
        """Balances after each account event, one row for each currency."""
        return self._table("account")

    @cached_property
    def equity(self) -> pa.Table:
        """Equity over time, one row for each account and currency."""
        return self._table("equity")

    @cached_property
    def prices(self) -> pa.Table:
        """Trade prices of each instrument, thinned to the extremes of some thousand time buckets."""
        return self._table("prices")

    def report(self) -> Path:
        """Return the path of the run's HTML report, which is written where it is missing."""
        path = self.path / "report.html"
        if not path.exists():
            from ticklake.report import write_report

            write_report(self, path)
        return path

    def _json(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        return values

    def _table(self, name: str) -> pa.Table:
        return _read_table(self.path, name)


def execute(
    job: EngineJob,
    runs: Path,
    *,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    figures_of_data: Mapping[str, Any] | None = None,
    in_process: bool = False,
    process: EngineProcess | None = None,
    on_output: Callable[[str], None] | None = None,
    on_simulated: Callable[[float], None] | None = None,
) -> Run:
    """Run a job and write its run folder.

    The folder appears under its name only when it is complete; a run that fails leaves nothing.

    Args:
        job: What to run; its catalog must be ready.
        runs: Folder of the run folders; created where it is missing.
        config: The resolved config without secrets; see `public_config`.
        provenance: What the data came from.
        figures_of_data: Goes into the summary as it is: `data` (rows by type, holes, quarantined),
            `fetch_seconds`, `bytes_read`, `requests`.
        in_process: See `running`.
        process: See `running`.
        on_output: See `running`.
        on_simulated: See `running`.

    Returns:
        The run. Its `summary` has `id`, `window`, `instruments`, `strategies`, `started`, `finished`,
        `engine_seconds`, the figures of `summary.figures`, `results_digest`, `engine_version`, `notes`,
        `log`, and `figures_of_data`.

    Raises:
        BacktestError: See `running`; or the run folder cannot be written.
        ConfigError: See `running`.
    """
    started = dt.datetime.now(dt.UTC)
    with (
        run_folder(runs, job.run_id) as folder,
        running(
            job,
            folder,
            in_process=in_process,
            process=process,
            meanwhile=_import_report,
            on_output=on_output,
            on_simulated=on_simulated,
        ) as outcome,
    ):
        tables = {name: _read_table(folder, name) for name in TABLES}
        summary = {
            "id": job.run_id,
            **_what(job),
            "started": _iso(started),
            "finished": _iso(dt.datetime.now(dt.UTC)),
            "engine_seconds": round(outcome.seconds, 3),
            **figures(tables, outcome, job.window),
            "results_digest": results_digest(tables, outcome.events),
            "engine_version": outcome.engine_version,
            "notes": remarks(tables, outcome),
            "log": _log(outcome),
            **(figures_of_data or {}),
        }
        _write_json(folder / "summary.json", summary)
        _write_json(folder / "provenance.json", provenance)
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        Run(job.run_id, folder).report()
    return Run.load(runs / job.run_id)


def _import_report() -> None:
    import_module("ticklake.report.html")
    import_module("pandas")  # which pyarrow imports as soon as it makes an array


def _read_table(folder: Path, name: str) -> pa.Table:
    # Not `read_table`, which imports pandas.
    with pq.ParquetFile(folder / f"{name}.parquet") as file:
        return file.read()


def _what(job: EngineJob) -> dict[str, Any]:
    return {
        "window": {"start": format_nanos(job.window.start), "end": format_nanos(job.window.end)},
        "instruments": [data.nautilus_id for data in job.instruments],
        "strategies": [strategy.path for strategy in job.strategies],
    }


def _log(outcome: EngineOutcome) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for kind in outcome.log:
        counts[kind.level] += kind.count
    return {"counts": dict(counts), "kinds": [asdict(kind) for kind in outcome.log]}


def _iso(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(
        json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def new_run_id(strategies: Sequence[StrategyConfig], now: dt.datetime | None = None) -> str:
    """Return a new run id: `YYYYMMDDTHHMMSSZ-<strategy class>-<6 hex digits>`.

    Args:
        strategies: What trades; the first one gives the name.
        now: The time; by default the present.
    """
    name = strategies[0].path.rpartition(":")[2] if strategies else "none"
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "strategy"
    return f"{now or dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{slug}-{secrets.token_hex(3)}"


@contextlib.contextmanager
def run_folder(runs: Path, run_id: str) -> Iterator[Path]:
    """Give a folder to write a run into; it gets its name when all went well, and goes when it did not.

    Raises:
        BacktestError: There is a run of that name, or the folder cannot be made or written.
    """
    final, temporary = runs / run_id, runs / f".{run_id}.tmp"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        if final.exists():
            raise BacktestError(f"there is a run {final} already")
        temporary.mkdir()
        try:
            yield temporary
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as exc:
        raise BacktestError(f"the run folder {final} cannot be written: {exc}") from exc


def check_runs(runs: Path) -> None:
    """Check that run folders can be written, before anything moves; nothing is left behind.

    Raises:
        ConfigError: They cannot.
    """
    home = runs.absolute()
    while not home.exists():
        home = home.parent
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(bytes(4_096))
    except OSError as exc:
        raise ConfigError(
            f"runs: no folder can be written at {runs}: {exc.strerror} ({home})", hint="Name another one."
        ) from exc


def public_config(config: RunConfig) -> dict[str, Any]:
    """Return a config as plain values that YAML and JSON can hold, without secrets."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    storage = config.lake.storage
    for name in type(storage).model_fields:
        if isinstance(getattr(storage, name), SecretStr):
            del values["lake"]["storage"][name]
    return values
