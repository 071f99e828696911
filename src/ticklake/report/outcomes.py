"""The charts of what came of a run: equity and drawdown, PnL by time and instrument, distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ticklake.report.chart import AT, Chart, line, of
from ticklake.report.model import RunLike, count, iso_time, iso_times, money, number
from ticklake.report.thinning import extremes
from ticklake.types import Window

__all__ = ["equity_charts", "trade_charts"]

_MOST_POINTS = 4_000
_SECOND = 10**9
# Bars of PnL: the name of a step, its length, and the longest window that has them.
_STEPS = (
    ("second", _SECOND, 120 * _SECOND),
    ("minute", 60 * _SECOND, 2 * 3_600 * _SECOND),
    ("hour", 3_600 * _SECOND, 4 * 86_400 * _SECOND),
    ("day", 86_400 * _SECOND, None),
)
# How much of its step a bar takes, so that each stands by itself.
_BAR = 0.9
_HOURS_OF_DAY_FROM = 2 * 86_400 * _SECOND
_MOST_BINS = 40
_LONGEST_NAME = 32

type _Floats = npt.NDArray[np.float64]


def equity_charts(run: RunLike, window: Window) -> Iterator[Chart]:
    """Yield equity and drawdown, and PnL over time, of each account and currency that had any."""
    for account in sorted(set(run.equity["account_id"].to_pylist())):
        table = of(run.equity, "account_id", account)
        for currency in sorted(set(table["currency"].to_pylist())):
            equity = of(table, "currency", currency)
            yield _equity(equity, account, currency)
            if len(pc.unique(equity["equity"])) > 1:
                yield from _pnl_over_time(equity, account, currency, window)


def _equity(equity: pa.Table, account: str, currency: str) -> Chart:
    times, values = iso_times(equity["ts_event"]), equity["equity"].to_pylist()
    peak, falls = values[0], []
    for value in values:
        peak = max(peak, value)
        falls.append(float((value - peak) / peak * 100) if peak > 0 else 0.0)
    data = [
        _curve(
            "equity",
            times,
            values,
            "--accent",
            hovertemplate=f"%{{y:,.2f}} {escape(currency)}<br>{AT}<extra></extra>",
        ),
        _curve(
            "drawdown",
            times,
            falls,
            "--loss",
            yaxis="y2",
            width=1,
            fill="tozeroy",
            fillcolor="--loss-wash",
            hovertemplate=f"%{{y:.4f}} %<br>{AT}<extra></extra>",
        ),
    ]
    layout = {
        "showlegend": False,
        "xaxis": {"anchor": "y2"},
        "yaxis": {"domain": [0.36, 1], "title": {"text": escape(currency)}, "tickformat": ",.6~f"},
        # Without a fall, plotly would draw the axis upwards.
        "yaxis2": {"domain": [0, 0.28], "title": {"text": "drawdown %"}}
        | ({"rangemode": "tozero"} if min(falls) < 0 else {"range": [-1, 0]}),
    }
    return Chart(f"{account} · equity and drawdown in {currency}", "", 420, data, layout)


def _curve(
    name: str, times: list[str], values: Sequence[float | Decimal], colour: str, **more: Any
) -> dict[str, Any]:
    kept = extremes(values, _MOST_POINTS)
    return line(name, [times[index] for index in kept], [float(values[i]) for i in kept], colour, **more)


def _pnl_over_time(equity: pa.Table, account: str, currency: str, window: Window) -> Iterator[Chart]:
    length = window.end - window.start
    name, step = next((name, step) for name, step, most in _STEPS if most is None or length <= most)
    starts, gains = _gains(equity, window, step)
    title, unit = f"{account} · PnL by {name} in {currency}", escape(currency)
    yield Chart(
        title,
        "Changes of the equity, with fees and what is open.",
        260,
        [_steps(starts, step, gains, unit)],
        {"showlegend": False, "yaxis": _money_axis(unit)},
    )
    if length > _HOURS_OF_DAY_FROM:
        starts, gains = _gains(equity, window, 3_600 * _SECOND)
        by_hour = np.zeros(24)
        np.add.at(by_hour, [at // (3_600 * _SECOND) % 24 for at in starts], gains)
        layout = {
            "showlegend": False,
            "xaxis": {"type": "category", "title": {"text": "hour of day, UTC"}},
            "yaxis": _money_axis(unit),
        }
        bars = _bars([f"{hour:02d}" for hour in range(24)], by_hour.tolist(), unit)
        yield Chart(f"{account} · PnL by hour of day in {currency}", "", 260, [bars], layout, over_time=False)


def _gains(equity: pa.Table, window: Window, step: int) -> tuple[list[int], list[float]]:
    """Return the starts of a window's whole steps (UTC), and by how much the equity changed in each.

    What is filled after the window, the latency of orders that close it, belongs to its last step.
    """
    times = equity["ts_event"].cast(pa.int64()).to_numpy()
    values = [float(value) for value in equity["equity"].to_pylist()]
    starts = list(range(window.start // step * step, window.end, step))
    inner = np.searchsorted(times, starts[1:], side="left") - 1
    closes = [values[max(0, index)] for index in inner] + [values[-1]]
    return starts, np.diff([values[0], *closes]).tolist()


def _money_axis(unit: str) -> dict[str, Any]:
    return {"title": {"text": unit}, "tickformat": ",.6~f", "zeroline": True}


def _steps(starts: Sequence[int], step: int, gains: Sequence[float], unit: str) -> dict[str, Any]:
    """Return a bar for each step of time, which says when it began."""
    begins = [iso_time(at)[: len("2024-08-08 23:55:00")] for at in starts]
    bars = _bars([iso_time(at + step // 2) for at in starts], gains, unit, width=_BAR * step / 1e6)
    hover = f"%{{y:+,.2f}} {unit}<br>from %{{text}}<extra></extra>"
    return bars | {"text": begins, "textposition": "none", "hovertemplate": hover}


def _bars(x: Sequence[str], y: Sequence[float], unit: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": x,
        "y": y,
        "marker": {"color": ["--gain" if value >= 0 else "--loss" for value in y]},
        "hovertemplate": f"%{{x}}<br>%{{y:+,.2f}} {unit}<extra></extra>",
        **more,
    }


def trade_charts(run: RunLike) -> Iterator[Chart]:
    """Yield PnL by instrument, and how large fills were and how long positions were held."""
    for currency in sorted(set(run.positions["currency"].to_pylist())):
        yield _pnl_by_instrument(of(run.positions, "currency", currency), currency)
    for currency in sorted(set(run.fills["notional_currency"].to_pylist())):
        yield _sizes(of(run.fills, "notional_currency", currency), currency)
    closed = run.positions.filter(pc.is_valid(run.positions["duration_ns"]))
    if len(closed):
        yield _holding_times(closed)


def _pnl_by_instrument(positions: pa.Table, currency: str) -> Chart:
    # Not `group_by`, for which pyarrow imports its dataset module.
    sums: dict[str, Decimal] = {}
    columns = (positions[name].to_pylist() for name in ("instrument_id", "realized_pnl"))
    for name, pnl in zip(*columns, strict=True):
        sums[name] = sums.get(name, Decimal(0)) + (pnl or 0)
    rows = sorted((float(pnl), name) for name, pnl in sums.items())
    unit, values = escape(currency), [value for value, _ in rows]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": [escape(name) for _, name in rows],
        "text": [money(value, signed=True) for value in values],
        "textposition": "auto",
        "marker": {"color": ["--gain" if value >= 0 else "--loss" for value in values]},
        "hovertemplate": f"%{{y}}<br>%{{x:+,.2f}} {unit}<extra></extra>",
    }
    still = positions["ts_closed"].null_count
    note = "Realised, after fees" + (
        f"; of {still:,} still open at the end, what was realised so far." if still else "."
    )
    layout = {
        "showlegend": False,
        # There is little room beside names: few numbers, and a title that gives way to them.
        "xaxis": {
            "type": "linear",
            "title": {"text": unit},
            "tickformat": ",.6~f",
            "zeroline": True,
            "nticks": 3,
            "automargin": True,
        },
        "yaxis": {
            "type": "category",
            "automargin": True,
            "tickvals": bars["y"],
            "ticktext": [escape(_shortened(name)) for _, name in rows],
        },
    }
    return Chart(
        f"PnL by instrument in {currency}",
        note,
        130 + 34 * len(rows),
        [bars],
        layout,
        over_time=False,
        narrow=True,
    )


def _shortened(name: str) -> str:
    """Return a name that leaves room for bars beside it; both of its ends may tell it from others."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 10]}…{name[-9:]}"


