"""What the commands show: tables for people, plain values for JSON."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ticklake.cli.console import format_bytes, print_note, print_warning, stdout
from ticklake.cli.tables import clock as _clock
from ticklake.cli.tables import fits as _fits
from ticklake.cli.tables import moment as _moment
from ticklake.cli.tables import show as _show
from ticklake.cli.tables import table as _table
from ticklake.display import counted, format_signed

if TYPE_CHECKING:
    from pathlib import Path

    from ticklake.backtesting import Run
    from ticklake.catalog import VerifyReport
    from ticklake.catalog.compaction import CompactReport
    from ticklake.catalog.doctor import Finding
    from ticklake.catalog.maintenance import PruneReport
    from ticklake.fetching import FetchPlan, FetchReport, OnHole, WindowReport
    from ticklake.fetching.proposal import Proposal
    from ticklake.fetching.repair import RepairReport
    from ticklake.lake import TickFile
    from ticklake.synth import SyntheticLake

__all__ = [
    "print_compact_report",
    "print_fetch_plan",
    "print_fetch_report",
    "print_findings",
    "print_findings_of_doctor",
    "print_lake",
    "print_notes",
    "print_proposal",
    "print_prune_report",
    "print_repair",
    "print_runs",
    "print_strategy",
    "print_synthetic_lake",
    "print_verify_report",
    "synthetic_lake_dict",
    "tick_file_dict",
]


def print_fetch_plan(plan: FetchPlan, on_hole: OnHole) -> None:
    """Print what a fetch would read that does this at a hole."""
    console = stdout()
    objects = plan.to_dict()["objects"]
    urls = [entry["url"] for entry in objects]
    folder = os.path.commonprefix(urls).rpartition("/")[0]  # noqa: RUF071 (`commonpath` makes one slash of two)
    rows = [
        (
            entry["url"].removeprefix(f"{folder}/"),
            str(entry["row_groups"]),
            format_bytes(entry["bytes"]),
            f"{entry['share']:.1%}",
            "with footer" if entry["with_footer"] else str(entry["requests"]),
        )
        for entry in objects
    ]
    if rows:
        numbers = ("row groups", "bytes", "of size", "requests")
        _show(console, f"Objects to read in {folder}", ("object", *numbers), rows, right=numbers)
    _print_windows(console, plan.windows)
    for warning in plan.warnings:
        print_warning(warning)
    if plan.planning_requests:
        looked = f"{format_bytes(plan.planning_bytes)} in {counted(plan.planning_requests, 'request')}"
        console.print(f"Read {looked} to find out: instrument lists and footers.")
    more = f"{format_bytes(plan.bytes)} more in {counted(plan.requests, 'request')}" if rows else "nothing"
    if plan.holes and on_hole == "stop":
        console.print("The fetch would fail at a hole before it reads more.")
    else:
        console.print(f"Would read {more}.")


def print_fetch_report(report: FetchReport) -> None:
    """Print what a fetch did, and that no row was lost."""
    console = stdout()
    _print_windows(console, report.windows)
    if report.source_rows:
        console.print(
            f"{report.source_rows:,} rows read = {report.source_rows_written:,} written "
            f"({report.rows:,} catalog rows) + {report.outside:,} outside the window "
            f"+ {report.source_rows_quarantined:,} quarantined"
        )
    console.print(
        f"{counted(report.files, 'file')} written; {format_bytes(report.bytes_read)} read in "
        f"{counted(report.requests, 'request')}, {report.seconds:.2f} s"
    )


def print_findings(report: FetchReport) -> None:
    """Print what a fetch warns of on stderr: holes, quarantined rows, and other findings."""
    for hole in report.holes:
        print_warning(str(hole), kind="hole")
    for reason, count in report.quarantined.items():
        print_warning(f"{counted(count, 'row')}, {reason}", kind="quarantined")
    for warning in report.warnings:
        print_warning(warning)


def _print_windows(console: Console, windows: Iterable[WindowReport]) -> None:
    windows = tuple(windows)
    rows = [
        (
            window.instrument,
            window.data_type,
            _clock(window.window.start),
            _clock(window.window.end),
            window.status.value,
            "" if window.rows is None else f"{window.rows:,}",
        )
        for window in windows
    ]
    columns = ("instrument", "data", "start", "end", "status", "rows")
    styles = {"hole": "red", "cached": "dim"}
    _show(console, "Windows (UTC)", columns, rows, right=("rows",), style=lambda row: styles.get(row[4], ""))
    for window in windows:
        if window.kept is not None and window.kept != window.window:
            rows_kept = "" if window.kept_rows is None else f", {window.kept_rows:,} rows"
            console.print(
                f"{window.instrument} {window.data_type}: kept with what is read along, from "
                f"{_clock(window.kept.start)} to {_clock(window.kept.end)}{rows_kept}"
            )


def print_verify_report(report: VerifyReport) -> None:
    """Print which files of a catalog are bad, and how many are not."""
    console = stdout()
    for check in report.bad:
        console.print(f"[red]bad[/] {escape(str(check.file.path))}", soft_wrap=True)
        for problem in check.problems:
            console.print(f"  {escape(problem)}", soft_wrap=True)
    for path in report.strays:
        print_warning(f"{path} is no file of the catalog", kind="stray")
    good = len(report.files) - len(report.bad)
    console.print(f"{counted(good, 'file')} whole ({counted(report.rows, 'row')}), {len(report.bad):,} bad.")


def print_repair(report: RepairReport) -> None:
    """Print what a repair did."""
    for check in report.before.bad:
        stdout().print(f"set aside {escape(str(check.file.path))}", soft_wrap=True)
        for problem in check.problems:
            stdout().print(f"  {escape(problem)}", soft_wrap=True)
    for check in report.defined:
        stdout().print(f"defined again {escape(str(check.file.path))}", soft_wrap=True)
    if report.fetched is not None:
        print_fetch_report(report.fetched)
        print_findings(report.fetched)


def print_compact_report(report: CompactReport) -> None:
    """Print which files of a catalog were joined, or would be."""
    console = stdout()
    rows = [
        (
            one.catalog_type.value,
            one.nautilus_id,
            _clock(one.joined.window.start),
            _clock(one.joined.window.end),
            f"{len(one.files):,}",
            f"{one.rows:,}",
        )
        for one in report.joined
    ]
    if rows:
        title = "Would join (UTC)" if report.dry_run else "Joined (UTC)"
        columns = ("type", "instrument", "start", "end", "files", "rows")
        _show(console, title, columns, rows, right=("files", "rows"))
    for left in report.left:
        print_note(f"{left.file.path} is left as it is: {left.reason}")
    verb = "would be joined" if report.dry_run else "joined"
    count = sum(len(one.files) for one in report.joined)
    console.print(f"{counted(count, 'file')} {verb} into {len(rows):,}.")


def print_prune_report(report: PruneReport) -> None:
    """Print what was removed from a catalog, or would be."""
    console = stdout()
    rows = [
        (
            one.catalog_type.value,
            one.nautilus_id,
            _clock(one.file.window.start),
            _clock(one.file.window.end),
            format_bytes(one.size),
        )
        for one in report.removed
    ]
    if rows:
        columns = ("type", "instrument", "start", "end", "size")
        _show(
            console,
            "Would remove (UTC)" if report.dry_run else "Removed (UTC)",
            columns,
            rows,
            right=("size",),
        )
    for file in report.kept:
        print_note(f"{file.path} reaches beyond the window and stays")
    verb = "would be removed" if report.dry_run else "removed"
    console.print(f"{counted(len(rows), 'file')}, {format_bytes(report.bytes)}, {verb}.")


def print_findings_of_doctor(findings: Iterable[Finding], versions: Mapping[str, str]) -> None:
    """Print what was found of a catalog and the machine it lies on."""
    console = stdout()
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()))
    for finding in findings:
        mark = "[red]wrong[/]" if finding.wrong else "[green]fine[/] "
        console.print(f"{mark} {finding.check}: {escape(finding.text)}", soft_wrap=True)


def print_strategy(path: str, file: str) -> None:
    """Print on stderr whose code is about to run, and where it is."""
    print_note(f"strategy {path} from {file}")


def tick_file_dict(found: TickFile) -> dict[str, Any]:
    """Return a file of a lake as plain JSON values."""
    return {
        "data_type": str(found.data_type),
        "instrument": str(found.instrument),
        "day": str(found.day),
        "path": found.path,
        "size": found.size,
    }


def print_lake(files: Sequence[TickFile]) -> None:
    """Print how many days of which instruments and data types a lake holds and lacks, and their sizes.

    Args:
        files: What there is, sorted.
    """
    rows = []
    grouped = itertools.groupby(files, lambda found: (found.data_type, found.instrument))
    for (data_type, instrument), group in grouped:
        same = list(group)
        days = {found.day for found in same}
        size = format_bytes(sum(found.size or 0 for found in same))
        span = (max(days) - min(days)).days + 1
        holes = "" if span == len(days) else f"{span - len(days):,}"
        rows.append((data_type, instrument, str(len(days)), holes, str(min(days)), str(max(days)), size))
    columns = ("data", "instrument", "days", "holes", "first", "last", "size")
    _show(stdout(), "Lake", columns, rows, right=("days", "holes", "size"))
    if any(row[3] for row in rows):
        stdout().print("Holes are days between the first and the last without a file.", style="dim")


def synthetic_lake_dict(made: SyntheticLake) -> dict[str, Any]:
    """Return what was written as plain JSON values."""
    return {
        "ticks": made.ticks_url,
        "instruments": made.instruments_url,
        "keys": list(made.keys),
        "days": [str(day) for day in made.days],
        "files": len(made.files),
        "rows": made.rows,
    }


def print_synthetic_lake(made: SyntheticLake) -> None:
    """Print what was written, and how to go on."""
    console = stdout()
    files = counted(len(made.files), "file")
    console.print(f"{counted(made.rows, 'row')} in {files}, {made.days[0]} to {made.days[-1]}")
    console.print(f"  ticks        {made.ticks}", soft_wrap=True)
    console.print(f"  instruments  {made.instruments}", soft_wrap=True)
    console.print(f"Make a run config for it: ticklake init {shlex.quote(str(made.ticks))}", soft_wrap=True)


def print_notes(run: Run) -> None:
    """Print on stderr what a run's user should know beside its figures."""
    for note in run.summary["notes"]:
        print_warning(note, kind="note")
    counts = run.summary["log"]["counts"]
    if counts:
        spelled = " and ".join(f"{count:,} {_LEVELS.get(level, level)}" for level, count in counts.items())
        print_warning(f"the engine logged {spelled}; see {run.location}/engine-log.jsonl")


