"""Carrying a plan out: its reads, side by side, and the report of what came of them, in the plan's order."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from ticklake.catalog import Catalog, disk
from ticklake.conversion.quality import ConversionCounts, Note
from ticklake.fetching.badrows import BadRows, OnBadRow
from ticklake.fetching.locking import WriteLocks
from ticklake.fetching.model import (
    FetchProgress,
    FetchReport,
    FetchRequest,
    Keep,
    ObjectProgress,
    OnHole,
    WindowReport,
    WindowStatus,
    refuse_holes,
)
from ticklake.fetching.planning import (
    FetchPlan,
    Resolved,
    UnitPlan,
    looking_ahead,
    plan_resolved,
    plan_unit,
    resolve_all,
)
from ticklake.lake.lazy import AnyLake, opened
from ticklake.types import CatalogType, Window

if TYPE_CHECKING:
    from ticklake.fetching.pieces import Published
    from ticklake.fetching.reading import Outcome
    from ticklake.instruments.definitions import Instrument
    from ticklake.lake import Scan

__all__ = ["fetch"]

_NOTES = {
    Note.NO_AGGRESSOR: "have no known aggressor side and became NO_AGGRESSOR",
    Note.CROSSED_BOOK: "have a crossed book (the best bid is not below the best ask)",
    Note.LEVEL_ORDER: "have book levels out of price order",
    Note.EMPTY_BOOK: "have no book level at all",
    Note.LEVEL_GAP: "lack a book level before one that is there",
    Note.EVENT_TIME: "have a ts_event more than a day from ts_init; check the unit of the times",
    Note.REPEATED_TRADE: "repeat a trade shortly before (same id, price, size, side and ts_event)",
    Note.REUSED_TRADE_ID: "have the id of another trade shortly before",
}

SPACE_FACTOR = 1.25
"""Bytes to be free on disk before a fetch, for each that it reads: trades take 0.5, books up to 1.2."""

type OnProgress = Callable[[FetchProgress], None]
type OnDefined = Callable[[Iterable[Instrument]], object]
type _Place = tuple[CatalogType, str]


def fetch(
    lake: AnyLake,
    catalog: Catalog,
    requests: Iterable[FetchRequest],
    *,
    refresh: bool = False,
    offline: bool = False,
    on_hole: OnHole = "stop",
    on_bad_row: OnBadRow = "quarantine",
    max_bad_rows: int = 1_000,
    keep: Keep = "row_groups",
    jobs: int | None = None,
    on_defined: OnDefined | None = None,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Bring what the catalog lacks of the requests from the lake into it.

    A file appears in the catalog when it is whole. An error or an interrupt leaves the files that were
    complete by then, and its notes (`__notes__`) tell how much that is; the next fetch reads the rest. Where
    something is missing, the type and instrument are locked before footers are read: of several processes
    that fetch the same one reads it, and the others find it there.

    Several jobs read requests side by side, and parts of long ones. What is written and reported does not
    depend on their number, requests and bytes aside: a row group with rows of two parts is read twice. What
    is in flight is bounded for all of them together. The first error, like an interrupt, stops all of them.

    Args:
        lake: Where the ticks are. No connection is opened if the catalog holds everything.
        catalog: Where they go.
        requests: What is wanted.
        refresh: Read again what the catalog holds, and replace it file by file.
        offline: Open no connection whatever is missing.
        on_hole: Whether a day that the lake does not have stops the fetch before it begins, or is left out
            and reported.
        on_bad_row: Whether a row that cannot be converted is an error, or is kept in quarantine and counted.
            With `fail`, a catalog file of the windows that was made without such rows is an error too.
        max_bad_rows: With `quarantine`, one more than this many bad rows is an error all the same, be they
            read now or be they those that the catalog's files of the windows were made without.
        keep: Whether the rows around a window that were read with it, as a row group is read whole, are kept
            as well: `row_groups` keeps them as far as the statistics prove that none is missing, within the
            UTC day and what the catalog lacks; `window` keeps what was asked for alone. A row of those
            around the window that cannot be converted is in quarantine with the others, or makes the fetch
            keep the window alone, where it would be an error. Requests and bytes are the same.
        jobs: How many parts are read at once, at most; by default one for each core. With 1, and where there
            is one part only, all happens in the calling thread.
        on_defined: Called with the definitions of each request's instrument before its ticks are planned; an
            error that it raises ends the fetch.
        on_progress: Called after each row group, from the calling thread.

    Raises:
        ValueError: `jobs` is less than 1, or `keep` is none of its choices.
        MissingDataError: The lake lacks days and `on_hole` is `stop`; all of them are listed.
        NotCachedError: `offline`, and the catalog lacks something; all that is missing is listed.
        CatalogConflictError: The catalog holds the window from another source or with another precision.
        ConversionError: A row cannot be converted, or too many cannot.
        SourceSchemaError: A source file has columns that are not understood.
        ConfigError: An instrument's definition cannot be used, two instruments have one id, or `offline` and
            `refresh` are both asked for.
        LakeError: The lake could not be read.
        CatalogError: The catalog could not be written, or its disk has too little space left.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}; give 1 or more")
    began = time.perf_counter()
    requests_before, bytes_before = lake.transfer.requests, lake.transfer.bytes
    run = _Run(lake, catalog, on_hole, keep, BadRows(on_bad_row, max_bad_rows))
    with looking_ahead(lake):
        resolved = resolve_all(lake, catalog, requests, refresh=refresh, offline=offline)
        if on_defined is not None:
            for _, definitions in resolved:
                on_defined(definitions.by_day.values())
        planned = _planned(lake, catalog, resolved, refresh=refresh, keep=keep, on_wait=run.warn)
        with planned as (plan, locks), _telling_what_is_kept(catalog, plan, refresh=refresh):
            run.check(plan)
            run.check_disk(plan)
            meter = _Meter(plan, on_progress)
            for units in _waves(plan.units):
                run.fetch_units(units, jobs or os.process_cpu_count() or 1, meter, locks)
    return FetchReport(
        windows=tuple(run.windows),
        rows=run.counts.catalog_rows,
        source_rows=run.counts.read,
        source_rows_written=run.counts.written,
        outside=run.counts.outside,
        source_rows_quarantined=run.counts.bad,
        quarantined=dict(run.bad_rows.by_reason),
        files=sum(window.rows is not None for window in run.windows),
        requests=lake.transfer.requests - requests_before,
        bytes_read=lake.transfer.bytes - bytes_before,
        seconds=time.perf_counter() - began,
        warnings=tuple(run.warnings),
    )


@contextmanager
def _planned(
    lake: AnyLake,
    catalog: Catalog,
    resolved: list[Resolved],
    *,
    refresh: bool,
    keep: Keep,
    on_wait: Callable[[str], None],
) -> Iterator[tuple[FetchPlan, WriteLocks]]:
    """Give what is to be read, with the right to write all of it."""
    while True:
        with WriteLocks(catalog, resolved, refresh=refresh, on_wait=on_wait) as locks:
            plan = plan_resolved(lake, catalog, resolved, refresh=refresh, keep=keep)
            # What was covered, and so was not locked, may have been pruned before it was planned.
            if all(locks.holds(unit.place) for unit in plan.units if unit.pieces):
                yield plan, locks
                return


def _waves(units: Iterable[UnitPlan]) -> Iterator[list[UnitPlan]]:
    """Yield requests that can be read side by side: none of them wants a part of what another one writes."""
    wave: list[UnitPlan] = []
    written: dict[_Place, list[Window]] = {}
    for unit in units:
        written_now = [piece.window for piece in unit.pieces]
        wanted = (unit.request.window, *written_now)
        if any(piece.intersect(one) for piece in written.get(unit.place, ()) for one in wanted):
            yield wave
            wave, written = [], {}
        wave.append(unit)
        written.setdefault(unit.place, []).extend(written_now)
    yield wave


@contextmanager
def _telling_what_is_kept(catalog: Catalog, plan: FetchPlan, *, refresh: bool) -> Iterator[None]:
    """Add to what ends a fetch early how much of what it was to bring is there."""
    try:
        yield
    except BaseException as exc:
        pieces = [(unit.place, piece.asked) for unit in plan.units for piece in unit.pieces]
        if refresh:
            exc.add_note("Of what was to be read again, each file is the old one or the new one, and whole.")
        elif kept := sum(not catalog.missing(*place, piece) for place, piece in pieces):
            exc.add_note(f"{kept:,} of {len(pieces):,} missing windows are in the catalog now, and are kept.")
        raise


class _Meter:
    """Turns row groups into progress events."""

    def __init__(self, plan: FetchPlan, on_progress: OnProgress | None) -> None:
        self._total = plan.bytes
        self._on_progress = on_progress
        self._rows = 0
        self._bytes = 0.0
        self._objects: dict[str, ObjectProgress] = {}
        for found in (found for scan in plan.scans for found in scan.objects if found.row_groups):
            url = found.source.url
            known = self._objects.get(url) or ObjectProgress(url, found.day, 0, 0, 0, 0)
            self._objects[url] = replace(
                known,
                rows_total=known.rows_total + found.rows,
                bytes_total=known.bytes_total + found.bytes,
            )

    def add(self, request: FetchRequest, url: str, reach: Window, rows: int, moved: float) -> None:
        self._rows += rows
        self._bytes += moved
        if self._on_progress is not None:
            self._on_progress(
                FetchProgress(
                    str(request.key),
                    str(request.data_type),
                    self._rows,
                    min(self._total, round(self._bytes)),
                    self._total,
                    len(self._objects),
                    self._object(url, reach, rows),
                )
            )

    def _object(self, url: str, reach: Window, rows: int) -> ObjectProgress:
        """Return how far the object is now; one that was overwritten meanwhile is read in part twice."""
        if (known := self._objects.get(url)) is None:  # it was not there when the plan was made
            days = reach.days  # its own, and those that the slack reaches into
            known = ObjectProgress(url, days[len(days) // 2], 0, rows, 0, 0)
        read = known.rows + rows
        total = max(read, known.rows_total)
        done = round(known.bytes_total * read / total) if total else known.bytes_total
        self._objects[url] = known = replace(known, rows=read, rows_total=total, bytes_done=done)
        return known


@dataclass(eq=False)
class _Reading:
    """A scan under way, in one part or more.

    Attributes:
        scan: The scan.
        parts: Scans of its parts, in order.
        found: What came of parts, by number.
        outcome: What came of all.
    """

    scan: Scan
    parts: Sequence[Scan]
    found: dict[int, Outcome] = field(default_factory=dict)
    outcome: Outcome | None = None

    @property
    def rows(self) -> int:
        """Rows of the row groups that the parts read."""
        return sum(part.plan().rows for part in self.parts)

    @property
    def outcomes(self) -> list[Outcome]:
        """What came of the parts so far, in order."""
        return [self.found[number] for number in sorted(self.found)]

    def joined(self) -> Outcome:
        """Return what came of the parts; a row group that two of them read counts once."""
        from ticklake.fetching.reading import Outcome

        whole = Outcome.of(self.outcomes)
        again = self.rows - self.scan.plan().rows
        whole.counts.read -= again
        whole.counts.outside -= again
        return whole


@dataclass(eq=False)
class _Unit:
    """A request under way: its plan, and its scans."""

    plan: UnitPlan
    readings: list[_Reading]

    @property
    def is_done(self) -> bool:
        """Whether all that it lacked is in the catalog."""
        return all(reading.outcome is not None for reading in self.readings)


def _under_way(plans: Sequence[UnitPlan], jobs: int) -> list[_Unit]:
    """Return what is to be read, cut so that there is work for all jobs."""
    reads = [
        (scan.plan(), [piece.window for piece in plan.pieces_of(scan)])
        for plan in plans
        for scan in plan.scans
    ]
    if not reads:
        return [_Unit(plan, []) for plan in plans]
    from ticklake.fetching.parts import cut

    windows = iter(cut(reads, jobs))
    return [
        _Unit(plan, [_Reading(scan, _parts(scan, next(windows))) for scan in plan.scans]) for plan in plans
    ]


def _parts(scan: Scan, windows: Sequence[Window]) -> list[Scan]:
    return [scan.part(window) for window in windows] if len(windows) > 1 else [scan]


@dataclass
class _Run:
    """One fetch under way, and what came of it so far."""

    lake: AnyLake
    catalog: Catalog
    on_hole: OnHole
    keep: Keep
    bad_rows: BadRows
    counts: ConversionCounts = field(default_factory=ConversionCounts)
    windows: list[WindowReport] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)
    written: set[_Place] = field(default_factory=set)

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        self.warnings[text] = None

    def check(self, plan: FetchPlan) -> None:
        """Check what can be checked before data move: holes, and the bad rows of what the catalog holds."""
        refuse_holes(plan.holes, self.on_hole)
        for unit in plan.units:
            self.bad_rows.add(unit.provenance)
        self.bad_rows.check_files()

    def check_disk(self, plan: FetchPlan) -> None:
        """Check that the disk has room for what will be written, and that its locks can be relied on."""
        if not any(unit.pieces for unit in plan.units):
            return
        disk.require_space(self.catalog.path, round(plan.bytes * SPACE_FACTOR))
        if kind := disk.network_file_system(self.catalog.path):
            self.warn(
                f"the catalog {self.catalog.path} is on a network ({kind}), where locks may not hold between "
                "machines: fetch into it from one at a time"
            )

    def fetch_units(self, plans: Sequence[UnitPlan], jobs: int, meter: _Meter, locks: WriteLocks) -> None:
        """Read and write what requests lack, side by side."""
        units = _under_way([self._up_to_date(plan) for plan in plans], jobs)
        self.written |= {unit.plan.place for unit in units if unit.readings}
        for unit in units:
            if unit.is_done:
                locks.done(unit.plan.place)
        unreported = deque(units)
        self._report_done(unreported)
        if unreported:
            self._read(units, unreported, jobs, meter, locks)

    def _read(
        self, units: Sequence[_Unit], unreported: deque[_Unit], jobs: int, meter: _Meter, locks: WriteLocks
    ) -> None:
        # Not above: a run that finds all in the catalog imports none of what reads and converts.
        from ticklake.fetching.jobs import Crew
        from ticklake.fetching.memory import system_memory
        from ticklake.fetching.reading import Reader, bytes_per_row

        jobs = max(1, min(jobs, sum(len(reading.parts) for unit in units for reading in unit.readings)))
        crew = Crew(jobs)
        reader = Reader(
            opened(self.lake),
            self.catalog,
            self.bad_rows,
            keep=self.keep,
            jobs=jobs,
            on_hole=self.on_hole,
            on_batch=lambda *batch: crew.tell(partial(meter.add, *batch)),
        )

        def begin(unit: _Unit, reading: _Reading, part: Scan) -> Outcome:
            if part is unit.readings[0].parts[0]:
                crew.tell(partial(unit.plan.definitions.save, self.catalog))
            return reader.read(unit.plan, part, bytes_per_row(reading.scan, reading.rows))

        todo: deque[tuple[tuple[_Unit, _Reading, int | None], Callable[[], Outcome]]] = deque(
            ((unit, reading, number), partial(begin, unit, reading, part))
            for unit in units
            for reading in unit.readings
            for number, part in enumerate(reading.parts)
        )
        with system_memory(), closing(crew.do(todo)) as results:
            for (unit, reading, number), outcome in results:
                if number is None:
                    reading.outcome = outcome
                else:
                    reading.found[number] = outcome
                    if len(reading.found) == len(reading.parts):
                        if any(part.error for part in reading.outcomes):
                            again = partial(reader.again, unit.plan, reading.scan, reading.outcomes)
                            todo.appendleft(((unit, reading, None), again))
                        else:
                            reading.outcome = reading.joined()
                if unit.is_done:
                    locks.done(unit.plan.place)
                self._report_done(unreported)

    def _up_to_date(self, unit: UnitPlan) -> UnitPlan:
        """Return the plan as it is by now: an earlier request may have had a part of this one."""
        if unit.place not in self.written:
            return unit
        unit = plan_unit(
            self.lake,
            self.catalog,
            unit.request,
            unit.definitions,
            refresh=unit.replace,
            keep=self.keep,
        )
        refuse_holes(unit.holes_reported, self.on_hole)
        return unit

    def _report_done(self, units: deque[_Unit]) -> None:
        """Take out and report requests, in their order, as far as they are done."""
        while units and units[0].is_done:
            unit = units.popleft()
            if not unit.readings:
                unit.plan.definitions.save(self.catalog)
            for warning in unit.plan.warnings:
                self.warn(warning)
            outcomes = [reading.outcome for reading in unit.readings if reading.outcome is not None]
            for outcome in outcomes:
                self._take_in(outcome)
            self._report(unit.plan, [file for outcome in outcomes for file in outcome.published])

    def _take_in(self, outcome: Outcome) -> None:
        for warning in outcome.warnings:
            self.warn(warning)
        self.counts += outcome.counts
        self.bad_rows.add({file.path: file.provenance for file in outcome.published}, read_by=outcome.readers)
        self.windows += outcome.holes

    def _report(self, unit: UnitPlan, published: Iterable[Published]) -> None:
        windows = [window for window in unit.windows if window.status is not WindowStatus.PLANNED]
        files = list(unit.provenance.values())
        for file in published:
            status = WindowStatus.FETCHED if file.rows_asked else WindowStatus.EMPTY
            piece = file.piece
            windows.append(
                unit.report(piece.asked, status, file.rows_asked, kept=piece.window, kept_rows=file.rows)
            )
            files.append(file.provenance)
        self.windows += sorted(windows, key=lambda report: report.window)
        notes: Counter[str] = sum((file.notes for file in files), Counter())
        for note, text in _NOTES.items():
            if count := notes[note]:
                self.warn(f"{unit.request.key} {unit.request.data_type}: {count:,} rows {text}")
