"""One ordered stream of rows into the catalog files of the windows that they belong to."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ticklake.catalog import Catalog, CatalogWriter, Provenance, Source
from ticklake.catalog.quarantine import remove_other_quarantine, write_quarantine
from ticklake.catalog.records import record_published
from ticklake.conversion import ConversionCounts, Converter, Note, Reason, Repeats
from ticklake.errors import ConversionError
from ticklake.fetching.model import Piece
from ticklake.fetching.planning import UnitPlan
from ticklake.lake import ObjectPlan, Scan
from ticklake.types import CatalogType, Window

__all__ = ["PieceWriter", "Published", "RowsLostError"]


_QUEUED_BYTES = 16 * 1024 * 1024
"""Bytes that may wait for an encoder: enough to keep it busy. A batch that is larger is waited for."""

_LAST_OF_SNAPSHOT = 128


class RowsLostError(ConversionError):
    """Rows did not come through: a defect, which nothing may hide."""


@dataclass(frozen=True, slots=True)
class Published:
    """A piece that is in the catalog.

    Attributes:
        piece: What was asked for, and what its file answers for.
        path: The file.
        rows: Its rows.
        rows_asked: Those that lie in what was asked for.
        provenance: What its footer says.
    """

    piece: Piece
    path: Path
    rows: int
    rows_asked: int
    provenance: Provenance

    def has_source(self, url: str | None) -> bool:
        """Whether rows of an object may be in it."""
        return any(source.url == url for source in self.provenance.sources)

    @property
    def counts(self) -> ConversionCounts:
        """What became of the source rows that are in it or in its quarantine."""
        bad = Counter({Reason(reason): n for reason, n in self.provenance.quarantined.items()})
        written = self.provenance.counts["written"]
        return ConversionCounts(
            read=written + bad.total(), quarantined=bad, written=written, catalog_rows=self.rows
        )


class PieceWriter:
    """Writes the rows of a scan into one file a piece, and publishes each as soon as it is whole.

    Rows are encoded in a thread of their own, or several, while the next ones are converted. A context
    manager: a piece that is under way when the block is left is dropped.

    Args:
        catalog: Where the files go.
        unit: The request and its pieces.
        scan: What is read; its window is a run of pieces without gaps.
        on_bad_row: Whether a row that cannot be converted is an error or goes to quarantine.
        share: How much of what may wait for encoders is for this one, 0 to 1.
        encoders: Threads that encode besides the one that writes; with 0 that one does, see `CatalogWriter`.

    Attributes:
        pieces: The pieces of the scan.
        converter: What the rows to write come from.
        published: The pieces published so far.
    """

    def __init__(
        self,
        catalog: Catalog,
        unit: UnitPlan,
        scan: Scan,
        on_bad_row: Literal["fail", "quarantine"],
        *,
        share: float,
        encoders: int,
    ) -> None:
        request = unit.request
        self.converter = Converter(
            unit.spec, request.data_type, request.book_as, on_bad_row=on_bad_row, on_notes=self._note
        )
        self.published: list[Published] = []
        self._catalog = catalog
        self._unit = unit
        self._scan = scan
        self.pieces = unit.pieces_of(scan)
        self._ends = np.array([piece.window.end for piece in self.pieces])
        self._notes: list[Counter[Note]] = [Counter() for _ in self.pieces]
        self._repeats = Repeats()
        self._received = 0
        self._rows = 0
        self._rows_asked = 0
        self._source_rows = 0
        self._writer: CatalogWriter | None = None
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ticklake-write")
        self._encoding: deque[tuple[Future[None], int]] = deque()
        self._queued_bytes = 0
        self._queue = round(_QUEUED_BYTES * share)
        self._encoders = encoders

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows that follow those before in `ts_init`; all of them lie in the scan's window."""
        self._received += rows.num_rows
        times = rows.column("ts_init").view(pa.int64()).to_numpy()
        start = 0
        while start < len(times):
            piece = self._piece
            end = start + int(times[start:].searchsorted(piece.window.end))
            if end > start:
                self._encode(rows.slice(start, end - start))
                asked = times[start:end].searchsorted((piece.asked.start, piece.asked.end))
                self._rows_asked += int(asked[1] - asked[0])
            if end < len(times):
                self._publish()
            start = end

    def finish(self) -> None:
        """Publish the piece under way and those after it, which have no rows."""
        counts = self.converter.counts
        written = self._source_rows + sum(one.provenance.counts["written"] for one in self.published)
        if counts.read != counts.outside + counts.bad + counts.written or counts.written != written:
            raise self._lost(
                f"{counts.read} read, but {counts.outside} outside the window, {counts.bad} in quarantine, "
                f"{counts.written} converted and {written} written"
            )
        while len(self.published) < len(self.pieces):
            self._publish()

    def _note(self, note: Note, times: npt.NDArray[np.int64]) -> None:
        """Count remarkable rows with the pieces that they lie in."""
        pieces = self._ends.searchsorted(times, side="right")
        for index, count in enumerate(np.bincount(pieces, minlength=len(self.pieces))):
            if count:
                self._notes[index][note] += int(count)

    def _encode(self, rows: pa.RecordBatch) -> None:
        self._rows += rows.num_rows
        self._source_rows += self._sources_of(rows)
        size = rows.nbytes
        self._encoding.append((self._encoder.submit(self._write, self._open(), rows), size))
        self._queued_bytes += size
        self._settle(self._queue)

    def _write(self, writer: CatalogWriter, rows: pa.RecordBatch) -> None:
        """Do in the encoder's thread what the order of rows is needed for, and nothing after them."""
        if self._unit.request.catalog_type is CatalogType.TRADES:
            self._repeats.add(rows)
        writer.write(rows)

    def _sources_of(self, rows: pa.RecordBatch) -> int:
        """Count the source rows that catalog rows come from; a book snapshot becomes several deltas."""
        if self._unit.request.catalog_type is not CatalogType.DELTAS:
            return int(rows.num_rows)
        return int(np.count_nonzero(rows.column("flags").to_numpy() & _LAST_OF_SNAPSHOT))

    def _settle(self, waiting: int) -> None:
        """Wait until no more than so many bytes wait for the encoder; its errors come out here."""
        while self._queued_bytes > waiting:
            encoded, size = self._encoding.popleft()
            encoded.result()
            self._queued_bytes -= size

    @property
    def unpublished(self) -> tuple[Piece, ...]:
        """The pieces that are not published yet."""
        return self.pieces[len(self.published) :]

    @property
    def _piece(self) -> Piece:
        return self.pieces[len(self.published)]

    def _open(self) -> CatalogWriter:
        if self._writer is None:
            unit = self._unit
            self._writer = self._catalog.writer(
                unit.request.catalog_type,
                unit.spec,
                self._piece.window,
                replace=unit.replace,
                encoders=self._encoders,
            )
        return self._writer

    def _publish(self) -> None:
        """Publish the piece under way. All its rows were read: later ones have come out of the order."""
        writer, piece = self._open(), self._piece
        self._settle(0)
        self._check(writer)
        place = (self._catalog.path, *self._unit.place, piece.window)
        bad = self.converter.take_quarantined(piece.window.end)
        # Before the file, and what it replaces after it: so the file's own bad rows are there at any time.
        provenance = self._provenance(piece.window, writer.rows, bad, write_quarantine(*place, bad))
        path = writer.commit(provenance)
        record_published(self._catalog.path, path, writer.rows)
        remove_other_quarantine(*place, keep=provenance.quarantine)
        self.published.append(Published(piece, path, writer.rows, self._rows_asked, provenance))
        self._writer = None
        self._rows = self._rows_asked = self._source_rows = 0
        self._repeats = Repeats()

    def _check(self, writer: CatalogWriter) -> None:
        """Check that the file has all rows that it was given, and that all rows came here."""
        converted = self.converter.counts.catalog_rows
        if writer.rows != self._rows or self._received != converted:
            raise self._lost(
                f"{converted} made, {self._received} handed on; of {self._rows} for {writer.window} "
                f"{writer.rows} written"
            )

    def _lost(self, counts: str) -> RowsLostError:
        return RowsLostError(
            f"rows were lost: {counts}",
            instrument=str(self._unit.request.key),
            data_type=str(self._unit.request.data_type),
            hint="This is a defect of ticklake; please report it",
        )

    def _provenance(self, window: Window, rows: int, bad: list[pa.Table], quarantine: str) -> Provenance:
        notes = self._notes[len(self.published)] + self._repeats.counts()
        reasons = Counter(reason for table in bad for reason in table["reason"].to_pylist())
        objects = self._scan.plan().objects
        looked_at = [sum(group.rows_for(window) for group in found.row_groups) for found in objects]
        read = sum(looked_at)
        sources = [found for found, count in zip(objects, looked_at, strict=True) if count]
        if not sources:
            near = {day.toordinal() + side for day in window.days for side in (-1, 0, 1)}
            sources = [found for found in objects if found.day.toordinal() in near]
        return replace(
            self._unit.origin,
            sources=tuple(_source(found) for found in sources),
            quarantine=quarantine,
        ).with_counts(
            {
                "rows": rows,
                "read": read,
                "written": self._source_rows,
                "outside": read - self._source_rows - reasons.total(),
            },
            quarantined=reasons,
            notes={note.value: n for note, n in notes.items()},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._encoder.shutdown(cancel_futures=True)
        if self._writer is not None:
            self._writer.discard()


def _source(found: ObjectPlan) -> Source:
    source = found.source
    return Source(source.url, source.etag, source.size, source.rows)
