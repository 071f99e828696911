"""The plain values of a fetch: what is asked, and what came of it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypedDict

from ticklake.config import DialectConfig, InstrumentDefinition, RunConfig, parse_definition
from ticklake.display import card, counted, format_bytes, table
from ticklake.errors import MissingDataError
from ticklake.types import (
    BookAs,
    CatalogType,
    DataType,
    InstrumentKey,
    Window,
    format_nanos,
)

__all__ = [
    "FetchProgress",
    "FetchReport",
    "FetchRequest",
    "FetchRules",
    "Keep",
    "ObjectProgress",
    "OnHole",
    "Piece",
    "WindowReport",
    "WindowStatus",
    "refuse_holes",
    "requests_of",
    "rules_of",
]


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One data type of one instrument over one window.

    Plain values are taken too: the texts of a key, a data type and `book_as`, a pair of times (in any form
    that `parse_nanos` takes) for the window, mappings for `definition` and `dialect`.

    Attributes:
        key: The lake's instrument key.
        data_type: What to read.
        window: Half-open, nanoseconds UTC on the `ts_init` axis.
        book_as: How book snapshots are kept; no meaning for trades.
        nautilus_id: The Nautilus id, where it shall differ from the live adapter's.
        definition: The instrument, where the lake's instrument list shall not be asked.
        dialect: Declared column mapping of the source files; None recognises a known dialect.

    Raises:
        TypeError: A value is of another kind.
        ValueError: A value is not valid.
        ConfigError: The definition or the dialect does not validate.
    """

    key: InstrumentKey
    data_type: DataType
    window: Window
    book_as: BookAs = BookAs.DELTAS
    nautilus_id: str | None = None
    definition: InstrumentDefinition | None = None
    dialect: DialectConfig | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.nautilus_id, str | None):
            raise TypeError(f"{self.nautilus_id!r} is not a Nautilus id; give its text (SYMBOL.VENUE)")
        values = {
            "key": InstrumentKey.of(self.key),
            "data_type": DataType.of(self.data_type),
            "window": Window.of(self.window),
            "book_as": BookAs(self.book_as),
            "definition": _definition(self.definition),
            "dialect": _dialect(self.dialect),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def catalog_type(self) -> CatalogType:
        """The folder of the catalog that the rows go to."""
        return CatalogType.of(self.data_type, self.book_as)


def _definition(
    definition: InstrumentDefinition | Mapping[str, Any] | None,
) -> InstrumentDefinition | None:
    if definition is None or isinstance(definition, InstrumentDefinition):
        return definition
    if isinstance(definition, Mapping):
        return parse_definition(definition)
    raise TypeError(
        f"{definition!r} is not a definition; give an InstrumentDefinition or a mapping of its keys"
    )


def _dialect(dialect: DialectConfig | Mapping[str, Any] | None) -> DialectConfig | None:
    if dialect is None:  # as nearly always; what knows dialects takes time to import
        return None
    from ticklake.conversion.dialects import declaration

    return declaration(dialect)


def requests_of(config: RunConfig) -> tuple[FetchRequest, ...]:
    """Return what a run config asks for: one request an instrument and data type, in the config's order."""
    window = config.window.as_window()
    return tuple(
        FetchRequest(
            key=InstrumentKey(instrument.key),
            data_type=DataType(name),
            window=window,
            book_as=instrument.book_as,
            nautilus_id=instrument.nautilus_id,
            definition=instrument.definition,
            dialect=instrument.dialect_for(DataType(name)),
        )
        for instrument in config.instruments
        for name in instrument.data
    )


type Keep = Literal["row_groups", "window"]
"""What a fetch keeps of what it reads: all that the statistics prove to be whole, or the window alone."""


type OnHole = Literal["stop", "skip"]
"""Whether a day that the lake does not have stops a fetch before it begins, or is left out and reported."""


class FetchRules(TypedDict):
    """What a fetch does about holes and bad rows, and keeps; the keywords of `fetch` of these names."""

    on_hole: OnHole
    on_bad_row: Literal["fail", "quarantine"]
    max_bad_rows: int
    keep: Keep


def rules_of(config: RunConfig) -> FetchRules:
    """Return what a run config says of how to fetch, for `fetch(..., **rules)`."""
    return FetchRules(
        on_hole=config.on_hole,
        on_bad_row=config.on_bad_row,
        max_bad_rows=config.max_bad_rows,
        keep=config.keep,
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a request that becomes one catalog file.

    Attributes:
        asked: The part.
        window: What the file answers for: the part, and what is read with it and kept.
    """

    asked: Window
    window: Window

    @property
    def is_wider(self) -> bool:
        """Whether more is kept than was asked for."""
        return self.window != self.asked


class WindowStatus(StrEnum):
    """What became of a part of a request."""

    CACHED = "cached"
    """The catalog held it; nothing was read."""
    FETCHED = "fetched"
    """Read from the lake and written."""
    EMPTY = "empty"
    """Read from the lake, which has no row there; written as known-empty."""
    HOLE = "hole"
    """The lake has no file for that day; not covered."""
    PLANNED = "planned"
    """Would be read (a dry run)."""


@dataclass(frozen=True, slots=True)
class WindowReport:
    """One part of a request and what became of it.

    Attributes:
        instrument: The lake's instrument key.
        nautilus_id: The Nautilus instrument id.
        data_type: The lake's data type.
        window: The part, half-open.
        status: What became of it.
        rows: Catalog rows of the part that were written; None where nothing was.
        kept: What the catalog file of the part answers for, the part and what was read with it; None where
            no file is written.
        kept_rows: Catalog rows of that file; None where nothing was written.
    """

    instrument: str
    nautilus_id: str
    data_type: str
    window: Window
    status: WindowStatus
    rows: int | None = None
    kept: Window | None = None
    kept_rows: int | None = None

    def __str__(self) -> str:
        return f"{self.instrument} {self.data_type} {self.window}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `start` is inclusive, `end` exclusive, ISO 8601 UTC."""
        return {
            "instrument": self.instrument,
            "nautilus_id": self.nautilus_id,
            "data_type": self.data_type,
            "start": format_nanos(self.window.start),
            "end": format_nanos(self.window.end),
            "status": self.status.value,
            "rows": self.rows,
            "kept": self.kept
            and {
                "start": format_nanos(self.kept.start),
                "end": format_nanos(self.kept.end),
                "rows": self.kept_rows,
            },
        }


@dataclass(frozen=True, slots=True)
class ObjectProgress:
    """How far a fetch is with one object of the lake.

    Attributes:
        url: Its URL.
        day: The UTC day that its rows are filed under.
        rows: Source rows read of it so far.
        rows_total: Source rows to be read of it.
        bytes_done: Planned bytes of it whose rows were handled.
        bytes_total: Planned bytes of it; 0 where all that is needed came with its footer.
    """

    url: str
    day: dt.date
    rows: int
    rows_total: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch is; sent after each row group.

    Attributes:
        instrument: The lake's instrument key under way.
        data_type: Its data type.
        rows: Source rows read so far, of all requests.
        bytes_done: Planned bytes whose rows were handled, of all requests.
        bytes_total: Planned bytes of all requests.
        objects: How many objects rows are read from, of all requests.
        object: The one under way.
    """

    instrument: str
    data_type: str
    rows: int
    bytes_done: int
    bytes_total: int
    objects: int
    object: ObjectProgress


def refuse_holes(holes: Iterable[WindowReport], on_hole: OnHole) -> None:
    """Raise what ends a fetch at holes.

    Args:
        holes: The holes of what is asked, if there are any.
        on_hole: What the fetch does at a hole.

    Raises:
        MissingDataError: There are holes and `on_hole` is `stop`; all of them are listed.
    """
    names = tuple(map(str, holes))
    if not names or on_hole == "skip":
        return
    lines = "".join(f"\n  {name}" for name in names)
    raise MissingDataError(
        f"the lake has no file for {len(names)} part{'s' * (len(names) > 1)} of what is asked:{lines}",
        holes=names,
        hint="Ask for another window, or go on without them with on_hole: skip (--on-hole skip)",
    )


@dataclass(frozen=True, slots=True, repr=False)
class FetchReport:
    """What a fetch did.

    Attributes:
        windows: All parts of all requests and what became of them, by request and time.
        rows: Catalog rows written, with those around the windows that were kept.
        source_rows: Source rows read now, from the row groups that met the windows: as many as the next three
            together.
        source_rows_written: Those that became catalog rows; a book snapshot becomes several.
        outside: Those that lie outside the windows and what was kept around them.
        source_rows_quarantined: Those that could not be converted.
        quarantined: Bad rows by reason of all catalog files that hold a part of the windows, whether they
            were written now or before.
        files: Catalog files written.
        requests: Requests sent to the stores, retries not counted.
        bytes_read: Body bytes received.
        seconds: Wall time.
        warnings: Counted findings that removed no row, in all catalog files that hold a part of the windows,
            and what else a user should know.
    """

    windows: tuple[WindowReport, ...]
    rows: int = 0
    source_rows: int = 0
    source_rows_written: int = 0
    outside: int = 0
    source_rows_quarantined: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)
    files: int = 0
    requests: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def holes(self) -> tuple[WindowReport, ...]:
        """What the lake does not have."""
        return tuple(window for window in self.windows if window.status is WindowStatus.HOLE)

    def __repr__(self) -> str:
        return (
            f"FetchReport({self._statuses()}: {self.rows} rows in {self.files} files, "
            f"{self.bytes_read} bytes in {self.requests} requests, "
            f"{sum(self.quarantined.values())} quarantined)"
        )

    def _repr_html_(self) -> str:
        facts = {
            "windows": self._statuses(),
            "rows read": f"{self.source_rows:,} = {self.source_rows_written:,} written + {self.outside:,} "
            f"outside the window + {self.source_rows_quarantined:,} quarantined",
            "catalog rows written": self.rows,
            "files written": self.files,
            "received": f"{format_bytes(self.bytes_read)} in {counted(self.requests, 'request')}",
            "time": f"{self.seconds:.2f} s",
            "quarantined": "; ".join(f"{count:,} {why}" for why, count in self.quarantined.items()) or None,
            "warnings": "; ".join(self.warnings) or None,
        }
        rows = [
            (
                one.instrument,
                one.data_type,
                format_nanos(one.window.start),
                format_nanos(one.window.end),
                one.status.value,
                "" if one.rows is None else one.rows,
            )
            for one in self.windows
        ]
        columns = ("instrument", "data", "from (UTC)", "to, exclusive", "status", "rows")
        return card("FetchReport", facts, table(columns, rows))

    def _statuses(self) -> str:
        """Return how many windows there are, by what became of them."""
        counts = Counter(window.status.value for window in self.windows)
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "nothing asked"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rows": self.rows,
            "files": self.files,
            "requests": self.requests,
            "bytes_read": self.bytes_read,
            "seconds": round(self.seconds, 6),
            "source_rows": self.source_rows,
            "source_rows_written": self.source_rows_written,
            "source_rows_quarantined": self.source_rows_quarantined,
            "outside_window": self.outside,
            "quarantined": sum(self.quarantined.values()),
            "quarantine_reasons": dict(self.quarantined),
            "warnings": list(self.warnings),
            "windows": [window.to_dict() for window in self.windows],
        }
