"""What is shown while work goes on: bars and spinners on stderr, nothing where it is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict

from rich.markup import escape

from ticklake.cli.console import format_bytes, print_note, print_notes_of, stderr
from ticklake.cli.render import print_findings
from ticklake.display import counted

if TYPE_CHECKING:
    from ticklake.fetching import FetchProgress, FetchReport

__all__ = ["BacktestCallbacks", "backtest_progress", "fetch_progress", "work"]


@contextmanager
def fetch_progress(*, enabled: bool) -> Iterator[Callable[[FetchProgress], None] | None]:
    """Show how far a fetch is while the block runs; whoever interrupts it is told what it leaves."""
    console = stderr()
    with _telling_notes():
        if not (enabled and console.is_interactive):
            yield None
            return
        from ticklake.cli.bars import FetchBars

        bars = FetchBars(console)
        with bars.progress:
            yield bars.show


@contextmanager
def _telling_notes() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as exc:  # of which no more than the exit code comes out of typer
        print_notes_of(exc)
        raise


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
    if not (enabled and console.is_interactive):
        with _telling_notes():
            yield {"on_fetched": print_findings}
        return
    from ticklake.cli.bars import FetchBars

    bars = FetchBars(console)
    status = console.status("running the engine")

    def fetched(report: FetchReport) -> None:
        bars.progress.stop()
        print_note(
            f"data ready: {report.rows:,} rows fetched, {format_bytes(report.bytes_read)} read in "
            f"{counted(report.requests, 'request')}, {report.seconds:.2f} s"
        )
        print_findings(report)
        status.start()

    def printed(line: str) -> None:
        # Above the spinner, not through it.
        console.print(escape(line.rstrip("\n")), soft_wrap=True)

    def simulated(share: float) -> None:
        status.update(f"running the engine, {share:.0%} of the window")

    bars.progress.start()
    with _telling_notes():
        try:
            yield {
                "on_progress": bars.show,
                "on_fetched": fetched,
                "on_output": printed,
                "on_simulated": simulated,
            }
        finally:
            status.stop()
            bars.progress.stop()


@contextmanager
def work(text: str, *, enabled: bool) -> Iterator[Callable[[int, int], None]]:
    """Show that work goes on; what is given tells how many files are done, and of how many."""
    console = stderr()
    if not (enabled and console.is_interactive):
        yield lambda _done, _total: None
        return
    with console.status(escape(text)) as status:
        yield lambda done, total: status.update(f"{escape(text)}, {done:,} of {total:,} files")
