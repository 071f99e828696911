"""What a catalog holds and lacks, day by day: covered, known to be empty, a hole of the lake, or not fetched.

Names of files tell what is covered, footers whether there are rows. What is missing is a hole where the lake
has no file of that day, which only the lake can tell; without it, all that is missing is not fetched.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ticklake.catalog import Catalog, CatalogFile, Coverage, Provenance
from ticklake.catalog.cache import retried
from ticklake.catalog.provenance import provenance_of, read_footer
from ticklake.fetching.model import FetchRequest
from ticklake.lake import Lake
from ticklake.types import (
    CatalogType,
    DataType,
    InstrumentKey,
    Window,
    format_nanos,
    merge_windows,
    subtract_windows,
)

__all__ = ["Status", "Stretch", "Survey", "SurveyRow", "survey"]


class Status(StrEnum):
    """What is known of a stretch of time."""

    COVERED = "covered"
    """The catalog has rows."""
    EMPTY = "known-empty"
    """The catalog knows that there are no rows."""
    HOLE = "hole"
    """The lake has no file of that day."""
    NOT_FETCHED = "not fetched"
    """The catalog lacks it, and the lake has it, or was not asked."""


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """A window of one status.

    Attributes:
        window: The window.
        status: What is known of it.
        files: How many files of the catalog answer for it.
    """

    window: Window
    status: Status
    files: int = 0


@dataclass(frozen=True, slots=True)
class SurveyRow:
    """One type of one instrument.

    Attributes:
        catalog_type: The folder of the catalog.
        instrument: The Nautilus id; the lake's key where the catalog holds nothing that tells the id.
        lake_key: The lake's key; empty where it is not known.
        data_type: The lake's data type; empty where it is not known.
        stretches: All of the survey's window, in order, neighbours of one status joined.
    """

    catalog_type: CatalogType
    instrument: str
    lake_key: str
    data_type: str
    stretches: tuple[Stretch, ...]

    def windows(self, status: Status) -> tuple[Window, ...]:
        """Return the stretches of one status."""
        return tuple(each.window for each in self.stretches if each.status is status)

    def nanos(self, status: Status) -> int:
        """Return how long all stretches of one status are together."""
        return sum(window.end - window.start for window in self.windows(status))

    @property
    def files(self) -> int:
        """How many files of the catalog answer for it."""
        return sum(each.files for each in self.stretches)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a catalog holds and lacks.

    Attributes:
        rows: By type and instrument, in the order of their names.
        window: The whole UTC days between the first and the last of what is covered or was asked for; None
            where there is nothing.
        lake: Root URL of the lake that was asked for holes; empty where none was.
    """

    rows: tuple[SurveyRow, ...]
    window: Window | None
    lake: str = ""

    def to_list(self) -> list[dict[str, Any]]:
        """Return plain JSON values, one mapping for each type and instrument."""
        return [_to_dict(row) for row in self.rows]


def _to_dict(row: SurveyRow) -> dict[str, Any]:
    def plain(windows: Iterable[Window]) -> list[dict[str, str]]:
        return [{"start": format_nanos(window.start), "end": format_nanos(window.end)} for window in windows]

    held = merge_windows([*row.windows(Status.COVERED), *row.windows(Status.EMPTY)])
    return {
        "type": row.catalog_type.value,
        "instrument": row.instrument,
        "lake_key": row.lake_key or None,
        "data_type": row.data_type or None,
        "files": row.files,
        "windows": plain(held),
        "known_empty": plain(row.windows(Status.EMPTY)),
        "holes": plain(row.windows(Status.HOLE)),
        "not_fetched": plain(row.windows(Status.NOT_FETCHED)),
    }


@dataclass(frozen=True, slots=True)
class _Held:
    """What the catalog has of one type and instrument."""

    catalog_type: CatalogType
    instrument: str
    origin: Provenance | None
    files: tuple[CatalogFile, ...] = ()
    empty: frozenset[CatalogFile] = frozenset()

    def is_of(self, request: FetchRequest) -> bool:
        """Whether a request is for this."""
        if self.catalog_type is not request.catalog_type:
            return False
        if request.nautilus_id is not None:
            return request.nautilus_id == self.instrument
        return (
            self.origin is not None
            and bool(self.origin.lake_key)
            and InstrumentKey(self.origin.lake_key).matches(request.key)
        )


