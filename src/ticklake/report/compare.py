"""The page of a comparison: equity curves over each other, figures side by side, where the configs differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ticklake.report.chart import Chart
from ticklake.report.comparison import Compared, Comparison, Figure
from ticklake.report.curves import total_equity
from ticklake.report.document import chart_section, document, resource, section
from ticklake.report.model import iso_time
from ticklake.report.thinning import extremes
from ticklake.types import Window

__all__ = ["write_comparison"]

# As many colours as there are in `compare.css`; further runs get the same ones, dashed. So do runs of the
# same results.
_COLOURS = 8
_DASHES = ("solid", "dash", "dot")
_MOST_POINTS = 4_000
_HEIGHT = 420


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the comparison of runs as one HTML file that works offline.

    Args:
        comparison: What is compared.
        path: The file to write; an existing one is replaced.
    """
    path.write_bytes(_page(comparison))


def _page(comparison: Comparison) -> bytes:
    charts = list(_overlays(comparison))
    sections = [
        _header(comparison),
        section("Runs", _runs(comparison)),
        *(chart_section(index, chart) for index, chart in enumerate(charts)),
        section("Figures", _figures(comparison)),
        section("Config", _differences(comparison)),
    ]
    title = " / ".join(run.id for run in comparison.runs)
    return document(title, sections, charts, css=resource("compare.css"))


def _header(comparison: Comparison) -> str:
    same, count = comparison.same_results, len(comparison.runs)
    return (
        f'<header><p class="kicker">ticklake compare</p><h1>{count} run{"s" * (count != 1)}</h1>'
        f'<p class="verdict {"ok" if same else ""}">{comparison.verdict}</p></header>'
    )


def _label(comparison: Comparison, index: int) -> str:
    return f'<span class="run run-{index % _COLOURS}">{comparison.labels[index]}</span>'


def _runs(comparison: Comparison) -> str:
    rows = (
        (
            _label(comparison, index),
            escape(run.id),
            escape(", ".join(str(path).rpartition(":")[2] for path in run.summary["strategies"])),
            escape(f"{run.summary['window']['start']} to {run.summary['window']['end']}"),
            f"<code>{escape(digest[:12]) or '–'}</code>",
        )
        for index, (run, digest) in enumerate(zip(comparison.runs, comparison.digests, strict=True))
    )
    return _table("runs", ["", "run", "strategies", "window (UTC)", "results digest"], rows)


def _figures(comparison: Comparison) -> str:
    heads = ["figure", *(_label(comparison, index) for index in range(len(comparison.runs)))]
    rows = ([escape(figure.name), *_cells(figure)] for figure in comparison.figures)
    note = (
        '<p class="note">Below a value: how it differs from that of the first run, percentages in percentage '
        "points (pp).</p>"
    )
    return _table("figures", heads, rows, numbers=True) + note * (len(comparison.runs) > 1)


def _cells(figure: Figure) -> Iterator[str]:
    for text, change in zip(figure.texts, figure.changes, strict=True):
        yield escape(text) + (f"<br><small>{escape(change)}</small>" if change else "")


def _differences(comparison: Comparison) -> str:
    if not comparison.differences:
        return '<p class="note">The configs are the same.</p>'
    heads = ["key", *(_label(comparison, index) for index in range(len(comparison.runs)))]
    rows = ([escape(each.key), *map(escape, each.texts)] for each in comparison.differences)
    note = '<p class="note">Keys whose values differ. A dash: the config does not have the key.</p>'
    return _table("config keys that differ", heads, rows) + note


