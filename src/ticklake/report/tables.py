"""The tables of a report, as HTML and as what the page's script searches; every value is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Any

import pyarrow as pa

from ticklake.report.model import count, iso_times, number

__all__ = ["MOST_ROWS", "data_table", "key_values", "rows_table"]

# What a page can hold, search and sort at once, and stay small; and what is shown of it at a time.
MOST_ROWS, _SHOWN_ROWS = 5_000, 50
_MOST_DECIMALS = 8
# Of averages, which would have any number of decimals.
_DIGITS = 8


def data_table(name: str, table: pa.Table, columns: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return a result table that can be searched and sorted, as HTML and as data of the page's script.

    The HTML has the first rows, so that they can be read without the script; the data have the first
    `MOST_ROWS`, column by column, a column that repeats itself as `[values, indices]`.

    Args:
        name: What it is a table of.
        table: The whole table.
        columns: Which columns, in order.
    """
    head = table.select(list(columns)).slice(0, MOST_ROWS)
    cells = [_texts(head[column], exact=not column.startswith("avg_")) for column in columns]
    numeric = [_is_number(head[column].type) for column in columns]
    label = escape(name)
    controls = (
        '<div class="controls">'
        f'<input type="search" aria-label="search {label}" placeholder="search {label}">'
        f'<span role="status">{count(len(head), label.removesuffix("s"))}</span></div>'
    )
    first = zip(*(column[:_SHOWN_ROWS] for column in cells), strict=True)
    html = rows_table([_heading(head[column].type, column) for column in columns], first, numeric, label=name)
    pages = (
        f'<div class="pages"><button type="button" data-step="-1" aria-label="previous {label}">←</button>'
        f'<span></span><button type="button" data-step="1" aria-label="next {label}">→</button></div>'
    )
    data = {"size": _SHOWN_ROWS, "numeric": numeric, "columns": [_packed(column) for column in cells]}
    return f'<div data-table="{label}">{controls}{html}{pages}</div>', data


def _heading(kind: pa.DataType, column: str) -> str:
    return column.replace("_", " ") + (" (UTC)" if pa.types.is_timestamp(kind) else "")


def _packed(values: list[str]) -> list[Any]:
    distinct = {value: index for index, value in enumerate(dict.fromkeys(values))}
    if len(distinct) * 2 > len(values):
        return values
    return [list(distinct), [distinct[value] for value in values]]


def rows_table(
    names: Iterable[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool] = (), *, label: str = "table"
) -> str:
    """Return a table of texts.

    Args:
        names: The column heads.
        rows: The cells.
        numeric: For each column whether it holds numbers, aligned to the right; by default none does.
        label: What it is a table of, for those who do not see it.
    """
    heads = list(names)
    marks = [' class="n"' if flag else "" for flag in numeric or [False] * len(heads)]

    def line(cells: Iterable[str], tag: str, more: str = "") -> str:
        inner = "".join(
            f"<{tag}{mark}{more}>{escape(text)}</{tag}>" for text, mark in zip(cells, marks, strict=True)
        )
        return f"<tr>{inner}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<thead>{line(heads, 'th', ' scope="col"')}</thead><tbody>{body}</tbody></table></div>"
    )


def key_values(values: Mapping[str, Any], *, label: str = "values") -> str:
    """Return a nested mapping as a table of dotted keys and values."""
    return rows_table(["key", "value"], _flat(values), label=label)


def _flat(value: object, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and value:
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}[{index}]")
    else:
        yield prefix, "–" if value is None or value in ({}, [], ()) else _plain(value)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_floating(kind))


def _texts(column: pa.ChunkedArray, *, exact: bool = True) -> list[str]:
    if pa.types.is_timestamp(column.type):
        return [text or "–" for text in iso_times(column)]
    if _is_number(column.type):
        values = column.to_pylist()
        return _aligned(values, _MOST_DECIMALS if exact else _decimals(values))
    return [_text(value) for value in column.to_pylist()]


def _decimals(values: Sequence[Decimal | float | None]) -> int:
    """Return how many decimals averages are shown with: eight digits of the smallest one."""
    least = min((abs(float(value)) for value in values if value), default=1.0)
    return max(0, min(_MOST_DECIMALS, _DIGITS - 1 - math.floor(math.log10(least))))


def _aligned(values: Sequence[Decimal | float | None], most: int) -> list[str]:
    """Return numbers with as many decimals as the one that needs most, so that they can be compared."""
    texts = [number(value, digits=most) for value in values]
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [
        text
        if value is None
        else text + ("" if "." in text or not decimals else ".") + "0" * _lack(text, decimals)
        for value, text in zip(values, texts, strict=True)
    ]


def _lack(text: str, decimals: int) -> int:
    return decimals - len(text.partition(".")[2])


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return number(value)
    return str(value)