_LEVELS = {"WARN": "warnings", "ERROR": "errors"}


def print_runs(runs: Iterable[tuple[str, Run]]) -> None:
    """Print the key figures of runs and where they lie: side by side where they fit, else one by one.

    Args:
        runs: The runs with what to call them.
    """
    named = list(runs)
    console = stdout()
    table = _figures_table(named)
    if len(named) > 1 and _fits(console, table):
        console.print("Results", style="bold")
        console.print(table)
    else:
        for one in named:
            console.print(escape(one[0]), style="bold", overflow="fold")
            console.print(_figures_table([one]))
    console.print("An event is a data point that the engine processed.", style="dim")
    for name, run in named:
        console.print(f"{escape(name)}: run folder {escape(run.location)}", soft_wrap=True)
        console.print(f"  report {escape(run.location)}/report.html", soft_wrap=True)


def _figures_table(named: Sequence[tuple[str, Run]]) -> Table:
    names = [name for name, _ in named]
    table = _table(("figure", *names), names)
    table.show_header = len(names) > 1
    for label, cell in _FIGURES.items():
        table.add_row(label, *(escape(cell(run.summary)) for _, run in named))
    return table


def _amounts(values: dict[str, float | None], form: str = ",.2f") -> str:
    return (
        ", ".join(
            "–" if value is None else f"{format_signed(value, form)} {code}" for code, value in values.items()
        )
        or "–"
    )


_FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "start": lambda s: _moment(s["window"]["start"]),
    "end": lambda s: _moment(s["window"]["end"]),
    "events": lambda s: f"{s['events']:,}",
    "orders": lambda s: f"{s['orders']:,}",
    "fills": lambda s: f"{s['fills']:,}",
    "net PnL": lambda s: _amounts(s["net_pnl"], "+,.2f"),
    "fees": lambda s: _amounts(s["fees"]),
    "turnover": lambda s: _amounts(s["turnover"], ",.0f"),
    "max drawdown": lambda s: _amounts(s["max_drawdown_amount"]),
    "engine": lambda s: f"{s['engine_seconds']:.2f} s",
    "fetch": lambda s: f"{s['fetch_seconds']:.2f} s",
    "bytes read": lambda s: format_bytes(s["bytes_read"]),
    "holes": lambda s: str(len(s["data"]["holes"])),
    "quarantined rows": lambda s: f"{s['data']['quarantined']:,}",
}


def print_proposal(found: Proposal, url: str, file: Path) -> None:
    """Print what was found in a lake, what was written, and how to go on."""
    console = stdout()
    span = f"{counted(len(found.days), 'day')}, {found.days[0]} to {found.days[-1]}"
    console.print(f"{escape(url)}: layout {found.layout}, {span}", soft_wrap=True)
    kinds: dict[str, list[TickFile]] = {}
    for one in sorted(found.files, key=lambda one: one.data_type):
        kinds.setdefault(one.data_type, []).append(one)
    rows = [
        (kind, f"{len(files):,}", format_bytes(sum(one.size or 0 for one in files)))
        for kind, files in kinds.items()
    ]
    columns = ("data", "instruments", "size")
    _show(console, f"On {found.day}", columns, rows, right=("instruments", "size"))
    types = " and ".join(str(data_type) for data_type in found.data_types)
    console.print(
        f"Wrote {escape(str(file))}: {types} of {escape(str(found.key))}, {_clock(found.window.start)} to "
        f"{_clock(found.window.end)}",
        soft_wrap=True,
    )
    console.print(f"Run it: ticklake backtest {escape(shlex.quote(str(file)))}", soft_wrap=True)
