"""Catalogs of NautilusTrader 1.x (1.231): converted from and to ours, file by file, without that engine."""

from ticklake.v1.convert import ConvertedFile, ConvertReport, convert_catalog, publish

__all__ = ["ConvertReport", "ConvertedFile", "convert_catalog", "publish"]
