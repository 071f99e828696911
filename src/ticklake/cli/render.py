"""What the commands show: tables and messages on a terminal, JSON for machines.

Results go to stdout; progress, notes and errors go to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ticklake.backtesting import Run
    from ticklake.catalog import Coverage
    from ticklake.fetching import FetchPlan, FetchProgress, FetchReport, WindowReport
    from ticklake.lake import TickFile
    from ticklake.synth import SyntheticLake

__all__ = [
    "backtest_progress",
    "coverage_dict",
    "fetch_progress",
    "format_bytes",
    "print_coverage",
    "print_error",
    "print_fetch_plan",
    "print_fetch_report",
    "print_json",
    "print_lake",
    "print_note",
    "print_runs",
    "print_synthetic_lake",
    "stderr",
    "stdout",
    "synthetic_lake_dict",
    "tick_file_dict",
    "work",
]


_WIDE = 200


def stdout() -> Console:
    """Return a console on the current standard output; a pipe or file gets wide lines."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def stderr() -> Console:
    """Return a console on the current standard error."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_error(error: object) -> None:
    """Print why the command failed, in one paragraph on stderr."""
    stderr().print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)


def print_note(text: str) -> None:
    """Print a remark on stderr."""
    stderr().print(escape(text), style="dim", soft_wrap=True)


def format_bytes(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


class _FetchBar:
    """A progress bar of a fetch."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self.progress.add_task("planning", total=None, rows=0)

    def show(self, event: FetchProgress) -> None:
        self.progress.update(
            self._task,
            description=escape(f"{event.instrument} {event.data_type}"),
            completed=event.bytes_done,
            total=event.bytes_total,
            rows=event.rows,
        )


@contextmanager
def fetch_progress(*, enabled: bool) -> Iterator[Callable[[FetchProgress], None] | None]:
    """Show a progress bar on stderr while the block runs; nothing where stderr is no terminal."""
    console = stderr()
    if not (enabled and console.is_terminal):
        yield None
        return
    bar = _FetchBar(console)
    with bar.progress:
        yield bar.show


type _Callbacks = tuple[Callable[[FetchProgress], None] | None, Callable[[FetchReport], None] | None]


@contextmanager
def backtest_progress(*, enabled: bool) -> Iterator[_Callbacks]:
    """Show on stderr how the fetch goes and then that the engine runs; nothing where it is no terminal."""
    console = stderr()
    if not (enabled and console.is_terminal):
        yield None, None
        return
    bar = _FetchBar(console)
    status = console.status("running the engine")

    def fetched(report: FetchReport) -> None:
        bar.progress.stop()
        moved = (
            f"{format_bytes(report.bytes_read)} read in {report.requests} requests, {report.seconds:.2f} s"
        )
        console.print(f"data ready: {report.rows:,} rows fetched, {moved}", style="dim")
        _print_warnings(report.warnings)
        status.start()

    bar.progress.start()
    try:
        yield bar.show, fetched
    finally:
        status.stop()
        bar.progress.stop()


@contextmanager
def work(text: str, *, enabled: bool) -> Iterator[None]:
    """Show that work goes on; nothing where stderr is no terminal."""
    console = stderr()
    if not (enabled and console.is_terminal):
        yield
        return
    with console.status(escape(text)):
        yield


def _table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column in set(right) else "left", overflow="fold", header_style="dim"
        )
    return table


def _clock(nanos: int) -> str:
    """Return a time as short as it can be told: the day alone for a midnight."""
    from ticklake.types import format_nanos

    return format_nanos(nanos).removesuffix("Z").replace("T", " ").removesuffix(" 00:00:00")


def print_fetch_plan(plan: FetchPlan) -> None:
    """Print what a fetch would read."""
    console = stdout()
    table = _table(
        "Objects to read",
        "object",
        "row groups",
        "bytes",
        "of size",
        "requests",
        right=("row groups", "bytes", "of size", "requests"),
    )
    for entry in plan.to_dict()["objects"]:
        table.add_row(
            escape(entry["url"]),
            str(entry["row_groups"]),
            format_bytes(entry["bytes"]),
            f"{entry['share']:.1%}",
            str(entry["requests"]),
        )
    if plan.scans:
        console.print(table)
    _print_windows(console, plan.windows)
    _print_warnings(plan.warnings)
    console.print(f"Would read {format_bytes(plan.bytes)} in {plan.requests} requests; footers come on top.")


def print_fetch_report(report: FetchReport) -> None:
    """Print what a fetch did."""
    console = stdout()
    _print_windows(console, report.windows)
    for reason, count in report.quarantined.items():
        print_note(f"quarantined: {count:,} rows, {reason}")
    _print_warnings(report.warnings)
    console.print(
        f"{report.rows:,} rows in {report.files} files; {format_bytes(report.bytes_read)} read in "
        f"{report.requests} requests, {report.seconds:.2f} s"
    )


