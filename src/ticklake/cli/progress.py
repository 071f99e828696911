"""What is shown while work goes on: bars and spinners on stderr, nothing where it is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from rich.markup import escape

from ticklake.cli.console import format_bytes, print_note, stderr
from ticklake.cli.render import print_findings

if TYPE_CHECKING:
    from rich.console import Console

    from ticklake.fetching import FetchProgress, FetchReport

__all__ = ["BacktestCallbacks", "backtest_progress", "fetch_progress", "work"]

# In a narrower terminal there is no room for speed and remaining time beside the rest.
_ROOMY = 110


class _FetchBar:
    """A progress bar of a fetch, always on one line: what wraps cannot be cleared away."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.table import Column

        roomy = console.width >= _ROOMY

        def column() -> Column:
            return Column(no_wrap=True)

        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", table_column=column()),
            BarColumn(bar_width=40 if roomy else 12, table_column=column()),
            DownloadColumn(table_column=column()),
            TextColumn("{task.fields[rows]:,} rows", table_column=column()),
        ]
        if roomy:
            columns += [
                TransferSpeedColumn(table_column=column()),
                TimeRemainingColumn(table_column=column()),
            ]
        self.progress = Progress(*columns, console=console, transient=True)
        self._task = self.progress.add_task("planning", total=None, rows=0)

    def show(self, event: FetchProgress) -> None:
        self.progress.update(
            self._task,
            description=escape(f"{event.instrument.rpartition(':')[2]} {event.data_type}"),
            completed=event.bytes_done,
            total=event.bytes_total,
            rows=event.rows,
        )


@contextmanager
def fetch_progress(*, enabled: bool) -> Iterator[Callable[[FetchProgress], None] | None]:
    """Show a progress bar while the block runs."""
    console = stderr()
    if not (enabled and console.is_terminal):
        yield None
        return
    bar = _FetchBar(console)
    with bar.progress:
        yield bar.show


class BacktestCallbacks(TypedDict, total=False):
    """What `backtest` calls on its way; see there."""

    on_progress: Callable[[FetchProgress], None]
    on_fetched: Callable[[FetchReport], None]
    on_output: Callable[[str], None]
    on_simulated: Callable[[float], None]


@contextmanager
def backtest_progress(*, enabled: bool) -> Iterator[BacktestCallbacks]:
    """Show how the fetch goes and then the engine; what the fetch found is told in any case."""
    console = stderr()
    if not (enabled and console.is_terminal):
        yield {"on_fetched": print_findings}
        return
    bar = _FetchBar(console)
    status = console.status("running the engine")

    def fetched(report: FetchReport) -> None:
        bar.progress.stop()
        print_note(
            f"data ready: {report.rows:,} rows fetched, {format_bytes(report.bytes_read)} read in "
            f"{report.requests} requests, {report.seconds:.2f} s"
        )
        print_findings(report)
        status.start()

    def printed(line: str) -> None:
        # Above the spinner, not through it.
        console.print(escape(line.rstrip("\n")), soft_wrap=True)

    def simulated(share: float) -> None:
        status.update(f"running the engine, {share:.0%} of the window")

    bar.progress.start()
    try:
        yield {
            "on_progress": bar.show,
            "on_fetched": fetched,
            "on_output": printed,
            "on_simulated": simulated,
        }
    finally:
        status.stop()
        bar.progress.stop()


@contextmanager
def work(text: str, *, enabled: bool) -> Iterator[None]:
    """Show that work goes on."""
    console = stderr()
    if not (enabled and console.is_terminal):
        yield
        return
    with console.status(escape(text)):
        yield
