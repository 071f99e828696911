"""What may be wrong with a catalog and the machine it lies on, beside the content of its files."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ticklake.catalog import disk
from ticklake.catalog.cache import Catalog
from ticklake.display import format_bytes
from ticklake.errors import CatalogError
from ticklake.versions import ENGINE, engine_pin, installed

__all__ = ["Finding", "check_versions", "examine"]

_LITTLE_SPACE = 1_000_000_000
_SKEW = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about a catalog, or about what it is fetched from.

    Attributes:
        check: What was looked at: `strays`, `superseded`, `temporaries`, `pins`, `damaged`, `locks`,
            `permissions`, `disk`, `clock` or `versions`; of a lake also `credentials`, `store` and `network`.
        text: What was found, and what to do about it.
        wrong: Whether something is to be done about it.
    """

    check: str
    text: str
    wrong: bool

    def to_dict(self) -> dict[str, str | bool]:
        """Return plain JSON values."""
        return {"check": self.check, "text": self.text, "wrong": self.wrong}


def examine(catalog: Catalog) -> list[Finding]:
    """Look at a catalog and its disk; nothing is changed.

    What the files hold is not looked at; see `verify`.

    Raises:
        CatalogError: The catalog may not be read.
    """
    try:
        return [
            *_strays(catalog),
            *_superseded(catalog),
            *_leftovers(catalog.path),
            *_locks(catalog.path),
            *_permissions(catalog.path),
            *_disk(catalog.path),
            *_clock(catalog),
        ]
    except OSError as exc:
        raise CatalogError(
            f"cannot examine {catalog.path}: {exc}", hint="Check the permissions of the catalog's folder."
        ) from exc


def check_versions() -> list[Finding]:
    """Return what is wrong with the installed versions: catalogs are those of one version of the engine."""
    pin, found = engine_pin(), installed()[ENGINE]
    if pin in (None, found):
        return []
    text = f"{ENGINE} {found} is installed, but ticklake is made for {pin}; install that one"
    return [Finding("versions", text, wrong=True)]


def _strays(catalog: Catalog) -> Iterator[Finding]:
    for path in catalog.strays():
        danger = (
            "the engine reads it though it counts as no coverage" if path.suffix == ".parquet" else "ignored"
        )
        yield Finding("strays", f"{path} is no file of the catalog ({danger}); move it away", wrong=True)


def _superseded(catalog: Catalog) -> Iterator[Finding]:
    for covered in catalog.coverage():
        for file in catalog.superseded(covered.catalog_type, covered.nautilus_id):
            text = (
                f"{file.path} lies inside another file, with which the engine reads it twice though ticklake "
                "does not; `ticklake compact` removes it if ticklake joined them, or else move one away"
            )
            yield Finding("superseded", text, wrong=True)


def _leftovers(root: Path) -> Iterator[Finding]:
    for path in _files(root / ".ticklake" / "tmp"):
        if not _is_locked(path):
            text = f"{path} was left by a process that died; the next fetch removes it"
            yield Finding("temporaries", text, wrong=False)
    for path in _files(root / ".ticklake" / "pins"):
        if path.suffix == ".lock" and not _is_locked(path):
            text = f"{path.with_suffix('')} was left by a reader that died; the next fetch removes it"
            yield Finding("pins", text, wrong=False)
    for path in _files(root / ".ticklake" / "damaged"):
        text = f"{path} was found damaged and set aside; remove it when nobody wants to look at it"
        yield Finding("damaged", text, wrong=False)


def _locks(root: Path) -> Iterator[Finding]:
    for path in _files(root / ".ticklake" / "locks"):
        if _is_locked(path):
            text = f"a process writes {path.parent.name} of {path.stem}"
            yield Finding("locks", text, wrong=False)


def _permissions(root: Path) -> Iterator[Finding]:
    if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("permissions", f"{root} cannot be written by you", wrong=True)
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & stat.S_IWOTH:
        text = f"{root} can be written by everybody (mode {mode:04o}); chmod o-w it"
        yield Finding("permissions", text, wrong=True)


def _disk(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free
    few = free < _LITTLE_SPACE
    yield Finding("disk", f"{format_bytes(free)} are free at {root}", wrong=few)
    if kind := disk.network_file_system(root):
        text = f"{root} lies on {kind}: do not fetch into it from two machines at once"
        yield Finding("disk", text, wrong=True)


def _clock(catalog: Catalog) -> Iterator[Finding]:
    """Hold the machine's clock against the times of the files that were written."""
    now = time.time_ns()
    for path in _files(catalog.path / "data"):
        if path.stat().st_mtime_ns > now + _SKEW:
            text = f"{path} was written in the future: this machine's clock, or its writer's, is wrong"
            yield Finding("clock", text, wrong=True)
            return


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _is_locked(path: Path) -> bool:
    """Whether a living process holds a file's lock; it is tried for and given back at once."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone by now, or not ours to ask
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