def _print_windows(console: Console, windows: Iterable[WindowReport]) -> None:
    table = _table("Windows (UTC)", "instrument", "data", "start", "end", "status", "rows", right=("rows",))
    for window in windows:
        style = {"hole": "red", "cached": "dim"}.get(window.status, "")
        table.add_row(
            escape(window.instrument),
            window.data_type,
            _clock(window.window.start),
            _clock(window.window.end),
            window.status.value,
            "" if window.rows is None else f"{window.rows:,}",
            style=style,
        )
    console.print(table)


def _print_warnings(warnings: Iterable[str]) -> None:
    for warning in warnings:
        stderr().print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def coverage_dict(entry: Coverage) -> dict[str, Any]:
    """Return what a catalog holds of one type and instrument as plain JSON values."""
    from ticklake.types import format_nanos

    return {
        "type": entry.catalog_type.value,
        "instrument": entry.nautilus_id,
        "files": entry.files,
        "windows": [
            {"start": format_nanos(window.start), "end": format_nanos(window.end)} for window in entry.windows
        ],
    }


def print_coverage(entries: Iterable[Coverage]) -> None:
    """Print what a catalog holds."""
    table = _table("Coverage (UTC)", "type", "instrument", "start", "end", "files", right=("files",))
    for entry in entries:
        for index, window in enumerate(entry.windows):
            table.add_row(
                "" if index else entry.catalog_type.value,
                "" if index else escape(entry.nautilus_id),
                _clock(window.start),
                _clock(window.end),
                "" if index else str(entry.files),
            )
    stdout().print(table if table.rows else "The catalog holds no ticks.")


def tick_file_dict(found: TickFile) -> dict[str, Any]:
    """Return a file of a lake as plain JSON values."""
    return {
        "data_type": str(found.data_type),
        "instrument": str(found.instrument),
        "day": str(found.day),
        "path": found.path,
        "size": found.size,
    }


def print_lake(files: Iterable[TickFile], url: str) -> None:
    """Print which days of which instruments and data types a lake holds, and their sizes."""
    groups: dict[tuple[str, str], list[TickFile]] = {}
    for found in files:
        groups.setdefault((str(found.data_type), str(found.instrument)), []).append(found)
    table = _table("Lake", "data", "instrument", "days", "first", "last", "size", right=("days", "size"))
    for (data_type, instrument), group in sorted(groups.items()):
        days = sorted(found.day for found in group)
        table.add_row(
            data_type,
            escape(instrument),
            str(len(set(days))),
            str(days[0]),
            str(days[-1]),
            format_bytes(sum(found.size or 0 for found in group)),
        )
    stdout().print(table if table.rows else escape(f"No tick file of this layout lies under {url}."))


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
    """Print what was written."""
    console = stdout()
    console.print(f"{made.rows:,} rows in {len(made.files)} files, {made.days[0]} to {made.days[-1]}")
    console.print(f"  ticks        {made.ticks}", soft_wrap=True)
    console.print(f"  instruments  {made.instruments}", soft_wrap=True)


def print_runs(runs: Iterable[tuple[str, Run]]) -> None:
    """Print the key figures of runs, one column each, and where they lie.

    Args:
        runs: The runs with what to call them.
    """
    named = list(runs)
    console = stdout()
    names = [name for name, _ in named]
    table = _table("Results", "figure", *names, right=names)
    summaries = [run.summary for _, run in named]
    for label, cell in _FIGURES.items():
        table.add_row(label, *(escape(cell(summary)) for summary in summaries))
    console.print(table)
    for name, run in named:
        console.print(f"{escape(name)}: run folder {escape(str(run.path))}", soft_wrap=True)
        console.print(f"  report {escape(str(run.report()))}", soft_wrap=True)


def _amounts(values: dict[str, float | None], form: str = ",.2f") -> str:
    return (
        ", ".join("–" if value is None else f"{value:{form}} {code}" for code, value in values.items()) or "–"
    )


_FIGURES: dict[str, Callable[[dict[str, Any]], str]] = {
    "window": lambda s: f"{s['window']['start'][:19]} to {s['window']['end'][11:19]}".replace("T", " "),
    "events": lambda s: f"{s['events']:,}",
    "orders": lambda s: f"{s['orders']:,}",
    "fills": lambda s: f"{s['fills']:,}",
    "net PnL": lambda s: _amounts(s["net_pnl"], "+,.2f"),
    "fees": lambda s: _amounts(s["fees"]),
    "turnover": lambda s: _amounts(s["turnover"], ",.0f"),
    "max drawdown": lambda s: _amounts(s["max_drawdown_amount"]),
    "engine": lambda s: f"{s['engine_seconds']:.2f} s",
    "fetch": lambda s: f"{s['fetch_seconds']:.2f} s",
    "bytes from the lake": lambda s: format_bytes(s["bytes_read"]),
    "holes": lambda s: str(len(s["data"]["holes"])),
    "quarantined rows": lambda s: f"{s['data']['quarantined']:,}",
}
