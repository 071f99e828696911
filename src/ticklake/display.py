"""How values show to people: in a terminal, and in a notebook as small HTML tables without scripts.

In a notebook everything is escaped, and nothing sets a background or a text colour, so that light and dark
themes are both right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = ["card", "counted", "format_bytes", "format_signed", "refused", "table"]

_LINE = "border:0;border-bottom:1px solid rgba(128,128,128,.35);padding:.2em .9em .2em 0;background:none"

# Longer than an identifier or a time: such text may be broken into lines.
_SHORT = 32


def format_bytes(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def counted(count: int, name: str) -> str:
    """Return a number of things, like `1 file` or `2,000 files`."""
    return f"{count:,} {name}{'s' * (count != 1)}"


def format_signed(value: float, form: str) -> str:
    """Return a number in a format, without a sign where there is neither gain nor loss."""
    return f"{value:{form if value else form.removeprefix('+')}}"


def refused(error: OSError) -> str:
    """Return for people what the operating system refused, and of which file; not the number of the error."""
    text = error.strerror or str(error)
    text = text[:1].lower() + text[1:]
    return text if error.filename is None else f"{text} ({error.filename})"


def card(title: str, facts: Mapping[str, object], *tables: str) -> str:
    """Return a value as HTML: its title, what is to be known of it, and tables that were made before.

    Args:
        title: What it is.
        facts: By name; those that are None are left out.
        tables: HTML of `table`.
    """
    rows = "".join(
        f'<tr><th style="{_LINE};text-align:left;font-weight:normal;opacity:.7">{escape(name)}</th>'
        f'<td style="{_LINE};text-align:left">{escape(_text(value))}</td></tr>'
        for name, value in facts.items()
        if value is not None
    )
    return (
        f'<div><div style="font-weight:600">{escape(title)}</div>'
        f'<table style="border-collapse:collapse;margin:.3em 0">{rows}</table>{"".join(tables)}</div>'
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, most: int = 20) -> str:
    """Return rows as an HTML table; numbers stand to the right.

    Args:
        columns: Their names.
        rows: Their values.
        most: So many rows are shown, and the number of those that are not.
    """
    shown = list(rows)
    head = "".join(
        f'<th style="{_LINE};text-align:left;font-weight:normal;opacity:.7">{escape(name)}</th>'
        for name in columns
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in shown[:most])
    left = len(shown) - most
    more = f'<div style="opacity:.7">and {left:,} more</div>' if left > 0 else ""
    return (
        f'<table style="border-collapse:collapse;margin:.3em 0"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{more}"
    )


def _cell(value: object) -> str:
    side, text = "right" if isinstance(value, int | float) else "left", _text(value)
    wrap = ";white-space:nowrap" if len(text) <= _SHORT else ""
    return f'<td style="{_LINE};text-align:{side}{wrap}">{escape(text)}</td>'


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
