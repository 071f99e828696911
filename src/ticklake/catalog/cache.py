"""The catalog as a cache: what it covers, what is missing, who may write, and whether it is what was asked.

Coverage is read from file names alone. A window without events is covered by a file without rows; a window
that no file answers for is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from ticklake.catalog import disk
from ticklake.catalog.digest import content_digest
from ticklake.catalog.naming import file_name, instrument_dir, parse_file_name, parse_instrument_dir
from ticklake.catalog.provenance import Provenance, provenance_of, read_footer, read_provenance
from ticklake.catalog.records import forget_record
from ticklake.catalog.writer import CatalogWriter, data_folder
from ticklake.errors import CatalogConflictError, CatalogCorruptError, CatalogError
from ticklake.types import (
    CatalogType,
    InstrumentKey,
    InstrumentSpec,
    Window,
    merge_windows,
    subtract_windows,
)

__all__ = ["Catalog", "CatalogFile", "Coverage"]


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A file of a catalog and the window that its name answers for."""

    window: Window
    path: Path


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a catalog covers of one instrument and type.

    Attributes:
        catalog_type: The type's folder.
        nautilus_id: The instrument.
        windows: The windows covered, merged and in order.
        files: How many files answer for them.
    """

    catalog_type: CatalogType
    nautilus_id: str
    windows: tuple[Window, ...]
    files: int


class Catalog:
    """A NautilusTrader catalog on local disk. Making one touches nothing.

    Args:
        path: Its root folder, which need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Catalog({str(self.path)!r})"

    def coverage(
        self, catalog_type: CatalogType | None = None, nautilus_id: str | None = None
    ) -> list[Coverage]:
        """Return what is covered, by type and instrument, in the order of their names.

        Args:
            catalog_type: This type only.
            nautilus_id: This instrument only.
        """
        found = []
        for kind in CatalogType if catalog_type is None else (catalog_type,):
            ids = self.instrument_ids(kind) if nautilus_id is None else (nautilus_id,)
            for each in ids:
                files = _files(data_folder(self.path, kind, each))
                if files:
                    windows = merge_windows(file.window for file in files)
                    found.append(Coverage(kind, each, windows, len(files)))
        return sorted(found, key=lambda one: (one.catalog_type, one.nautilus_id))

    def instrument_ids(self, folder: CatalogType | str) -> list[str]:
        """Return the ids that have a folder of a type (`trades`, `crypto_perpetual`), in no order."""
        ids = (
            parse_instrument_dir(entry.name) for entry in _scan(self.path / "data" / folder) if entry.is_dir()
        )
        return [nautilus_id for nautilus_id in ids if nautilus_id is not None]

    def files(
        self, catalog_type: CatalogType | str, nautilus_id: str, window: Window | None = None
    ) -> list[CatalogFile]:
        """Return the files that answer for any part of `window` (for all time without one), in order."""
        return [
            file
            for file in _files(data_folder(self.path, catalog_type, nautilus_id))
            if window is None or file.window.intersect(window)
        ]

    def missing(self, catalog_type: CatalogType, nautilus_id: str, window: Window) -> tuple[Window, ...]:
        """Return the parts of `window` that no file answers for, split at UTC midnights, in order."""
        covered = [file.window for file in self.files(catalog_type, nautilus_id, window)]
        return tuple(part for gap in subtract_windows(window, covered) for part in gap.split_days())

    def refreshed(self, catalog_type: CatalogType, nautilus_id: str, window: Window) -> tuple[Window, ...]:
        """Return the windows to write, in order, to have `window` afresh, files being replaced whole.

        These are the windows of the files that meet it, which may reach beyond it, and what is missing. Write
        each with `writer(..., replace=True)`.
        """
        present = [file.window for file in self.files(catalog_type, nautilus_id, window)]
        return tuple(sorted([*present, *self.missing(catalog_type, nautilus_id, window)]))

    def writer(
        self, catalog_type: CatalogType, spec: InstrumentSpec, window: Window, *, replace: bool = False
    ) -> CatalogWriter:
        """Return a writer of the file that answers for `window`; see `CatalogWriter`.

        Hold `lock` around asking what is missing and writing it.
        """
        writer = CatalogWriter(self.path, catalog_type, spec, window, replace=replace)
        try:
            forget_record(
                self.path, data_folder(self.path, catalog_type, spec.nautilus_id) / file_name(window)
            )
        except CatalogError:
            writer.discard()
            raise
        return writer

    @contextmanager
    def lock(
        self,
        catalog_type: CatalogType | str,
        nautilus_id: str,
        *,
        timeout: float | None = None,
        on_wait: Callable[[str], None] | None = None,
    ) -> Iterator[None]:
        """Hold the right to write one instrument and type; readers need none.

        The operating system frees it when its holder dies.

        Args:
            catalog_type: The type's folder.
            nautilus_id: The instrument.
            timeout: Seconds to wait while somebody else holds it; without end by default.
            on_wait: Called once with a message when waiting begins.

        Raises:
            CatalogError: Somebody else held it all the time, or the file system refused.
        """
        path = self.path / ".ticklake" / "locks" / catalog_type / f"{instrument_dir(nautilus_id)}.lock"
        what = f"{catalog_type} of {nautilus_id} to {self.path}"
        # A soft lock would outlive its holder.
        lock = FileLock(path, fallback_to_soft=False)
        try:
            disk.make_folder(path.parent, self.path)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                if on_wait is not None:
                    on_wait(f"waiting for another process that writes {what}")
                lock.acquire(timeout=-1 if timeout is None else timeout)
        except Timeout as exc:
            raise CatalogError(
                f"another process has been writing {what} for {timeout:g} s",
                hint="Wait until it has finished, or end it; its lock goes with it.",
            ) from exc
        except OSError as exc:
            raise disk.refusal(f"cannot lock {path}", exc) from exc
        try:
            yield
        finally:
            lock.release()

    def check_source(
        self,
        catalog_type: CatalogType,
        spec: InstrumentSpec,
        window: Window,
        asked: Provenance,
    ) -> dict[CatalogFile, Provenance | None]:
        """Check that the files which answer for parts of `window` hold what is asked for, and return them.

        Footers are read, no rows. Files without our provenance, of the engine's own writer for example, are
        taken where id and precisions agree.

        Args:
            catalog_type: The type's folder.
            spec: The instrument and its precisions.
            window: The request.
            asked: The lake's instrument (with or without its `@…` suffix), data type, lake and dialect.

        Returns:
            The files, in order, with their provenance where they have one.

        Raises:
            CatalogConflictError: A file is of another instrument, precision, data type, lake or dialect.
            CatalogCorruptError: A file cannot be read.
        """
        files: dict[CatalogFile, Provenance | None] = {}
        for file in self.files(catalog_type, spec.nautilus_id, window):
            found, files[file] = _metadata(file.path)
            _refuse_other_key(file, files[file], asked)
            differing = [*_differing_spec(found, spec), *_differing_source(files[file], asked)]
            if differing:
                raise CatalogConflictError(
                    f"the catalog's {file.path} is of another source: {'; '.join(differing)}",
                    instrument=asked.lake_key,
                    data_type=asked.data_type,
                    hint="Use another catalog, or read the window again with refresh (--refresh), which "
                    "replaces that file.",
                )
        return files

    def check_replaceable(
        self, catalog_type: CatalogType, spec: InstrumentSpec, window: Window, asked: Provenance
    ) -> None:
        """Check that the files which answer for parts of `window` are of the same instrument of a lake.

        This is for a refresh, which may change all else, and mends files that cannot be read.

        Args:
            catalog_type: The type's folder.
            spec: The instrument.
            window: The request.
            asked: The lake's instrument, with or without its `@…` suffix.

        Raises:
            CatalogConflictError: A file is of another instrument of a lake.
        """
        for file in self.files(catalog_type, spec.nautilus_id, window):
            with suppress(CatalogCorruptError):
                _refuse_other_key(file, read_provenance(file.path), asked)

    def content_digest(
        self,
        catalog_type: CatalogType | None = None,
        nautilus_id: str | None = None,
        window: Window | None = None,
    ) -> str:
        """Return a digest of what is covered and of all rows, equal for equal content.

        In how many files, row groups or pages the rows are makes no difference, nor does provenance.

        Args:
            catalog_type: This type only.
            nautilus_id: This instrument only.
            window: This part of it only.

        Raises:
            CatalogCorruptError: A file cannot be read.
        """
        places = (
            (covered, self.files(covered.catalog_type, covered.nautilus_id, window))
            for covered in self.coverage(catalog_type, nautilus_id)
        )
        return content_digest(places, window)

    def strays(self) -> list[Path]:
        """Return what lies in the folders of tick data and is no file or folder of the catalog, in order.

        Coverage ignores all of it. The engine does not: it reads any `*.parquet` in an instrument's folder.
        """
        found = []
        for kind in CatalogType:
            for entry in _scan(self.path / "data" / kind):
                if not entry.is_dir() or parse_instrument_dir(entry.name) is None:
                    found.append(Path(entry.path))
                    continue
                found.extend(
                    Path(inner.path)
                    for inner in _scan(entry.path)
                    if parse_file_name(inner.name) is None or inner.is_dir()
                )
        return sorted(found)


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise CatalogError(
            f"cannot read {folder}: {exc.strerror or exc}",
            hint="Check the permissions of the catalog's folder.",
        ) from exc


