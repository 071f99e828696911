"""The object-store side: stores by URL, layouts, plans of reads, and readers of row groups.

The names below are imported when they are first used: few need all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake.lazily import lazily
from ticklake.types import ByteRange

if TYPE_CHECKING:
    from ticklake.lake.lake import Lake, Scan
    from ticklake.lake.layout import Layout, TickFile
    from ticklake.lake.objects import SourceObject
    from ticklake.lake.reader import SourceBatch
    from ticklake.lake.scan import ObjectPlan, RowGroupPlan, ScanPlan
    from ticklake.lake.store import Store
    from ticklake.lake.table import ParquetObject
    from ticklake.lake.transfer import Transfer
    from ticklake.lake.url import StoreUrl

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

__getattr__ = lazily(
    __name__,
    {
        "Lake": "lake",
        "Layout": "layout",
        "ObjectPlan": "scan",
        "ParquetObject": "table",
        "RowGroupPlan": "scan",
        "Scan": "lake",
        "ScanPlan": "scan",
        "SourceBatch": "reader",
        "SourceObject": "objects",
        "Store": "store",
        "StoreUrl": "url",
        "TickFile": "layout",
        "Transfer": "transfer",
    },
)
