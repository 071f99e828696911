"""`BacktestEngine`: runs over the JSON configs of such code, by the names and arguments that it calls."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ticklake.backtesting import Run, backtest
from ticklake.catalog import Catalog
from ticklake.compat.buckets import Buckets
from ticklake.compat.configs import DataSource, SnapshotMode, Translation, translate
from ticklake.compat.converter import catalog_of
from ticklake.config import RunConfig, parse_config, read_values
from ticklake.errors import ConfigError
from ticklake.types import CatalogType, Moment, Window, format_nanos, parse_day

__all__ = ["BacktestEngine"]

_logger = logging.getLogger(__name__)


class BacktestEngine:
    """Runs backtests of one config: what the catalog lacks is read from the lake, the rest is not asked for.

    Args:
        config_loader: Path of the JSON config, its keys and values, or an object that has them as `config`
            (such code's `ConfigLoader`; it is asked to `load` them where they are not there yet).
        catalog_manager: The catalog, where it shall not be the config's: a folder, the engine's
            `ParquetDataCatalog`, or an object that has one as `catalog` or its folder as `catalog_path`.
        buckets: Where buckets are; None asks the environment (`TICKLAKE_BUCKETS`).
        runs: Folder of the run folders, or the URL of one in an object store.

    Raises:
        ConfigError: The config or the catalog is none of these, or cannot be read.
    """

    def __init__(
        self,
        config_loader: Any,
        catalog_manager: Any = None,
        *,
        buckets: Buckets | None = None,
        runs: str | Path = "runs",
    ) -> None:
        self.config_loader = config_loader
        self.catalog_manager = catalog_manager
        self._config = _values_of(config_loader)
        self._catalog = None if catalog_manager is None else _managed(catalog_manager)
        self._buckets = buckets
        self._runs = runs

    def run(
        self,
        instrument: str,
        start: Moment,
        end: Moment,
        dataset: str | None = None,
        snapshot_mode: SnapshotMode | None = None,
        fast_mode: bool = False,
        export_ticks: bool = False,
        close_positions: bool = True,
        data_source: DataSource = "gcs",
        exec_algorithm_type: str | None = None,
        exec_algorithm_params: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Run the config's strategy over a window.

        Args:
            instrument: A name for the result; the config tells the instrument.
            start: Start of the window, inclusive; an aware datetime, or ISO 8601 text with a zone.
            end: End of the window, exclusive.
            dataset: A day's folder (`day-2024-08-08`), which has to be one of the window's.
            snapshot_mode: `trades`, `book` or `both`; by default both where the config names a book, or else
                trades.
            fast_mode: Return the summary alone.
            export_ticks: Write the window's trades into the run folder too; not with `fast_mode`.
            close_positions: Count what is open at the end as closed at the last price, without a fee;
                otherwise `pnl` has what was realized alone.
            data_source: `gcs` reads the config's bucket, `local` its folder, `auto` the bucket if it names
                one.
            exec_algorithm_type: Only `NORMAL`.
            exec_algorithm_params: Only none.

        Returns:
            `run_id`, `mode`, `instrument`, `dataset`, `start`, `end`, `summary` (`orders`, `fills`, `trades`,
            `pnl`, `max_drawdown`: numbers, or mappings by currency where there are several), and `metadata`:
            among it what of the config has no equivalent, and how many bytes and requests the run took from
            the lake. Without `fast_mode` also the paths of the run folder (`path`), its tables and report.

        Raises:
            ConfigError: An argument or the config is not usable.
            MissingDataError: The lake lacks days.
            LakeError: The lake could not be read.
            CatalogError: The catalog could not be read or written.
            ConversionError: Rows cannot be converted.
            BacktestError: The engine or the strategy failed.
        """
        if exec_algorithm_type not in (None, "NORMAL") or exec_algorithm_params:
            raise ConfigError(
                f"exec_algorithm_type {exec_algorithm_type} has no equivalent",
                hint="Let the strategy split its orders, or name one of the engine's algorithms in them.",
            )
        if export_ticks and fast_mode:
            raise ConfigError("export_ticks needs fast_mode=False")
        window = Window.parse(start, end)
        day = _dataset(dataset, window)
        found = translate(
            self._config,
            start=format_nanos(window.start),
            end=format_nanos(window.end),
            snapshot_mode=snapshot_mode,
            data_source=data_source,
            buckets=self._buckets,
            environ=os.environ,
        )
        settings = self._settings(found)
        for key in found.without_equivalent:
            _logger.warning("%s of the config has no equivalent and is left out", key)
        run = backtest(settings)
        result = {
            "run_id": run.id,
            "mode": "fast" if fast_mode else "report",
            "instrument": instrument,
            "dataset": day,
            "start": format_nanos(window.start),
            "end": format_nanos(window.end),
            "summary": _summary(run, close_positions=close_positions),
            "metadata": _metadata(run, settings, found, data_source),
        }
        if not fast_mode:
            result |= _paths(run)
        if export_ticks:
            result["ticks_path"] = _export(run, settings, window)
        return result

    def _settings(self, found: Translation) -> RunConfig:
        if not found.values["strategies"]:
            raise ConfigError(
                "the config names no strategy that can be imported",
                hint="Set strategy.path to its package.module:Class, and strategy.config to its settings.",
            )
        values = found.values | {"runs": str(self._runs)}
        if self._catalog is not None:
            values["catalog"] = str(self._catalog.path)
        return parse_config(values, source="the config")


def _values_of(loader: Any) -> Mapping[str, Any]:
    if isinstance(loader, str | Path):
        return read_values(loader)
    if isinstance(loader, Mapping):
        return loader
    values = getattr(loader, "config", None)
    if values is None and callable(load := getattr(loader, "load", None)):
        values = load()
    if not isinstance(values, Mapping):
        raise ConfigError(f"a {type(loader).__name__} is no config; give its path, or its keys and values")
    return values


def _managed(manager: Any) -> Catalog:
    for name in ("catalog", "catalog_path"):
        if (found := getattr(manager, name, None)) is not None:
            return catalog_of(found)
    return catalog_of(manager)


def _dataset(dataset: str | None, window: Window) -> str:
    days = window.days
    if dataset is None:
        return f"day-{days[0]}"
    try:
        day = parse_day(dataset.removeprefix("day-"))
    except ValueError as exc:
        raise ConfigError(f"dataset {dataset!r} is no day; write it like day-{days[0]}") from exc
    if day not in days:
        raise ConfigError(f"dataset {dataset} is not a day of the window {window}")
    return dataset


def _summary(run: Run, *, close_positions: bool) -> dict[str, Any]:
    figures = run.summary
    rows: Mapping[str, int] = figures["data"]["rows"]
    pnl = figures["net_pnl"] if close_positions else _realized(run)
    return {
        "orders": figures["orders"],
        "fills": figures["fills"],
        "trades": sum(count for name, count in rows.items() if name.endswith(f" {CatalogType.TRADES}")),
        "pnl": _single(pnl),
        "max_drawdown": _single(figures["max_drawdown"]),
    }


def _single(by_currency: Mapping[str, Any]) -> Any:
    """Return the one number there is, or all of them."""
    return next(iter(by_currency.values())) if len(by_currency) == 1 else dict(by_currency)


def _realized(run: Run) -> dict[str, float]:
    """Return what positions realized, by currency, 0 for those that the account has and no position."""
    totals = dict.fromkeys(run.summary["net_pnl"], 0.0)
    positions = run.positions
    for code in set(positions["currency"].to_pylist()) - {None}:
        amounts = positions.filter(pc.equal(positions["currency"], code))["realized_pnl"]
        totals[code] = float(pc.sum(amounts).as_py() or 0)
    return totals


def _metadata(run: Run, settings: RunConfig, found: Translation, source: str) -> dict[str, Any]:
    figures = run.summary
    return {
        "snapshot_mode": _mode(settings.instruments[0].data),
        "data_source": source,
        "catalog": str(settings.catalog),
        "bytes_read": figures["bytes_read"],
        "requests": figures["requests"],
        "without_equivalent": list(found.without_equivalent),
        "notes": [*found.notes, *figures["notes"], *figures["data"]["warnings"]],
    }


def _mode(data: tuple[str, ...]) -> str:
    if len(data) > 1:
        return "both"
    return "trades" if data == ("trades",) else "book"


def _paths(run: Run) -> dict[str, str]:
    names = {
        "summary_path": "summary.json",
        "orders_path": "orders.parquet",
        "fills_path": "fills.parquet",
        "positions_path": "positions.parquet",
        "equity_curve_path": "equity.parquet",
        "report_path": "report.html",
    }
    return {"path": run.location, **{name: f"{run.location}/{file}" for name, file in names.items()}}


def _export(run: Run, settings: RunConfig, window: Window) -> str:
    """Write the trades of the window into the run folder, and return where."""
    (nautilus_id,) = run.summary["instruments"]
    with Catalog(settings.store).pinned([(CatalogType.TRADES, nautilus_id)], window) as catalog:
        files = catalog.files(CatalogType.TRADES, nautilus_id, window)
        if not files:
            raise ConfigError("export_ticks needs trades, and the run replayed none")
        table = pa.concat_tables(pq.read_table(file.path, partitioning=None) for file in files)
    times = table["ts_init"].cast(pa.int64())
    inside = pc.and_(pc.greater_equal(times, window.start), pc.less(times, window.end))
    content = pa.BufferOutputStream()
    pq.write_table(table.filter(inside), content, compression="zstd")
    run.place.write("ticks.parquet", content.getvalue().to_pybytes())
    return f"{run.location}/ticks.parquet"
