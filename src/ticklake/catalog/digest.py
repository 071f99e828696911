"""A digest of the rows of a catalog, whatever files, row groups, pages and dictionaries they are kept in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ticklake.errors import CatalogCorruptError
from ticklake.types import Window, merge_windows

if TYPE_CHECKING:
    from ticklake.catalog.cache import CatalogFile, Coverage

__all__ = ["content_digest"]


def content_digest(
    places: Iterable[tuple[Coverage, Iterable[CatalogFile]]], window: Window | None = None
) -> str:
    """Return a digest of coverage and rows, as SHA-256 in hexadecimal.

    Args:
        places: What is covered, with its files, in a fixed order.
        window: The part to look at; all by default.

    Raises:
        FileNotFoundError: A file was removed since it was listed.
        CatalogCorruptError: A file cannot be read.
    """
    whole = hashlib.sha256()
    for covered, files in places:
        parts = [part if window is None else part.intersect(window) for part in covered.windows]
        spans = [part.closed for part in merge_windows(part for part in parts if part is not None)]
        if spans:
            rows = _Rows()
            for file in files:
                if window is None or file.window.intersect(window):
                    _add_file(rows, file, window)
            entry = [covered.catalog_type.value, covered.nautilus_id, spans, rows.digest()]
            whole.update(json.dumps(entry).encode() + b"\n")
    return whole.hexdigest()


def _add_file(rows: _Rows, file: CatalogFile, window: Window | None) -> None:
    try:
        with (
            file.path.open("rb") as stream,
            pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=False) as parquet,
        ):
            for batch in parquet.iter_batches():
                rows.add(batch if window is None else _clipped(batch, window))
            rows.describe(parquet.schema_arrow.metadata or {})
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise CatalogCorruptError(
            f"{file.path} cannot be read: {exc}", hint="See `ticklake verify`, which can mend it."
        ) from exc


def _clipped(batch: pa.RecordBatch, window: Window) -> pa.RecordBatch:
    times = batch.column("ts_init").view(pa.int64()).to_numpy()
    first, last = (int(times.searchsorted(nanos)) for nanos in (window.start, window.end))
    return batch.slice(first, last - first)


class _Rows:
    """Hashes each column, and each leaf of a nested one, as one stream: cuts between rows leave no trace."""

    def __init__(self) -> None:
        self._streams: dict[str, hashlib._Hash] = {}
        self._count = 0
        self._described: set[str] = set()

    def add(self, batch: pa.RecordBatch) -> None:
        self._count += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._add(name, column)

    def describe(self, metadata: dict[bytes, bytes]) -> None:
        """Add what rows are read with."""
        said = {
            key.decode(): metadata[key].decode()
            for key in (b"instrument_id", b"price_precision", b"size_precision", b"type_name")
            if key in metadata
        }
        self._described.add(json.dumps(said, sort_keys=True))

    def digest(self) -> str:
        streams = {name: stream.hexdigest() for name, stream in self._streams.items()} if self._count else {}
        values = [self._count, sorted(self._described), streams]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _add(self, path: str, column: pa.Array) -> None:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        self._update(f"{path}?", pc.is_valid(column).cast(pa.uint8()))
        kind = column.type
        if pa.types.is_struct(kind):
            for field, inner in zip(kind, column.flatten(), strict=True):
                self._add(f"{path}.{field.name}", inner)
        elif pa.types.is_list(kind):
            self._update(f"{path}#", pc.fill_null(pc.list_value_length(column), 0))
            self._add(f"{path}[]", column.flatten())
        elif pa.types.is_string(kind):
            filled = pc.fill_null(column, "")
            self._update(f"{path}#", pc.binary_length(filled))
            _, offsets, characters = filled.buffers()
            limits = np.frombuffer(offsets, np.int32)[filled.offset : filled.offset + len(filled) + 1]
            if characters is not None and len(limits):
                self._stream(path).update(memoryview(characters)[limits[0] : limits[-1]])
        else:
            self._update(path, pc.fill_null(column, pa.scalar(0, pa.int64()).cast(kind)))

    def _update(self, path: str, column: pa.Array) -> None:
        stream, buffer, width = self._stream(path), column.buffers()[1], column.type.bit_width // 8
        if len(column) and buffer is not None:
            stream.update(memoryview(buffer)[column.offset * width : (column.offset + len(column)) * width])

    def _stream(self, path: str) -> hashlib._Hash:
        return self._streams.setdefault(path, hashlib.sha256())