def _sizes(fills: pa.Table, currency: str) -> Chart:
    values = np.array([float(value) for value in fills["notional"].to_pylist()])
    sides = np.array(fills["side"].to_pylist())
    groups = (("buy", "--buy", sides == "BUY"), ("sell", "--sell", sides == "SELL"))
    median, largest = (number(float(value), digits=2) for value in (np.median(values), values.max()))
    note = f"{count(len(values), 'fill')}: median {median} {currency}, largest {largest} {currency}."
    powers = {float(exponent): _compact(10.0**exponent) for exponent in range(-9, 16)}
    return _histogram(f"Trade sizes in {currency}", note, values, groups, powers, _compact)


def _holding_times(positions: pa.Table) -> Chart:
    values = np.maximum(np.array(positions["duration_ns"].to_pylist(), float), 1.0)
    gained = np.array([(value or 0) > 0 for value in positions["realized_pnl"].to_pylist()])
    groups = (("gain", "--gain", gained), ("loss or nothing", "--loss", ~gained))
    seconds = values / _SECOND
    note = f"{count(len(values), 'closed position')}: median {_span(float(np.median(seconds)))}, longest "
    note += f"{_span(float(seconds.max()))}."
    marks = {np.log10(at): _span(at) for at in (1e-9, 1e-6, 1e-3, 0.01, 0.1, 1, 10, 60, 600, 3_600, 36_000)}
    marks |= {np.log10(86_400.0 * days): f"{days} d" for days in (1, 10, 100)}
    return _histogram("Holding times", note, seconds, groups, marks, _span)


