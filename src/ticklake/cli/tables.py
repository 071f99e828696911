"""Tables that fit the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Literal

from rich.cells import cell_len
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
    """Print rows as one table; where it is too wide, first cells stand above the rows that share them."""
    console.print(escape(title), style="bold", overflow="fold")
    above = 0
    # Two columns may rather be folded: a table of one says too little.
    while above < len(columns) - _FEWEST and not fits(console, _part(columns, rows, right, above, style)):
        above += 1
    sizes = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    console.print(_part(columns, (), right, above, style, sizes))
    shown: Row = ()
    for shared, group in itertools.groupby(rows, key=lambda row: row[:above]):
        for depth, cell in enumerate(shared, 1):
            if shown[:depth] != shared[:depth]:
                console.print(escape(cell), style="italic", overflow="fold")
        shown = shared
        part = _part(columns, list(group), right, above, style, sizes)
        part.show_header = False
        console.print(part)


def _part(
    columns: Row,
    rows: Sequence[Row],
    right: Container[str],
    above: int,
    style: Callable[[Row], str],
    sizes: Sequence[int] = (),
) -> Table:
    """Return a table of rows without the cells that stand above them; of columns as wide as all rows want."""
    grid = table(columns[above:], right)
    for column, size in zip(grid.columns, sizes[above:], strict=False):
        column.min_width = size
    for row in rows:
        grid.add_row(*map(escape, row[above:]), style=style(row))
    return grid


_FEWEST = 2


def moment(iso: str) -> str:
    """Return a time in ISO text as it is shown."""
    return iso.removesuffix("Z").replace("T", " ")


def clock(nanos: int) -> str:
    """Return a time as short as it can be told: the day alone for a midnight."""
    from ticklake.types import format_nanos

    return moment(format_nanos(nanos)).removesuffix(" 00:00:00")
