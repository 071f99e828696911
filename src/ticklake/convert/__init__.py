"""Source rows to rows of a NautilusTrader catalog, Arrow to Arrow."""

from ticklake.convert.converter import Conversion, Converter, convert
from ticklake.convert.dialects import BookDialect, Dialect, TradesDialect, nanos, nanos_per_unit, recognise
from ticklake.convert.order import Orderer
from ticklake.convert.quality import ConversionCounts, Note, Reason

__all__ = [
    "BookDialect",
    "Conversion",
    "ConversionCounts",
    "Converter",
    "Dialect",
    "Note",
    "Orderer",
    "Reason",
    "TradesDialect",
    "convert",
    "nanos",
    "nanos_per_unit",
    "recognise",
]
