"""The whole way: validate, fetch what is missing, run the engine, write the run folder."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from ticklake.backtesting.child import EngineProcess
from ticklake.backtesting.job import EngineJob, InstrumentData
from ticklake.backtesting.results import Run, check_runs, execute, new_run_id, public_config
from ticklake.backtesting.strategies import check_strategies
from ticklake.backtesting.venues import check_balances, check_venues
from ticklake.catalog import Catalog, CatalogFile, check_open, read_provenance
from ticklake.catalog.rows import count_rows
from ticklake.config import InstrumentConfig, RunConfig, load_config, parse_config
from ticklake.errors import CatalogError, ConfigError
from ticklake.fetching import FetchProgress, FetchReport, WindowStatus, fetch, requests_of, rules_of
from ticklake.lake.lazy import LazyLake
from ticklake.types import CatalogType, DataType, Window, format_nanos
from ticklake.versions import installed

__all__ = ["backtest"]


def backtest(
    config: RunConfig | Mapping[str, Any] | str | Path,
    *,
    refresh: bool = False,
    offline: bool = False,
    jobs: int | None = None,
    in_process: bool = False,
    process: EngineProcess | None = None,
    on_import: Callable[[str, str], None] | None = None,
    on_progress: Callable[[FetchProgress], None] | None = None,
    on_fetched: Callable[[FetchReport], None] | None = None,
    on_output: Callable[[str], None] | None = None,
    on_simulated: Callable[[float], None] | None = None,
) -> Run:
    """Run a backtest: fetch what the catalog lacks, replay the window, write the run folder.

    Everything that can be checked without the lake is checked before anything moves, and what needs the
    instruments' definitions before ticks do.

    Args:
        config: A run config: validated, as plain values, or the path of its file. Strategies are imported
            from the current directory, the file's folder, and `sys.path`.
        refresh: Read the window again from the lake and replace what the catalog holds.
        offline: Open no connection; fail if the catalog lacks something.
        jobs: How many instruments, days and data types are fetched at once, as for `fetch`.
        in_process: Run the engine in this process instead of a child, for a debugger.
        process: The child, where it was begun before this module was imported. By default it is begun here,
            so that it imports the engine while the data are fetched.
        on_import: Called with the path (`package.module:Class`) and the file of each strategy before any of
            them is imported. Nothing but this function imports them.
        on_progress: Called after each row group that was fetched.
        on_fetched: Called when the data are complete and the engine begins.
        on_output: Gets each line that the engine or a strategy prints; by default it goes to standard error.
        on_simulated: Called a few times a second, from a thread of its own, with the share of the window that
            was replayed (0 to 1).

    Raises:
        ConfigError: The config is not valid, a strategy cannot be imported, or a venue does not fit.
        MissingDataError: The lake lacks days and `on_hole` is `stop`.
        LakeError: The lake could not be read.
        CatalogError: The catalog could not be read or written, or (`offline`) lacks something.
        ConversionError: Rows cannot be converted.
        BacktestError: The engine or a strategy failed.
    """
    with ExitStack() as stack:
        if process is None and not in_process:
            process = stack.enter_context(EngineProcess())
        execution = partial(
            execute, in_process=in_process, process=process, on_output=on_output, on_simulated=on_simulated
        )
        return _backtest(
            config,
            execution,
            refresh=refresh,
            offline=offline,
            jobs=jobs,
            on_import=on_import,
            on_progress=on_progress,
            on_fetched=on_fetched,
        )


def _backtest(
    config: RunConfig | Mapping[str, Any] | str | Path,
    execution: Callable[..., Run],
    *,
    refresh: bool,
    offline: bool,
    jobs: int | None,
    on_import: Callable[[str, str], None] | None,
    on_progress: Callable[[FetchProgress], None] | None,
    on_fetched: Callable[[FetchReport], None] | None,
) -> Run:
    settings, search_path = _load(config)
    check_strategies(settings.strategies, search_path, on_import)
    check_venues(settings.venues, settings.instruments)
    if offline and isinstance(settings.runs, str):
        raise ConfigError(
            f"offline: runs are to be written to {settings.runs}",
            hint="Name a folder of this machine as runs.",
        )
    check_runs(settings.runs, settings.runs_storage)
    lake, catalog = LazyLake(settings.lake), Catalog(settings.store)
    report = fetch(
        lake,
        catalog,
        requests_of(settings),
        refresh=refresh,
        offline=offline,
        jobs=jobs,
        on_defined=partial(check_balances, settings.venues),
        on_progress=on_progress,
        **rules_of(settings),
    )
    if settings.catalog_format == "v1":
        from ticklake.v1 import publish  # takes time to import, and few need it

        publish(settings)
    if on_fetched is not None:
        on_fetched(report)
    ids = {window.instrument: window.nautilus_id for window in report.windows}
    instruments = tuple(
        InstrumentData(ids[instrument.key], _types(instrument)) for instrument in settings.instruments
    )
    window = settings.window.as_window()
    places = [(kind, data.nautilus_id) for data in instruments for kind in data.types]
    # From here on it does not matter what others fetch, refresh, compact and prune.
    with catalog.pinned(places, window) as pinned:
        _refuse_removed(pinned, settings, report)
        job = EngineJob(
            run_id=new_run_id(settings.strategies),
            catalog=pinned.path.absolute(),
            window=window,
            instruments=instruments,
            venues=settings.venues,
            strategies=settings.strategies,
            engine=settings.engine,
            search_path=search_path,
        )
        try:
            used = _files_used(pinned, job)
            replayed = {data.nautilus_id for data in instruments}
            definitions = [file for each in sorted(replayed) for file in pinned.definitions(each)]
            check_open(catalog, [*definitions, *(file for files in used.values() for file in files)])
            provenance = _provenance(catalog, pinned, used)
            figures = _figures(report, catalog, pinned, used, window)
        except FileNotFoundError as exc:  # of a catalog that cannot be pinned
            raise CatalogError(
                f"a file was removed while the run began: {exc}", hint="Run it again."
            ) from exc
        try:
            return execution(
                job,
                settings.runs,
                config=public_config(settings),
                provenance=provenance,
                storage=settings.runs_storage,
                figures_of_data=figures,
            )
        except KeyboardInterrupt as exc:
            exc.add_note(f"The ticks of the window are in the catalog {catalog.path}, and are kept.")
            raise


def _load(config: RunConfig | Mapping[str, Any] | str | Path) -> tuple[RunConfig, tuple[str, ...]]:
    folders = [str(Path.cwd())]
    if isinstance(config, str | Path):
        folders.append(str(Path(config).absolute().parent))
        config = load_config(config)
    elif not isinstance(config, RunConfig):
        config = parse_config(config)
    return config, tuple(dict.fromkeys(folders))


def _types(instrument: InstrumentConfig) -> tuple[CatalogType, ...]:
    return tuple(CatalogType.of(DataType(name), instrument.book_as) for name in instrument.data)


def _refuse_removed(pinned: Catalog, settings: RunConfig, report: FetchReport) -> None:
    """Check that what was fetched is still there.

    Who removed it meant it; so it is not fetched a second time.

    Raises:
        CatalogError: It is not.
    """
    window = settings.window.as_window()
    kinds = {
        (instrument.key, name): CatalogType.of(DataType(name), instrument.book_as)
        for instrument in settings.instruments
        for name in instrument.data
    }
    for found in report.windows:
        part = None if found.status is WindowStatus.HOLE else found.window.intersect(window)
        kind = kinds[found.instrument, found.data_type]
        if part is not None and (gone := pinned.missing(kind, found.nautilus_id, part)):
            raise CatalogError(
                f"{kind} of {found.nautilus_id} were removed from the catalog while the run began: {gone[0]}",
                hint="Run it again, which fetches them, when nobody prunes the catalog.",
            )


type _FilesUsed = dict[tuple[str, CatalogType], list[CatalogFile]]


def _files_used(catalog: Catalog, job: EngineJob) -> _FilesUsed:
    return {
        (data.nautilus_id, kind): catalog.files(kind, data.nautilus_id, job.window)
        for data in job.instruments
        for kind in data.types
    }


def _provenance(catalog: Catalog, pinned: Catalog, used: _FilesUsed) -> dict[str, Any]:
    """Return versions, and the catalog files used with the lake objects that they came from."""
    return {
        "python": platform.python_version(),
        "versions": installed(),
        "catalog": str(catalog.path.absolute()),
        "files": [_file(pinned, file) for files in used.values() for file in files],
    }


def _file(catalog: Catalog, file: CatalogFile) -> dict[str, Any]:
    origin = read_provenance(file.path)
    return {
        "path": os.path.relpath(file.path, catalog.path),
        "start": format_nanos(file.window.start),
        "end": format_nanos(file.window.end),
        "lake_key": origin.lake_key if origin else None,
        "data_type": origin.data_type if origin else None,
        "counts": dict(origin.counts) if origin else {},
        "converter": origin.converter if origin else None,
        "sources": [
            {"url": source.url, "etag": source.etag, "size": source.size, "rows": source.rows}
            for source in (origin.sources if origin else ())
        ],
    }


def _figures(
    report: FetchReport, catalog: Catalog, pinned: Catalog, used: _FilesUsed, window: Window
) -> dict[str, Any]:
    """Return what the summary says of the data: what was replayed, what is missing, what it cost to get."""
    quarantined = sum(report.quarantined.values())
    warnings = list(report.warnings)
    if pinned.path == catalog.path and any(used.values()):
        warnings.append(
            f"{catalog.path} may not be written or has no hard links: the run kept nothing of what others "
            "replaced or removed meanwhile"
        )
    return {
        "data": {
            "rows": {
                f"{nautilus_id} {kind}": _rows(files, window) for (nautilus_id, kind), files in used.items()
            },
            "holes": [str(hole) for hole in report.holes],
            "coverage": {
                f"{nautilus_id} {kind}": _covered(pinned, nautilus_id, kind, window)
                for nautilus_id, kind in used
            },
            "remarkable": _remarkable(used),
            "quarantined": quarantined,
            "quarantine_reasons": dict(report.quarantined),
            "quarantine": str(catalog.path.absolute() / "quarantine") if quarantined else None,
            "warnings": warnings,
        },
        "fetch_seconds": round(report.seconds, 3),
        "bytes_read": report.bytes_read,
        "requests": report.requests,
    }


def _covered(catalog: Catalog, nautilus_id: str, kind: CatalogType, window: Window) -> float:
    """Return the share of a window that the catalog covers, known-empty stretches included."""
    missing = sum(part.end - part.start for part in catalog.missing(kind, nautilus_id, window))
    return 1 - missing / (window.end - window.start)


def _remarkable(used: _FilesUsed) -> dict[str, int]:
    """Count the rows of the used files that are remarkable, though they were converted, by kind."""
    counts: Counter[str] = Counter()
    for files in used.values():
        for file in files:
            origin = read_provenance(file.path)
            counts.update(origin.notes if origin else {})
    return dict(sorted(counts.items()))


def _rows(files: list[CatalogFile], window: Window) -> int:
    """Count the catalog rows of a window; whole row groups are counted by the footer."""
    return sum(count_rows(file.path, window) for file in files)
