"""Objects of a store as values: versions, and what a plan knows of a source file.

Pure: knows nothing of stores.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

__all__ = ["ObjectVersion", "SourceObject"]


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object.

    Attributes:
        url: Its URL, without credentials.
        etag: The store's name of the version; None where the store has none.
        size: Bytes.
        last_modified: When it was written, as far as the store tells.
    """

    url: str
    etag: str | None
    size: int
    last_modified: dt.datetime

    def same_as(self, other: ObjectVersion) -> bool:
        """Whether both are one version: by ETag and size, without ETags by time and size."""
        if self.etag is None or other.etag is None:
            return (self.etag, self.size, self.last_modified) == (other.etag, other.size, other.last_modified)
        return (self.etag, self.size) == (other.etag, other.size)


@dataclass(frozen=True, slots=True)
class SourceObject:
    """The version of a source file that rows come from.

    Attributes:
        url: Its URL, without credentials.
        etag: The store's name of the version; None where the store has none.
        size: Bytes.
        rows: Rows in the whole file.
        last_modified: When it was written, as far as the store tells.
    """

    url: str
    etag: str | None
    size: int
    rows: int
    last_modified: dt.datetime