def _files(folder: Path) -> list[CatalogFile]:
    """Return the catalog files of one instrument's folder, in order."""
    files = [
        CatalogFile(window, Path(entry.path))
        for entry in _scan(folder)
        if (window := parse_file_name(entry.name)) is not None and not entry.is_dir()
    ]
    return sorted(files, key=lambda file: (file.window.start, file.window.end))


def _refuse_other_key(file: CatalogFile, found: Provenance | None, asked: Provenance) -> None:
    if found is None or InstrumentKey(asked.lake_key).matches(InstrumentKey(found.lake_key)):
        return
    raise CatalogConflictError(
        f"the catalog's {file.path} is of another instrument: lake_key {found.lake_key} there, "
        f"{asked.lake_key} asked for",
        instrument=asked.lake_key,
        data_type=asked.data_type,
        hint="Use another nautilus_id or another catalog, or remove that file.",
    )


def _differing_spec(found: Mapping[bytes, bytes], spec: InstrumentSpec) -> Iterator[str]:
    asked = {
        "instrument_id": spec.nautilus_id,
        "price_precision": str(spec.price_precision),
        "size_precision": str(spec.size_precision),
    }
    for name, value in asked.items():
        there = found.get(name.encode(), value.encode()).decode()
        if there != value:
            yield f"{name} {there} there, {value} asked for"


def _differing_source(found: Provenance | None, asked: Provenance) -> Iterator[str]:
    if found is None:
        return
    if found.data_type != asked.data_type:
        yield f"data_type {found.data_type} there, {asked.data_type} asked for"
    if found.lake and found.lake != asked.lake:
        yield f"lake {found.lake} there, {asked.lake} asked for"
    if found.dialect != asked.dialect:
        there, wanted = (each or "(recognised)" for each in (found.dialect, asked.dialect))
        yield f"dialect {there} there, {wanted} asked for"


def _metadata(path: Path) -> tuple[Mapping[bytes, bytes], Provenance | None]:
    """Return what a file's schema says about its rows, and where they come from, as far as it does."""
    footer = read_footer(path)
    try:
        metadata = footer.schema.to_arrow_schema().metadata or {}
    except pa.ArrowException as exc:
        raise CatalogCorruptError(
            f"{path} has no Arrow schema: {exc}", hint="Remove it and fetch its window again."
        ) from exc
    return metadata, provenance_of(footer.metadata, path)
