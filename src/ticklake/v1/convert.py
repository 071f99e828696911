"""Converting catalogs between the versions of the engine: file by file, verified, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ticklake.catalog import Catalog, CatalogFile, Provenance, disk
from ticklake.catalog.listing import answering, list_files, scan
from ticklake.catalog.locks import hold
from ticklake.catalog.naming import instrument_dir
from ticklake.catalog.records import record_published
from ticklake.catalog.schema import DECIMAL
from ticklake.catalog.writer import AtomicFile
from ticklake.config import RunConfig
from ticklake.errors import (
    CatalogConflictError,
    CatalogCorruptError,
    CatalogError,
    ConfigError,
    CorruptObjectError,
)
from ticklake.parquet.footers import read_structure
from ticklake.types import CatalogType, InstrumentSpec
from ticklake.v1.columns import DEFINITIONS, TICKS, Version, other, target_schema, to_version, version_of

__all__ = ["ConvertReport", "ConvertedFile", "convert_catalog", "publish"]

_BATCH_ROWS = 131_072


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """One file of the target.

    Attributes:
        path: Where it is.
        rows: How many it has.
        written: Whether it was written now; otherwise it was there already.
    """

    path: Path
    rows: int
    written: bool


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        files: The target's files, by kind, instrument and time.
        left_out: What of the source was not converted, and why.
    """

    files: tuple[ConvertedFile, ...]
    left_out: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "files": len(self.files),
            "written": sum(file.written for file in self.files),
            "rows": sum(file.rows for file in self.files),
            "left_out": list(self.left_out),
        }


def convert_catalog(
    source: str | Path,
    target: str | Path,
    *,
    to: Version,
    on_file: Callable[[ConvertedFile], None] | None = None,
) -> ConvertReport:
    """Convert a catalog of the one version into one of the other; the source stays as it is.

    Trades, book deltas and the definitions of perpetuals and currency pairs are converted; all else is left
    out and listed. Each file is read again from disk and compared with its source before it counts. A file
    that was converted already is left alone, as long as neither it nor its source was written to; so an
    interrupted conversion is taken up again by the same call. A file whose source changed is converted anew.

    Args:
        source: Folder of a catalog.
        target: Folder of another, which need not exist.
        to: `v1` for NautilusTrader 1.231, `v2` for 2.x.
        on_file: Called with each file of the target when it is complete.

    Raises:
        ConfigError: The source is no catalog, or the target is the same.
        CatalogCorruptError: A file cannot be read.
        CatalogConflictError: The target has other files for a part of the same time.
        CatalogError: A file has no equivalent, or the file system refused.
    """
    source, target = Path(source), Path(target)
    if not (source / "data").is_dir():
        raise ConfigError(f"{source} is no catalog: it has no folder data")
    if target.exists() and target.samefile(source):
        raise ConfigError("the target is the source itself", hint="Name another folder.")
    run = _Conversion(source, target, to, on_file or (lambda _: None))
    try:
        return run.convert()
    except FileNotFoundError as exc:
        raise CatalogError(f"a file was removed meanwhile: {exc}", hint="Convert again.") from exc


def publish(settings: RunConfig) -> ConvertReport | None:
    """Bring the catalog of a run config up to what was fetched where it is one of 1.x; None where it is not.

    Raises:
        CatalogError: See `convert_catalog`.
    """
    if settings.catalog_format == "v2":
        return None
    return convert_catalog(settings.store, settings.catalog, to="v1")


