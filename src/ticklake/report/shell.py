"""What every page has around it: one HTML file that holds all it shows and asks nothing of the network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

__all__ = ["page", "resource", "section"]

# Besides being self-contained, the page may not reach out: plotly.js knows addresses of map tiles.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)


def page(title: str, sections: Iterable[str], *, charts: Sequence[dict[str, Any]] = (), css: str = "") -> str:
    """Return a page.

    Args:
        title: Of the window; text.
        sections: What stands in it, as HTML.
        charts: Plotly specifications (`data`, `layout`), drawn in the elements `data-chart="0"` and so on.
        css: A style sheet on top of that of all pages.
    """
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)} · ticklake</title>",
            f"<style>{resource('page.css')}{css}</style></head><body><main>",
            *sections,
            "</main>",
            *(_drawing(charts) if charts else ()),
            "</body></html>",
        ]
    )


def _drawing(charts: Sequence[dict[str, Any]]) -> Iterable[str]:
    # What `plotly.offline.get_plotlyjs` returns, whose import takes longer than all of the report.
    plotly = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    yield f'<script type="application/json" id="charts">{_json(charts)}</script>'
    yield f"<script>{plotly}</script><script>{resource('page.js')}</script>"


def resource(name: str) -> str:
    """Return a text file of this package."""
    return files("ticklake.report").joinpath(name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    # Inside a script element only `<` can end it or start a comment.
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def section(title: str, inner: str) -> str:
    """Return a section: its title is text, the rest HTML."""
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"
