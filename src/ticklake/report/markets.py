"""The charts of one instrument over time: price and fills, position, book, feed latency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from html import escape
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ticklake.report.chart import AT, Chart, band, line, of
from ticklake.report.model import RunLike, duration, iso_time, iso_times, number
from ticklake.report.thinning import stretches
from ticklake.types import Window

__all__ = ["market_charts"]

# More markers than this hide each other; the largest fill of each stretch of time stands for its neighbours.
_MOST_MARKERS, _MARKER_STRETCHES = 800, 200
# More steps of a position than this are a solid block; then mean and range of stretches of time are drawn.
_MOST_STEPS, _STEP_STRETCHES = 600, 240
_MS = 1_000_000


def market_charts(run: RunLike, instrument: str, window: Window) -> Iterator[Chart]:
    """Yield the charts of an instrument that there are data for."""
    fills = of(run.fills, "instrument_id", instrument)
    prices = of(run.prices, "instrument_id", instrument)
    book = of(run.book, "instrument_id", instrument)
    latency = of(run.latency, "instrument_id", instrument)
    if len(prices) or len(book) or len(fills):
        yield _price(instrument, prices, book, fills)
    if len(fills):
        yield _position(instrument, fills, window)
    if len(book):
        yield _book(instrument, book)
    if pc.any(pc.not_equal(latency["max_ns"], 0)).as_py():
        yield _latency(instrument, latency)


def _price(instrument: str, prices: pa.Table, book: pa.Table, fills: pa.Table) -> Chart:
    shown = _largest(fills)
    data: list[dict[str, Any]] = []
    if len(prices):
        x, y = iso_times(prices["ts_event"]), prices["price"].to_pylist()
        # A price holds until the next trade: a step, not a slope through prices that never were.
        hover = f"%{{y}}<br>{AT}<extra></extra>"
        data.append(line("trades", x, y, "--ink-soft", width=1.2, shape="hv", hovertemplate=hover))
    elif len(book):
        data += band("mid", iso_times(book["ts_start"]), _three(book, "mid"), "--ink-soft")
    for side, colour, symbol in (("BUY", "--buy", "triangle-up"), ("SELL", "--sell", "triangle-down")):
        if len(found := of(shown, "side", side)):
            data.append(_markers(found, side, colour, symbol))
    notes = [
        f"{len(shown):,} of {len(fills):,} fills are marked, the largest of each moment."
        if len(shown) < len(fills)
        else "",
        "" if len(fills) else "No fills.",
        "" if len(prices) or not len(book) else "No trades: the line is the middle of the book.",
    ]
    layout = {"showlegend": True, "yaxis": {"title": {"text": "price"}, "tickformat": ",.10~f"}}
    return Chart(f"{instrument} · price and fills", " ".join(filter(None, notes)), 420, data, layout)


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
        "y": [float(value) for value in fills["price"].to_pylist()],
        "text": labels,
        "hovertemplate": f"%{{text}}<br>{AT}<extra></extra>",
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


def _position(instrument: str, fills: pa.Table, window: Window) -> Chart:
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
        note = (
            f"{len(steps):,} changes: the line is the mean position over time in stretches of "
            f"{duration((window.end - window.start) // _STEP_STRETCHES)}, the band its range."
        )
    layout = {
        "showlegend": False,
        "yaxis": {"title": {"text": "position"}, "tickformat": ",.8~f"},
    }
    return Chart(f"{instrument} · position", note, 240, data, layout)


def _exact_position(steps: Mapping[int, float], window: Window) -> dict[str, Any]:
    x = [iso_time(nanos) for nanos in (window.start, *steps, max(window.end, *steps))]
    y = [0.0, *steps.values(), list(steps.values())[-1]]
    return line(
        "position",
        x,
        y,
        "--accent",
        shape="hv",
        fill="tozeroy",
        fillcolor="--accent-wash",
        hovertemplate=f"%{{y:,.8~f}}<br>{AT}<extra></extra>",
    )


def _mean_position(steps: Mapping[int, float], window: Window) -> list[dict[str, Any]]:
    parts = stretches(list(steps), list(steps.values()), window.start, window.end, _STEP_STRETCHES)
    x = [*(iso_time(part.start) for part in parts), iso_time(window.end)]
    parts.append(parts[-1])
    values = ([p.lowest for p in parts], [p.mean for p in parts], [p.highest for p in parts])
    return band("position", x, values, "--accent")


def _three(table: pa.Table, name: str) -> tuple[list[float | None], list[float | None], list[float | None]]:
    low, mean, high = (table[f"{name}_{what}"].to_pylist() for what in ("min", "mean", "max"))
    return low, mean, high


def _book(instrument: str, book: pa.Table) -> Chart:
    x = iso_times(book["ts_start"])
    spread = band("spread", x, _three(book, "spread"), "--accent")
    points = pc.multiply(pc.divide(book["spread_mean"], book["mid_mean"]), 10_000).to_pylist()
    spread[-1] |= {
        "showlegend": False,
        "customdata": points,
        "hovertemplate": f"spread, mean %{{y:,.6~f}} (%{{customdata:.3f}} bps)<br>{AT}<extra></extra>",
    }
    data = [
        *spread,
        *band("bid depth", x, _three(book, "bid_size"), "--buy", yaxis="y2"),
        *band("ask depth", x, _three(book, "ask_size"), "--sell", yaxis="y2"),
    ]
    updates = pc.sum(book["updates"]).as_py()
    crossed = pc.min(book["spread_min"]).as_py()
    note = (
        f"{updates:,} updates; lines are means, bands run from the lowest to the highest. Depth is the size "
        "of all recorded levels of a side."
        + (" A spread below zero is a crossed book." if crossed is not None and crossed < 0 else "")
    )
    layout = {
        "xaxis": {"anchor": "y2"},
        "yaxis": {"domain": [0.56, 1], "title": {"text": "spread"}, "tickformat": ",.8~f"},
        "yaxis2": {
            "domain": [0, 0.46],
            "title": {"text": "depth"},
            "tickformat": ",.4~s",
            "rangemode": "tozero",
        },
    }
    return Chart(f"{instrument} · book spread and depth", note, 420, data, layout)


def _latency(instrument: str, latency: pa.Table) -> Chart:
    data = []
    kinds = sorted(set(latency["data_type"].to_pylist()), key=lambda kind: kind != "trades")
    for kind, colour in zip(kinds, ("--accent", "--sell", "--buy"), strict=False):
        table, name = of(latency, "data_type", kind), escape(kind.replace("order_book_", "book "))
        x = iso_times(table["ts_start"])
        for what, width, dash in (("p50", 1.6, "solid"), ("p99", 1.2, "dash"), ("max", 1, "dot")):
            values = [value / _MS for value in table[f"{what}_ns"].to_pylist()]
            hover = f"{name} {what} %{{y:,.4~g}} ms<br>{AT}<extra></extra>"
            trace = line(f"{name} {what}", x, values, colour, width=width, hovertemplate=hover)
            trace["line"]["dash"] = dash
            data.append(trace)
    low, high = pc.min(latency["min_ns"]).as_py() / _MS, pc.max(latency["max_ns"]).as_py() / _MS
    note = (
        f"ts_init - ts_event: how long after the venue's time the recorder had it; "
        f"{number(low, digits=3)} to {number(high, digits=3)} ms."
        + (" Below zero, a clock was behind." if low < 0 else "")
    )
    layout = {"yaxis": {"title": {"text": "latency, ms"}, "tickformat": ",.6~f", **_scale(low, high)}}
    return Chart(f"{instrument} · feed latency", note, 280, data, layout)


def _scale(low: float, high: float) -> dict[str, Any]:
    """Return the axis of values that may differ by orders of magnitude, with some numbers on it."""
    # A logarithm knows nothing below zero; what is zero is left out of a line.
    if low < 0 or high <= 10 * low:
        return {"rangemode": "normal"}
    # "D2": with 2 and 5 between the powers of ten.
    return {"type": "log", "dtick": 1 if high > 1_000 * max(low, 1e-3) else "D2"}
