"""The commands that look after a catalog; importing this adds them to the app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ticklake.cli.app import JsonOption, QuietOption, app, one_of

if TYPE_CHECKING:
    from ticklake.catalog import Catalog
    from ticklake.config import RunConfig
    from ticklake.types import CatalogType, Window

__all__ = ["app"]

TypeOption = Annotated[
    str | None,
    typer.Option(
        "--type",
        help="Only trades, order_book_deltas or order_book_depths.",
        metavar="TYPE",
        autocompletion=one_of("trades", "order_book_deltas", "order_book_depths"),
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option("--instrument", help="Only this instrument, by its Nautilus id.", metavar="ID"),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]


@app.command()
def verify(
    target: Annotated[Path, typer.Argument(help="Folder of the catalog, or a run config that names it.")],
    *,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Set damaged files aside and fetch them again; wants a run config."),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check every file of a catalog: digest, page checksums, times, counts, schema. Exits 1 if one is bad.

    Example: `ticklake verify run.yaml --repair`
    """
    from ticklake.catalog import verify as verify_catalog
    from ticklake.cli.console import print_json
    from ticklake.cli.progress import work
    from ticklake.cli.render import print_repair, print_verify_report

    catalog, settings = _catalog_of(target)
    with work(f"verifying {catalog.path}", enabled=not (quiet or as_json)) as on_file:
        if repair:
            from ticklake.errors import ConfigError
            from ticklake.fetching import requests_of
            from ticklake.fetching.repair import repair as repair_catalog
            from ticklake.lake import Lake

            if settings is None:
                raise ConfigError(
                    "--repair wants a run config, which says where the ticks come from",
                    hint="Give the one that it was fetched with: ticklake verify run.yaml --repair",
                )
            done = repair_catalog(
                Lake.from_config(settings.lake),
                catalog,
                requests_of(settings),
                on_hole=settings.on_hole,
                on_bad_row=settings.on_bad_row,
                max_bad_rows=settings.max_bad_rows,
            )
            report, document = done.after, done.to_dict()
        else:
            report = verify_catalog(catalog, on_file=on_file)
            done, document = None, report.to_dict()
    if as_json:
        print_json({"catalog": str(catalog.path), **document})
    else:
        if done is not None:
            print_repair(done)
        print_verify_report(report)
    if report.bad:
        raise typer.Exit(1)


@app.command()
def prune(
    catalog: Annotated[Path, typer.Argument(help="Folder of the catalog.")],
    *,
    before: Annotated[
        str | None,
        typer.Option(help="Remove what ends by this time (ISO 8601 with zone, or a day).", metavar="TIME"),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Or remove a window: its start, inclusive.", metavar="TIME")
    ] = None,
    end: Annotated[str | None, typer.Option(help="End of that window, exclusive.", metavar="TIME")] = None,
    catalog_type: TypeOption = None,
    nautilus_id: IdOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove the files of a catalog that lie wholly in a window; they can be fetched again.

    Example: `ticklake prune catalog --before 2024-08-01 --dry-run`
    """
    from ticklake.catalog.maintenance import prune as prune_catalog
    from ticklake.cli.console import print_json
    from ticklake.cli.render import print_prune_report

    store, _ = _catalog_of(catalog)
    report = prune_catalog(
        store, _window(before, start, end), _type(catalog_type), nautilus_id, dry_run=dry_run
    )
    if as_json:
        print_json({"catalog": str(store.path), **report.to_dict()})
    else:
        print_prune_report(report)


@app.command()
def compact(
    catalog: Annotated[Path, typer.Argument(help="Folder of the catalog.")],
    *,
    catalog_type: TypeOption = None,
    nautilus_id: IdOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Join the files of a UTC day whose windows touch into one; the rows stay what they are.

    Others may fetch and run meanwhile.

    Example: `ticklake compact catalog --dry-run`
    """
    from ticklake.catalog.compaction import compact as compact_catalog
    from ticklake.cli.console import print_json
    from ticklake.cli.progress import work
    from ticklake.cli.render import print_compact_report

    store, _ = _catalog_of(catalog)
    with work(f"compacting {store.path}", enabled=not (quiet or as_json)):
        report = compact_catalog(store, _type(catalog_type), nautilus_id, dry_run=dry_run)
    if as_json:
        print_json({"catalog": str(store.path), **report.to_dict()})
    else:
        print_compact_report(report)


@app.command()
def doctor(
    target: Annotated[Path, typer.Argument(help="A run config, or the folder of a catalog alone.")],
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Connect to nothing: look at this machine only.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for strays, leftovers, locks, wrong permissions, little space, a wrong clock and wrong versions.

    With a run config, the stores of its lake are asked too: credentials, network and clock. Changes nothing
    and imports no strategy. Exits 1 if something is to be done. What the files hold is for `verify` to check.

    Example: `ticklake doctor run.yaml`
    """
    from ticklake.catalog.doctor import check_versions, examine
    from ticklake.cli.console import print_json
    from ticklake.cli.options import catalog_at
    from ticklake.cli.render import print_findings_of_doctor

    settings, path = _settings_of(target)
    findings = check_versions()
    if settings is not None and not offline:
        from ticklake.lake.doctor import examine_lake

        findings += examine_lake(settings)
    if path.is_dir():  # a run config may be looked at before its first fetch
        findings += examine(catalog_at(path))
    wrong = any(finding.wrong for finding in findings)
    if as_json:
        document = {"catalog": str(path), "versions": _versions(), "healthy": not wrong}
        print_json({**document, "findings": [finding.to_dict() for finding in findings]})
    else:
        print_findings_of_doctor(findings, _versions())
    if wrong:
        raise typer.Exit(1)


def _versions() -> dict[str, str]:
    import platform

    from ticklake.versions import installed

    return {"python": platform.python_version(), **installed()}


def _catalog_of(target: Path) -> tuple[Catalog, RunConfig | None]:
    """Return the catalog that a folder is or a run config names, and that config."""
    from ticklake.cli.options import catalog_at

    settings, path = _settings_of(target)
    return catalog_at(path), settings


def _settings_of(target: Path) -> tuple[RunConfig | None, Path]:
    """Return the run config, where it is one, and the folder of the catalog, which need not be there."""
    from ticklake.cli.options import no_target
    from ticklake.config import load_config

    if target.is_dir():
        return None, target
    if not target.exists():
        raise no_target(target)
    settings = load_config(target)
    return settings, settings.store


def _type(name: str | None) -> CatalogType | None:
    from ticklake.errors import ConfigError
    from ticklake.types import CatalogType

    if name is None:
        return None
    try:
        return CatalogType(name)
    except ValueError as exc:
        known = ", ".join(kind.value for kind in CatalogType)
        raise ConfigError(f"--type {name!r} is none of {known}") from exc


def _window(before: str | None, start: str | None, end: str | None) -> Window:
    from ticklake.errors import ConfigError
    from ticklake.types import Window, parse_nanos

    given = (before is not None, start is not None, end is not None)
    if given not in ((True, False, False), (False, True, True)):
        raise ConfigError("give either --before, or both --start and --end")
    try:
        if before is not None:
            return Window(0, parse_nanos(before))
        return Window.parse(start or "", end or "")
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
