"""Where a catalog file comes from: one JSON document in the footer of each file that ticklake writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.errors import CatalogCorruptError

__all__ = ["FOOTER_KEY", "Provenance", "Source", "read_provenance"]

FOOTER_KEY = b"ticklake"


@dataclass(frozen=True, slots=True)
class Source:
    """One object of the lake that rows were read from.

    Attributes:
        url: Its URL, without credentials.
        etag: The version that was read, where the store names one.
        size: Its size in bytes.
        rows: Rows read from it, before any were dropped.
    """

    url: str
    etag: str | None
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the rows of one catalog file came about.

    Attributes:
        lake_key: The lake's instrument key.
        data_type: The lake's data type.
        sources: The objects read, in order; none for a window that is known to be empty.
        counts: Rows read, written, dropped and quarantined, by name.
        converter: Version of ticklake that converted.
        created: When, as ISO 8601 UTC.
    """

    lake_key: str
    data_type: str
    sources: tuple[Source, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    converter: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", MappingProxyType(dict(self.counts)))

    def to_json(self) -> str:
        """Return the footer's text: compact, keys in order, so that equal provenance is equal text."""
        values = {
            "converter": self.converter,
            "counts": dict(self.counts),
            "created": self.created,
            "data_type": self.data_type,
            "lake_key": self.lake_key,
            "sources": [asdict(source) for source in self.sources],
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what `to_json` wrote. Keys of later versions are ignored.

        Raises:
            ValueError: The text is not such a document.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(
                lake_key=str(values["lake_key"]),
                data_type=str(values["data_type"]),
                sources=tuple(
                    Source(
                        url=str(source["url"]),
                        etag=None if source["etag"] is None else str(source["etag"]),
                        size=int(source["size"]),
                        rows=int(source["rows"]),
                    )
                    for source in values["sources"]
                ),
                counts={str(name): int(count) for name, count in values["counts"].items()},
                converter=str(values["converter"]),
                created=str(values["created"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise ValueError(f"not a provenance document: {exc!r}") from exc


def read_provenance(path: str | Path) -> Provenance | None:
    """Return the provenance of a catalog file, or None where ticklake did not write it.

    Only the footer is read.

    Raises:
        FileNotFoundError: There is no such file.
        CatalogCorruptError: It is no Parquet file, or its provenance is broken.
    """
    return provenance_of(read_footer(path).metadata, path)


def read_footer(path: str | Path) -> pq.FileMetaData:
    """Return the Parquet footer of a catalog file.

    Raises:
        FileNotFoundError: There is no such file.
        CatalogCorruptError: It is no Parquet file.
    """
    try:
        return pq.read_metadata(path)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as exc:
        raise CatalogCorruptError(
            f"{path} is not a readable Parquet file: {exc}", hint="Remove it and fetch its window again."
        ) from exc


def provenance_of(metadata: Mapping[bytes, bytes] | None, path: str | Path) -> Provenance | None:
    """Return the provenance among a footer's key-value pairs, or None where there is none.

    Raises:
        CatalogCorruptError: It is broken.
    """
    text = (metadata or {}).get(FOOTER_KEY)
    if text is None:
        return None
    try:
        return Provenance.from_json(text)
    except ValueError as exc:
        raise CatalogCorruptError(
            f"{path} carries {exc}", hint="Remove it and fetch its window again."
        ) from exc
