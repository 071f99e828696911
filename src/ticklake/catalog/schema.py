"""The Arrow schemas of a NautilusTrader 2.x catalog, as the installed engine writes them.

The tests compare these, field by field and with their metadata, to files of the engine's own writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

from ticklake.types import CatalogType, InstrumentSpec

__all__ = [
    "DECIMAL",
    "DECIMAL_SCALE",
    "ENUM",
    "LEVEL",
    "LEVELS",
    "PRICE_MAX",
    "SIZE_MAX",
    "TIMESTAMP",
    "schema",
]

DECIMAL_SCALE = 16
"""Decimal places of every price and size in a catalog; the instrument's own precision is in the metadata."""

PRICE_MAX = 17_014_118_346_046
"""Largest magnitude of an engine `Price`."""

SIZE_MAX = 34_028_236_692_093
"""Largest engine `Quantity`."""

DECIMAL = pa.decimal128(38, DECIMAL_SCALE)
ENUM = pa.dictionary(pa.int8(), pa.string())
TIMESTAMP = pa.timestamp("ns", tz="UTC")
LEVEL = pa.struct(
    [
        pa.field("price", DECIMAL, nullable=False),
        pa.field("size", DECIMAL, nullable=False),
        pa.field("count", pa.uint32(), nullable=False),
        pa.field("order_id", pa.uint64(), nullable=False),
    ]
)
LEVELS = pa.list_(pa.field("item", LEVEL, nullable=False))

_TIMES = (
    pa.field("ts_event", TIMESTAMP, nullable=False),
    pa.field("ts_init", TIMESTAMP, nullable=False),
)

_FIELDS: Mapping[CatalogType, tuple[pa.Field, ...]] = MappingProxyType(
    {
        CatalogType.TRADES: (
            pa.field("price", DECIMAL, nullable=False),
            pa.field("size", DECIMAL, nullable=False),
            pa.field("aggressor_side", ENUM, nullable=False),
            pa.field("trade_id", pa.string(), nullable=False),
            *_TIMES,
        ),
        CatalogType.DELTAS: (
            pa.field("action", ENUM, nullable=False),
            pa.field("side", ENUM, nullable=False),
            pa.field("price", DECIMAL),
            pa.field("size", DECIMAL),
            pa.field("order_id", pa.uint64(), nullable=False),
            pa.field("flags", pa.uint8(), nullable=False),
            pa.field("sequence", pa.uint64(), nullable=False),
            *_TIMES,
        ),
        CatalogType.DEPTHS: (
            pa.field("bids", LEVELS, nullable=False),
            pa.field("asks", LEVELS, nullable=False),
            pa.field("flags", pa.uint8(), nullable=False),
            pa.field("sequence", pa.uint64(), nullable=False),
            *_TIMES,
        ),
    }
)

_TYPE_NAMES: Mapping[CatalogType, str] = MappingProxyType(
    {
        CatalogType.TRADES: "TradeTick",
        CatalogType.DELTAS: "OrderBookDelta",
        CatalogType.DEPTHS: "OrderBookDepth",
    }
)


def schema(catalog_type: CatalogType, spec: InstrumentSpec) -> pa.Schema:
    """Return the schema, with its metadata, of an instrument's catalog files.

    Args:
        catalog_type: Which folder of the catalog.
        spec: The instrument; its id and precisions become the metadata that the engine reads rows with.
    """
    return pa.schema(
        _FIELDS[catalog_type],
        metadata={
            "instrument_id": spec.nautilus_id,
            "price_precision": str(spec.price_precision),
            "size_precision": str(spec.size_precision),
            "type_name": _TYPE_NAMES[catalog_type],
        },
    )
