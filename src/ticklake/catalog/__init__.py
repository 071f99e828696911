"""The NautilusTrader catalog that ticklake writes, which is also its cache.

The names below are imported when they are first used: few who look into a catalog check or write it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake.catalog.schema import schema
from ticklake.lazily import lazily

if TYPE_CHECKING:
    from ticklake.catalog.cache import Catalog, CatalogFile, Coverage
    from ticklake.catalog.integrity import FileCheck, VerifyReport, check_open, verify
    from ticklake.catalog.provenance import Provenance, Source, read_provenance
    from ticklake.catalog.writer import CatalogWriter

__all__ = [
    "Catalog",
    "CatalogFile",
    "CatalogWriter",
    "Coverage",
    "FileCheck",
    "Provenance",
    "Source",
    "VerifyReport",
    "check_open",
    "read_provenance",
    "schema",
    "verify",
]

__getattr__ = lazily(
    __name__,
    {
        "Catalog": "cache",
        "CatalogFile": "cache",
        "CatalogWriter": "writer",
        "Coverage": "cache",
        "FileCheck": "integrity",
        "Provenance": "provenance",
        "Source": "provenance",
        "VerifyReport": "integrity",
        "check_open": "integrity",
        "read_provenance": "provenance",
        "verify": "integrity",
    },
)
