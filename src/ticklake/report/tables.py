"""The tables of a report, as HTML; every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from html import escape
from typing import Any

import pyarrow as pa

from ticklake.report.model import iso_times, number

__all__ = ["ROWS", "data_table", "key_values", "rows_table"]

ROWS = 200


def data_table(table: pa.Table, columns: Sequence[str]) -> str:
    """Return the first rows of a result table.

    Args:
        table: The whole table.
        columns: Which columns, in order.
    """
    head = table.select(list(columns)).slice(0, ROWS)
    cells = [_texts(head[name]) for name in columns]
    numeric = [
        pa.types.is_decimal(kind) or pa.types.is_floating(kind) for kind in (head[n].type for n in columns)
    ]
    return rows_table([name.replace("_", " ") for name in columns], zip(*cells, strict=True), numeric)


def rows_table(
    names: Iterable[str],
    rows: Iterable[Sequence[str]],
    numeric: Sequence[bool] = (),
    *,
    label: str = "table",
) -> str:
    """Return a table of texts.

    Args:
        names: The column heads.
        rows: The cells.
        numeric: Which columns are numbers, aligned to the right.
        label: What it is called by who reads the page aloud.
    """
    kinds = [' class="n"' if flag else "" for flag in numeric]

    def line(cells: Iterable[str], tag: str) -> str:
        marks = kinds or [""] * 1_000
        inner = "".join(
            f"<{tag}{mark}>{escape(text)}</{tag}>" for text, mark in zip(cells, marks, strict=False)
        )
        return f"<tr>{inner}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table>'
        f"<thead>{line(names, 'th')}</thead><tbody>{body}</tbody></table></div>"
    )


def key_values(values: Mapping[str, Any]) -> str:
    """Return a nested mapping as a table of dotted keys and values."""
    return rows_table(["key", "value"], _flat(values))


def _flat(value: object, prefix: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple) and value:
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}[{index}]")
    else:
        yield prefix, "–" if value is None or value in ({}, [], ()) else str(value)


def _texts(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_timestamp(column.type):
        return [text or "–" for text in iso_times(column)]
    return [_text(value) for value in column.to_pylist()]


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal | float | int):
        return number(value)
    return str(value)
