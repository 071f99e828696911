"""The NautilusTrader catalog that ticklake writes, which is also its cache."""

from ticklake.catalog.cache import Catalog, CatalogFile, Coverage
from ticklake.catalog.integrity import FileCheck, VerifyReport, check_open, verify
from ticklake.catalog.provenance import Provenance, Source, read_provenance
from ticklake.catalog.schema import schema
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