@dataclass
class _Conversion:
    source: Path
    target: Path
    to: Version
    on_file: Callable[[ConvertedFile], None]
    left_out: list[str] = field(default_factory=list)

    def convert(self) -> ConvertReport:
        kinds = self._kinds()
        self.left_out = [
            f"data/{entry.name}: its rows are not converted"
            for entry in sorted(scan(self.source / "data"), key=lambda entry: entry.name)
            if entry.is_dir() and entry.name not in kinds
        ]
        files = [
            file
            for old, (kind, new) in kinds.items()
            for folder in sorted(
                Path(entry.path) for entry in scan(self.source / "data" / old) if entry.is_dir()
            )
            for file in self._instrument(kind, folder, new)
        ]
        return ConvertReport(tuple(files), tuple(self.left_out))

    def _kinds(self) -> dict[str, tuple[str, str]]:
        """Return the 2.x folder of the kind and the target's folder, by the source's folder."""
        found: dict[str, tuple[str, str]] = {}
        for kind, olds in TICKS.items():
            for old in olds if self.to == "v2" else (kind,):
                found[old] = (kind, kind if self.to == "v2" else olds[0])
        return found | {folder: (folder, folder) for folder in DEFINITIONS}

    def _instrument(self, kind: str, folder: Path, new: str) -> Iterator[ConvertedFile]:
        files = self._files(kind, folder)
        if not files:
            return
        nautilus_id = _id_of(kind, files[0].path)
        place = self.target / "data" / new / self._folder(nautilus_id)
        with hold(self.target, f"convert-{new}", nautilus_id):
            self._clear(kind, place, files)
            for file in files:
                done = _Pair(self, kind, nautilus_id, file, place / file.path.name).convert()
                self.on_file(done)
                yield done

    def _files(self, kind: str, folder: Path) -> list[CatalogFile]:
        files = list_files(folder)
        known = {file.path.name for file in files}
        self.left_out += [
            f"{path.relative_to(self.source)}: its name does not say its window"
            for path in sorted(folder.glob("*.parquet"))
            if path.name not in known
        ]
        if self.to == "v1" and kind in TICKS:
            return list(answering(files))
        return files

    def _folder(self, nautilus_id: str) -> str:
        return instrument_dir(nautilus_id) if self.to == "v2" else nautilus_id.replace("/", "")

    def _clear(self, kind: str, place: Path, files: list[CatalogFile]) -> None:
        """Remove what was converted of sources that others have replaced; refuse what is not ours."""
        if kind in DEFINITIONS:
            return
        names = {file.path.name for file in files}
        for there in list_files(place):
            if there.path.name in names or not any(there.window.intersect(file.window) for file in files):
                continue
            record = self.record(there.path)
            if record is None or record["target"] != _stamp(there.path):
                raise CatalogConflictError(
                    f"{there.path} answers for a part of what is to be converted",
                    hint="Convert into an empty folder, or remove that file.",
                )
            self.forget(there.path)
            with disk.writing(there.path):
                disk.remove(there.path)
                disk.sync_folder(there.path.parent)

    def record_path(self, path: Path) -> Path:
        """Return where it is kept what a file of the target was made of."""
        relative = path.relative_to(self.target / "data")
        return self.target / ".ticklake" / "converted" / relative.with_name(f"{relative.name}.json")

    def record(self, path: Path) -> dict[str, Any] | None:
        """Return what a file of the target was made of, or None where that is not known."""
        try:
            found = json.loads(self.record_path(path).read_bytes())
            return found if {"source", "target", "rows"} <= found.keys() else None
        except (OSError, ValueError, AttributeError):
            return None

    def forget(self, path: Path) -> None:
        """Remove the record of a file, before that is replaced or removed."""
        record = self.record_path(path)
        if record.exists():
            with disk.writing(record):
                disk.remove(record)
                disk.sync_folder(record.parent)


