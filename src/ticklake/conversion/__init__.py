"""Source rows to rows of a NautilusTrader catalog, Arrow to Arrow."""

from ticklake.conversion.converter import Conversion, Converter, convert
from ticklake.conversion.dialects import BookDialect, Dialect, TradesDialect, nanos, nanos_per_unit, recognise
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
