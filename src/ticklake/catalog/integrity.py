"""Whether the files of a catalog are what was written: found out before the engine reads them.

The engine's reader verifies no page checksum, and some damaged files abort its process. So a run checks the
files it opens (`check_open`), and `verify` checks all there is to check.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog.cache import Catalog
from ticklake.catalog.listing import CatalogFile
from ticklake.catalog.locks import hold, lock_of
from ticklake.catalog.naming import parse_instrument_dir
from ticklake.catalog.provenance import provenance_of
from ticklake.catalog.records import FileRecord, read_record, write_record
from ticklake.catalog.schema import schema
from ticklake.errors import CatalogCorruptError, CatalogError, CorruptObjectError
from ticklake.parquet.footers import MAGIC, read_structure
from ticklake.parquet.structure import RowGroup
from ticklake.types import CatalogType, InstrumentSpec, Window, format_nanos

__all__ = ["FileCheck", "VerifyReport", "check_file", "check_open", "verify"]

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What was found of one catalog file.

    Attributes:
        file: The file and its window.
        folder: The type's folder, like `trades` or, of definitions, `crypto_perpetual`.
        nautilus_id: The instrument.
        rows: Its rows, as far as they are known.
        problems: What is wrong with it; empty where nothing is.
        overlaps: Whether another file answers for a part of its window, which is one of the problems.
        recorded: Whether there was a record of size and digest to hold it against.
    """

    file: CatalogFile
    folder: str
    nautilus_id: str
    rows: int | None
    problems: tuple[str, ...]
    recorded: bool
    overlaps: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "path": str(self.file.path),
            "type": self.folder,
            "instrument": self.nautilus_id,
            "start": format_nanos(self.file.window.start),
            "end": format_nanos(self.file.window.end),
            "rows": self.rows,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        files: All files that were checked: ticks, then definitions, by type, instrument and time.
        strays: What is no file of the catalog; the engine may read some of it.
    """

    files: tuple[FileCheck, ...]
    strays: tuple[Path, ...] = ()

    @property
    def bad(self) -> tuple[FileCheck, ...]:
        """The files with problems."""
        return tuple(check for check in self.files if check.problems)

    @property
    def rows(self) -> int:
        """Ticks in the files without problems."""
        return sum(
            check.rows or 0 for check in self.files if not check.problems and check.folder in set(CatalogType)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "files": len(self.files),
            "rows": self.rows,
            "unrecorded": sum(not check.recorded for check in self.files),
            "bad": [check.to_dict() for check in self.bad],
            "strays": [str(path) for path in self.strays],
        }


def check_open(catalog: Catalog, files: Iterable[CatalogFile]) -> None:
    """Check the files that a run is about to read.

    Size, footer and schema of each are checked. All of a file is read where nobody has yet: no record is kept
    of it, another process wrote it, or it was written to since.

    Args:
        catalog: The catalog.
        files: Files of it, or pinned ones.

    Raises:
        CatalogCorruptError: A file is damaged; all that are, are listed.
        CatalogError: A file was removed meanwhile, or may not be read.
    """
    bad = []
    for file in files:
        check = check_file(catalog, file, deep=False)
        if check is None:
            raise CatalogError(f"{file.path} was removed while the run began", hint="Run it again.")
        bad += [f"{check.file.path}: {problem}" for problem in check.problems]
    if bad:
        raise CatalogCorruptError(
            f"the catalog is damaged:{''.join(f'\n  {line}' for line in bad)}",
            hint="Mend it with `ticklake verify RUN.yaml --repair`, which sets damaged files aside and "
            "fetches their windows again.",
        )


def verify(
    catalog: Catalog,
    catalog_type: CatalogType | None = None,
    nautilus_id: str | None = None,
    *,
    deep: bool = True,
    on_file: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check the files of a catalog; what is whole and has no record gets one.

    Args:
        catalog: The catalog.
        catalog_type: This type only, and no definitions.
        nautilus_id: This instrument only.
        deep: Read everything: digest, page checksums, every row's time. Otherwise, what a run checks.
        on_file: Called after each file with how many were checked, and of about how many.

    Raises:
        CatalogError: The catalog may not be read.
    """
    coverage = catalog.coverage(catalog_type, nautilus_id)
    places = [(one.catalog_type, one.nautilus_id) for one in coverage]
    definitions = catalog.definitions(nautilus_id) if catalog_type is None else []
    total = sum(one.files for one in coverage) + len(definitions)
    checks: list[FileCheck] = []

    def add(found: Iterable[FileCheck | None]) -> None:
        for check in found:
            if check is not None:
                checks.append(check)
                if on_file is not None:
                    on_file(len(checks), max(total, len(checks)))

    with catalog.pinned(places) as pinned:
        for place in places:
            add(_verified(catalog, pinned, place, deep=deep))
    # Each is replaced in one step and by itself, so that they need no pin.
    add(check_file(catalog, file, deep=deep) for file in definitions)
    return VerifyReport(tuple(checks), tuple(catalog.strays()))


