"""Taking files out of a catalog: damaged ones to be looked at, old ones for good."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ticklake.catalog import disk
from ticklake.catalog.cache import Catalog, retried
from ticklake.catalog.integrity import FileCheck, check_file
from ticklake.catalog.listing import CatalogFile
from ticklake.catalog.locks import lock_of
from ticklake.catalog.quarantine import quarantine_of
from ticklake.catalog.records import forget_record
from ticklake.catalog.tidying import remove_file
from ticklake.types import CatalogType, Window, format_nanos

__all__ = ["PruneReport", "PrunedFile", "prune", "set_aside"]


def set_aside(catalog: Catalog, check: FileCheck) -> Path | None:
    """Move a damaged file and its bad rows to `<root>/.ticklake/damaged`, where nothing reads them.

    Args:
        catalog: Its catalog.
        check: What was found of it.

    Returns:
        Where it lies now; None where it was mended or removed meanwhile.

    Raises:
        CatalogError: The file system refused.
    """
    file = check.file
    with catalog.lock(lock_of(check.folder), check.nautilus_id):
        now = check_file(catalog, file)
        # An overlap is no damage of the file itself, and is still there.
        if now is None or (not now.problems and not check.overlaps):
            return None
        folder = catalog.path / ".ticklake" / "damaged" / file.path.parent.relative_to(catalog.path / "data")
        suffix = uuid.uuid4().hex[:8]
        target = folder / f"{file.path.name}.{suffix}"
        bad_rows = quarantine_of(catalog.path, check.folder, check.nautilus_id, file.window)
        forget_record(catalog.path, file.path)
        with disk.writing(target):
            disk.make_folder(folder, catalog.path)
            # These first: where no data file names them, the next holder of the lock removes them.
            for path in bad_rows:
                disk.rename(path, folder / f"{path.name}.{suffix}")
            disk.rename(file.path, target)
            for changed in {folder, *(path.parent for path in (file.path, *bad_rows))}:
                disk.sync_folder(changed)
    return target


@dataclass(frozen=True, slots=True)
class PrunedFile:
    """A file that `prune` removed, or would.

    Attributes:
        file: The file and its window.
        catalog_type: The type's folder.
        nautilus_id: The instrument.
        size: Its bytes.
    """

    file: CatalogFile
    catalog_type: CatalogType
    nautilus_id: str
    size: int


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What `prune` removed, or would.

    Attributes:
        removed: The files, by type, instrument and time.
        kept: Files that reach beyond the window, which stay whole.
        dry_run: Whether nothing was done.
    """

    removed: tuple[PrunedFile, ...]
    kept: tuple[CatalogFile, ...]
    dry_run: bool

    @property
    def bytes(self) -> int:
        """Bytes of the files removed."""
        return sum(one.size for one in self.removed)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "dry_run": self.dry_run,
            "files": len(self.removed),
            "bytes": self.bytes,
            "removed": [
                {
                    "path": str(one.file.path),
                    "type": one.catalog_type.value,
                    "instrument": one.nautilus_id,
                    "start": format_nanos(one.file.window.start),
                    "end": format_nanos(one.file.window.end),
                    "bytes": one.size,
                }
                for one in self.removed
            ],
            "kept": [str(file.path) for file in self.kept],
        }


def prune(
    catalog: Catalog,
    window: Window,
    catalog_type: CatalogType | None = None,
    nautilus_id: str | None = None,
    *,
    dry_run: bool = False,
) -> PruneReport:
    """Remove the files that lie wholly in a window, with their bad rows; they can be fetched again.

    A run that has begun keeps the files that it reads.

    Args:
        catalog: The catalog.
        window: What to remove; files that reach beyond it stay.
        catalog_type: This type only.
        nautilus_id: This instrument only.
        dry_run: Change nothing, tell what would be done.

    Raises:
        CatalogError: The file system refused; what was removed by then is removed.
    """
    removed: list[PrunedFile] = []
    kept: list[CatalogFile] = []
    for covered in catalog.coverage(catalog_type, nautilus_id):
        place = covered.catalog_type, covered.nautilus_id
        if dry_run:
            found = retried(partial(_split, catalog, place, window))
        elif catalog.files(*place, window):
            with catalog.lock(*place):
                found = _split(catalog, place, window)
                for one in found[0]:
                    remove_file(catalog.path, *place, one.file)
        else:
            continue
        removed += found[0]
        kept += found[1]
    return PruneReport(tuple(removed), tuple(kept), dry_run)


def _split(
    catalog: Catalog, place: tuple[CatalogType, str], window: Window
) -> tuple[list[PrunedFile], list[CatalogFile]]:
    """Return the files that lie in a window, and those that reach beyond it."""
    inside, beyond = [], []
    for file in catalog.files(*place, window):
        if file.window.intersect(window) == file.window:
            inside.append(PrunedFile(file, *place, file.path.stat().st_size))
        else:
            beyond.append(file)
    return inside, beyond
