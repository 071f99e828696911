"""A page that holds everything it shows and asks nothing of the network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from ticklake.report.chart import Chart

__all__ = ["chart_section", "details", "document", "resource", "section"]

# Besides being self-contained, the page may not reach out: plotly.js knows addresses of map tiles.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)


def document(
    title: str,
    parts: Iterable[str],
    charts: Sequence[Chart] = (),
    tables: Mapping[str, Any] | None = None,
    *,
    css: str = "",
) -> bytes:
    """Return a page as HTML, encoded in UTF-8.

    Args:
        title: Of the window; text.
        parts: The page's content, HTML.
        charts: What is drawn where `chart_section` left room for it, by number.
        tables: What the page's script searches and sorts, see `tables.data_table`, by name.
        css: A style sheet on top of that of all pages.
    """
    page = "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)} · ticklake</title>",
            f"<style>{resource('page.css')}{css}</style></head><body><main>",
            *parts,
            "</main>",
        ]
    )
    script = _script(charts, tables or {}) if charts or tables else b""
    return b"".join([page.encode(), script, b"\n</body></html>"])


def _script(charts: Sequence[Chart], tables: Mapping[str, Any]) -> bytes:
    data = {"charts": [chart.spec() for chart in charts], "tables": tables}
    # What `plotly.offline.get_plotlyjs` returns, whose import takes longer than all of the report. It is as
    # bytes what it is as text, and only takes longer to decode and to encode than to write.
    plotly = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    before = f'\n<script type="application/json" id="page-data">{_json(data)}</script>\n<script>'
    after = f"</script><script>{resource('page.js')}</script>"
    return b"".join([before.encode(), plotly, after.encode()])


def resource(name: str) -> str:
    """Return a text file of this package."""
    return files("ticklake.report").joinpath(name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    # Inside a script element only `<` can end it or start a comment.
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def section(title: str, inner: str, *, anchor: str = "", kind: str = "") -> str:
    """Return a section with a heading.

    Args:
        title: The heading.
        inner: Its content, HTML.
        anchor: Its id, for links within the page.
        kind: Its class.
    """
    marks = (f' id="{anchor}"' if anchor else "") + (f' class="{kind}"' if kind else "")
    return f"<section{marks}><h2>{escape(title)}</h2>{inner}</section>"


def details(summary: str, inner: str, *, shown: bool = False) -> str:
    """Return something that unfolds."""
    return f"<details{' open' if shown else ''}><summary>{escape(summary)}</summary>{inner}</details>"


def chart_section(number: int, chart: Chart) -> str:
    """Return a section with room for a chart of the page."""
    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    room = (
        f'<div class="chart" data-chart="{number}" role="group" aria-label="{escape(chart.title)}" '
        f'style="height:{chart.height}px"></div>'
    )
    return section(chart.title, room + note, anchor=f"chart-{number}", kind="narrow" if chart.narrow else "")
