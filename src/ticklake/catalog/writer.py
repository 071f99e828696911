"""Atomic files: nothing appears under its final name before it is complete, checked and on disk.

A file is written under `<root>/.ticklake/tmp`, which the engine never looks at, synced, and renamed into
`<root>/data`. Each temporary is locked (`flock`) by the process that writes it, so that what a dead process
left behind can be told from what a living one needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Buffer, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace as replaced
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog import disk
from ticklake.catalog.naming import file_name, instrument_dir, other_spelling, parse_file_name
from ticklake.catalog.provenance import FOOTER_KEY, Provenance
from ticklake.catalog.schema import schema
from ticklake.errors import CatalogConflictError, CatalogError
from ticklake.parquet.footers import MAGIC
from ticklake.parquet.joining import Joined
from ticklake.types import CatalogType, InstrumentSpec, Window, format_nanos

__all__ = ["ROW_GROUP_ROWS", "AtomicFile", "CatalogWriter", "data_folder", "remove_stale_temporaries"]

ROW_GROUP_ROWS: Mapping[CatalogType, int] = MappingProxyType(
    {CatalogType.TRADES: 131_072, CatalogType.DELTAS: 131_072, CatalogType.DEPTHS: 32_768}
)
"""Rows of a row group, all but the last: some 10 MB in memory. Of their number nothing else depends much.

