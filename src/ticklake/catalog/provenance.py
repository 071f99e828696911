"""Where a catalog file comes from: one JSON document in the footer of each file that ticklake writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
        rows: Rows of the whole object.
    """

    url: str
    etag: str | None
    size: int
    rows: int


_QUARANTINED = "quarantined_"
_NOTE = "note_"


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the rows of one catalog file came about.

    It holds no time, so that equal sources make equal files; a file's own time tells when it was written.

    Attributes:
        lake_key: The lake's instrument key; empty where the rows do not come from a lake.
        data_type: The lake's data type; empty where it is not known.
        lake: Root URL of the lake that the rows come from; empty where it is not known.
        dialect: The declared column mapping as JSON; empty where the dialect was recognised.
        sources: The objects that rows were read from, in order; for a window without any, those whose footers
            prove it.
        counts: Rows by name. `rows` are those of this file. Of the source's rows, `read` are those in row
            groups that can hold rows of the window by their statistics, `written` those that became rows of
            this file, `quarantined_<reason>` those that could not, and `outside` the rest of `read`.
            `note_<kind>` are remarkable ones among the written.
        quarantine: Name of the file that keeps the quarantined rows; empty where there are none.
        converter: Version of ticklake that converted.
    """

    lake_key: str
    data_type: str
    lake: str = ""
    dialect: str = ""
    sources: tuple[Source, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    quarantine: str = ""
    converter: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", MappingProxyType(dict(self.counts)))

    @property
    def quarantined(self) -> Counter[str]:
        """Rows that could not be converted, by reason."""
        return self._named(_QUARANTINED)

    @property
    def notes(self) -> Counter[str]:
        """Remarkable rows among those written, by kind."""
        return self._named(_NOTE)

    def _named(self, prefix: str) -> Counter[str]:
        return Counter(
            {name.removeprefix(prefix): n for name, n in self.counts.items() if name.startswith(prefix)}
        )

    def with_counts(
        self, counts: Mapping[str, int], *, quarantined: Mapping[str, int], notes: Mapping[str, int]
    ) -> Self:
        """Return the same with counts of rows, those of quarantine by reason and of notes by kind."""
        of_reasons = {f"{_QUARANTINED}{reason}": n for reason, n in quarantined.items()}
        of_notes = {f"{_NOTE}{note}": n for note, n in notes.items()}
        return replace(self, counts={**counts, **of_reasons, **of_notes})

    @property
    def origin(self) -> Self:
        """The same without what differs from window to window: sources, counts and quarantine."""
        return replace(self, sources=(), counts={}, quarantine="")

    @classmethod
    def joined(cls, parts: Sequence[Self], quarantine: str) -> Self:
        """Return the provenance of a file that is made of others of one origin.

        Each source is named once and counts are summed. So `read` and `outside` count a row twice where two
        parts read the row group that it is in; `read = written + quarantined + outside` holds as it does of
        each part.

        Args:
            parts: Where the parts come from, in order of time.
            quarantine: Name of the file that keeps the quarantined rows of all of them.
        """
        counts: dict[str, int] = {}
        for part in parts:
            for name, count in part.counts.items():
                counts[name] = counts.get(name, 0) + count
        sources = dict.fromkeys(source for part in parts for source in part.sources)
        return replace(parts[0], sources=tuple(sources), counts=counts, quarantine=quarantine)

    def to_json(self) -> str:
        """Return the footer's text: compact, keys in order, so that equal provenance is equal text."""
        values = {
            "converter": self.converter,
            "counts": dict(self.counts),
            "data_type": self.data_type,
            "dialect": self.dialect,
            "lake": self.lake,
            "lake_key": self.lake_key,
            "quarantine": self.quarantine,
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
                lake=str(values.get("lake", "")),
                dialect=str(values.get("dialect", "")),
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
                quarantine=str(values.get("quarantine", "")),
                converter=str(values["converter"]),
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