def _verified(
    catalog: Catalog, pinned: Catalog, place: tuple[CatalogType, str], *, deep: bool
) -> Iterator[FileCheck]:
    end = -1
    for file in pinned.files(*place):
        check = check_file(catalog, file, deep=deep)
        if check is None:  # in a catalog that cannot be pinned
            continue
        if file.window.start < end:
            again = (*check.problems, "another file answers for a part of its window too")
            check = replace(check, problems=again, overlaps=True)
        else:
            # A file that is going to be set aside answers for nothing.
            end = file.window.end if not check.problems else end
        yield check


@dataclass(slots=True)
class _Findings:
    """What is found of one file while it is read."""

    inode: int
    problems: list[str] = field(default_factory=list)
    rows: int | None = None
    whole: FileRecord | None = None


def check_file(catalog: Catalog, file: CatalogFile, *, deep: bool = True) -> FileCheck | None:
    """Return what is found of one file, which may be pinned, None where it is gone; see `verify`.

    The result names the file by its place in the catalog.
    """
    kind, folder = file.path.parent.parent.name, file.path.parent.name
    nautilus_id = parse_instrument_dir(folder) or folder
    home = CatalogFile(file.window, catalog.path / "data" / kind / folder / file.path.name)
    for _ in range(_ATTEMPTS):
        try:
            with file.path.open("rb") as stream:
                record = _record(catalog, home, stream)
                found = _read(stream, file.window, (kind, nautilus_id), record, deep=deep)
                # Or the record was written, or came to be about another file, while the file was read.
                if not found.problems or _record(catalog, home, stream) == record:
                    break
        except FileNotFoundError:
            return None
        except PermissionError as exc:
            raise CatalogError(
                f"{home.path} may not be read: {exc.strerror}",
                hint="Check the permissions of the catalog's folder.",
            ) from exc
    if found.whole is not None and found.whole != record:
        _keep(catalog, home, (kind, nautilus_id), found.whole, found.inode)
    return FileCheck(home, kind, nautilus_id, found.rows, tuple(found.problems), record is not None)


def _record(catalog: Catalog, home: CatalogFile, stream: BufferedReader) -> FileRecord | None:
    """Return the record of an open file, None where there is none or the file was replaced meanwhile."""
    record = read_record(catalog.path, home.path)
    # Looked at after the record was read: as the file has its name still, the record is not of a later one.
    with suppress(FileNotFoundError):
        if home.path.stat().st_ino == os.fstat(stream.fileno()).st_ino:
            return record
    return None


def _keep(
    catalog: Catalog, home: CatalogFile, place: tuple[str, str], record: FileRecord, inode: int
) -> None:
    """Record a file that was found whole."""
    kind, nautilus_id = place
    # Where somebody writes there, or we may not, it stays unrecorded and is checked again.
    with suppress(CatalogError, FileNotFoundError), hold(catalog.path, lock_of(kind), nautilus_id, timeout=0):
        if home.path.stat().st_ino == inode:
            write_record(catalog.path, home.path, record)


def _read(
    stream: BufferedReader,
    window: Window,
    place: tuple[str, str],
    record: FileRecord | None,
    *,
    deep: bool,
) -> _Findings:
    """Check an open file against its record, its name and itself."""
    stat = os.fstat(stream.fileno())
    found = _Findings(stat.st_ino)
    if record is not None and stat.st_size != record.size:
        found.problems.append(f"it is {stat.st_size:,} bytes long, {record.size:,} were written")
        return found
    now = None
    if deep or record is None or not record.vouched or not record.untouched(stat):
        now = FileRecord.of(stream, 0)
        if record is not None and now.sha256 != record.sha256:
            found.problems.append(
                f"its bytes are not those written: sha256 {now.sha256}, not {record.sha256}"
            )
            return found
    try:
        found.problems += _parquet_problems(stream, window, place, record, found, whole=now is not None)
    except (FileNotFoundError, PermissionError):
        raise
    except (
        pa.ArrowException,
        CatalogCorruptError,
        CorruptObjectError,
        OSError,
        ValueError,
        MemoryError,
    ) as exc:
        found.problems.append(f"it cannot be read: {exc or type(exc).__name__}".splitlines()[0])
    if now is not None and not found.problems:
        found.whole = replace(now, rows=found.rows or 0)
    return found


