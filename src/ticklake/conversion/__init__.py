"""Source rows to rows of a NautilusTrader catalog, Arrow to Arrow.

The names below are imported when they are first used: who finds all in the catalog converts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake.lazily import lazily

if TYPE_CHECKING:
    from ticklake.conversion.converter import Conversion, Converter, convert
    from ticklake.conversion.dialects import (
        BookDialect,
        Dialect,
        TradesDialect,
        nanos,
        nanos_per_unit,
        recognise,
    )
    from ticklake.conversion.order import Orderer
    from ticklake.conversion.quality import ConversionCounts, Note, Reason
    from ticklake.conversion.repeats import Repeats

__all__ = [
    "BookDialect",
    "Conversion",
    "ConversionCounts",
    "Converter",
    "Dialect",
    "Note",
    "Orderer",
    "Reason",
    "Repeats",
    "TradesDialect",
    "convert",
    "nanos",
    "nanos_per_unit",
    "recognise",
]

__getattr__ = lazily(
    __name__,
    {
        "BookDialect": "dialects",
        "Conversion": "converter",
        "ConversionCounts": "quality",
        "Converter": "converter",
        "Dialect": "dialects",
        "Note": "quality",
        "Orderer": "order",
        "Reason": "quality",
        "Repeats": "repeats",
        "TradesDialect": "dialects",
        "convert": "converter",
        "nanos": "dialects",
        "nanos_per_unit": "dialects",
        "recognise": "dialects",
    },
)