def _table(name: str, heads: Sequence[str], rows: Iterator[Sequence[str]], *, numbers: bool = False) -> str:
    """Return a table whose heads and cells are HTML; the first cell of a row is its head."""
    mark = ' class="n"' if numbers else ""
    first, *others = heads
    top = f"<th>{first or 'label'}</th>" + "".join(f"<th{mark}>{head}</th>" for head in others)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td{mark}>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _overlays(comparison: Comparison) -> Iterator[Chart]:
    """Return a chart for each currency, with a line for each run."""
    axis = _Axis.of(comparison.runs)
    curves = [total_equity(run.equity) for run in comparison.runs]
    for code in dict.fromkeys(code for each in curves for code in each):
        found = {index: each[code] for index, each in enumerate(curves) if each.get(code)}
        starts = {curve[0][1] for curve in found.values()}
        # Curves that begin at different heights are compared by what they made.
        base = {index: 0.0 if len(starts) == 1 else float(curve[0][1]) for index, curve in found.items()}
        lines, falls = [], []
        for index, curve in found.items():
            times, values = [nanos for nanos, _ in curve], [float(value) for _, value in curve]
            drops = _drawdown(values)
            lines.append(
                _line(
                    comparison,
                    index,
                    axis,
                    times,
                    [value - base[index] for value in values],
                    f"%{{y:,.2f}} {escape(code)}",
                )
            )
            falls.append(_line(comparison, index, axis, times, drops, "%{y:.4f} %", axis="y2"))
        what = "equity" if len(starts) == 1 else "change of equity"
        note = (
            "" if len(starts) == 1 else "The runs begin with different balances: the change since is shown. "
        )
        yield Chart(
            f"{what.capitalize()} and drawdown in {code}",
            (note + axis.note).strip(),
            _HEIGHT,
            lines + falls,
            {
                "hovermode": "x unified",
                "xaxis": {**axis.layout, "anchor": "y2"},
                "yaxis": {"domain": [0.36, 1], "title": {"text": escape(code)}, "tickformat": ",.6~f"},
                "yaxis2": {"domain": [0, 0.28], "title": {"text": "drawdown %"}, "rangemode": "tozero"},
            },
        )


def _line(
    comparison: Comparison,
    index: int,
    x: _Axis,
    times: list[int],
    values: list[float],
    hover: str,
    *,
    axis: str = "y",
) -> dict[str, Any]:
    kept = extremes(values, _MOST_POINTS)
    label, digest = comparison.labels[index], comparison.digests[index]
    # A run of the same results would hide the earlier one's line.
    repeats = comparison.digests[:index].count(digest) if digest else 0
    return {
        "type": "scatter",
        "mode": "lines",
        "name": label,
        "legendgroup": label,
        "showlegend": axis == "y",
        "x": [x.at(index, times[at]) for at in kept],
        "y": [values[at] for at in kept],
        "yaxis": axis,
        "line": {
            "color": f"--run-{index % _COLOURS}",
            "width": 1.6,
            "dash": _DASHES[(index // _COLOURS + repeats) % len(_DASHES)],
        },
        "hovertemplate": f"{label} {hover}<extra></extra>",
    }


def _drawdown(values: Sequence[float]) -> list[float]:
    """Return how far each value lies below the highest so far, in percent of that (0 or negative)."""
    peak, falls = values[0], []
    for value in values:
        peak = max(peak, value)
        falls.append((value - peak) / peak * 100 if peak > 0 else 0.0)
    return falls


_UNITS = (("minutes", 60, 7_200), ("hours", 3_600, 345_600), ("days", 86_400, None))


@dataclass(frozen=True, slots=True)
class _Axis:
    """The x axis: time, or, where the runs have no time in common, time since the start of each window."""

    windows: tuple[Window, ...]
    elapsed: bool

    @classmethod
    def of(cls, runs: Sequence[Compared]) -> _Axis:
        windows = tuple(
            Window.parse(run.summary["window"]["start"], run.summary["window"]["end"]) for run in runs
        )
        return cls(windows, max(each.start for each in windows) >= min(each.end for each in windows))

    @property
    def _unit(self) -> tuple[str, int]:
        longest = max(each.end - each.start for each in self.windows) / 10**9
        return next((name, size) for name, size, most in _UNITS if most is None or longest <= most)

    @property
    def note(self) -> str:
        return "The windows have no time in common: all curves begin at 0." if self.elapsed else ""

    @property
    def layout(self) -> dict[str, Any]:
        if not self.elapsed:
            first, last = min(each.start for each in self.windows), max(each.end for each in self.windows)
            return {"range": [iso_time(first), iso_time(last)]}
        name, size = self._unit
        longest = max(each.end - each.start for each in self.windows)
        title = {"text": f"{name} since the start of the window"}
        return {"type": "linear", "range": [0, longest / size / 10**9], "title": title}

    def at(self, index: int, nanos: int) -> str | float:
        if not self.elapsed:
            return iso_time(nanos)
        return round((nanos - self.windows[index].start) / self._unit[1] / 10**9, 9)
