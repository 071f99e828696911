"""What a job does: it reads a scan, or a part of one, converts its rows and publishes its pieces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Self

import pyarrow as pa

from ticklake.catalog import Catalog
from ticklake.conversion import ConversionCounts, Converter
from ticklake.errors import ConversionError, ObjectChangedError
from ticklake.fetching.badrows import BadRows
from ticklake.fetching.model import FetchRequest, Keep, OnHole, WindowReport, refuse_holes
from ticklake.fetching.pieces import PieceWriter, Published, RowsLostError
from ticklake.fetching.planning import UnitPlan, plan_unit
from ticklake.lake import Lake, Scan
from ticklake.lake.lake import DEFAULT_IN_FLIGHT_BYTES
from ticklake.types import Window, subtract_windows

__all__ = ["RESTARTS", "Outcome", "Reader", "bytes_per_row"]

RESTARTS = 3
"""How often what is made of a file is made again, because the file was overwritten meanwhile."""

_DECODERS = 1
"""Threads that decode for a job: one keeps ahead of its encoder, and the allocator keeps 30 MB of each."""

_ENCODERS = 2
"""Threads that encode books for a job: to encode takes longer than to convert, other than of trades."""

_THREADS = 2
"""A job's own threads: one converts what it decodes, another one writes, and encodes."""


@dataclass
class Outcome:
    """What came of a scan, or of a part of one.

    Attributes:
        published: Its pieces that are in the catalog.
        counts: What became of its source rows.
        readers: Who told the bad rows among them; see `BadRows`.
        warnings: What a user should know.
        holes: What the lake does not have any more.
        error: Why it is not whole: a file was overwritten meanwhile, or rows cannot be converted that may lie
            around what was asked for.
    """

    published: list[Published] = field(default_factory=list)
    counts: ConversionCounts = field(default_factory=ConversionCounts)
    readers: list[object] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    holes: list[WindowReport] = field(default_factory=list)
    error: ObjectChangedError | ConversionError | None = None

    @classmethod
    def of(cls, parts: Iterable[Outcome]) -> Self:
        """Return what came of parts together."""
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole

    def add(self, other: Outcome) -> None:
        """Take in what came of another part."""
        self.published += other.published
        self.counts += other.counts
        self.readers += other.readers
        self.warnings += other.warnings
        self.holes += other.holes


@dataclass(frozen=True, slots=True)
class _Share:
    """What one of several jobs may use, so that all of them use no more memory than one alone would.

    More threads than cores are slower. Measured on 2 cores, a job without a decoder takes 0.89 of the time of
    one with a decoder for trades, and as long for books; of 2 jobs those without take 0.93, and of 4 jobs
    those that also wait for their encoder 0.93 of those that do not. With encoders besides the thread that
    writes, books take 0.89 (depth) and 0.97 (deltas) of the time, and trades 1.08.

    Attributes:
        in_flight_bytes: Bound on what it has fetched and decoded.
        of_queue: Its part of what may wait for encoders.
        decoders: Threads that decode for it.
        encoders: Threads that encode books for it; with 0 the one that writes does.
    """

    in_flight_bytes: int
    of_queue: float
    decoders: int
    encoders: int

    @classmethod
    def of(cls, jobs: int, cores: int) -> Self:
        return cls(
            DEFAULT_IN_FLIGHT_BYTES // jobs,
            1 / jobs if jobs <= cores else 0,
            _DECODERS if cores >= jobs * (_THREADS + _DECODERS) else 0,
            _ENCODERS if cores >= jobs * _ENCODERS else 0,
        )


