"""What a fetch has to read: requests against the catalog's coverage and the lake's footers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ticklake.catalog import Catalog
from ticklake.errors import NotCachedError
from ticklake.fetching.instruments import Definitions, resolve
from ticklake.fetching.model import FetchRequest, WindowReport, WindowStatus
from ticklake.lake import Lake, Scan, ScanPlan
from ticklake.types import InstrumentSpec, Window, merge_windows, subtract_windows

__all__ = ["FetchPlan", "UnitPlan", "plan_fetch", "plan_unit", "wanted_windows"]


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What one request needs, found out before any data moves.

    Attributes:
        request: What is asked.
        definitions: The instrument on the days of the window.
        cached: What the catalog holds of the window, merged.
        pieces: What is to be read, in order; each becomes one catalog file.
        holes: What cannot be read because the lake has no file for that day.
        scans: One for each contiguous run of pieces, planned.
        replace: Whether pieces replace catalog files of the same window (a refresh).
    """

    request: FetchRequest
    definitions: Definitions
    cached: tuple[Window, ...]
    pieces: tuple[Window, ...]
    holes: tuple[Window, ...]
    scans: tuple[Scan, ...]
    replace: bool = False

    @property
    def spec(self) -> InstrumentSpec:
        """The instrument's id and precisions."""
        return self.definitions.spec

    def report(self, window: Window, status: WindowStatus, rows: int | None = None) -> WindowReport:
        """Return the entry of a part of this request for the report."""
        request = self.request
        return WindowReport(
            str(request.key), self.spec.nautilus_id, str(request.data_type), window, status, rows
        )


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What a fetch would read, to be looked at before it does.

    Attributes:
        units: One for each request, in order.
        warnings: What a user should know (rows filed further from their day than the slack, …).
    """

    units: tuple[UnitPlan, ...]
    warnings: tuple[str, ...] = ()

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
        return tuple(unit.report(hole, WindowStatus.HOLE) for unit in self.units for hole in unit.holes)

    @property
    def windows(self) -> tuple[WindowReport, ...]:
        """All parts of all requests."""
        return tuple(
            unit.report(window, status)
            for unit in self.units
            for windows, status in (
                (unit.cached, WindowStatus.CACHED),
                (unit.pieces, WindowStatus.PLANNED),
                (unit.holes, WindowStatus.HOLE),
            )
            for window in windows
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "bytes": self.bytes,
            "requests": self.requests,
            "objects": [
                {
                    "url": found.source.url,
                    "size": found.source.size,
                    "row_groups": len(found.row_groups),
                    "bytes": found.bytes,
                    "requests": len(found.ranges),
                    "share": found.bytes / found.source.size if found.source.size else 0.0,
                }
                for scan in self.scans
                for found in scan.objects
                if found.row_groups
            ],
            "windows": [window.to_dict() for window in self.windows],
            "warnings": list(self.warnings),
        }


def plan_fetch(
    lake: Lake,
    catalog: Catalog,
    requests: Iterable[FetchRequest],
    *,
    refresh: bool = False,
    offline: bool = False,
) -> FetchPlan:
    """Return what a fetch would read; this reads instrument lists and footers, and writes nothing.

    Args:
        lake: Where the ticks are; not asked for what the catalog holds.
        catalog: Where they go.
        requests: What is wanted.
        refresh: Plan to read again what the catalog holds, file by file as it is kept.
        offline: Ask the lake nothing.

    Raises:
        NotCachedError: `offline`, and the catalog lacks something; all that is missing is listed.
        CatalogConflictError: The catalog holds the window from another source or with another precision.
        ConfigError: An instrument's definition cannot be used.
        SourceSchemaError: A source file has columns that are not understood.
        LakeError: The lake could not be read.
    """
    resolved = [
        (request, resolve(lake, catalog, request, refresh=refresh, offline=offline)) for request in requests
    ]
    if offline:
        _require_cached(catalog, resolved)
    units = []
    warnings: dict[str, None] = {}
    for request, found in resolved:
        if found is None:  # _require_cached has refused these
            continue
        units.append(plan_unit(lake, catalog, request, found, refresh=refresh))
        for day in found.absent_days:
            warnings[
                f"{request.key}: no instrument list of {day}; the definition of the day before is used"
            ] = None
        warnings.update(dict.fromkeys(note for scan in units[-1].scans for note in scan.plan().notes))
    return FetchPlan(tuple(units), tuple(warnings))


def _require_cached(catalog: Catalog, resolved: Iterable[tuple[FetchRequest, Definitions | None]]) -> None:
    missing: list[str] = []
    for request, found in resolved:
        name = f"{request.key} {request.data_type}"
        if found is None:
            missing.append(f"{name} {request.window} (and the instrument's definition)")
            continue
        missing += [f"{name} instrument definition of {day}" for day in found.unknown_days]
        gaps = catalog.missing(request.catalog_type, found.spec.nautilus_id, request.window)
        missing += [f"{name} {gap}" for gap in merge_windows(gaps)]
    if missing:
        lines = "".join(f"\n  {line}" for line in missing)
        raise NotCachedError(
            f"offline, and the catalog {catalog.path} lacks:{lines}",
            missing=tuple(missing),
            hint="Fetch it with a connection, or ask for a window that `ticklake coverage` lists",
        )


def plan_unit(
    lake: Lake, catalog: Catalog, request: FetchRequest, definitions: Definitions, *, refresh: bool
) -> UnitPlan:
    """Return what one request needs.

    Args and errors are those of `plan_fetch`.
    """
    spec, window = definitions.spec, request.window
    if not refresh:
        catalog.check_source(
            request.catalog_type, spec, window, lake_key=request.key, data_type=request.data_type
        )
    wanted = wanted_windows(catalog, request, spec, refresh=refresh)
    scans = {run: _scan(lake, request, run) for run in merge_windows(wanted)}
    absent = [Window.of_day(day) for scan in scans.values() for day in scan.plan().absent_days]
    pieces = tuple(piece for piece in wanted if not any(piece.intersect(day) for day in absent))
    return UnitPlan(
        request=request,
        definitions=definitions,
        cached=() if refresh else subtract_windows(window, wanted),
        pieces=pieces,
        holes=tuple(piece for piece in wanted if piece not in pieces),
        # Without the holes, runs may be shorter; their footers are at hand.
        scans=tuple(scans.get(run) or _scan(lake, request, run) for run in merge_windows(pieces)),
        replace=refresh,
    )


def _scan(lake: Lake, request: FetchRequest, window: Window) -> Scan:
    return lake.scan(request.key, request.data_type, window, dialect=request.dialect)


def wanted_windows(
    catalog: Catalog, request: FetchRequest, spec: InstrumentSpec, *, refresh: bool
) -> tuple[Window, ...]:
    """Return what has to be read, one window a catalog file: what is missing, or everything (`refresh`)."""
    ask = catalog.refreshed if refresh else catalog.missing
    return ask(request.catalog_type, spec.nautilus_id, request.window)
