"""The commands. Imports that cost time stand inside them, so that `--help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ticklake.cli.helping import Group

__all__ = ["JsonOption", "LayoutOption", "QuietOption", "StorageOption", "app", "one_of"]

app = typer.Typer(
    name="ticklake",
    cls=Group,
    help="Backtest NautilusTrader strategies straight from a tick-data lake in object storage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def one_of(*names: str) -> Callable[[str], list[str]]:
    """Return what completes a value in a shell where it is one of a few."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


StorageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--storage",
        help="Store option, repeatable: endpoint=URL, anonymous=true, region=…, timeout=30s, …",
        metavar="KEY=VALUE",
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Named layout of the lake: default or hive.",
        metavar="NAME",
        autocompletion=one_of("default", "hive"),
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; warnings are shown.")]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Fetch again what the catalog holds.")]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        help="Instruments, days and data types fetched side by side; one for each core by default.",
        metavar="N",
        show_default=False,
    ),
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Connect to nothing; fail if a window is missing.")
]


def _show_version(value: bool) -> None:  # noqa: FBT001 (typer's signature)
    if value:
        import ticklake

        typer.echo(f"ticklake {ticklake.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[  # taken by `main`, wherever it stands
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
) -> None:
    pass


@app.command()
def fetch(
    config: Annotated[
        Path | None,
        typer.Argument(help="A run config (YAML or JSON); flags replace its keys.", show_default=False),
    ] = None,
    *,
    ticks: Annotated[
        str | None, typer.Option(help="URL of the bucket (or folder) with the ticks.", metavar="URL")
    ] = None,
    instruments: Annotated[
        str | None, typer.Option(help="URL of the bucket with the instrument lists.", metavar="URL")
    ] = None,
    layout: LayoutOption = None,
    storage: StorageOption = None,
    instrument: Annotated[
        list[str] | None, typer.Option("--instrument", help="Instrument key, repeatable.", metavar="KEY")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data types, like trades,book_snapshot_5.", metavar="TYPES")
    ] = None,
    book_as: Annotated[
        str | None,
        typer.Option(
            help="How book snapshots are kept.",
            metavar="deltas|depth",
            autocompletion=one_of("deltas", "depth"),
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Start of the window (ISO 8601 with zone), inclusive.", metavar="TIME"),
    ] = None,
    end: Annotated[str | None, typer.Option(help="End of the window, exclusive.", metavar="TIME")] = None,
    catalog: Annotated[str | None, typer.Option(help="Folder of the catalog.", metavar="DIR")] = None,
    on_hole: Annotated[
        str | None,
        typer.Option(
            help="At a day that the lake does not have.",
            metavar="stop|skip",
            autocompletion=one_of("stop", "skip"),
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Keep what is read along with the window too, or not.", metavar="row_groups|window"
        ),
    ] = None,
    jobs: JobsOption = None,
    refresh: RefreshOption = False,
    offline: OfflineOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read; move no data.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring the missing part of a window from the lake into the catalog.

    Example: `ticklake fetch run.yaml --dry-run`
    """
    from ticklake.catalog import Catalog
    from ticklake.cli.console import print_json
    from ticklake.cli.options import overlay
    from ticklake.cli.progress import fetch_progress
    from ticklake.cli.render import print_fetch_plan, print_fetch_report, print_findings
    from ticklake.fetching import fetch as fetch_windows
    from ticklake.fetching import plan_fetch, refuse_holes, requests_of, rules_of
    from ticklake.lake import Lake
    from ticklake.v1 import publish

    settings = overlay(
        config,
        ticks=ticks,
        instrument_lists=instruments,
        layout=layout,
        storage=storage,
        keys=instrument,
        data=data,
        book_as=book_as,
        start=start,
        end=end,
        catalog=catalog,
        on_hole=on_hole,
        keep=keep,
    )
    lake, store, requests = Lake.from_config(settings.lake), Catalog(settings.store), requests_of(settings)
    if dry_run:
        plan = plan_fetch(lake, store, requests, refresh=refresh, offline=offline, keep=settings.keep)
        if as_json:
            print_json(plan.to_dict())
        else:
            print_fetch_plan(plan, settings.on_hole)
        refuse_holes(plan.holes, settings.on_hole)
        return
    with fetch_progress(enabled=not (quiet or as_json)) as on_progress:
        report = fetch_windows(
            lake,
            store,
            requests,
            refresh=refresh,
            offline=offline,
            jobs=jobs,
            on_progress=on_progress,
            **rules_of(settings),
        )
    publish(settings)
    print_findings(report)
    if as_json:
        print_json(report.to_dict())
    else:
        print_fetch_report(report)


@app.command(name="ls")
def list_lake(
    url: Annotated[str, typer.Argument(help="URL of the bucket (or folder) with the ticks.")],
    *,
    layout: LayoutOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the data types, instruments, days and sizes of a lake. Exits 1 if it has none.

    Example: `ticklake ls gs://market-data-tick-cefi`
    """
    from ticklake.cli.console import print_json
    from ticklake.cli.options import storage_config
    from ticklake.cli.progress import work
    from ticklake.cli.render import print_lake, tick_file_dict
    from ticklake.lake import Lake
    from ticklake.lake.lacking import no_ticks

    lake = Lake(url, layout=layout or "default", storage=storage_config(storage))
    with work(f"listing {url}", enabled=not (quiet or as_json)):
        found = list(lake.list())
    files = sorted(found, key=lambda file: (file.data_type, file.instrument, file.day, file.path))
    if not files:
        raise no_ticks(url, [lake.layout])
    if as_json:
        print_json([tick_file_dict(found) for found in files])
    else:
        print_lake(files)


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(help="Where the two buckets are made, as folders.")],
    *,
    start: Annotated[str, typer.Option(help="First day (YYYY-MM-DD).")] = "2024-08-08",
    days: Annotated[int, typer.Option(min=1, help="Number of days.")] = 2,
    trades_per_day: Annotated[int, typer.Option(min=1, help="Trades of an instrument and day.")] = 400_000,
    snapshots_per_day: Annotated[
        int, typer.Option(min=1, help="Book snapshots of an instrument and day.")
    ] = 150_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same ticks.")] = 7,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a synthetic lake: trades, 5-level book and instruments in the default layout.

    Example: `ticklake synth lake --days 3`
    """
    import datetime as dt

    from ticklake.cli.console import print_json
    from ticklake.cli.progress import work
    from ticklake.cli.render import print_synthetic_lake, synthetic_lake_dict
    from ticklake.errors import ConfigError
    from ticklake.synth import write_synthetic_lake

    try:
        first = dt.date.fromisoformat(start)
    except ValueError as exc:
        raise ConfigError(f"--start {start!r} is not a day; write it like 2024-08-08") from exc
    with work("writing ticks", enabled=not (quiet or as_json)):
        made = write_synthetic_lake(
            folder,
            start=first,
            days=days,
            trades_per_day=trades_per_day,
            snapshots_per_day=snapshots_per_day,
            seed=seed,
        )
    if as_json:
        print_json(synthetic_lake_dict(made))
    else:
        print_synthetic_lake(made)


@app.command()
def backtest(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="A run config (YAML or JSON).")],
    *,
    jobs: JobsOption = None,
    refresh: RefreshOption = False,
    offline: OfflineOption = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run the engine in this process, for a debugger.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch what is missing, run the engine, and write the run folder with its report.

    Example: `ticklake backtest run.yaml`
    """
    from ticklake.cli.console import print_json
    from ticklake.cli.progress import backtest_progress
    from ticklake.cli.render import print_notes, print_runs, print_strategy

    with backtest_progress(enabled=not (quiet or as_json)) as callbacks:
        from ticklake.backtesting import backtest as run_backtest

        run = run_backtest(
            config,
            refresh=refresh,
            offline=offline,
            jobs=jobs,
            in_process=in_process,
            process=context.obj,
            on_import=print_strategy,
            **callbacks,
        )
    print_notes(run)
    if as_json:
        print_json(run.summary)
    else:
        print_runs([(str(config), run)])


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the lake, the catalog and the runs go.")] = Path(
        "demo"
    ),
) -> None:
    """Write a synthetic lake and backtest on it: five minutes, an hour, and the five minutes again.

    Example: `ticklake demo`
    """
    from ticklake.cli.demo import run_demo

    run_demo(folder)