Measured on 3M trades: groups of 32,768 to 1,048,576 rows take 1.09 to 0.95 of the time to encode and 1.01 to
0.98 of the bytes that those of 262,144 take, and the engine's replay differs by no more than from run to run.
"""

_TEMPORARY = ".parquet.tmp"

# Measured on 3M trades, 11M deltas and 1M depths, synthetic and real, by the time to write, the bytes, and
# the engine's replay; docs/benchmarks.md has the numbers. Dictionaries are for what has few values, and for
# sizes, which are 10 to 40 % smaller with one. A price is much like the one before, and counts, flags and
# order ids are mostly the same: zstd sees that better without. DELTA_BYTE_ARRAY of trade_id saves 5 % of a
# file and takes a tenth more time to write, DELTA_LENGTH_BYTE_ARRAY as much and saves nothing;
# BYTE_STREAM_SPLIT of the decimals makes files 60 % larger and zstd 3 makes them 2 % smaller than zstd 1 in
# 10 % more time. Page checksums, page sizes and the row group's size cost nothing measurable.
_DICTIONARY = ("size", "side", "action", "aggressor_side")
_DELTA = ("ts_event", "ts_init")


def data_folder(root: Path, folder: str, nautilus_id: str) -> Path:
    """Return where a catalog keeps the files of one type (`trades`, `crypto_perpetual`) and instrument.

    Raises:
        CatalogError: The id cannot be a folder (see `instrument_dir`).
    """
    return root / "data" / folder / instrument_dir(nautilus_id)


class AtomicFile:
    """A file of a catalog in the making: a binary stream that becomes visible by `commit` alone.

    A context manager: left without a commit, by an error or not, it leaves nothing behind.

    A file of the same name is replaced in one step. Who has the old one open keeps it; who opens it again for
    each read, as the engine may, has to read a hard link of its own.

    Args:
        root: The catalog; created with mode 0700 where there is none.
        target: The final path, below `root`.
        guard: Called now and again before the commit; raises where the target may not be written.

    Raises:
        CatalogConflictError: The target's folder goes by another name as well.
        CatalogError: The file system refused, or the guard did.
    """

    def __init__(self, root: Path, target: Path, *, guard: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self.target = target
        self._guard = guard
        temporaries = root / ".ticklake" / "tmp"
        with disk.writing(root):
            self._guard()
            _refuse_shared_folder(target.parent)
            disk.make_folder(temporaries, root)
            remove_stale_temporaries(root)
            self._path, self.stream = disk.create_locked(temporaries, _TEMPORARY)

    def commit(self) -> Path:
        """Sync the file and give it its final name, and return that.

        Raises:
            CatalogError: The file system refused, or the guard did.
        """
        with disk.writing(self.target):
            self._guard()
            disk.sync(self.stream, self._path)
            disk.make_folder(self.target.parent, self._root)
            disk.rename(self._path, self.target)
            # All of them: who made a folder may have died before its name was on disk.
            for folder in self.target.parents:
                disk.sync_folder(folder)
                if folder == self._root:
                    break
        self.stream.close()
        return self.target

    def discard(self) -> None:
        """Remove the temporary file. Does nothing after a commit."""
        if not self.stream.closed:
            # Neither failure matters any more: what is left is removed with the next file that is written.
            with suppress(OSError):
                disk.remove(self._path)
            with suppress(OSError):
                self.stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def _refuse_shared_folder(folder: Path) -> None:
    if (other := other_spelling(folder)) is not None:
        raise CatalogConflictError(
            f"{folder} is the folder {other} as well: two instruments would share one",
            hint="Give one of the two another nautilus_id; or use a catalog on a file system that tells "
            "upper from lower case.",
        )


class CatalogWriter:
    """Writes the file that answers for one window of one instrument and catalog type.

    A context manager: what is not committed leaves nothing behind. A window without rows becomes a file
    without rows, which says that nothing happened there.

        with CatalogWriter(root, CatalogType.TRADES, spec, window) as writer:
            for batch in batches:
                writer.write(batch)
            writer.commit(provenance)

    Args:
        root: The catalog's folder.
        catalog_type: What the rows are.
        spec: The instrument and its precisions.
        window: The `ts_init` the file answers for; `[start, end)` in nanoseconds, UTC.
        replace: Replace the files that lie inside the window: that of the very same window in the same
            instant, others by being superseded (see `listing`).
        row_group_rows: Rows of a row group; by default those of `ROW_GROUP_ROWS`.
        encoders: How many row groups are encoded at a time, in threads of their own, while the next rows are
            taken; with 0 each is encoded by who brings its last row. The file is the same, byte for byte.

    Raises:
        CatalogConflictError: The catalog has a file for a part of the window already.
        CatalogError: The instrument id cannot be a folder, or the file system refused.
    """

    def __init__(
        self,
        root: Path,
        catalog_type: CatalogType,
        spec: InstrumentSpec,
        window: Window,
        *,
        replace: bool = False,
        row_group_rows: int | None = None,
        encoders: int = 0,
    ) -> None:
        self.spec = spec
        self.window = window
        self.rows = 0
        self._last = window.start
        self._schema = schema(catalog_type, spec)
        self._row_group_rows = row_group_rows or ROW_GROUP_ROWS[catalog_type]
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._joined = Joined()
        self._encoders = encoders
        self._pool = ThreadPoolExecutor(encoders, thread_name_prefix="ticklake-encode") if encoders else None
        self._encoding: deque[Future[pa.Buffer]] = deque()
        target = data_folder(root, catalog_type, spec.nautilus_id) / file_name(window)
        self._file = AtomicFile(root, target, guard=lambda: _check_free(target, window, replace=replace))
        self._append(MAGIC)

    def write(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Append rows, which have to follow those before in `ts_init`.

        Raises:
            CatalogError: The rows have another schema, are not in order, or lie outside the window; or the
                file system refused.
        """
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        if not table.schema.equals(self._schema, check_metadata=bool(table.schema.metadata)):
            raise self._error(
                f"rows have not the catalog's schema {_fields(self._schema)}, but {_fields(table.schema)}"
            )
        if table.num_rows == 0:
            return
        self._check_times(table.column("ts_init"))
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        while self._pending_rows >= self._row_group_rows:
            self._write_row_group(self._row_group_rows)

    def _check_times(self, column: pa.ChunkedArray) -> None:
        if column.null_count:
            raise self._error(f"{column.null_count} rows have no ts_init")
        last = self._last
        for chunk in column.chunks:
            if not len(chunk):
                continue
            times = chunk.view(pa.int64()).to_numpy()
            if times[0] < last or np.any(times[1:] < times[:-1]):
                if times[0] < self.window.start:
                    raise self._outside(int(times[0]))
                raise self._error("rows are not in the order of ts_init")
            last = int(times[-1])
        if last >= self.window.end:
            raise self._outside(last)
        self._last = last

    def _outside(self, nanos: int) -> CatalogError:
        return self._error(
            f"a row's ts_init {format_nanos(nanos)} lies outside the file's window {self.window}"
        )

    def _error(self, message: str) -> CatalogError:
        return CatalogError(message, instrument=self.spec.nautilus_id)

    def _write_row_group(self, rows: int) -> None:
        table = pa.concat_tables(self._pending)
        rest = table.slice(rows)
        self._pending = [rest] if rest.num_rows else []
        self._pending_rows = rest.num_rows
        group = table.slice(0, rows)
        if self._pool is None:
            self._append_row_group(_encoded(group, self._schema))
            return
        self._drain(self._encoders - 1)
        self._encoding.append(self._pool.submit(_encoded, group, self._schema))

    def _drain(self, left: int) -> None:
        """Wait until no more row groups than that are under way, and write what comes of the others."""
        while len(self._encoding) > left:
            self._append_row_group(self._encoding.popleft().result())

    def _append_row_group(self, part: pa.Buffer) -> None:
        self._append(self._joined.add(memoryview(part)))

    def _append(self, data: Buffer) -> None:
        with disk.writing(self._file.target):
            self._file.stream.write(data)

    def commit(self, provenance: Provenance) -> Path:
        """Complete the file, sync it, and give it its final name, and return that.

        Args:
            provenance: Where the rows come from; the version is filled in where it is empty.

        Raises:
            CatalogConflictError: Another file came to answer for a part of the window meanwhile.
            CatalogError: The file system refused.
        """
        if self._pending_rows:
            self._write_row_group(self._pending_rows)
        self._drain(0)
        if not self.rows:
            self._append_row_group(_encoded(self._schema.empty_table(), self._schema))
        provenance = replaced(provenance, converter=provenance.converter or _version())
        self._append(self._joined.footer({FOOTER_KEY: provenance.to_json().encode()}))
        self._stop_encoders()
        return self._file.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove what was written. Does nothing after a commit."""
        self._pending = []
        self._encoding.clear()
        self._stop_encoders()
        self._file.discard()

    def _stop_encoders(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _check_free(target: Path, window: Window, *, replace: bool) -> None:
    """Refuse a second answer for any part of a window.

    Raises:
        CatalogConflictError: Another file answers for a part of it, and reaches beyond it or is not to be
            replaced.
    """
    for name in _names(target.parent):
        other = parse_file_name(name)
        common = None if other is None else other.intersect(window)
        if common is None or (replace and common == other):
            continue
        if name == target.name:
            raise CatalogConflictError(f"{target} exists already", hint="Use refresh to replace it.")
        raise CatalogConflictError(
            f"{target.parent / name} already answers for a part of {window}",
            hint="Write what the catalog says is missing, or replace the file under its own name.",
        )


def _version() -> str:
    try:
        return version("ticklake")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


def _fields(names: pa.Schema) -> str:
    return f"{', '.join(f'{field.name}: {field.type}' for field in names)} with {names.metadata}"


def _encoded(rows: pa.Table, schema: pa.Schema) -> pa.Buffer:
    """Return a Parquet file of a row group, or of none where there are no rows."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[path for path in _leaves(schema) if path.rpartition(".")[2] in _DICTIONARY],
        column_encoding=dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
        # Rows are looked up by time alone; the other columns' would cost a sixth of the writing.
        write_statistics=list(_DELTA),
    ) as parquet:
        if rows.num_rows:
            parquet.write_table(rows, row_group_size=rows.num_rows)
    return sink.getvalue()


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """Yield the paths of the Parquet columns."""
    for field in schema:
        if pa.types.is_list(field.type):
            yield from (f"{field.name}.list.element.{inner.name}" for inner in field.type.value_type)
        else:
            yield field.name


def _names(folder: Path) -> Sequence[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return ()


def remove_stale_temporaries(root: Path) -> list[Path]:
    """Remove the temporary files that no living process writes, and return them."""
    folder = root / ".ticklake" / "tmp"
    stale = [folder / name for name in _names(folder) if name.endswith(_TEMPORARY)]
    return [path for path in stale if disk.remove_unlocked(path)]
