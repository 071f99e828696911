"""Tables that fit the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

__all__ = ["clock", "fits", "moment", "show", "table"]


def table(columns: Iterable[str], right: Container[str] = ()) -> Table:
    """Return a table whose cells rather take several lines than be cut."""
    grid = Table(box=None, pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        grid.add_column(escape(column), justify=justify, overflow="fold", header_style="dim")
    return grid


def fits(console: Console, grid: Table) -> bool:
    """Tell whether no cell of a table has to be folded."""
    return Measurement.get(console, console.options.update(width=_UNBOUNDED), grid).maximum <= console.width


_UNBOUNDED = 10_000

type Row = tuple[str, ...]


def show(
    console: Console,
    title: str,
    columns: Row,
    rows: Sequence[Row],
    *,
    right: Container[str] = (),
    style: Callable[[Row], str] = lambda _: "",
) -> None:
    """Print rows as one table; where it is too wide, as one for each run of equal first cells, and so on."""
    console.print(title, style="bold")
    _show_from(0, console, columns, rows, right, style)


def _show_from(
    skip: int,
    console: Console,
    columns: Row,
    rows: Sequence[Row],
    right: Container[str],
    style: Callable[[Row], str],
) -> None:
    """Print rows without their first cells, which stand above them."""
    whole = table(columns[skip:], right)
    for row in rows:
        whole.add_row(*map(escape, row[skip:]), style=style(row))
    # Two columns may rather be folded: a table of one says too little.
    if fits(console, whole) or len(columns) - skip <= _FEWEST:
        console.print(whole)
        return
    for first, group in itertools.groupby(rows, key=lambda row: row[skip]):
        console.print(escape(first), style="italic", overflow="fold")
        _show_from(skip + 1, console, columns, list(group), right, style)


_FEWEST = 2


def moment(iso: str) -> str:
    """Return a time in ISO text as it is shown."""
    return iso.removesuffix("Z").replace("T", " ")


def clock(nanos: int) -> str:
    """Return a time as short as it can be told: the day alone for a midnight."""
    from ticklake.types import format_nanos

    return moment(format_nanos(nanos)).removesuffix(" 00:00:00")
