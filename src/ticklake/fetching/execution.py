"""Carrying a plan out: scan, convert, write; one catalog file a piece, published when it is whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Literal

import pyarrow as pa

from ticklake.catalog import Catalog, disk
from ticklake.conversion import ConversionCounts, Converter, Note
from ticklake.errors import ConversionError, MissingDataError, ObjectChangedError
from ticklake.fetching.badrows import BadRows, OnBadRow
from ticklake.fetching.locking import WriteLocks
from ticklake.fetching.model import (
    FetchProgress,
    FetchReport,
    FetchRequest,
    Keep,
    WindowReport,
    WindowStatus,
)
from ticklake.fetching.pieces import PieceWriter, Published, RowsLostError
from ticklake.fetching.planning import FetchPlan, Resolved, UnitPlan, plan_resolved, plan_unit, resolve_all
from ticklake.lake import Lake, Scan
from ticklake.types import CatalogType, Window

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

RESTARTS = 3
"""How often what is made of a file is made again, because the file was overwritten meanwhile."""

type OnProgress = Callable[[FetchProgress], None]
type OnHole = Literal["stop", "skip"]


def fetch(
    lake: Lake,
    catalog: Catalog,
    requests: Iterable[FetchRequest],
    *,
    refresh: bool = False,
    offline: bool = False,
    on_hole: OnHole = "stop",
    on_bad_row: OnBadRow = "quarantine",
    max_bad_rows: int = 1_000,
    keep: Keep = "row_groups",
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Bring what the catalog lacks of the requests from the lake into it.

    A file appears in the catalog when it is whole. An error leaves the files that were complete by then; the
    next fetch reads the rest. Where something is missing, the type and instrument are locked before footers
    are read: of several processes that fetch the same one reads it, and the others find it there.

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
        on_progress: Called after each row group, from the calling thread.

    Raises:
        ValueError: `keep` is none of its choices.
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
    began = time.perf_counter()
    requests_before, bytes_before = lake.transfer.requests, lake.transfer.bytes
    resolved = resolve_all(lake, catalog, requests, refresh=refresh, offline=offline)
    run = _Run(lake, catalog, on_hole, keep, BadRows(on_bad_row, max_bad_rows))
    with _planned(lake, catalog, resolved, refresh=refresh, keep=keep, on_wait=run.warn) as (plan, locks):
        run.check(plan)
        run.check_disk(plan)
        meter = _Meter(plan, on_progress)
        for unit in plan.units:
            run.fetch_unit(unit, meter)
            locks.done(unit.place)
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
    lake: Lake,
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


class _Meter:
    """Turns row groups into progress events."""

    def __init__(self, plan: FetchPlan, on_progress: OnProgress | None) -> None:
        self._total = plan.bytes
        self._on_progress = on_progress
        self._rows = 0
        self._bytes = 0.0

    def add(self, request: FetchRequest, rows: int, moved: float) -> None:
        self._rows += rows
        self._bytes += moved
        if self._on_progress is not None:
            done = min(self._total, round(self._bytes))
            self._on_progress(
                FetchProgress(str(request.key), str(request.data_type), self._rows, done, self._total)
            )


@dataclass
class _Run:
    """One fetch under way, and what came of it so far."""

    lake: Lake
    catalog: Catalog
    on_hole: OnHole
    keep: Keep
    bad_rows: BadRows
    counts: ConversionCounts = field(default_factory=ConversionCounts)
    windows: list[WindowReport] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)
    written: set[tuple[CatalogType, str]] = field(default_factory=set)

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        self.warnings[text] = None

    def check(self, plan: FetchPlan) -> None:
        """Check what can be checked before data move: holes, and the bad rows of what the catalog holds."""
        self._refuse_holes(plan.holes)
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

    def _refuse_holes(self, found: Iterable[WindowReport]) -> None:
        holes = tuple(str(hole) for hole in found)
        if not holes or self.on_hole == "skip":
            return
        lines = "".join(f"\n  {hole}" for hole in holes)
        raise MissingDataError(
            f"the lake has no file for {len(holes)} part{'s' * (len(holes) > 1)} of what is asked:{lines}",
            holes=holes,
            hint="Ask for another window, or go on without them with on_hole: skip (--on-hole skip)",
        )

    def fetch_unit(self, unit: UnitPlan, meter: _Meter) -> None:
        """Read and write what one request lacks."""
        if unit.place in self.written:  # by an earlier request, which may have had a part of this one
            unit = self._plan(unit, unit.request.window, refresh=unit.replace, keep=self.keep)
            self._refuse_holes(unit.holes_reported)
        unit.definitions.save(self.catalog)
        for warning in unit.warnings:
            self.warn(warning)
        published = [piece for scan in unit.scans for piece in self._fetch_scan(unit, scan, meter)]
        self._report(unit, published)

    def _plan(self, unit: UnitPlan, window: Window, *, refresh: bool, keep: Keep) -> UnitPlan:
        """Plan a part of a request anew."""
        request = replace(unit.request, window=window)
        return plan_unit(self.lake, self.catalog, request, unit.definitions, refresh=refresh, keep=keep)

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

    def _fetch_scan(
        self, unit: UnitPlan, scan: Scan, meter: _Meter, restarts: int = RESTARTS
    ) -> list[Published]:
        """Read and write the pieces of a scan; those of a file that changes meanwhile are made again."""
        self.written.add(unit.place)
        writer = PieceWriter(self.catalog, unit, scan, self.bad_rows.on_bad_row)
        try:
            with writer:
                for batch in self._converted(unit.request, scan, writer.converter, meter):
                    writer.write(batch)
                writer.finish()
        except ObjectChangedError as exc:
            if not restarts:
                exc.hint = f"It was begun {RESTARTS + 1} times; fetch again when nobody writes to the object."
                raise
            changed = exc.url
        except RowsLostError:
            raise
        except ConversionError:
            if not any(piece.is_wider for piece in writer.unpublished):
                raise
            changed = None
        else:
            self._account(writer.published, writer.converter.counts)
            return writer.published
        kept = writer.published
        if changed is not None:
            self.warn(f"{changed} was overwritten while it was being read, and was read again")
            # No piece mixes versions, nor do neighbours: all that the old one had a part in goes.
            kept = list(takewhile(lambda file: not file.has_source(changed), kept))
        self._account(kept, sum((file.counts for file in kept), ConversionCounts()))
        asked = [piece.asked for piece in writer.pieces[len(kept) :]]
        rest = self._plan(
            unit,
            Window(asked[0].start, asked[-1].end),
            refresh=unit.replace or changed is not None,
            # What was not asked for does not stand in the way of what was.
            keep=self.keep if changed is not None else "window",
        )
        self._refuse_holes(rest.holes_reported)
        self.windows += rest.holes_reported
        restarts -= changed is not None
        return kept + [file for scan in rest.scans for file in self._fetch_scan(rest, scan, meter, restarts)]

    def _account(self, published: Iterable[Published], counts: ConversionCounts) -> None:
        self.counts += counts
        self.bad_rows.add({file.path: file.provenance for file in published})

    def _converted(
        self, request: FetchRequest, scan: Scan, converter: Converter, meter: _Meter
    ) -> Iterator[pa.RecordBatch]:
        plan = scan.plan()
        bytes_per_row = plan.bytes / plan.rows if plan.rows else 0.0
        with closing(scan.batches()) as batches:
            for source in batches:
                for note in source.notes:
                    self.warn(note)
                yield from converter.push(
                    source.table,
                    source.dialect,
                    watermark=source.watermark,
                    first_row=source.first_row,
                    window=scan.window,
                    reach=source.reach,
                    undated=source.undated,
                    url=source.source.url,
                )
                self.bad_rows.check(converter.counts, request)
                meter.add(request, source.table.num_rows, bytes_per_row * source.table.num_rows)
        yield from converter.flush()
