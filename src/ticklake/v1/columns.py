"""The columns of catalog files in both versions of the engine, Arrow to Arrow. Pure.

What was learnt of 1.231.0, and is tested with it: prices and sizes are the same 16 bytes, which it calls
binary and 2.x a decimal; sides and actions are numbers; times are unsigned. Definitions have nearly the same
columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ticklake.catalog.schema import DECIMAL, TIMESTAMP, schema
from ticklake.errors import CatalogError
from ticklake.types import CatalogType, InstrumentSpec

__all__ = ["DEFINITIONS", "TICKS", "Version", "other", "target_schema", "to_version", "version_of"]

type Version = Literal["v1", "v2"]

TICKS: Mapping[CatalogType, tuple[str, ...]] = {
    CatalogType.TRADES: ("trade_tick",),
    # Earlier 1.x wrote the second.
    CatalogType.DELTAS: ("order_book_deltas", "order_book_delta"),
}
"""Folders of 1.x by those of 2.x; the first is what is written."""

DEFINITIONS = ("crypto_perpetual", "currency_pair")
"""Folders of instrument definitions, the same in both."""

_RAW = pa.binary(16)
_ENUMS: Mapping[str, tuple[str | None, ...]] = {
    "aggressor_side": ("NO_AGGRESSOR", "BUY", "SELL"),
    "side": ("NO_ORDER_SIDE", "BUY", "SELL"),
    "action": (None, "ADD", "UPDATE", "DELETE", "CLEAR"),
}
"""Names of 2.x by the numbers of 1.x."""

_FEES = ("maker_fee", "taker_fee")
_CLASSES = {"crypto_perpetual": "CryptoPerpetual", "currency_pair": "CurrencyPair"}
_TEXTS = ("base_currency", "quote_currency", "settlement_currency")
_NUMBERS = ("price_increment", "size_increment", "multiplier", "lot_size", "max_quantity", "min_quantity")
_LIMITS = ("max_notional", "min_notional", "max_price", "min_price")
_OPTIONAL = {"lot_size", "max_quantity", "min_quantity", *_LIMITS}


@dataclass(frozen=True, slots=True)
class _Definition:
    """The columns of a type of definition."""

    folder: str

    def schema(self, version: Version, nautilus_id: str) -> pa.Schema:
        names = _TEXTS if self.folder == "crypto_perpetual" else _TEXTS[:2]
        perpetual = [("is_inverse", pa.bool_())] if self.folder == "crypto_perpetual" else []
        precisions = [("price_precision", pa.uint8()), ("size_precision", pa.uint8())]
        margins = [("margin_init", pa.string()), ("margin_maint", pa.string())]
        if version == "v1":
            code = pa.dictionary(pa.int16(), pa.string())
            return pa.schema(
                [
                    ("id", pa.dictionary(pa.int64(), pa.string())),
                    ("raw_symbol", pa.string()),
                    *((name, code) for name in names),
                    *perpetual,
                    *precisions,
                    *((name, code) for name in (*_NUMBERS, *_LIMITS)),
                    *margins,
                    *((name, pa.string()) for name in _FEES),
                    ("info", pa.binary()),
                    ("ts_event", pa.uint64()),
                    ("ts_init", pa.uint64()),
                ],
                metadata={"class": _CLASSES[self.folder]},
            )
        fields = [
            ("id", pa.string()),
            ("raw_symbol", pa.string()),
            *((name, pa.string()) for name in names),
            *perpetual,
            *precisions,
            *((name, pa.string()) for name in (*_NUMBERS, *_LIMITS)),
            *margins,
            ("tick_scheme", pa.string()),
            ("info", pa.json_(pa.string())),
            ("ts_event", TIMESTAMP),
            ("ts_init", TIMESTAMP),
        ]
        optional = _OPTIONAL | {"tick_scheme", "info"}
        return pa.schema(
            [pa.field(name, kind, nullable=name in optional) for name, kind in fields],
            metadata={"instrument_id": nautilus_id, "type_name": _CLASSES[self.folder]},
        )


def other(version: Version) -> Version:
    """Return the other version."""
    return "v2" if version == "v1" else "v1"


def version_of(folder: str, found: pa.Schema) -> Version | None:
    """Return of which version a file is by its columns, or None where it is of neither.

    Args:
        folder: The 2.x folder of its kind.
        found: Its columns.
    """
    names = set(found.names)
    if folder in DEFINITIONS:
        if not {"id", "info", "ts_init", "price_increment"} <= names:
            return None
        return "v1" if set(_FEES) <= names else "v2" if "tick_scheme" in names else None
    if not {"price", "size", "ts_event", "ts_init"} <= names:
        return None
    kind = found.field("price").type
    return "v1" if pa.types.is_fixed_size_binary(kind) else "v2" if kind == DECIMAL else None


def target_schema(folder: str, to: Version, metadata: Mapping[bytes, bytes], nautilus_id: str) -> pa.Schema:
    """Return the columns of a file in a version.

    Args:
        folder: The 2.x folder of its kind.
        to: The version.
        metadata: What the file's columns say of the instrument, in either version.
        nautilus_id: The instrument, for definitions.

    Raises:
        CatalogError: They do not say its id and precisions.
    """
    if folder in DEFINITIONS:
        return _Definition(folder).schema(to, nautilus_id)
    try:
        spec = InstrumentSpec(
            metadata[b"instrument_id"].decode(),
            int(metadata[b"price_precision"]),
            int(metadata[b"size_precision"]),
        )
    except (KeyError, ValueError) as exc:
        raise CatalogError(f"the columns do not say the instrument's id and precisions: {exc!r}") from exc
    ours = schema(CatalogType(folder), spec)
    if to == "v2":
        return ours
    kept = ("instrument_id", "price_precision", "size_precision")
    return pa.schema(
        [pa.field(field.name, _old_type(field), nullable=False) for field in ours],
        metadata={name: ours.metadata[name.encode()] for name in kept},
    )


def _old_type(field: pa.Field) -> pa.DataType:
    if field.type == DECIMAL:
        return _RAW
    if field.type == TIMESTAMP:
        return pa.uint64()
    return pa.uint8() if field.name in _ENUMS else field.type


def to_version(folder: str, rows: pa.Table, target: pa.Schema) -> pa.Table:
    """Return rows of a file in the columns of the other version.

    Args:
        folder: The 2.x folder of their kind.
        rows: Of the one version.
        target: Columns of the other; see `target_schema`.

    Raises:
        CatalogError: A value has no equivalent.
    """
    try:
        if folder in DEFINITIONS:
            return _definitions(rows, target)
        columns = [_column(field, rows[field.name].combine_chunks()) for field in target]
        return pa.Table.from_arrays(columns, schema=target)
    except (pa.ArrowException, KeyError, ValueError) as exc:
        raise CatalogError(f"the rows have no equivalent: {exc}") from exc


def _column(field: pa.Field, found: pa.Array) -> pa.Array:
    if field.name in _ENUMS:
        return _enum(field, found)
    if field.type == _RAW:
        return _same_bytes(_raw_of_decimals(found), _RAW)
    if field.type == DECIMAL:
        return _same_bytes(found, DECIMAL)
    if field.type == TIMESTAMP:
        return found.cast(pa.int64()).cast(TIMESTAMP)
    return (
        found.cast(pa.int64()).cast(field.type)
        if pa.types.is_timestamp(found.type)
        else found.cast(field.type)
    )


def _raw_of_decimals(found: pa.Array) -> pa.Array:
    if found.null_count:  # of a delta that clears the book
        return pc.fill_null(found, pa.scalar(0, DECIMAL))
    return found


def _same_bytes(found: pa.Array, kind: pa.DataType) -> pa.Array:
    if found.type not in (_RAW, DECIMAL):
        raise ValueError(f"prices and sizes are {found.type}; only those of 128 bits are known")
    if found.null_count:
        raise ValueError("a price or a size is missing")
    made = pa.Array.from_buffers(kind, len(found), [None, found.buffers()[1]], offset=found.offset)
    made.validate(full=True)  # what 1.x calls undefined is no decimal
    return made


def _enum(field: pa.Field, found: pa.Array) -> pa.Array:
    names = _ENUMS[field.name]
    if field.type == pa.uint8():
        texts = found.cast(pa.string())
        numbers = pc.index_in(texts, pa.array(names, pa.string()))
        if numbers.null_count:
            raise ValueError(f"{field.name} has values other than {', '.join(filter(None, names))}")
        return numbers.cast(pa.uint8())
    texts = pa.array(names, pa.string()).take(found)
    if texts.null_count:
        raise ValueError(f"{field.name} has numbers that no name is known of")
    return texts.cast(field.type)


def _definitions(rows: pa.Table, target: pa.Schema) -> pa.Table:
    old = "tick_scheme" not in target.names
    made = [_old_definition(row) if old else _new_definition(row) for row in _plain(rows)]
    arrays = []
    for field in target:
        values = [row[field.name] for row in made]
        if field.type == TIMESTAMP:
            arrays.append(pa.array(values, pa.int64()).cast(TIMESTAMP))
        elif field.name == "info" and not old:
            arrays.append(pa.ExtensionArray.from_storage(field.type, pa.array(values, pa.string())))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=target)


def _plain(rows: pa.Table) -> list[dict[str, Any]]:
    """Return definitions with times as numbers and `info` as values."""
    columns = {
        name: rows[name].cast(pa.int64()) if name.startswith("ts_") else rows[name]
        for name in rows.column_names
    }
    found: list[dict[str, Any]] = pa.table(columns).to_pylist()
    for row in found:
        row["info"] = json.loads(row["info"] or "null")
    return found


def _old_definition(row: dict[str, Any]) -> dict[str, Any]:
    if row["tick_scheme"] is not None:
        raise ValueError(f"tick_scheme {row['tick_scheme']} of {row['id']} has no place in 1.x files")
    info = row["info"] or {}
    # Where `_new_definition` keeps them.
    fees = {name: str(info.pop(name, "0")) for name in _FEES}
    return row | fees | {"info": _json(info or None)}


def _new_definition(row: dict[str, Any]) -> dict[str, Any]:
    # 2.x has no fees in a definition; those that there are stay in its info.
    fees = {name: row[name] for name in _FEES if float(row[name] or 0)}
    info = (row["info"] or {}) | fees
    return row | {"tick_scheme": None, "info": _json(info).decode() if info else None}


def _json(info: dict[str, Any] | None) -> bytes:
    return json.dumps(info, separators=(",", ":"), ensure_ascii=False).encode()