@dataclass
class _Pair:
    """A file of the source and that of the target."""

    run: _Conversion
    kind: str
    nautilus_id: str
    source: CatalogFile
    path: Path

    def convert(self) -> ConvertedFile:
        run = self.run
        stamp = _stamp(self.source.path)
        record = run.record(self.path)
        if self.path.exists():
            ours = record is not None and record["target"] == _stamp(self.path)
            if ours and record is not None and record["source"] == stamp:
                return ConvertedFile(self.path, record["rows"], written=False)
            if self._verified():
                return self._recorded(stamp, written=False)
            if not ours:
                raise CatalogConflictError(
                    f"{self.path} is there, and is not what {self.source.path} converts to",
                    hint="Convert into an empty folder, or remove that file.",
                )
        run.forget(self.path)
        rows = self._write()
        if not self._verified():
            with disk.writing(self.path):
                disk.remove(self.path)
            raise CatalogCorruptError(
                f"{self.path} does not read back as {self.source.path}, and was removed",
                hint="Convert again; if it stays, the disk is at fault.",
            )
        if _stamp(self.source.path) != stamp:
            raise CatalogError(f"{self.source.path} was written to meanwhile", hint="Convert again.")
        if run.to == "v2" and self.kind in TICKS:
            record_published(run.target, self.path, rows)
        return self._recorded(stamp, written=True)

    def _recorded(self, stamp: list[int], *, written: bool) -> ConvertedFile:
        rows = pq.read_metadata(self.path).num_rows
        values = {"source": stamp, "target": _stamp(self.path), "rows": rows}
        record = self.run.record_path(self.path)
        with AtomicFile(self.run.target, record) as file, disk.writing(record):
            file.stream.write(json.dumps(values, sort_keys=True).encode())
            file.commit()
        return ConvertedFile(self.path, rows, written=written)

    def _schemas(self) -> tuple[pa.Schema, pa.Schema]:
        """Return the columns of both files."""
        found = _schema(self.source.path)
        metadata = found.metadata or {}
        if version_of(self.kind, found) != other(self.run.to):
            raise CatalogError(
                f"{self.source.path} is no {self.kind} of {other(self.run.to)}",
                hint="Check --to, and that the source is the catalog that you mean.",
            )
        return (
            target_schema(self.kind, other(self.run.to), metadata, self.nautilus_id),
            target_schema(self.kind, self.run.to, metadata, self.nautilus_id),
        )

    def _write(self) -> int:
        _, target = self._schemas()
        if self.run.to == "v2" and self.kind in TICKS:
            return self._write_ticks(target)
        rows = 0
        with AtomicFile(self.run.target, self.path) as file, disk.writing(self.path):
            # What 1.x writes itself, so that all of its readers can read it.
            with pq.ParquetWriter(file.stream, target, compression="snappy") as writer:
                for batch in _batches(self.source.path):
                    writer.write_table(self._converted(batch, target))
                    rows += batch.num_rows
            file.commit()
        return rows

    def _write_ticks(self, target: pa.Schema) -> int:
        metadata = target.metadata
        spec = InstrumentSpec(
            self.nautilus_id, int(metadata[b"price_precision"]), int(metadata[b"size_precision"])
        )
        catalog = Catalog(self.run.target)
        writer = catalog.writer(CatalogType(self.kind), spec, self.source.window, replace=True)
        with writer:
            for batch in _batches(self.source.path):
                writer.write(self._converted(batch, target))
            # Of which data type of a lake the rows are is not known.
            writer.commit(Provenance(lake_key="", data_type="", counts={"rows": writer.rows}))
            return writer.rows

    def _converted(self, batch: pa.Table, target: pa.Schema) -> pa.Table:
        try:
            return to_version(self.kind, batch, target)
        except CatalogError as exc:
            exc.message = f"{self.source.path}: {exc.message}"
            exc.args = (exc.message,)
            raise

    def _verified(self) -> bool:
        """Whether the target's file, converted back, is the source's."""
        back, target = self._schemas()
        if version_of(self.kind, _schema(self.path)) != self.run.to:
            return False
        if not _schema(self.path).equals(target, check_metadata=self.kind in TICKS):
            return False
        found = (self._normal(to_version(self.kind, batch, back), back) for batch in _batches(self.path))
        wanted = (self._normal(batch, back) for batch in _batches(self.source.path))
        return _equal(found, wanted)

    def _normal(self, rows: pa.Table, schema_: pa.Schema) -> pa.Table:
        """Return rows in a form in which equal ones are equal."""
        if self.kind in DEFINITIONS:  # 1.x spells nothing in info in more than one way
            return to_version(self.kind, to_version(self.kind, rows, self._schemas()[1]), schema_)
        plain = pa.schema(
            [
                pa.field(each.name, pa.string() if pa.types.is_dictionary(each.type) else each.type)
                for each in schema_
            ]
        )
        rows = rows.select(plain.names).replace_schema_metadata(None)
        for index, each in enumerate(rows.schema):
            if each.type == DECIMAL:  # of a delta that clears the book
                rows = rows.set_column(index, each, pc.fill_null(rows[each.name], pa.scalar(0, DECIMAL)))
        return rows.cast(plain)


def _equal(found: Iterator[pa.Table], wanted: Iterator[pa.Table]) -> bool:
    """Compare rows that come in pieces of different sizes."""
    left: pa.Table | None = None
    right: pa.Table | None = None
    while True:
        left = left if left is not None and left.num_rows else next((t for t in found if t.num_rows), None)
        right = (
            right if right is not None and right.num_rows else next((t for t in wanted if t.num_rows), None)
        )
        if left is None or right is None:
            return left is right
        rows = min(left.num_rows, right.num_rows)
        if not left.slice(0, rows).equals(right.slice(0, rows)):
            return False
        left, right = left.slice(rows), right.slice(rows)


def _batches(path: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(_BATCH_ROWS):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as exc:
        raise CatalogCorruptError(f"{path} cannot be read: {exc}") from exc


def _schema(path: Path) -> pa.Schema:
    try:
        with path.open("rb") as file:
            read_structure(file)  # where a footer makes no sense, pyarrow may end the process
        return pq.read_schema(path)
    except (CorruptObjectError, pa.ArrowException, OSError) as exc:
        raise CatalogCorruptError(f"{path} is no readable Parquet file: {exc}") from exc


def _id_of(kind: str, path: Path) -> str:
    """Return the instrument of a file, which its folder does not always spell."""
    found = _schema(path)
    if kind in TICKS:
        text = (found.metadata or {}).get(b"instrument_id", b"").decode()
    else:
        ids = set(chain.from_iterable(batch["id"].to_pylist() for batch in _batches(path)))
        text = ids.pop() if len(ids) == 1 else ""
    if not text:
        raise CatalogError(f"{path} does not say of which instrument it is")
    return str(text)


def _stamp(path: Path) -> list[int]:
    """Return what changes when a file is written to."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
