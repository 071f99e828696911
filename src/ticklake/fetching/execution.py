"""Carrying a plan out: scan, convert, write; one catalog file a piece, published when it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from ticklake.catalog import Catalog
from ticklake.conversion import ConversionCounts, Converter, Note
from ticklake.errors import ConversionError, MissingDataError
from ticklake.fetching.model import FetchProgress, FetchReport, FetchRequest, WindowReport, WindowStatus
from ticklake.fetching.pieces import PieceWriter
from ticklake.fetching.planning import FetchPlan, UnitPlan, plan_fetch, plan_unit, wanted_windows
from ticklake.lake import Lake, Scan

__all__ = ["fetch"]

_NOTES = {
    Note.NO_AGGRESSOR: "have no known aggressor side and became NO_AGGRESSOR",
    Note.CROSSED_BOOK: "have a crossed book (the best bid is not below the best ask)",
    Note.LEVEL_ORDER: "have book levels out of price order",
    Note.EMPTY_BOOK: "have no book level at all",
}

type OnProgress = Callable[[FetchProgress], None]
type OnBadRow = Literal["fail", "quarantine"]


def fetch(
    lake: Lake,
    catalog: Catalog,
    requests: Iterable[FetchRequest],
    *,
    refresh: bool = False,
    offline: bool = False,
    on_hole: Literal["stop", "skip"] = "stop",
    on_bad_row: OnBadRow = "quarantine",
    max_bad_rows: int = 1_000,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Bring what the catalog lacks of the requests from the lake into it.

    A file appears in the catalog when it is whole. An error leaves the files that were complete by then; the
    next fetch reads the rest.

    Args:
        lake: Where the ticks are. No connection is opened if the catalog holds everything.
        catalog: Where they go.
        requests: What is wanted.
        refresh: Read again what the catalog holds, and replace it file by file.
        offline: Open no connection whatever is missing.
        on_hole: Whether a day that the lake does not have stops the fetch before it begins, or is left out
            and reported.
        on_bad_row: Whether a row that cannot be converted is an error, or is kept in quarantine and counted.
        max_bad_rows: With `quarantine`, one more than this many bad rows is an error all the same.
        on_progress: Called after each row group, from the calling thread.

    Raises:
        MissingDataError: The lake lacks days and `on_hole` is `stop`; all of them are listed.
        NotCachedError: `offline`, and the catalog lacks something; all that is missing is listed.
        CatalogConflictError: The catalog holds the window from another source or with another precision.
        ConversionError: A row cannot be converted, or too many cannot.
        SourceSchemaError: A source file has columns that are not understood.
        ConfigError: An instrument's definition cannot be used.
        LakeError: The lake could not be read.
        CatalogError: The catalog could not be written.
    """
    began = time.perf_counter()
    requests_before, bytes_before = lake.transfer.requests, lake.transfer.bytes
    plan = plan_fetch(lake, catalog, requests, refresh=refresh, offline=offline)
    if on_hole == "stop":
        _refuse_holes(plan)
    run = _Run(lake, catalog, on_bad_row, max_bad_rows, _Meter(plan, on_progress))
    for unit in plan.units:
        run.fetch_unit(unit)
    return FetchReport(
        windows=tuple(run.windows),
        rows=run.counts.catalog_rows,
        source_rows=run.counts.read,
        outside=run.counts.outside,
        quarantined={reason.value: count for reason, count in run.counts.quarantined.items()},
        files=sum(window.rows is not None for window in run.windows),
        requests=lake.transfer.requests - requests_before,
        bytes_read=lake.transfer.bytes - bytes_before,
        seconds=time.perf_counter() - began,
        warnings=(*plan.warnings, *run.warnings),
    )


