"""Runs: a folder with the config, the figures, the tables, the provenance and the report of each."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import SecretStr

from ticklake.backtesting.child import EngineProcess
from ticklake.backtesting.job import EngineJob, EngineOutcome
from ticklake.backtesting.places import (
    MARKER,
    RUN_ID,
    RunFolder,
    RunObjects,
    check_runs,
    place_of,
    run_folder,
)
from ticklake.backtesting.process import running
from ticklake.config import RunConfig, StorageConfig
from ticklake.display import card
from ticklake.errors import BacktestError, TicklakeError
from ticklake.types import format_nanos

if TYPE_CHECKING:
    from ticklake.backtesting.strategies import AnyStrategy

__all__ = ["Run", "check_runs", "execute", "new_run_id", "public_config", "run_folder"]

TABLES = ("orders", "fills", "positions", "account", "equity")
_REPORT = "report.html"
_FILES = (
    MARKER,
    "provenance.json",
    "config.yaml",
    *(f"{name}.parquet" for name in (*TABLES, "prices")),
)


_MONEY = {
    "net_pnl": ("net PnL", "+,.2f"),
    "fees": ("fees", ",.2f"),
    "turnover": ("turnover", ",.0f"),
    "max_drawdown_amount": ("max drawdown", ",.2f"),
}


@dataclass(frozen=True, repr=False)
class Run:
    """One backtest: its config, figures, tables and provenance.

    What is asked of it is read when it is first asked, and kept.

    Attributes:
        id: Name of the run, sortable by time.
        place: Where it lies.
    """

    id: str
    place: RunFolder | RunObjects

    @classmethod
    def load(cls, path: str | Path, *, storage: StorageConfig | None = None) -> Self:
        """Return the run in a folder of this machine or of an object store.

        Args:
            path: The folder, or its URL (`gs://…/<run id>`), as text.
            storage: How to reach an object store; by default as the environment says.

        Raises:
            BacktestError: The folder holds no complete run.
            ConfigError: The URL is not usable.
            LakeError: The store could not be asked.
        """
        place = place_of(path, storage)
        names = place.names()
        if missing := [name for name in _FILES if name not in names]:
            raise _no_run(place, names, missing)
        try:
            return cls(str(cls("", place).summary["id"]), place)
        except (ValueError, KeyError, TypeError) as exc:
            if isinstance(exc, TicklakeError):
                raise
            raise BacktestError(f"{place.location}/{MARKER} is not what a run wrote: {exc!r}") from exc

    @property
    def location(self) -> str:
        """Its folder, or the URL of that, as it may be shown."""
        return self.place.location

    @property
    def path(self) -> Path:
        """Its folder.

        Raises:
            BacktestError: It lies in an object store.
        """
        if isinstance(self.place, RunFolder):
            return self.place.path
        raise BacktestError(
            f"the run lies in an object store and has no folder here: {self.location}",
            hint="Use its location, or copy it.",
        )

    def __repr__(self) -> str:
        window, pnl = self.summary["window"], self.summary["net_pnl"]
        made = ", ".join(f"{value:+} {code}" for code, value in pnl.items())
        return f"<Run {self.id}: {window['start']} to {window['end']}, net PnL {made or 'none'}>"

    def _repr_html_(self) -> str:
        summary = self.summary
        facts = {
            "id": self.id,
            "strategies": ", ".join(map(str, summary["strategies"])),
            "instruments": ", ".join(map(str, summary["instruments"])),
            "from (UTC)": summary["window"]["start"],
            "to, exclusive": summary["window"]["end"],
            "events": summary["events"],
            "orders, fills, positions": ", ".join(
                f"{summary[name]:,}" for name in ("orders", "fills", "positions")
            ),
            **{
                label: ", ".join(f"{value:{form}} {code}" for code, value in summary[name].items()) or None
                for name, (label, form) in _MONEY.items()
            },
            "holes": "; ".join(summary.get("data", {}).get("holes", ())) or None,
            "notes": "; ".join(map(str, summary["notes"])) or None,
            "results digest": summary["results_digest"],
            "folder": self.location,
        }
        return card("Run", facts)

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
        # libyaml's loader takes a tenth of the time; it is there unless PyYAML was built without.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(self.place.read("config.yaml"))
        try:
            values: dict[str, Any] = loader.get_single_data()
        finally:
            loader.dispose()
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

    @cached_property
    def latency(self) -> pa.Table:
        """How late each instrument's ticks came, in stretches of the window; see `feed.write_feed`."""
        from ticklake.backtesting.feed import LATENCY_SCHEMA

        return self._added("latency", LATENCY_SCHEMA)

    @cached_property
    def book(self) -> pa.Table:
        """How each instrument's book stood, in stretches of the window; see `feed.write_feed`."""
        from ticklake.backtesting.feed import BOOK_SCHEMA

        return self._added("book", BOOK_SCHEMA)

    def report(self, *, anew: bool = False) -> Path:
        """Return the path of the run's HTML report, which is written where it is missing.

        That of a run in an object store is a copy in a temporary folder, which stays.

        Args:
            anew: Whether it is written again where it is there, as after an upgrade of ticklake.
        """
        from ticklake.report import write_report

        if isinstance(self.place, RunFolder):
            path = self.place.path / _REPORT
            if anew or not path.exists():
                write_report(self, path)
            return path
        path = Path(tempfile.mkdtemp(prefix="ticklake-report-")) / f"{self.id}.html"
        if not anew and _REPORT in self.place.names():
            path.write_bytes(self.place.read(_REPORT))
        else:
            write_report(self, path)
        return path

    def _json(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.place.read(name))
        return values

    def _table(self, name: str) -> pa.Table:
        # Not `read_table`, which imports pandas.
        with pq.ParquetFile(io.BytesIO(self.place.read(f"{name}.parquet"))) as file:
            return file.read()

    def _added(self, name: str, schema: pa.Schema) -> pa.Table:
        # Runs of a version that did not write it are runs all the same.
        return self._table(name) if f"{name}.parquet" in self.place.names() else schema.empty_table()


