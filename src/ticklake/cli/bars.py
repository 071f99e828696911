"""The lines that show how far a fetch is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from ticklake.fetching import FetchProgress, ObjectProgress

__all__ = ["FetchBars"]

# In a narrower terminal there is no room for a bar and whole numbers beside the rest.
_ROOMY = 120

# And in a still narrower one none for speed and time left.
_NARROW = 72


class _Size(DownloadColumn):
    """Bytes, as soon as it is known of how many."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.total is not None else Text()


class _Speed(TransferSpeedColumn):
    """Bytes a second, as soon as there is one."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.finished_speed or task.speed else Text()


class FetchBars:
    """How far a fetch is: a line for all of it, and below that one for each file under way.

    Each is one line, whatever the width: what wraps cannot be cleared away.
    """

    def __init__(self, console: Console) -> None:
        self._roomy = console.width >= _ROOMY

        def column(**options: Any) -> Column:
            return Column(no_wrap=True, **options)

        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", table_column=column(ratio=1, overflow="ellipsis")),
            _Size(table_column=column(justify="right")),
            TextColumn("{task.fields[rows]}", table_column=column(justify="right")),
        ]
        if self._roomy:
            columns.insert(1, BarColumn(bar_width=24, table_column=column()))
        if console.width >= _NARROW:
            columns += [
                _Speed(table_column=column(justify="right")),
                TimeRemainingColumn(compact=True, table_column=column(justify="right")),
            ]
        self.progress = Progress(*columns, console=console, transient=True, expand=True)
        self._all = self.progress.add_task("planning", total=None, rows="")
        self._files: dict[str, TaskID] = {}
        self._done: set[str] = set()

    def show(self, event: FetchProgress) -> None:
        """Show where a fetch is."""
        found = event.object
        name = f"{event.instrument.rpartition(':')[2]} {event.data_type}"
        if event.objects > 1:
            self._show_file(found, f"  {found.day if self._roomy else f'{found.day:%m-%d}'} {name}")
            name = f"{len(self._done):,} of {event.objects:,} files"
        self.progress.update(
            self._all,
            description=escape(name),
            completed=event.bytes_done,
            total=event.bytes_total,
            rows=self._count(event.rows),
        )

    def _show_file(self, found: ObjectProgress, name: str) -> None:
        if found.rows >= found.rows_total:
            self._done.add(found.url)
            if (task := self._files.pop(found.url, None)) is not None:
                self.progress.remove_task(task)
            return
        if (task := self._files.get(found.url)) is None:
            task = self.progress.add_task(escape(name), total=found.bytes_total, rows="")
            self._files[found.url] = task
        self.progress.update(task, completed=found.bytes_done, rows=self._count(found.rows))

    def _count(self, rows: int) -> str:
        """Return a number of rows, in a narrow terminal a rounded one."""
        if self._roomy or rows < 1_000_000:
            return f"{rows:,} rows"
        return f"{rows / 1e6:.1f}M rows"
