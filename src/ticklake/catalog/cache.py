"""The catalog as a cache: what it covers, what is missing, who may write, and whether it is what was asked.

Coverage is read from file names alone. A window without events is covered by a file without rows; a window
that no file answers for is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ticklake.catalog import listing
from ticklake.catalog.listing import CatalogFile, list_files, scan
from ticklake.catalog.locks import hold
from ticklake.catalog.naming import file_name, parse_file_name, parse_instrument_dir
from ticklake.catalog.pins import pinned
from ticklake.catalog.provenance import Provenance, provenance_of, read_footer, read_provenance
from ticklake.catalog.records import forget_record
from ticklake.catalog.tidying import tidy
from ticklake.catalog.writer import CatalogWriter, data_folder
from ticklake.config.urls import is_folder
from ticklake.display import card, table
from ticklake.errors import CatalogConflictError, CatalogCorruptError, CatalogError
from ticklake.types import (
    CatalogType,
    InstrumentKey,
    InstrumentSpec,
    Window,
    format_nanos,
    subtract_windows,
)

__all__ = ["Catalog", "CatalogFile", "Coverage", "retried"]


_ATTEMPTS = 100


def retried[T](read: Callable[[], T]) -> T:
    """Do what lists files and then opens them, again where one of them was replaced or removed in between.

    Raises:
        CatalogError: There was one of them each time.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            return read()
    raise CatalogError(
        "files of the catalog are being replaced faster than they can be opened",
        hint="Try again when fewer processes write it.",
    )


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

    Raises:
        CatalogError: It is a URL.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not is_folder(self.path):
            raise CatalogError(
                "a catalog is a folder of this machine, not a URL",
                hint="Only lakes are read from object storage; what is fetched is kept on a local disk.",
            )

    def __repr__(self) -> str:
        return f"Catalog({str(self.path)!r})"

    def _repr_html_(self) -> str:
        rows = [
            (
                str(one.catalog_type),
                one.nautilus_id,
                format_nanos(one.windows[0].start),
                format_nanos(one.windows[-1].end),
                len(one.windows),
                one.files,
            )
            for one in self.coverage()
        ]
        columns = ("type", "instrument", "from (UTC)", "to, exclusive", "windows", "files")
        return card("Catalog", {"folder": self.path}, table(columns, rows) if rows else "holds no ticks")

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
                windows, files = listing.covered(data_folder(self.path, kind, each))
                if files:
                    found.append(Coverage(kind, each, windows, files))
        return sorted(found, key=lambda one: (one.catalog_type, one.nautilus_id))

    def instrument_ids(self, folder: CatalogType | str) -> list[str]:
        """Return the ids that have a folder of a type (`trades`, `crypto_perpetual`), in no order."""
        ids = (
            parse_instrument_dir(entry.name) for entry in scan(self.path / "data" / folder) if entry.is_dir()
        )
        return [nautilus_id for nautilus_id in ids if nautilus_id is not None]

    def files(
        self, catalog_type: CatalogType | str, nautilus_id: str, window: Window | None = None
    ) -> list[CatalogFile]:
        """Return the files that answer for any part of `window` (for all time without one), in order.

        Superseded files answer for nothing. Definitions are points in time, and supersede nothing.
        """
        files = list_files(data_folder(self.path, catalog_type, nautilus_id))
        if catalog_type in set(CatalogType):
            files = listing.answering(files)
        return [file for file in files if window is None or file.window.intersect(window)]

    def definitions(self, nautilus_id: str | None = None) -> list[CatalogFile]:
        """Return the files of instrument definitions, by type, instrument and time.

        Args:
            nautilus_id: This instrument only.
        """
        folders = sorted(entry.name for entry in scan(self.path / "data") if entry.is_dir())
        return [
            file
            for folder in folders
            if folder not in set(CatalogType)
            for each in (sorted(self.instrument_ids(folder)) if nautilus_id is None else [nautilus_id])
            for file in self.files(folder, each)
        ]

    def superseded(self, catalog_type: CatalogType, nautilus_id: str) -> list[CatalogFile]:
        """Return the files that lie inside another one, which answers for them, in order.

        We do not read them, but the engine does where it reads the folder by itself.
        """
        return list(listing.superseded(list_files(data_folder(self.path, catalog_type, nautilus_id))))

    @contextmanager
    def pinned(
        self, places: Iterable[tuple[CatalogType, str]], window: Window | None = None
    ) -> Iterator[Catalog]:
        """Give a catalog of some types and instruments as they are at one moment.

        They stay so for as long as the block takes, whatever others write, replace and remove meanwhile.
        Nobody is waited for. In it are the files that answer for any part of the window, and all definitions.

        Where no links can be made, because this catalog may not be written or its file system has none, it is
        this catalog itself that is given.

        Args:
            places: The types and instruments.
            window: The window; all time by default.

        Raises:
            CatalogError: The file system refused.
        """
        with pinned(self.path, places, window) as root:
            yield self if root == self.path else Catalog(root)

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
        self,
        catalog_type: CatalogType,
        spec: InstrumentSpec,
        window: Window,
        *,
        replace: bool = False,
        encoders: int = 0,
    ) -> CatalogWriter:
        """Return a writer of the file that answers for `window`; see `CatalogWriter`.

        Hold `lock` around asking what is missing and writing it.
        """
        writer = CatalogWriter(self.path, catalog_type, spec, window, replace=replace, encoders=encoders)
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

        The operating system frees it when its holder dies. What dead holders left is removed by the next one.

        Args:
            catalog_type: The type's folder.
            nautilus_id: The instrument.
            timeout: Seconds to wait while somebody else holds it; without end by default.
            on_wait: Called once with a message when waiting begins.

        Raises:
            CatalogError: Somebody else held it all the time, or the file system refused.
        """
        with hold(self.path, catalog_type, nautilus_id, timeout=timeout, on_wait=on_wait):
            if catalog_type in set(CatalogType):
                tidy(self.path, CatalogType(catalog_type), nautilus_id)
            yield

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
        place = catalog_type, spec.nautilus_id
        read = retried(lambda: {file: _metadata(file.path) for file in self.files(*place, window)})
        for file, (found, origin) in read.items():
            _refuse_other_key(file, origin, asked)
            differing = [*_differing_spec(found, spec), *_differing_source(origin, asked)]
            if differing:
                raise CatalogConflictError(
                    f"the catalog's {file.path} is of another source: {'; '.join(differing)}",
                    instrument=asked.lake_key,
                    data_type=asked.data_type,
                    hint="Use another catalog, or read the window again with refresh (--refresh), which "
                    "replaces that file.",
                )
        return {file: origin for file, (_, origin) in read.items()}

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
            with suppress(CatalogCorruptError, FileNotFoundError):
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
        return retried(lambda: self._content_digest(catalog_type, nautilus_id, window))

    def _content_digest(
        self, catalog_type: CatalogType | None, nautilus_id: str | None, window: Window | None
    ) -> str:
        from ticklake.catalog.digest import content_digest  # takes time to import, and is seldom needed

        covered = self.coverage(catalog_type, nautilus_id)
        with self.pinned(((one.catalog_type, one.nautilus_id) for one in covered), window) as pinned:
            return content_digest(
                (
                    (one, pinned.files(one.catalog_type, one.nautilus_id, window))
                    for one in pinned.coverage(catalog_type, nautilus_id)
                ),
                window,
            )

    def strays(self) -> list[Path]:
        """Return what lies in the folders of tick data and is no file or folder of the catalog, in order.

        Coverage ignores all of it. The engine does not: it reads any `*.parquet` in an instrument's folder.
        """
        found = []
        for kind in CatalogType:
            for entry in scan(self.path / "data" / kind):
                if not entry.is_dir() or parse_instrument_dir(entry.name) is None:
                    found.append(Path(entry.path))
                    continue
                found.extend(
                    Path(inner.path)
                    for inner in scan(entry.path)
                    if parse_file_name(inner.name) is None or inner.is_dir()
                )
        return sorted(found)


def _refuse_other_key(file: CatalogFile, found: Provenance | None, asked: Provenance) -> None:
    if found is None or not found.lake_key:  # it did not come from a lake
        return
    if InstrumentKey(asked.lake_key).matches(InstrumentKey(found.lake_key)):
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
    if found.data_type and found.data_type != asked.data_type:
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
