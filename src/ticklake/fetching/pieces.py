"""One ordered stream of rows into the catalog files of the windows that they belong to."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from ticklake.catalog import Catalog, CatalogWriter, Provenance, Source
from ticklake.catalog.quarantine import write_quarantine
from ticklake.conversion import Converter
from ticklake.fetching.planning import UnitPlan
from ticklake.lake import Scan
from ticklake.types import Window

__all__ = ["PieceWriter"]


_QUEUED_BATCHES = 8
"""Batches that may wait for the encoder: enough to keep it busy, few enough not to count in memory."""


class PieceWriter:
    """Writes the rows of a scan into one file a piece, and publishes each as soon as it is whole.

    Rows are encoded in a thread of their own while the next ones are converted. A context manager:
    a piece that is under way when the block is left is dropped.

    Args:
        catalog: Where the files go.
        unit: The request and its pieces.
        scan: What is read; its window is a run of pieces without gaps.
        converter: Where the rows come from, for counts and bad rows.

    Attributes:
        published: The pieces published so far with their rows.
    """

    def __init__(self, catalog: Catalog, unit: UnitPlan, scan: Scan, converter: Converter) -> None:
        self.published: list[tuple[Window, int]] = []
        self._catalog = catalog
        self._unit = unit
        self._scan = scan
        self._converter = converter
        self._pieces = [piece for piece in unit.pieces if piece.intersect(scan.window)]
        self._writer: CatalogWriter | None = None
        self._encoder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ticklake-encode")
        self._encoding: deque[Future[None]] = deque()

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows that follow those before in `ts_init`; all of them lie in the scan's window."""
        times = rows.column("ts_init").view(pa.int64()).to_numpy()
        start = 0
        while start < len(times):
            end = start + int(times[start:].searchsorted(self._piece.end))
            if end > start:
                self._encode(rows.slice(start, end - start))
            if end < len(times):
                self._publish()
            start = end

    def finish(self) -> None:
        """Publish the piece under way and those after it, which have no rows."""
        while len(self.published) < len(self._pieces):
            self._publish()

    def _encode(self, rows: pa.RecordBatch) -> None:
        self._encoding.append(self._encoder.submit(self._open().write, rows))
        self._settle(_QUEUED_BATCHES)

    def _settle(self, waiting: int) -> None:
        """Wait until no more than so many batches wait for the encoder; its errors come out here."""
        while len(self._encoding) > waiting:
            self._encoding.popleft().result()

    @property
    def _piece(self) -> Window:
        return self._pieces[len(self.published)]

    def _open(self) -> CatalogWriter:
        if self._writer is None:
            unit = self._unit
            self._writer = self._catalog.writer(
                unit.request.catalog_type, unit.spec, self._piece, replace=unit.replace
            )
        return self._writer

    def _publish(self) -> None:
        """Publish the piece under way. All its rows were read: later ones have come out of the order."""
        writer, piece = self._open(), self._piece
        self._settle(0)
        request, spec = self._unit.request, self._unit.spec
        bad = self._take_bad_rows(piece)
        write_quarantine(self._catalog.path, request.catalog_type, spec.nautilus_id, piece, bad)
        reasons = Counter(reason for table in bad for reason in table["reason"].to_pylist())
        writer.commit(
            Provenance(
                lake_key=str(request.key),
                data_type=str(request.data_type),
                sources=self._sources(piece),
                counts={"rows": writer.rows, **{f"quarantined_{name}": n for name, n in reasons.items()}},
            )
        )
        self.published.append((piece, writer.rows))
        self._writer = None

    def _take_bad_rows(self, piece: Window) -> list[pa.Table]:
        """Take the bad rows of a piece; a row without a usable time counts to the first piece published."""
        taken, left = [], []
        for table in self._converter.quarantined:
            later = pc.greater_equal(table["ts_init_ns"], piece.end).fill_null(fill_value=False)
            taken.append(table.filter(pc.invert(later)))
            left.append(table.filter(later))
        self._converter.quarantined[:] = [table for table in left if table.num_rows]
        return [table for table in taken if table.num_rows]

    def _sources(self, piece: Window) -> tuple[Source, ...]:
        return tuple(
            Source(found.source.url, found.source.etag, found.source.size, found.source.rows)
            for found in self._scan.plan().objects
            if any(_meets(group.time_min, group.time_max, piece) for group in found.row_groups)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._encoder.shutdown(cancel_futures=True)
        if self._writer is not None:
            self._writer.discard()


def _meets(first: int | None, last: int | None, piece: Window) -> bool:
    """Tell whether rows with these statistics may lie in a piece; without statistics they may."""
    return first is None or last is None or (first < piece.end and last >= piece.start)
