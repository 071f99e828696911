"""Which files of a folder answer for which windows: told by their names alone.

Several files may say something of one window while files are joined: the joined file is published first, and
those that it was made of are removed after that. The rule by which everybody agrees about that moment: a file
whose window lies wholly inside another file's window is superseded. Nobody reads it, and whoever next holds
the lock of its type and instrument removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ticklake.catalog.naming import parse_file_name
from ticklake.errors import CatalogError
from ticklake.types import Window, merge_windows

__all__ = ["CatalogFile", "answering", "covered", "list_files", "scan", "superseded"]


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A file of a catalog and the window that its name answers for."""

    window: Window
    path: Path


def list_files(folder: Path) -> list[CatalogFile]:
    """Return the files of an instrument's folder that have a catalog file's name, in order.

    Raises:
        CatalogError: The folder may not be read.
    """
    files = [CatalogFile(window, Path(folder, name)) for window, name in _named(folder)]
    return sorted(files, key=lambda file: (file.window.start, file.window.end))


def covered(folder: Path) -> tuple[tuple[Window, ...], int]:
    """Return what the files of an instrument's folder answer for, merged and in order, and how many do so.

    As `answering` says of `list_files`, without a path for each.

    Raises:
        CatalogError: The folder may not be read.
    """
    found, reach = [], -1
    for window in sorted((window for window, _ in _named(folder)), key=_widest_first):
        if window.end > reach:
            found.append(window)
            reach = window.end
    return merge_windows(found), len(found)


def _widest_first(window: Window) -> tuple[int, int]:
    return window.start, -window.end


def _named(folder: Path) -> list[tuple[Window, str]]:
    """Return the windows and names of the files that have a catalog file's name."""
    # What is published and what is removed while a folder is being listed may both be missing in the list.
    # Such a list is never followed by the same one: what was published by then is there for sure.
    found, last = _names(folder), None
    while found != last:
        found, last = _names(folder), found
    windows = ((parse_file_name(name), name) for name in found)
    return [(window, name) for window, name in windows if window is not None]


def _names(folder: Path) -> set[str]:
    # Not what is being written: it would change between any two lists.
    return {entry.name for entry in scan(folder) if entry.name.endswith(".parquet") and not entry.is_dir()}


def scan(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, nothing where there is none.

    Raises:
        CatalogError: The folder may not be read, or is a file or in one.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except NotADirectoryError as exc:
        path = Path(folder)
        file = next(each for each in (path, *path.parents) if each.exists())
        raise CatalogError(
            f"{file} is a file, where a catalog has a folder",
            hint="Name another catalog, or move the file away.",
        ) from exc
    except OSError as exc:
        raise CatalogError(
            f"cannot read {folder}: {exc.strerror or exc}",
            hint="Check the permissions of the catalog's folder.",
        ) from exc


def superseded(files: Iterable[CatalogFile]) -> dict[CatalogFile, CatalogFile]:
    """Return the files that are superseded, in order, each with one that it lies in."""
    found = {}
    widest: CatalogFile | None = None
    for file in sorted(files, key=lambda file: _widest_first(file.window)):
        if widest is not None and file.window.end <= widest.window.end:
            found[file] = widest
        else:
            widest = file
    return found


def answering(files: Iterable[CatalogFile]) -> list[CatalogFile]:
    """Return the files that answer for their windows: all but those that are superseded, in their order."""
    there = list(files)
    hidden = superseded(there)
    if not hidden:  # as nearly always; to look for each in it would take longer than all else
        return there
    return [file for file in there if file not in hidden]
