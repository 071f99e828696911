"""The commands that show runs, comparisons of them, and coverage; importing this adds them to the app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ticklake.cli.app import JsonOption, QuietOption, StorageOption
from ticklake.cli.migration import app

if TYPE_CHECKING:
    from ticklake.backtesting import Run
    from ticklake.config import StorageConfig

__all__ = ["app"]

PlaceOption = Annotated[
    str,
    typer.Option(
        "--runs", help="Where ids are looked for: a folder, a URL, or a run config.", metavar="PLACE"
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", help="Write it as a page that works offline.", metavar="FILE"),
]


@app.command(name="runs")
def runs_(
    place: Annotated[
        str, typer.Argument(help="Folder or URL of the runs, or a run config that names it.")
    ] = "runs",
    *,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="Only strategies whose path has this in it.", metavar="TEXT"),
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(
            "--instrument", help="Only instruments whose Nautilus id has this in it.", metavar="TEXT"
        ),
    ] = None,
    storage: StorageOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first, with their figures and results digests.

    Example: `ticklake runs gs://my-runs/backtests --strategy Momentum`
    """
    from ticklake.backtesting.listing import list_runs
    from ticklake.cli.console import print_json
    from ticklake.cli.listings import print_run_list, print_unlisted
    from ticklake.cli.progress import work

    where, options = _runs_place(place, storage)
    with work(f"listing {where}", enabled=not (quiet or as_json)):
        found = list_runs(where, strategy=strategy, instrument=instrument, storage=options)
    print_unlisted(found)
    if as_json:
        print_json([run.to_dict() for run in found.runs])
    else:
        print_run_list(found)


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run: its id, folder or URL.", show_default=False)],
    *,
    place: PlaceOption = "runs",
    storage: StorageOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write the report of a run anew from what is in its folder, and print its path.

    That of a run in an object store goes to a temporary folder.

    Example: `ticklake report runs/20240808T235500Z-Momentum-1a2b3c`
    """
    from ticklake.cli.progress import work

    where, options = _runs_place(place, storage)
    with work(f"writing the report of {run}", enabled=not quiet):
        path = _run(run, where, options).report(anew=True)
    typer.echo(path)


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two runs or more: ids, folders or URLs.", metavar="RUN RUN…", show_default=False
        ),
    ],
    *,
    place: PlaceOption = "runs",
    html: HtmlOption = None,
    storage: StorageOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare runs: figures side by side, and the keys of their configs that differ.

    Example: `ticklake compare runs/20260102T* --html compare.html`
    """
    from ticklake.cli.console import print_json
    from ticklake.cli.listings import print_comparison
    from ticklake.cli.progress import work
    from ticklake.errors import ConfigError
    from ticklake.report.compare import write_comparison
    from ticklake.report.comparison import Comparison

    if len(runs) < 2:
        raise ConfigError("compare wants two runs or more", hint="`ticklake runs` lists them.")
    where, options = _runs_place(place, storage)
    with work("comparing", enabled=not (quiet or as_json)):
        loaded = tuple(_run(name, where, options) for name in runs)
        comparison = Comparison(loaded)
        if html is not None:
            _check_writable(html)
            write_comparison(comparison, html)
    if as_json:
        print_json(comparison.to_dict())
    else:
        print_comparison(comparison, [run.location for run in loaded], html)


@app.command()
def coverage(
    target: Annotated[Path, typer.Argument(help="Folder of the catalog, or a run config that names it.")],
    *,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="With a run config: do not ask the lake which days it lacks."),
    ] = False,
    html: HtmlOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """List what a catalog covers, with rows or known to be empty.

    With a run config also what of its window is not fetched, and which of those days are holes: days that
    its lake does not have.

    Example: `ticklake coverage run.yaml --html coverage.html`
    """
    from ticklake.catalog import Catalog
    from ticklake.cli.console import print_json
    from ticklake.cli.listings import print_survey
    from ticklake.cli.options import catalog_at, no_target
    from ticklake.cli.progress import work
    from ticklake.config import load_config
    from ticklake.fetching import requests_of
    from ticklake.fetching.survey import survey
    from ticklake.lake import Lake
    from ticklake.report.coverage import write_coverage

    if not target.exists():
        raise no_target(target)
    with work(f"looking at {target}", enabled=not (quiet or as_json)):
        if target.is_dir():
            catalog = catalog_at(target)
            found = survey(catalog)
        else:
            settings = load_config(target)
            catalog = Catalog(settings.store)
            lake = None if offline else Lake.from_config(settings.lake)
            found = survey(catalog, requests_of(settings), lake)
    if html is not None:
        _check_writable(html)
        write_coverage(found, str(catalog.path), html)
    if as_json:
        print_json(found.to_list())
    else:
        print_survey(found, html, gaps=not target.is_dir())


def _runs_place(place: str, storage: list[str] | None) -> tuple[str | Path, StorageConfig]:
    """Return the folder or URL of runs, which may be that of a run config, and how it is reached."""
    from ticklake.cli.options import storage_config, storage_from
    from ticklake.config import load_config, parse_storage

    if "://" in place or not Path(place).is_file():
        return place, storage_config(storage)
    settings = load_config(place)
    if not storage:
        return settings.runs, settings.runs_storage
    given = settings.runs_storage.model_dump(exclude_unset=True) | storage_from(storage)
    return settings.runs, parse_storage(given)


def _run(name: str, where: str | Path, options: StorageConfig) -> Run:
    """Return the run that a folder or URL has in it, or an id names."""
    from ticklake.backtesting import Run
    from ticklake.backtesting.places import RUN_ID, place_of

    if "/" not in name and not Path(name).is_dir() and RUN_ID.fullmatch(name):
        return Run.load((place_of(where, options) / name).location, storage=options)
    return Run.load(name, storage=options)


def _check_writable(path: Path) -> None:
    from ticklake.errors import ConfigError

    if path.is_dir():
        raise ConfigError(f"--html {path} is a folder", hint=f"Name a file in it, like {path / 'page.html'}.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for --html {path}", hint="Make it first.")