def _parquet_problems(
    stream: BufferedReader,
    window: Window,
    place: tuple[str, str],
    record: FileRecord | None,
    found: _Findings,
    *,
    whole: bool,
) -> list[str]:
    stream.seek(0)
    if stream.read(len(MAGIC)) != MAGIC:
        return ["it does not begin like a Parquet file"]
    # First, as pyarrow ends the process over some damaged footers.
    structure = read_structure(stream)
    with pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=False) as parquet:
        footer = parquet.metadata
        found.rows = footer.num_rows
        kind, nautilus_id = place
        problems = list(_count_problems(footer, record, stream.name))
        if kind not in set(CatalogType):
            if whole and not problems:
                parquet.read().validate(full=True)
            return problems
        problems += _schema_problems(parquet, CatalogType(kind), nautilus_id)
        # What says where the times are is known of the engine's columns only.
        if not problems:
            groups = [_Group(group, parquet.schema.names) for group in structure.row_groups]
            problems += _statistics_problems(groups, window)
        if whole and not problems:
            problems += _row_problems(parquet, groups, window)
    return problems


def _schema_problems(parquet: pq.ParquetFile, kind: CatalogType, nautilus_id: str) -> Iterator[str]:
    """Compare with what the installed engine wants, in both places that say so."""
    found = parquet.schema_arrow
    encoded = (parquet.metadata.metadata or {}).get(b"ARROW:schema")
    if encoded is None:
        yield "it has no Arrow schema"
        return
    inner = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(encoded, validate=True)))
    said = found.metadata or {}
    try:
        spec = InstrumentSpec(nautilus_id, int(said[b"price_precision"]), int(said[b"size_precision"]))
    except (KeyError, ValueError) as exc:
        yield f"its schema names no precision: {exc}"
        return
    wanted = schema(kind, spec)
    if not (found.equals(wanted) and inner.equals(wanted)):
        yield "its columns are not those of the installed engine"
    for key, value in wanted.metadata.items():
        for there in {said.get(key, b""), (inner.metadata or {}).get(key, value)} - {value}:
            yield f"its {key.decode()} is {there!r}, its place says {value!r}"


def _count_problems(footer: pq.FileMetaData, record: FileRecord | None, name: str) -> Iterator[str]:
    origin = provenance_of(footer.metadata, name)
    said = None if origin is None else origin.counts.get("rows")
    if said is not None and said != footer.num_rows:
        yield f"it has {footer.num_rows:,} rows, its provenance says {said:,}"
    if record is not None and record.rows != footer.num_rows:
        yield f"it has {footer.num_rows:,} rows, {record.rows:,} were written"


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group of columns by name."""

    group: RowGroup
    columns: list[str]

    def limits(self, column: str) -> tuple[int, int] | None:
        return self.group.chunk(self.columns.index(column)).integers()


def _statistics_problems(groups: Sequence[_Group], window: Window) -> Iterator[str]:
    for index, group in enumerate(groups):
        limits = group.limits("ts_init")
        if limits is not None and not (window.start <= limits[0] <= limits[1] < window.end):
            yield f"row group {index} has times outside {window}"


def _row_problems(parquet: pq.ParquetFile, groups: Sequence[_Group], window: Window) -> Iterator[str]:
    """Decode everything, a row group at a time; damaged pages raise."""
    last = window.start
    for index, group in enumerate(groups):
        rows = parquet.read_row_group(index)
        rows.validate(full=True)
        if rows.num_rows != group.group.rows:
            yield f"row group {index} has {rows.num_rows:,} rows, the footer says {group.group.rows:,}"
        for column in ("ts_event", "ts_init"):
            times = rows.column(column).combine_chunks().view(pa.int64()).to_numpy()
            limits = group.limits(column)
            if limits is not None and len(times) and limits != (times.min(), times.max()):
                yield f"row group {index} has other times of {column} than its statistics say"
        if len(times) and (times[0] < last or np.any(times[1:] < times[:-1])):
            yield f"row group {index} is not in the order of ts_init, or begins before {window}"
        if len(times):
            last = int(times[-1])
    if last >= window.end:
        yield f"rows lie after {window}"