def survey(
    catalog: Catalog,
    requests: Iterable[FetchRequest] = (),
    lake: Lake | None = None,
) -> Survey:
    """Return what a catalog holds and lacks.

    Without a request, that is what it holds and what lies between. With requests, their windows are surveyed
    too, and instruments of which the catalog has nothing yet.

    Args:
        catalog: The catalog.
        requests: What it should hold.
        lake: Asked whether it has the days that are missing, where what they are of is known to come from it:
            one request a day, instrument and type.

    Raises:
        CatalogError: The catalog could not be read.
        LakeError: The lake could not be asked.
    """
    asked = tuple(requests)
    held = retried(lambda: [_look(catalog, one) for one in catalog.coverage()])
    wanted = [(one, [each for each in asked if one.is_of(each)]) for one in held]
    met = {id(each) for _, matching in wanted for each in matching}
    wanted += [
        (_Held(each.catalog_type, each.nautilus_id or str(each.key), None), [each])
        for each in asked
        if id(each) not in met
    ]
    spans = [file.window for one, _ in wanted for file in one.files] + [each.window for each in asked]
    if not spans:
        return Survey((), None)
    days = Window.parse(
        Window(min(span.start for span in spans), max(span.end for span in spans)).days[0],
        max(Window.of_day(span.days[-1]).end for span in spans),
    )
    rows = sorted(
        (_row(one, matching, days, lake) for one, matching in wanted),
        key=lambda row: (row.catalog_type, row.instrument),
    )
    return Survey(tuple(rows), days, lake.root if lake else "")


def _look(catalog: Catalog, one: Coverage) -> _Held:
    files = tuple(catalog.files(one.catalog_type, one.nautilus_id))
    empty, origin = set(), None
    for file in files:
        footer = read_footer(file.path)
        if not footer.num_rows:
            empty.add(file)
        if origin is None:
            origin = provenance_of(footer.metadata, file.path)
    return _Held(one.catalog_type, one.nautilus_id, origin, files, frozenset(empty))


def _row(one: _Held, matching: list[FetchRequest], days: Window, lake: Lake | None) -> SurveyRow:
    key = str(matching[0].key) if matching else one.origin.lake_key if one.origin else ""
    data_type = str(matching[0].data_type) if matching else one.origin.data_type if one.origin else ""
    full = merge_windows(file.window for file in one.files if file not in one.empty)
    empty = _without(merge_windows(file.window for file in one.empty), full)
    missing = subtract_windows(days, [file.window for file in one.files])
    holes: list[Window] = []
    if lake is not None and key and data_type and (matching or (one.origin and one.origin.lake == lake.root)):
        holes = _holes(lake, key, data_type, missing)
    holes = list(merge_windows(holes))
    absent = _without(missing, holes)
    stretches = [
        *_stretches(Status.COVERED, full, one.files),
        *_stretches(Status.EMPTY, empty, one.files),
        *_stretches(Status.HOLE, holes),
        *_stretches(Status.NOT_FETCHED, absent),
    ]
    return SurveyRow(one.catalog_type, one.instrument, key, data_type, tuple(sorted(stretches)))


def _holes(lake: Lake, key: str, data_type: str, missing: Iterable[Window]) -> list[Window]:
    """Return the parts of what is missing on days of which the lake has no file."""
    parts = [part for window in missing for part in window.split_days()]
    wanted = list(dict.fromkeys(part.days[0] for part in parts))
    there = set(lake.days(InstrumentKey(key), DataType(data_type), of=wanted))
    return [part for part in parts if part.days[0] not in there]


def _stretches(
    status: Status, windows: Iterable[Window], files: Iterable[CatalogFile] = ()
) -> Iterator[Stretch]:
    begins = sorted(file.window.start for file in files)
    for window in windows:
        yield Stretch(window, status, bisect_left(begins, window.end) - bisect_left(begins, window.start))


def _without(windows: Iterable[Window], others: Sequence[Window]) -> list[Window]:
    """Return what of windows none of the others holds; these are disjoint and in order."""
    starts, ends = [other.start for other in others], [other.end for other in others]
    return [
        part
        for window in windows
        for part in subtract_windows(
            window, others[bisect_right(ends, window.start) : bisect_left(starts, window.end)]
        )
    ]