def _histogram(
    title: str,
    note: str,
    values: _Floats,
    groups: Sequence[tuple[str, str, npt.NDArray[np.bool_]]],
    marks: dict[float, str],
    spelled: Callable[[float], str],
) -> Chart:
    """Return stacked counts over logarithmic bins; a mark is the text at a power of ten."""
    logs = np.log10(values)
    bins = int(np.clip(2 * np.sqrt(len(values)), 8, _MOST_BINS))
    edges = np.histogram_bin_edges(logs, bins, (logs.min() - 0.05, logs.max() + 0.05))
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    bounds = [f"{spelled(10**low)} to {spelled(10**high)}" for low, high in pairwise(edges)]
    data = [
        {
            "type": "bar",
            "name": name,
            "x": middles,
            "y": np.histogram(logs[inside], edges)[0].tolist(),
            "width": float(edges[1] - edges[0]),
            "marker": {"color": colour, "line": {"width": 1, "color": "--card"}},
            "text": bounds,
            "textposition": "none",
            "hovertemplate": f"%{{text}}<br>%{{y:,}} {name}<extra></extra>",
        }
        for name, colour, inside in groups
        if inside.any()
    ]
    shown = {at: text for at, text in marks.items() if edges[0] <= at <= edges[-1]}
    if len(shown) < 2:
        shown = {float(at): spelled(10.0**at) for at in edges[:: max(1, bins // 4)]}
    most = np.sum([bars["y"] for bars in data], axis=0).max()
    layout = {
        "barmode": "stack",
        "xaxis": {
            "type": "linear",
            "tickvals": list(shown),
            "ticktext": list(shown.values()),
            "zeroline": False,
        },
        "yaxis": {"title": {"text": "count"}, "tickformat": ",d", "rangemode": "tozero"}
        | ({"dtick": 1} if most < 6 else {}),
    }
    return Chart(title, note, 280, data, layout, over_time=False, narrow=True)


def _compact(value: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