class Reader:
    """Reads scans into the catalog; may be used by several threads.

    Args:
        lake: Where the ticks are.
        catalog: Where they go.
        bad_rows: The rule for bad rows.
        keep: What a plan made anew keeps around what was asked for.
        jobs: How many threads use it: what may be in flight, and the decoders, are shared among them.
        on_hole: What is done where a plan made anew has a hole.
        on_batch: Called after each row group with the request, the object's URL, the window that its rows may
            be in, their number, and the bytes that they took.
    """

    def __init__(
        self,
        lake: Lake,
        catalog: Catalog,
        bad_rows: BadRows,
        *,
        keep: Keep,
        jobs: int,
        on_hole: OnHole,
        on_batch: Callable[[FetchRequest, str, Window, int, float], None],
    ) -> None:
        self._lake = lake
        self._catalog = catalog
        self._bad_rows = bad_rows
        self._keep = keep
        self._share = _Share.of(jobs, os.process_cpu_count() or 1)
        self._on_hole = on_hole
        self._on_batch = on_batch

    def read(self, unit: UnitPlan, scan: Scan, bytes_per_row: float) -> Outcome:
        """Read and write the pieces of a scan.

        That ends early, which the outcome tells, where a file was overwritten, or where a row stands in the
        way that may have come along with what was asked for.

        Args:
            unit: The request.
            scan: Its scan, or a part of it that begins and ends where pieces do.
            bytes_per_row: What a source row counts to the bytes planned.
        """
        reader = object()
        found = Outcome(readers=[reader])
        writer = PieceWriter(
            self._catalog,
            unit,
            scan,
            self._bad_rows.on_bad_row,
            share=self._share.of_queue,
            encoders=self._share.encoders if unit.request.data_type.is_book else 0,
        )
        found.published, found.counts = writer.published, writer.converter.counts
        try:
            with writer:
                for batch in self._converted(unit.request, scan, writer.converter, found, bytes_per_row):
                    writer.write(batch)
                writer.finish()
        except ObjectChangedError as exc:
            found.error = exc
        except RowsLostError:
            raise
        except ConversionError as exc:
            if not any(piece.is_wider for piece in writer.unpublished):
                raise
            self._bad_rows.add({}, read_by=found.readers)
            found.error = exc
        return found

    def again(
        self, unit: UnitPlan, scan: Scan, parts: Sequence[Outcome], restarts: int = RESTARTS
    ) -> Outcome:
        """Read again what is not whole; return what came of all, that included.

        No piece mixes versions of a file, nor do neighbours: all that an overwritten one had a part in goes.
        What came along with what was asked for does not stand in its way: it is left out.

        Args:
            unit: The request.
            scan: What was to be read.
            parts: What came of it.
            restarts: How often it may be begun again because a file was overwritten.

        Raises:
            ObjectChangedError: It may not.
            ConversionError: Rows that were asked for cannot be converted.
        """
        errors = [part.error for part in parts if part.error is not None]
        changes = [error for error in errors if isinstance(error, ObjectChangedError)]
        for change in changes:
            if not restarts:
                change.hint = (
                    f"It was begun {RESTARTS + 1} times; fetch again when nobody writes to the object."
                )
                raise change
        whole = Outcome.of(parts)
        if not errors:
            return whole
        urls = dict.fromkeys(change.url for change in changes)
        whole.warnings += [
            f"{url} was overwritten while it was being read, and was read again" for url in urls
        ]
        kept = [file for file in whole.published if not any(map(file.has_source, urls))]
        whole.published = kept
        whole.counts = sum((file.counts for file in kept), ConversionCounts())
        self._bad_rows.add({file.path: file.provenance for file in kept}, read_by=whole.readers)
        asked = [piece.asked for piece in unit.pieces_of(scan)]
        lacking = subtract_windows(Window(asked[0].start, asked[-1].end), [file.piece.asked for file in kept])
        for window in lacking:
            rest = plan_unit(
                self._lake,
                self._catalog,
                replace(unit.request, window=window),
                unit.definitions,
                refresh=unit.replace or bool(changes),
                keep="window" if len(changes) < len(errors) else self._keep,
            )
            refuse_holes(rest.holes_reported, self._on_hole)
            whole.holes += rest.holes_reported
            for scan in rest.scans:
                part = self.read(rest, scan, bytes_per_row(scan, scan.plan().rows))
                whole.add(self.again(rest, scan, [part], restarts - bool(changes)))
        return whole

    def _converted(
        self, request: FetchRequest, scan: Scan, converter: Converter, found: Outcome, bytes_per_row: float
    ) -> Iterator[pa.RecordBatch]:
        (reader,) = found.readers
        share = self._share
        with closing(
            scan.batches(max_in_flight_bytes=share.in_flight_bytes, decoders=share.decoders)
        ) as batches:
            for source in batches:
                found.warnings += source.notes
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
                self._bad_rows.check(reader, converter.counts, request)
                rows = source.table.num_rows
                self._on_batch(request, source.source.url, source.reach, rows, bytes_per_row * rows)
        yield from converter.flush()


def bytes_per_row(scan: Scan, rows: int) -> float:
    """Return what a source row of a scan counts to the bytes planned, where that many are read."""
    return scan.plan().bytes / rows if rows else 0.0