def _refuse_holes(plan: FetchPlan) -> None:
    if holes := tuple(str(hole) for hole in plan.holes):
        lines = "".join(f"\n  {hole}" for hole in holes)
        raise MissingDataError(
            f"the lake has no file for {len(holes)} part{'s' * (len(holes) > 1)} of what is asked:{lines}",
            holes=holes,
            hint="Ask for another window, or go on without them with on_hole: skip (--on-hole skip)",
        )


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
    on_bad_row: OnBadRow
    max_bad_rows: int
    meter: _Meter
    counts: ConversionCounts = field(default_factory=ConversionCounts)
    windows: list[WindowReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fetch_unit(self, unit: UnitPlan) -> None:
        """Read and write what one request lacks."""
        unit.definitions.save(self.catalog)
        self.windows += [unit.report(window, WindowStatus.CACHED) for window in unit.cached]
        self.windows += [unit.report(hole, WindowStatus.HOLE) for hole in unit.holes]
        if not unit.pieces:
            return
        request = unit.request
        with self.catalog.lock(request.catalog_type, unit.spec.nautilus_id, on_wait=self.warnings.append):
            current = self._current(unit)
            taken = [piece for piece in unit.pieces if piece not in current.pieces]
            self.windows += [unit.report(piece, WindowStatus.CACHED) for piece in taken]
            for scan in current.scans:
                self._fetch_scan(current, scan)

    def _current(self, unit: UnitPlan) -> UnitPlan:
        """Return the plan anew where another process has fetched some of it since it was made."""
        wanted = wanted_windows(self.catalog, unit.request, unit.spec, refresh=unit.replace)
        if set(wanted) == {*unit.pieces, *unit.holes}:
            return unit
        return plan_unit(self.lake, self.catalog, unit.request, unit.definitions, refresh=unit.replace)

    def _fetch_scan(self, unit: UnitPlan, scan: Scan) -> None:
        request = unit.request
        converter = Converter(unit.spec, request.data_type, request.book_as, on_bad_row=self.on_bad_row)
        with PieceWriter(self.catalog, unit, scan, converter) as writer:
            for batch in self._converted(unit, scan, converter):
                writer.write(batch)
            writer.finish()
        self.windows += [
            unit.report(piece, WindowStatus.FETCHED if rows else WindowStatus.EMPTY, rows)
            for piece, rows in writer.published
        ]
        _check_conservation(converter.counts, unit)
        self.counts += converter.counts
        self.warnings += [
            f"{request.key} {request.data_type}: {count:,} rows {_NOTES[note]}"
            for note, count in converter.counts.notes.items()
        ]

    def _converted(self, unit: UnitPlan, scan: Scan, converter: Converter) -> Iterator[pa.RecordBatch]:
        request, plan = unit.request, scan.plan()
        bytes_per_row = plan.bytes / plan.rows if plan.rows else 0.0
        with closing(scan.batches()) as batches:
            for source in batches:
                yield from converter.push(
                    source.table,
                    source.dialect,
                    watermark=source.watermark,
                    first_row=source.first_row,
                    window=scan.window,
                    url=source.source.url,
                )
                if self.counts.bad + converter.counts.bad > self.max_bad_rows:
                    raise _too_many(self.counts + converter.counts, unit, self.max_bad_rows)
                self.meter.add(request, source.table.num_rows, bytes_per_row * source.table.num_rows)
        yield from converter.flush()


def _too_many(counts: ConversionCounts, unit: UnitPlan, allowed: int) -> ConversionError:
    reasons = ", ".join(f"{count:,} {reason.value}" for reason, count in counts.quarantined.most_common())
    return ConversionError(
        f"more than {allowed:,} rows cannot be converted: {reasons}",
        instrument=str(unit.request.key),
        data_type=str(unit.request.data_type),
        hint="Correct the source or the instrument's precision, or raise max_bad_rows. "
        "To see the first of them, set on_bad_row: fail",
    )


def _check_conservation(counts: ConversionCounts, unit: UnitPlan) -> None:
    if counts.read != counts.outside + counts.bad + counts.written:
        raise ConversionError(
            f"rows were lost: {counts.read} read, but {counts.outside} outside the window, {counts.bad} in "
            f"quarantine and {counts.written} written",
            instrument=str(unit.request.key),
            data_type=str(unit.request.data_type),
            hint="This is a defect of ticklake; please report it",
        )
