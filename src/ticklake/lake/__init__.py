"""The object-store side: stores by URL, layouts, plans of reads, and readers of row groups."""

from ticklake.lake.lake import Lake, Scan
from ticklake.lake.layout import Layout, TickFile
from ticklake.lake.objects import SourceObject
from ticklake.lake.reader import SourceBatch
from ticklake.lake.scan import ObjectPlan, RowGroupPlan, ScanPlan
from ticklake.lake.store import Store
from ticklake.lake.table import ParquetObject
from ticklake.lake.transfer import Transfer
from ticklake.lake.url import StoreUrl
from ticklake.types import ByteRange

__all__ = [
    "ByteRange",
    "Lake",
    "Layout",
    "ObjectPlan",
    "ParquetObject",
    "RowGroupPlan",
    "Scan",
    "ScanPlan",
    "SourceBatch",
    "SourceObject",
    "Store",
    "StoreUrl",
    "TickFile",
    "Transfer",
]
