"""Keeping files of a catalog as they are for as long as somebody reads them, without a lock.

A reader makes hard links of the files that it wants in `<root>/.ticklake/pins/<name>`, a small catalog of its
own: whatever others publish, replace and remove meanwhile, the files of its links stay. It has `<name>.lock`
locked for as long as it lives, so that what a dead reader left behind can be told, and removed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ticklake.catalog import disk
from ticklake.catalog.listing import answering, list_files, scan
from ticklake.catalog.naming import engine_dir, instrument_dir
from ticklake.catalog.writer import data_folder
from ticklake.errors import CatalogError
from ticklake.types import CatalogType, Window

__all__ = ["pinned", "remove_dead_pins"]

_LOCK = ".lock"
_ATTEMPTS = 1_000

# A catalog that we may not write, and file systems without hard links.
_NO_LINKS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV)


@contextmanager
def pinned(
    root: Path, places: Iterable[tuple[CatalogType, str]], window: Window | None = None
) -> Iterator[Path]:
    """Give the root of a catalog with the files of some instruments and types as they are at one moment.

    It holds the files that answer for any part of the window, and all definitions of the instruments.

    Args:
        root: The catalog.
        places: The types and instruments.
        window: The window; all time by default.

    Yields:
        Where the links are; the catalog's own root where none can be made, because it may not be written or
        its file system has no hard links.

    Raises:
        CatalogError: The file system refused, or files are replaced faster than they can be linked.
    """
    wanted = sorted(set(places))
    with ExitStack() as stack:
        folder = root
        if _found(root, wanted, window):
            try:
                folder = stack.enter_context(_folder(root))
                _link_all(root, folder, wanted, window)
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise disk.refusal(f"cannot link files of {root}", exc) from exc
                folder = root
        yield folder


@contextmanager
def _folder(root: Path) -> Iterator[Path]:
    """Give a new folder for links, which goes with the block or is removed by others after our death."""
    pins = root / ".ticklake" / "pins"
    disk.make_passing_folder(pins)
    lock, stream = disk.create_locked(pins, _LOCK)
    folder = lock.with_suffix("")
    try:
        yield folder
    finally:
        # What cannot be removed is left to the next writer.
        with suppress(OSError):
            disk.remove_tree(folder)
            disk.remove(lock)
        stream.close()


def _link_all(
    root: Path, folder: Path, places: Iterable[tuple[CatalogType, str]], window: Window | None
) -> None:
    """Link what is wanted, until it was all there at once: nothing has changed while it was linked."""
    linked: set[Path] = set()
    for _ in range(_ATTEMPTS):
        found = _found(root, places, window)
        linked |= found
        # What is not there any more was replaced or removed, so look again.
        with suppress(FileNotFoundError):
            for path in found:
                _link(root / path, folder / path)
            same = all((folder / path).samefile(root / path) for path in found)
            if same and _found(root, places, window) == found:
                for path in linked - found:
                    disk.remove(folder / path)
                return
    raise CatalogError(
        f"files of {root} are being replaced faster than they can be linked",
        hint="Try again when fewer processes write it.",
    )


def _link(path: Path, link: Path) -> None:
    if link.exists():
        if link.samefile(path):
            return
        disk.remove(link)
    disk.make_passing_folder(link.parent)
    # A link to a symbolic link would keep nothing, and where that is relative lead nowhere.
    disk.link(path.resolve() if path.is_symlink() else path, link)


def _found(root: Path, places: Iterable[tuple[CatalogType, str]], window: Window | None) -> set[Path]:
    """Return the files that are wanted, by their paths in the catalog."""
    found = set()
    for kind, nautilus_id in places:
        for file in answering(list_files(data_folder(root, kind, nautilus_id))):
            if window is None or file.window.intersect(window):
                found.add(file.path)
    names = {name for _, nautilus_id in places for name in _definition_folders(nautilus_id)}
    for entry in scan(root / "data"):
        if entry.name not in set(CatalogType) and entry.is_dir():
            for name in names:
                inside = scan(Path(entry.path, name))
                found |= {Path(each.path) for each in inside if each.name.endswith(".parquet")}
    return {path.relative_to(root) for path in found}


def _definition_folders(nautilus_id: str) -> Iterator[str]:
    """Yield the names of the folders that may hold definitions of an instrument: ours and the engine's."""
    yield instrument_dir(nautilus_id)
    with suppress(CatalogError):  # an id that the engine does not find again
        yield engine_dir(nautilus_id)


def remove_dead_pins(root: Path) -> None:
    """Remove the links of readers that are dead. What cannot be removed stays."""
    pins = root / ".ticklake" / "pins"
    for entry in scan(pins):
        # Locks come before their folders and go after them.
        lock = Path(entry.path).with_suffix(_LOCK)
        with disk.unlocked(lock) as free, suppress(OSError):
            if free or not lock.exists():
                disk.remove_tree(lock.with_suffix(""))
                disk.remove(lock)
