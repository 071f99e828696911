"""Joining small files of a catalog into one a day, while others read.

The joined file gets its name by one rename while the files that it is made of are still there. These are
superseded from that instant on (see `listing`), and are removed after it: whenever a process dies, each row
is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog import disk
from ticklake.catalog.cache import Catalog, retried
from ticklake.catalog.integrity import check_file
from ticklake.catalog.listing import CatalogFile
from ticklake.catalog.naming import file_name
from ticklake.catalog.provenance import Provenance, provenance_of, read_footer
from ticklake.catalog.quarantine import quarantine_folder, write_quarantine
from ticklake.catalog.records import record_published
from ticklake.catalog.tidying import remove_superseded
from ticklake.catalog.writer import data_folder
from ticklake.errors import CatalogCorruptError
from ticklake.types import CatalogType, InstrumentSpec, Window, format_nanos

__all__ = ["CompactReport", "JoinedFiles", "LeftFile", "compact"]


@dataclass(frozen=True, slots=True)
class JoinedFiles:
    """Files that `compact` joined into one, or would.

    Attributes:
        catalog_type: The type's folder.
        nautilus_id: The instrument.
        files: The files that were joined, in time order; they are gone.
        joined: The file that answers for all of their windows.
        rows: Its rows.
    """

    catalog_type: CatalogType
    nautilus_id: str
    files: tuple[CatalogFile, ...]
    joined: CatalogFile
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "path": str(self.joined.path),
            "type": self.catalog_type.value,
            "instrument": self.nautilus_id,
            "start": format_nanos(self.joined.window.start),
            "end": format_nanos(self.joined.window.end),
            "rows": self.rows,
            "files": [str(file.path) for file in self.files],
        }


@dataclass(frozen=True, slots=True)
class LeftFile:
    """A file that touches another one of its day and was not joined with it.

    Attributes:
        file: The file and its window.
        reason: Why it was left alone.
    """

    file: CatalogFile
    reason: str


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What `compact` joined, or would.

    Attributes:
        joined: The joined files, by type, instrument and time.
        left: Files that touch others and were left alone, with the reason.
        dry_run: Whether nothing was done.
    """

    joined: tuple[JoinedFiles, ...]
    left: tuple[LeftFile, ...]
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "dry_run": self.dry_run,
            "files": sum(len(one.files) for one in self.joined),
            "joined": [one.to_dict() for one in self.joined],
            "left": [{"path": str(one.file.path), "reason": one.reason} for one in self.left],
        }


def compact(
    catalog: Catalog,
    catalog_type: CatalogType | None = None,
    nautilus_id: str | None = None,
    *,
    dry_run: bool = False,
) -> CompactReport:
    """Join files whose windows touch, within one UTC day, into one; the content stays what it was.

    Files are joined that come from one lake, instrument and dialect, by one version of ticklake, and from one
    version of each object. Others stay as they are, as do files that ticklake did not write and damaged ones.
    All of each file is checked before it is joined. Readers are not kept waiting, and lose nothing.

    Args:
        catalog: The catalog.
        catalog_type: This type only.
        nautilus_id: This instrument only.
        dry_run: Change nothing, tell what would be done. Files are then not checked for damage.

    Raises:
        CatalogError: The file system refused, or has too little space; what was joined by then stays joined.
    """
    joined: list[JoinedFiles] = []
    left: list[LeftFile] = []
    for covered in catalog.coverage(catalog_type, nautilus_id):
        place = covered.catalog_type, covered.nautilus_id
        if dry_run:
            groups, others = retried(partial(_groups, catalog, place, checked=False))
            joined += [_joined(catalog, place, group) for group in groups]
        elif any(_runs(catalog.files(*place))) or catalog.superseded(*place):
            with catalog.lock(*place):
                groups, others = _groups(catalog, place, checked=True)
                joined += [_join(catalog, place, group) for group in groups]
        else:
            continue
        left += others
    return CompactReport(tuple(joined), tuple(left), dry_run)


type _Place = tuple[CatalogType, str]


@dataclass(frozen=True, slots=True)
class _Part:
    """A file that can be joined with others."""

    file: CatalogFile
    spec: InstrumentSpec
    provenance: Provenance
    rows: int

    def differs(self, other: _Part) -> str:
        """Return what keeps two files apart, or nothing."""
        if self.spec != other.spec:
            return "it has another precision than the file before it"
        if self.provenance.origin != other.provenance.origin:
            return "its lake, instrument, dialect or version of ticklake is not that of the file before it"
        return ""


def _groups(catalog: Catalog, place: _Place, *, checked: bool) -> tuple[list[list[_Part]], list[LeftFile]]:
    """Return which files are to be joined, and those that touch others and are not."""
    groups: list[list[_Part]] = []
    left = []
    for run in _runs(catalog.files(*place)):
        group: list[_Part] = []
        for file in run:
            part = _part(catalog, place, file, checked=checked)
            reason = part if isinstance(part, str) else _keeps_apart(group, part)
            if reason:
                left.append(LeftFile(file, reason))
                group = []
            if isinstance(part, _Part):
                if not group:
                    groups.append(group)
                group.append(part)
    return [group for group in groups if len(group) > 1], left


