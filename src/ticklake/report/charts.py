"""The charts of a report, as plain plotly specifications; colours are named and given by the page.

A colour that starts with `--` is a variable of the page's style sheet, which knows light and dark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ticklake.report.model import RunLike, iso_time, iso_times, number
from ticklake.report.thinning import extremes, stretches
from ticklake.types import Window

__all__ = ["Chart", "charts"]

# More markers than this hide each other; the largest fill of each stretch of time stands for its neighbours.
_MOST_MARKERS, _MARKER_STRETCHES = 800, 200
# More steps of a position than this are a solid block; then mean and range of stretches of time are drawn.
_MOST_STEPS, _STEP_STRETCHES = 600, 240
_MOST_POINTS = 4_000


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart of the page.

    Attributes:
        title: Heading.
        note: What is shown of how much; may be empty.
        height: Pixels.
        data: Plotly traces.
        layout: Plotly layout, on top of the page's.
    """

    title: str
    note: str
    height: int
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def charts(run: RunLike) -> list[Chart]:
    """Return the charts of a run; those that it has no data for are left out."""
    window = Window.parse(run.summary["window"]["start"], run.summary["window"]["end"])
    return [
        chart
        for instrument in run.summary["instruments"]
        for chart in (_price(run, instrument, window), _position(run, instrument, window))
        if chart is not None
    ] + list(_equity(run, window))


def _range(window: Window) -> list[str]:
    return [iso_time(window.start), iso_time(window.end)]


def _of(table: pa.Table, column: str, value: str) -> pa.Table:
    return table.filter(pc.equal(table[column], value))


def _price(run: RunLike, instrument: str, window: Window) -> Chart | None:
    prices, fills = _of(run.prices, "instrument_id", instrument), _of(run.fills, "instrument_id", instrument)
    if not len(prices) and not len(fills):
        return None
    shown = _largest(fills)
    data: list[dict[str, Any]] = []
    if len(prices):
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "trades",
                "x": iso_times(prices["ts_event"]),
                "y": prices["price"].to_pylist(),
                "line": {"color": "--ink-soft", "width": 1.2},
                "hovertemplate": "%{y}<extra></extra>",
            }
        )
    for side, colour, symbol in (("BUY", "--buy", "triangle-up"), ("SELL", "--sell", "triangle-down")):
        data.append(_markers(_of(shown, "side", side), side, colour, symbol))
    note = f"{len(shown):,} of {len(fills):,} fills shown, the largest of each moment" * (
        len(shown) < len(fills)
    )
    layout = {
        "yaxis": {"title": {"text": "price"}, "tickformat": ",.10~f"},
        "xaxis": {"range": _range(window)},
    }
    return Chart(f"{instrument} · price and fills", note, 420, data, layout)


def _markers(fills: pa.Table, side: str, colour: str, symbol: str) -> dict[str, Any]:
    labels = [
        f"<b>{side} {number(quantity)} @ {number(price)}</b><br>{escape(order)}<br>"
        f"{escape(kind.lower())} · {escape(liquidity.lower())}"
        for quantity, price, order, kind, liquidity in zip(
            *(
                fills[name].to_pylist()
                for name in ("quantity", "price", "client_order_id", "order_type", "liquidity")
            ),
            strict=True,
        )
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": side.lower(),
        "x": iso_times(fills["ts_event"]),
        "y": _floats(fills["price"]),
        "text": labels,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "size": 9, "color": colour, "line": {"width": 1, "color": "--card"}},
    }


