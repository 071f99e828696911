"""What a fetch has to read: requests against the catalog's coverage and the lake's footers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ticklake.catalog import Catalog, CatalogFile, Provenance
from ticklake.config import DialectConfig
from ticklake.errors import CatalogConflictError, ConfigError, NotCachedError
from ticklake.fetching.instruments import ASKED_AT_ONCE, Definitions, resolve
from ticklake.fetching.jobs import in_order
from ticklake.fetching.model import FetchRequest, Keep, Piece, WindowReport, WindowStatus
from ticklake.lake.lazy import AnyLake
from ticklake.lake.url import StoreUrl
from ticklake.types import CatalogType, InstrumentKey, InstrumentSpec, Window, merge_windows, subtract_windows

if TYPE_CHECKING:
    from ticklake.lake import Scan, ScanPlan

__all__ = ["FetchPlan", "Resolved", "UnitPlan", "plan_fetch", "plan_resolved", "plan_unit", "resolve_all"]

type Resolved = tuple[FetchRequest, Definitions]
"""A request and the instrument that it means."""


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What one request needs, found out before any data moves.

    Attributes:
        request: What is asked.
        definitions: The instrument on the days of the window.
        origin: What the provenance of its files says whatever is in them: instrument, data type, lake and
            dialect.
        cached: What the catalog holds of the window and keeps, merged.
        pieces: What is to be read, in order.
        holes: What cannot be read because the lake has no file for that day.
        scans: One for each contiguous run of pieces, planned.
        kept: The files of what is kept, with their provenance where they have one.
        warnings: What a user should know.
        replace: Whether pieces replace catalog files of the same window (a refresh).
    """

    request: FetchRequest
    definitions: Definitions
    origin: Provenance
    cached: tuple[Window, ...]
    pieces: tuple[Piece, ...]
    holes: tuple[Window, ...]
    scans: tuple[Scan, ...]
    kept: Mapping[CatalogFile, Provenance | None] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    replace: bool = False

    @property
    def spec(self) -> InstrumentSpec:
        """The instrument's id and precisions."""
        return self.definitions.spec

    @property
    def place(self) -> tuple[CatalogType, str]:
        """Where in the catalog its files are: type and instrument."""
        return self.request.catalog_type, self.spec.nautilus_id

    @property
    def provenance(self) -> dict[Path, Provenance]:
        """Where the files of what is kept come from, as far as they tell."""
        return {file.path: origin for file, origin in self.kept.items() if origin is not None}

    @property
    def windows(self) -> tuple[WindowReport, ...]:
        """All parts of the request, in order."""
        found = [
            *(self.report(window, WindowStatus.CACHED) for window in self.cached),
            *(self.report(piece.asked, WindowStatus.PLANNED, kept=piece.window) for piece in self.pieces),
            *self.holes_reported,
        ]
        return tuple(sorted(found, key=lambda report: report.window))

    def pieces_of(self, scan: Scan) -> tuple[Piece, ...]:
        """Return the pieces that a scan, or a part of one, reads."""
        return tuple(piece for piece in self.pieces if piece.window.intersect(scan.window))

    @property
    def holes_reported(self) -> tuple[WindowReport, ...]:
        """The holes as entries for the report."""
        return tuple(self.report(hole, WindowStatus.HOLE) for hole in self.holes)

    def report(
        self,
        window: Window,
        status: WindowStatus,
        rows: int | None = None,
        *,
        kept: Window | None = None,
        kept_rows: int | None = None,
    ) -> WindowReport:
        """Return the entry of a part of this request for the report."""
        request = self.request
        return WindowReport(
            str(request.key),
            self.spec.nautilus_id,
            str(request.data_type),
            window,
            status,
            rows,
            kept,
            kept_rows,
        )


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What a fetch would read, to be looked at before it does.

    Attributes:
        units: One for each request, in order.
        planning_requests: Requests that making this plan took, for instrument lists and footers.
        planning_bytes: Bytes that they brought.
    """

    units: tuple[UnitPlan, ...]
    planning_requests: int = 0
    planning_bytes: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know (rows filed further from their day than the slack, …)."""
        return tuple(dict.fromkeys(warning for unit in self.units for warning in unit.warnings))

    @property
    def scans(self) -> tuple[ScanPlan, ...]:
        """The plans of all reads, in order."""
        return tuple(scan.plan() for unit in self.units for scan in unit.scans)

    @property
    def bytes(self) -> int:
        """Bytes of column chunks to be read."""
        return sum(scan.bytes for scan in self.scans)

    @property
    def requests(self) -> int:
        """Range requests that reading takes, beyond the footers already read for this plan."""
        return sum(scan.requests for scan in self.scans)

    @property
    def holes(self) -> tuple[WindowReport, ...]:
        """What cannot be read because the lake has no file for that day."""
        return tuple(hole for unit in self.units for hole in unit.holes_reported)

    @property
    def windows(self) -> tuple[WindowReport, ...]:
        """All parts of all requests, by request and time."""
        return tuple(window for unit in self.units for window in unit.windows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values.

        An object with `with_footer` takes no request: all that is needed of it came with its footer.
        """
        return {
            "bytes": self.bytes,
            "requests": self.requests,
            "planning_bytes": self.planning_bytes,
            "planning_requests": self.planning_requests,
            "objects": [
                {
                    "url": found.source.url,
                    "size": found.source.size,
                    "row_groups": len(found.row_groups),
                    "bytes": found.bytes,
                    "requests": len(found.ranges),
                    "share": found.bytes / found.source.size if found.source.size else 0.0,
                    "with_footer": not found.ranges,
                }
                for scan in self.scans
                for found in scan.objects
                if found.row_groups
            ],
            "windows": [window.to_dict() for window in self.windows],
            "warnings": list(self.warnings),
        }


def plan_fetch(
    lake: AnyLake,
    catalog: Catalog,
    requests: Iterable[FetchRequest],
    *,
    refresh: bool = False,
    offline: bool = False,
    keep: Keep = "row_groups",
) -> FetchPlan:
    """Return what a fetch would read; this reads instrument lists and footers, and writes nothing.

    Holes are in the plan, whatever a fetch would do about them (`refuse_holes`).

    Args:
        lake: Where the ticks are; not asked for what the catalog holds.
        catalog: Where they go.
        requests: What is wanted.
        refresh: Plan to read again what the catalog holds, file by file as it is kept.
        offline: Ask the lake nothing.
        keep: Whether the rows around a window that are read with it are kept, as for `fetch`.

    Raises:
        ValueError: `keep` is none of its choices.
        NotCachedError: `offline`, and the catalog lacks something; all that is missing is listed.
        CatalogConflictError: The catalog holds the window from another source or with another precision.
        ConfigError: An instrument's definition cannot be used, two instruments have one id, or `offline` and
            `refresh` are both asked for.
        SourceSchemaError: A source file has columns that are not understood.
        LakeError: The lake could not be read.
    """
    requests_before, bytes_before = lake.transfer.requests, lake.transfer.bytes
    with looking_ahead(lake):
        resolved = resolve_all(lake, catalog, requests, refresh=refresh, offline=offline)
        plan = plan_resolved(lake, catalog, resolved, refresh=refresh, keep=keep)
    return replace(
        plan,
        planning_requests=lake.transfer.requests - requests_before,
        planning_bytes=lake.transfer.bytes - bytes_before,
    )


@contextmanager
def looking_ahead(lake: AnyLake) -> Iterator[None]:
    """Let what is asked for ahead in the block be taken in it alone: later it may be out of date."""
    try:
        yield
    finally:
        lake.stop_ahead()


def resolve_all(
    lake: AnyLake, catalog: Catalog, requests: Iterable[FetchRequest], *, refresh: bool, offline: bool
) -> list[Resolved]:
    """Return the requests with the instruments that they mean; offline, check that all is there.

    Footers of instruments that the catalog does not know are asked for together with the instrument lists: do
    this and the planning in one block of `looking_ahead`. Args and errors are those of `plan_fetch`.
    """
    if refresh and offline:
        raise ConfigError(
            "offline and refresh contradict each other: a refresh reads the lake", hint="Ask for one of them"
        )
    if refresh:
        lake.forget()
    asked = list(requests)
    definitions = resolve(
        lake,
        catalog,
        asked,
        refresh=refresh,
        offline=offline,
        on_unknown=lambda request: _scan(lake, request, request.window).look_ahead(),
    )
    found = list(zip(asked, definitions, strict=True))
    resolved = [(request, known) for request, known in found if known is not None]
    _refuse_shared_ids(resolved)
    if offline:
        _require_cached(catalog, found)
    return resolved


def plan_resolved(
    lake: AnyLake, catalog: Catalog, resolved: Iterable[Resolved], *, refresh: bool, keep: Keep
) -> FetchPlan:
    """Return what a fetch would read for requests whose instruments are known.

    Footers of different types and instruments are read at once. Requests for the same place are planned in
    their order, each with what those before it will have written.

    Args and errors are those of `plan_fetch`.
    """
    places: dict[tuple[CatalogType, str], list[tuple[int, Resolved]]] = {}
    for number, (request, definitions) in enumerate(resolved):
        place = request.catalog_type, definitions.spec.nautilus_id
        places.setdefault(place, []).append((number, (request, definitions)))

    def plan(wanted: Sequence[tuple[int, Resolved]]) -> list[tuple[int, UnitPlan]]:
        units: list[tuple[int, UnitPlan]] = []
        coming: list[Window] = []
        for number, (request, definitions) in wanted:
            unit = plan_unit(lake, catalog, request, definitions, refresh=refresh, keep=keep, coming=coming)
            units.append((number, unit))
            if not refresh:  # which reads for each request what it has a part of
                coming += [piece.window for piece in unit.pieces]
        return units

    asked = [(*place, request.window) for place, wanted in places.items() for _, (request, _) in wanted]
    # Where nothing is to be read, the lake is not opened, and there is nothing to wait for.
    reads = refresh or any(catalog.missing(*each) for each in asked)
    with lake.one_look() if reads else nullcontext():
        planned = in_order(
            (partial(plan, wanted) for wanted in places.values()), ASKED_AT_ONCE if reads else 1
        )
    numbered = sorted((found for units in planned for found in units), key=lambda found: found[0])
    return FetchPlan(tuple(unit for _, unit in numbered))


def _refuse_shared_ids(resolved: Iterable[Resolved]) -> None:
    keys: dict[str, list[InstrumentKey]] = {}
    for request, definitions in resolved:
        others = keys.setdefault(definitions.spec.nautilus_id, [])
        for other in others:
            if not request.key.matches(other):
                raise ConfigError(
                    f"{other} and {request.key} would both be {definitions.spec.nautilus_id} in the catalog",
                    instrument=str(request.key),
                    hint="Give one of them another nautilus_id",
                )
        others.append(request.key)


def _require_cached(catalog: Catalog, found: Iterable[tuple[FetchRequest, Definitions | None]]) -> None:
    missing: list[str] = []
    for request, definitions in found:
        name = f"{request.key} {request.data_type}"
        if definitions is None:
            missing.append(f"{name} {request.window} (and the instrument's definition)")
            continue
        missing += [f"{name} instrument definition of {day}" for day in definitions.unknown_days]
        gaps = catalog.missing(request.catalog_type, definitions.spec.nautilus_id, request.window)
        missing += [f"{name} {gap}" for gap in merge_windows(gaps)]
    if missing:
        lines = "".join(f"\n  {line}" for line in missing)
        raise NotCachedError(
            f"offline, and the catalog {catalog.path} lacks:{lines}",
            missing=tuple(missing),
            hint="Fetch it with a connection, or ask for a window that `ticklake coverage` lists",
        )


def plan_unit(
    lake: AnyLake,
    catalog: Catalog,
    request: FetchRequest,
    definitions: Definitions,
    *,
    refresh: bool,
    keep: Keep,
    coming: Sequence[Window] = (),
) -> UnitPlan:
    """Return what one request needs.

    Args and errors are those of `plan_fetch`; `coming` is what the catalog will hold when the request's turn
    comes, beyond what it holds now.
    """
    if keep not in (choices := get_args(Keep.__value__)):
        raise ValueError(f"keep is {keep!r}, not one of {', '.join(choices)}")
    spec, window = definitions.spec, request.window
    place = request.catalog_type, spec.nautilus_id
    origin = Provenance(str(request.key), str(request.data_type), lake.root, _declared(request.dialect))
    kept: dict[CatalogFile, Provenance | None] = {}
    if refresh:
        catalog.check_replaceable(request.catalog_type, spec, window, origin)
        wanted = catalog.refreshed(*place, window)
    else:
        try:
            kept = catalog.check_source(request.catalog_type, spec, window, origin)
        except CatalogConflictError:
            # That the catalog is of another lake is no news where the one that is asked for is not there.
            StoreUrl.parse(lake.root).require_folder()
            raise
        wanted = _without(coming, catalog.missing(*place, window))
    scans = {run: _scan(lake, request, run) for run in merge_windows(wanted)}
    absent = [
        Window.of_day(day) for day in sorted({d for scan in scans.values() for d in scan.plan().absent_days})
    ]
    pieces = tuple(piece for piece in wanted if not any(piece.intersect(day) for day in absent))
    unread = [part for piece in wanted if piece not in pieces if (part := piece.intersect(window))]
    holes = tuple(hole for part in unread for day in absent if (hole := part.intersect(day)))
    if refresh:  # a file that reaches into a day which the lake does not have stays as it is
        for part in unread:
            kept |= catalog.check_source(request.catalog_type, spec, part, origin)
    # Without the holes, runs may be shorter; their footers are at hand.
    planned = [scans.get(run) or _scan(lake, request, run) for run in merge_windows(pieces)]
    widened = planned
    if keep == "row_groups" and pieces:
        gaps = _without(coming, catalog.missing(*place, _whole_days(window)))
        widened = [_widened(scan, pieces, gaps) for scan in planned]
    definitions = definitions.needed_on(
        {day for part in subtract_windows(window, holes) for day in part.days}
    )
    return UnitPlan(
        request=request,
        definitions=definitions,
        origin=origin,
        cached=subtract_windows(window, [*pieces, *holes]),
        pieces=tuple(
            piece
            for scan, wide in zip(planned, widened, strict=True)
            for piece in _pieces(scan.window, wide.window, pieces)
        ),
        holes=holes,
        scans=tuple(widened),
        kept=kept,
        warnings=(
            *definitions.warnings(request.key),
            *(note for scan in planned for note in scan.plan().notes),
            *(_not_refreshed(file, absent) for file in kept if refresh),
        ),
        replace=refresh,
    )


def _without(coming: Sequence[Window], missing: Iterable[Window]) -> tuple[Window, ...]:
    return tuple(part for gap in missing for part in subtract_windows(gap, coming))


def _whole_days(window: Window) -> Window:
    first, last = window.days[0], window.days[-1]
    return Window(Window.of_day(first).start, Window.of_day(last).end)


def _widened(scan: Scan, pieces: Iterable[Window], gaps: Iterable[Window]) -> Scan:
    """Return the scan of all that can be kept of what a scan reads, as far as the catalog does not have it.

    Args:
        scan: The scan of a run of pieces.
        pieces: Those of all runs, in order.
        gaps: What the catalog does not have, split at midnights. A file that is replaced lies in none of
            them, and keeps its window.
    """
    run = [piece for piece in pieces if piece.intersect(scan.window)]
    wide, (start, end) = scan.widest(run[0], run[-1]), (scan.window.start, scan.window.end)
    for gap in gaps:
        if gap.start <= scan.window.start < gap.end:
            start = max(gap.start, wide.start)
        if gap.start < scan.window.end <= gap.end:
            end = min(gap.end, wide.end)
    return scan.over(Window(start, end))


def _pieces(run: Window, window: Window, asked: Iterable[Window]) -> Iterator[Piece]:
    """Return the pieces of a run, the first and last of which keep what its scan's window has around it."""
    for part in asked:
        if part.intersect(run):
            start = window.start if part.start == run.start else part.start
            yield Piece(part, Window(start, window.end if part.end == run.end else part.end))


def _declared(dialect: DialectConfig | None) -> str:
    """Return a declared dialect as text, the same for the same meaning."""
    if dialect is None:
        return ""
    return json.dumps(dialect.model_dump(mode="json", exclude_defaults=True), sort_keys=True)


def _not_refreshed(file: CatalogFile, absent: Sequence[Window]) -> str:
    days = ", ".join(str(day.days[0]) for day in absent if day.intersect(file.window))
    return f"{file.path} was not refreshed: the lake has no file of {days}, into which it reaches"


def _scan(lake: AnyLake, request: FetchRequest, window: Window) -> Scan:
    return lake.scan(request.key, request.data_type, window, dialect=request.dialect)