def _no_run(place: RunFolder | RunObjects, names: list[str], missing: list[str]) -> BacktestError:
    found = f"it lacks {', '.join(missing)}" if names or _exists(place) else "there is no such folder"
    inside = [name for name in names if RUN_ID.fullmatch(name)]
    return BacktestError(
        f"{place.location} holds no run: {found}",
        hint=f"There are runs in it, for example {(place / inside[-1]).location}."
        if inside
        else "Name the folder or URL of a run; `ticklake runs` lists them.",
    )


def _exists(place: RunFolder | RunObjects) -> bool:
    return isinstance(place, RunFolder) and place.path.is_dir()


def execute(
    job: EngineJob,
    runs: str | Path,
    *,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    storage: StorageConfig | None = None,
    figures_of_data: Mapping[str, Any] | None = None,
    in_process: bool = False,
    process: EngineProcess | None = None,
    on_output: Callable[[str], None] | None = None,
    on_simulated: Callable[[float], None] | None = None,
) -> Run:
    """Run a job and write its run folder.

    The run is there only when it is complete; one that fails leaves nothing.

    Args:
        job: What to run; its catalog must be ready.
        runs: Folder of the run folders, created where it is missing, or the URL of one in an object store.
        config: The resolved config without secrets; see `public_config`.
        provenance: What the data came from.
        storage: How to reach an object store; by default as the environment says.
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
        run_folder(runs, job.run_id, storage) as folder,
        running(
            job,
            folder,
            in_process=in_process,
            process=process,
            meanwhile=partial(_prepare, job, folder),
            on_output=on_output,
            on_simulated=on_simulated,
        ) as outcome,
    ):
        # Imported by now: see `_prepare`.
        from ticklake.backtesting.summary import figures, remarks, results_digest

        written = Run(job.run_id, RunFolder(folder))
        tables = {name: getattr(written, name) for name in TABLES}
        summary = {
            "id": job.run_id,
            **_what(job),
            "started": _iso(started),
            "finished": _iso(dt.datetime.now(dt.UTC)),
            "engine_seconds": round(outcome.seconds, 3),
            **figures(tables, outcome, job.window),
            "results_digest": results_digest(tables, outcome.events),
            "engine_version": outcome.engine_version,
            "notes": remarks(tables, outcome, job),
            "log": _log(outcome),
            **(figures_of_data or {}),
        }
        _write_json(folder / "summary.json", summary)
        _write_json(folder / "provenance.json", provenance)
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        written.report()
    return Run.load((place_of(runs, storage) / job.run_id).location, storage=storage)


def _prepare(job: EngineJob, folder: Path) -> None:
    """Do what needs no result, while the engine works: nothing of it is imported or done before that."""
    from ticklake.backtesting.market import write_market

    write_market(job, folder)
    for name in ("ticklake.backtesting.summary", "ticklake.report.html"):
        import_module(name)
    # Nothing here needs pandas, but where it is installed pyarrow imports it as soon as it makes an array.
    if find_spec("pandas") is not None:
        import_module("pandas")


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


def new_run_id(strategies: Sequence[AnyStrategy], now: dt.datetime | None = None) -> str:
    """Return a new run id: `YYYYMMDDTHHMMSSZ-<strategy class>-<6 hex digits>`.

    Args:
        strategies: What trades; the first one gives the name.
        now: The time; by default the present.
    """
    name = strategies[0].path.rpartition(":")[2] if strategies else "none"
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "strategy"
    return f"{now or dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{slug}-{secrets.token_hex(3)}"


def public_config(config: RunConfig) -> dict[str, Any]:
    """Return a config as plain values that YAML and JSON can hold, without secrets."""
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    for section, storage in (
        (values["lake"]["storage"], config.lake.storage),
        (values["runs_storage"], config.runs_storage),
    ):
        for name in type(storage).model_fields:
            if isinstance(getattr(storage, name), SecretStr):
                del section[name]
    if isinstance(config.runs, Path):
        del values["runs_storage"]
    return values