def _largest(fills: pa.Table) -> pa.Table:
    """Return the largest fill of each side and stretch of time, or all where they are few."""
    if len(fills) <= _MOST_MARKERS:
        return fills
    times = fills["ts_event"].cast(pa.int64()).to_pylist()
    width = max(1, -(-(times[-1] - times[0] + 1) // _MARKER_STRETCHES))
    best: dict[tuple[int, str], tuple[Decimal, int]] = {}
    for index, (nanos, side, quantity) in enumerate(
        zip(times, fills["side"].to_pylist(), fills["quantity"].to_pylist(), strict=True)
    ):
        key = ((nanos - times[0]) // width, side)
        best[key] = max(best.get(key, (Decimal(-1), 0)), (quantity, -index))
    return fills.take(sorted(-index for _, index in best.values()))


def _position(run: RunLike, instrument: str, window: Window) -> Chart | None:
    fills = _of(run.fills, "instrument_id", instrument)
    if not len(fills):
        return None
    total, steps = Decimal(0), {}
    for nanos, side, quantity in zip(
        fills["ts_event"].cast(pa.int64()).to_pylist(),
        fills["side"].to_pylist(),
        fills["quantity"].to_pylist(),
        strict=True,
    ):
        total += quantity if side == "BUY" else -quantity
        # Of fills in one instant the last one tells the position.
        steps[nanos] = float(total)
    note = ""
    if len(steps) <= _MOST_STEPS:
        data = [_exact_position(steps, window)]
    else:
        data = _mean_position(steps, window)
        seconds = (window.end - window.start) / _STEP_STRETCHES / 10**9
        note = (
            f"{len(steps):,} changes: the line is the mean position over time in stretches of "
            f"{number(seconds, digits=1)} s, the band its range"
        )
    layout = {
        "showlegend": False,
        "yaxis": {"title": {"text": "position"}},
        "xaxis": {"range": _range(window)},
    }
    return Chart(f"{instrument} · position", note, 240, data, layout)


def _exact_position(steps: Mapping[int, float], window: Window) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "position",
        "x": [iso_time(nanos) for nanos in (window.start, *steps, max(window.end, *steps))],
        "y": [0.0, *steps.values(), list(steps.values())[-1]],
        "line": {"color": "--accent", "width": 1.4, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": "--accent-wash",
        "hovertemplate": "%{y}<extra></extra>",
    }


def _mean_position(steps: Mapping[int, float], window: Window) -> list[dict[str, Any]]:
    parts = stretches(list(steps), list(steps.values()), window.start, window.end, _STEP_STRETCHES)
    x = [*(iso_time(part.start) for part in parts), iso_time(window.end)]

    def line(name: str, values: list[float], width: float, **more: str) -> dict[str, Any]:
        return {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": x,
            "y": [*values, values[-1]],
            "line": {"color": "--accent", "width": width, "shape": "hv"},
            "hovertemplate": f"{name} %{{y:.6~g}}<extra></extra>",
            **more,
        }

    return [
        line("lowest", [part.lowest for part in parts], 0),
        line("highest", [part.highest for part in parts], 0, fill="tonexty", fillcolor="--accent-wash"),
        line("mean", [part.mean for part in parts], 1.4),
    ]


def _equity(run: RunLike, window: Window) -> Iterator[Chart]:
    for account in sorted(set(run.equity["account_id"].to_pylist())):
        table = _of(run.equity, "account_id", account)
        for currency in sorted(set(table["currency"].to_pylist())):
            yield _equity_chart(_of(table, "currency", currency), account, currency, window)


def _equity_chart(equity: pa.Table, account: str, currency: str, window: Window) -> Chart:
    times, values = equity["ts_event"].cast(pa.int64()).to_pylist(), equity["equity"].to_pylist()
    peak, falls = values[0], []
    for value in values:
        peak = max(peak, value)
        falls.append(float((value - peak) / peak * 100) if peak > 0 else 0.0)
    data = [
        {
            **_curve(times, values),
            "name": "equity",
            "line": {"color": "--accent", "width": 1.6},
            "hovertemplate": f"%{{y:,.2f}} {escape(currency)}<extra></extra>",
        },
        {
            **_curve(times, falls),
            "name": "drawdown",
            "yaxis": "y2",
            "line": {"color": "--loss", "width": 1},
            "fill": "tozeroy",
            "fillcolor": "--loss-wash",
            "hovertemplate": "%{y:.4f} %<extra></extra>",
        },
    ]
    layout = {
        "showlegend": False,
        "xaxis": {"range": _range(window), "anchor": "y2"},
        "yaxis": {"domain": [0.36, 1], "title": {"text": escape(currency)}, "tickformat": ",.6~f"},
        "yaxis2": {"domain": [0, 0.28], "title": {"text": "drawdown %"}, "rangemode": "tozero"},
    }
    return Chart(f"{account} · equity and drawdown in {currency}", "", 420, data, layout)


def _curve(times: list[int], values: Sequence[float | Decimal]) -> dict[str, Any]:
    kept = extremes(times, values, _MOST_POINTS)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [iso_time(times[index]) for index in kept],
        "y": [float(values[index]) for index in kept],
    }


def _floats(column: pa.ChunkedArray) -> list[float]:
    return [float(value) for value in column.to_pylist()]