def _runs(files: Sequence[CatalogFile]) -> Iterator[list[CatalogFile]]:
    """Yield the files of each UTC day that touch one another, two or more at a time."""
    run: list[CatalogFile] = []
    for file in files:
        if run and (run[-1].window.end != file.window.start or run[-1].window.days != file.window.days):
            if len(run) > 1:
                yield run
            run = []
        if len(file.window.days) == 1:
            run.append(file)
    if len(run) > 1:
        yield run


def _keeps_apart(group: Sequence[_Part], part: _Part) -> str:
    """Return why a file cannot be joined with those before it, or nothing."""
    if not group:
        return ""
    versions = {source.url: source for before in group for source in before.provenance.sources}
    for source in part.provenance.sources:
        if versions.get(source.url, source) != source:
            return f"it is made of another version of {source.url} than the file before it"
    return part.differs(group[-1])


def _part(catalog: Catalog, place: _Place, file: CatalogFile, *, checked: bool) -> _Part | str:
    """Return what there is to know of a file before it is joined, or why it cannot be."""
    try:
        footer = read_footer(file.path)
        provenance = provenance_of(footer.metadata, file.path)
        said = footer.schema.to_arrow_schema().metadata or {}
        spec = InstrumentSpec(place[1], int(said[b"price_precision"]), int(said[b"size_precision"]))
    except (CatalogCorruptError, pa.ArrowException, KeyError, ValueError):
        return "it is damaged; see `ticklake verify`"
    if provenance is None:
        return "ticklake did not write it"
    if provenance.quarantine:
        kept = quarantine_folder(catalog.path, *place) / provenance.quarantine
        try:
            whole = read_footer(kept).num_rows == provenance.quarantined.total()
        except (CatalogCorruptError, FileNotFoundError):
            whole = False
        if not whole:
            return f"its bad rows are missing or damaged: {kept}"
    check = check_file(catalog, file) if checked else None
    if check is not None and check.problems:
        return f"it is damaged: {'; '.join(check.problems)}"
    return _Part(file, spec, provenance, footer.num_rows)


def _joined(catalog: Catalog, place: _Place, group: Sequence[_Part]) -> JoinedFiles:
    window = Window(group[0].file.window.start, group[-1].file.window.end)
    path = data_folder(catalog.path, *place) / file_name(window)
    files = tuple(part.file for part in group)
    return JoinedFiles(*place, files, CatalogFile(window, path), sum(part.rows for part in group))


def _join(catalog: Catalog, place: _Place, group: Sequence[_Part]) -> JoinedFiles:
    """Publish the joined file, then remove those that it is made of."""
    done = _joined(catalog, place, group)
    window = done.joined.window
    disk.require_space(catalog.path, sum(part.file.path.stat().st_size for part in group))
    bad = _bad_rows(catalog, place, group)
    # Before the file that names them, as ever; those of the parts go with these.
    quarantine = write_quarantine(catalog.path, *place, window, bad)
    provenance = Provenance.joined([part.provenance for part in group], quarantine)
    with catalog.writer(place[0], group[0].spec, window, replace=True) as writer:
        for part in group:
            for batch in _batches(part.file):
                writer.write(batch)
        if writer.rows != done.rows or provenance.quarantined.total() != sum(map(len, bad)):
            raise CatalogCorruptError(
                f"{done.joined.path} would have {writer.rows:,} rows, its parts have {done.rows:,}",
                hint="See `ticklake verify`, which can mend the parts.",
            )
        writer.commit(provenance)
    record_published(catalog.path, done.joined.path, done.rows)
    remove_superseded(catalog.path, *place)
    return done


def _bad_rows(catalog: Catalog, place: _Place, group: Iterable[_Part]) -> list[pa.Table]:
    folder = quarantine_folder(catalog.path, *place)
    names = [part.provenance.quarantine for part in group if part.provenance.quarantine]
    try:
        return [pq.read_table(folder / name, partitioning=None) for name in names]
    except (pa.ArrowException, OSError) as exc:
        raise CatalogCorruptError(
            f"bad rows in {folder} cannot be read: {exc}",
            hint="Read their window again with refresh (--refresh), which writes them anew.",
        ) from exc


def _batches(file: CatalogFile) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file, a part of a row group at a time."""
    try:
        with (
            file.path.open("rb") as stream,
            pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=False) as parquet,
        ):
            for batch in parquet.iter_batches():
                # The schema without the footer's own entries; what is left of it was compared before.
                yield batch.replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as exc:
        raise CatalogCorruptError(
            f"{file.path} cannot be read: {exc}", hint="See `ticklake verify`, which can mend it."
        ) from exc
