"""What a chart is: a plain plotly specification, whose colours are named and given by the page.

A colour that starts with `--` is a variable of the page's style sheet, which knows light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["AT", "Chart", "band", "line", "of"]

# The time of a point as a hover text shows it.
AT = "%{x|%Y-%m-%d %H:%M:%S.%3f}"


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of the page.

    Attributes:
        title: Heading.
        note: What is shown of how much; may be empty.
        height: Pixels.
        data: Plotly traces.
        layout: Plotly layout, on top of the page's.
        over_time: Whether its x axis is that of all charts over time, so that it zooms with them.
        narrow: Whether three of them fit beside each other on a wide screen.
        instrument: Whose market it shows; empty where it shows that of none alone.
    """

    title: str
    note: str
    height: int
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    over_time: bool = True
    narrow: bool = False
    instrument: str = ""

    def spec(self) -> dict[str, Any]:
        """Return what the page's script draws."""
        return {"data": self.data, "layout": self.layout, "time": self.over_time}


def of(table: pa.Table, column: str, value: str) -> pa.Table:
    """Return the rows with a value in a column."""
    return table.filter(pc.equal(table[column], value))


def line(
    name: str, x: Sequence[str], y: Sequence[float | None], colour: str, *, width: float = 1.4, **more: Any
) -> dict[str, Any]:
    """Return the trace of a line."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": colour, "width": width, "shape": more.pop("shape", "linear")},
        **more,
    }


def band(
    name: str,
    x: Sequence[str],
    values: tuple[Sequence[float | None], Sequence[float | None], Sequence[float | None]],
    colour: str,
    *,
    unit: str = "",
    **more: Any,
) -> list[dict[str, Any]]:
    """Return the traces of a mean as a line in the band of its extremes.

    Args:
        name: What the line is called.
        x: Starts of the stretches.
        values: Lowest, mean and highest value of each.
        colour: The line's; the band has its `-wash`.
        unit: Shown behind a value.
        more: For each of the traces.
    """
    low, mean, high = values

    def of_band(what: str, y: Sequence[float | None], width: float, **only: Any) -> dict[str, Any]:
        hover = f"{name}, {what} %{{y:,.6~f}}{unit}<br>{AT}<extra></extra>"
        return line(name, x, y, colour, width=width, shape="hv", hovertemplate=hover, **more, **only)

    return [
        of_band("lowest", low, 0, showlegend=False),
        of_band("highest", high, 0, showlegend=False, fill="tonexty", fillcolor=f"{colour}-wash"),
        of_band("mean", mean, 1.4),
    ]
