"""Removing what is no longer used of one instrument and type: by whoever holds its lock."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ticklake.catalog import disk
from ticklake.catalog.listing import CatalogFile, list_files, superseded
from ticklake.catalog.pins import remove_dead_pins
from ticklake.catalog.provenance import read_provenance
from ticklake.catalog.quarantine import quarantined_windows, remove_other_quarantine
from ticklake.catalog.records import forget_record
from ticklake.catalog.writer import data_folder, remove_stale_temporaries
from ticklake.errors import CatalogCorruptError
from ticklake.types import CatalogType

__all__ = ["remove_file", "remove_superseded", "tidy"]


def tidy(root: Path, catalog_type: CatalogType, nautilus_id: str) -> None:
    """Remove what dead processes left of an instrument and type, and anywhere what no living one uses.

    Of the first kind are superseded files and bad rows that no file names, of the other temporary files and
    pins. Hold the lock.

    Raises:
        CatalogError: The file system refused.
    """
    with disk.writing(root):
        remove_stale_temporaries(root)
        remove_dead_pins(root)
    remove_superseded(root, catalog_type, nautilus_id)
    _remove_unnamed_quarantine(root, catalog_type, nautilus_id)


def remove_superseded(root: Path, catalog_type: CatalogType, nautilus_id: str) -> None:
    """Remove the files that ticklake joined into others, with their records and bad rows. Hold the lock.

    A file inside one that is not ticklake's stays: what that one holds is not known.

    Raises:
        CatalogError: The file system refused.
    """
    files = list_files(data_folder(root, catalog_type, nautilus_id))
    for file, wider in superseded(files).items():
        if _is_ours(wider):
            remove_file(root, catalog_type, nautilus_id, file)


def _is_ours(file: CatalogFile) -> bool:
    try:
        return read_provenance(file.path) is not None
    except (CatalogCorruptError, FileNotFoundError):
        return False


def remove_file(root: Path, catalog_type: CatalogType, nautilus_id: str, file: CatalogFile) -> None:
    """Remove a file with its record and its bad rows. Hold the lock.

    Raises:
        CatalogError: The file system refused.
    """
    forget_record(root, file.path)
    with disk.writing(file.path):
        disk.remove(file.path)
        disk.sync_folder(file.path.parent)
    remove_other_quarantine(root, catalog_type, nautilus_id, file.window, keep="")


def _remove_unnamed_quarantine(root: Path, catalog_type: CatalogType, nautilus_id: str) -> None:
    kept = quarantined_windows(root, catalog_type, nautilus_id)
    if not kept:
        return
    files = {file.window: file for file in list_files(data_folder(root, catalog_type, nautilus_id))}
    for window in kept:
        if window not in files:
            remove_other_quarantine(root, catalog_type, nautilus_id, window, keep="")
            continue
        # The bad rows of a file that cannot be read are kept: who can say whose they are?
        with suppress(CatalogCorruptError, FileNotFoundError):
            origin = read_provenance(files[window].path)
            if origin is not None:
                remove_other_quarantine(root, catalog_type, nautilus_id, window, keep=origin.quarantine)
