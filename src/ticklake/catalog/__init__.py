"""The NautilusTrader catalog that ticklake writes, which is also its cache."""

from ticklake.catalog.cache import Catalog, CatalogFile, Coverage
from ticklake.catalog.provenance import Provenance, Source, read_provenance
from ticklake.catalog.schema import schema
from ticklake.catalog.writer import CatalogWriter

__all__ = [
    "Catalog",
    "CatalogFile",
    "CatalogWriter",
    "Coverage",
    "Provenance",
    "Source",
    "read_provenance",
    "schema",
]
