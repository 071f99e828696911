"""The disk under a catalog: every change that is made to it, one named step at a time.

Nothing else in ticklake writes to a catalog, lock files aside. So what a crash can interrupt is the sequence
of these steps, and `observe` shows it: tests kill the process at each of them, make each of them fail, and
replay them as after a power loss.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ticklake.display import format_bytes
from ticklake.errors import CatalogError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "Action",
    "Step",
    "create_locked",
    "link",
    "make_folder",
    "make_passing_folder",
    "network_file_system",
    "observe",
    "refusal",
    "remove",
    "remove_folder",
    "remove_tree",
    "remove_unlocked",
    "rename",
    "require_space",
    "sync",
    "sync_folder",
    "unlocked",
    "writing",
]


class Action(StrEnum):
    """What a step does."""

    MAKE_FOLDER = "make_folder"
    CREATE = "create"
    WRITE = "write"
    SYNC = "sync"
    RENAME = "rename"
    LINK = "link"
    SYNC_FOLDER = "sync_folder"
    REMOVE = "remove"
    REMOVE_FOLDER = "remove_folder"


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the file system.

    Attributes:
        action: What is done.
        path: The file or folder that it is done to.
        target: The new name of what is renamed or linked.
        data: The bytes that are appended.
    """

    action: Action
    path: Path
    target: Path | None = None
    data: bytes = b""


_observers: list[Callable[[Step], object]] = []


@contextmanager
def observe(callback: Callable[[Step], object]) -> Iterator[None]:
    """Call `callback` with each step of this process before it is done, in the thread that does it.

    An `OSError` that it raises is taken for the file system's answer to that step, which is not done.
    """
    _observers.append(callback)
    try:
        yield
    finally:
        _observers.remove(callback)


def _announce(action: Action, path: Path, target: Path | None = None, data: ReadableBuffer = b"") -> None:
    if _observers:
        step = Step(action, path, target, bytes(data))
        for callback in tuple(_observers):
            callback(step)


def make_folder(folder: Path, root: Path) -> None:
    """Create a folder of a catalog, and what it lies in, where there is none; the root with mode 0700.

    Each new entry is on disk before what lies in it.
    """
    missing = []
    for path in (folder, *folder.parents):
        if path.is_dir():
            break
        missing.append(path)
    for path in reversed(missing):
        _announce(Action.MAKE_FOLDER, path)
        path.mkdir(mode=0o700 if path == root else 0o777, exist_ok=True)
        sync_folder(path.parent)


def make_passing_folder(folder: Path) -> None:
    """Create a folder, and what it lies in, that nobody will miss after a power loss."""
    missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(missing):
        _announce(Action.MAKE_FOLDER, path)
        path.mkdir(exist_ok=True)


class _Stream(io.FileIO):
    """An unbuffered file whose writes are steps."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "wb")
        self._path = path

    def write(self, data: ReadableBuffer, /) -> int:
        _announce(Action.WRITE, self._path, data=data)
        return super().write(data)


def create_locked(folder: Path, suffix: str) -> tuple[Path, BinaryIO]:
    """Return a new file of a name of its own, opened for writing and locked against `remove_unlocked`."""
    while True:
        path = folder / f"{uuid.uuid4().hex}{suffix}"
        _announce(Action.CREATE, path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Between opening and locking another process may have taken it for stale and removed it.
            if os.fstat(descriptor).st_nlink:
                return path, io.BufferedWriter(_Stream(descriptor, path))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def unlocked(path: Path) -> Iterator[bool]:
    """Tell whether no living process has a file locked, and keep it so for as long as the block takes.

    Of what cannot be opened for writing, a link for example, nothing is known; it counts as locked.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            free = False
        else:
            free = True
        yield free
    finally:
        os.close(descriptor)


def remove_unlocked(path: Path) -> bool:
    """Remove a file unless a living process has it locked, and tell whether it was removed.

    What cannot be removed stays.
    """
    with unlocked(path) as free:
        if not free:
            return False
        try:
            remove(path)
        except OSError:
            return False
    return True


def sync(stream: BinaryIO, path: Path) -> None:
    """Bring a file's content to the disk."""
    stream.flush()
    _announce(Action.SYNC, path)
    os.fsync(stream.fileno())


def rename(path: Path, target: Path) -> None:
    """Give a file its name; a file of that name is replaced in the same instant."""
    _announce(Action.RENAME, path, target)
    path.replace(target)


def link(path: Path, target: Path) -> None:
    """Give a file a second name."""
    _announce(Action.LINK, path, target)
    target.hardlink_to(path)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    _announce(Action.SYNC_FOLDER, folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    _announce(Action.REMOVE, path)
    path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder, which has to be empty."""
    _announce(Action.REMOVE_FOLDER, folder)
    folder.rmdir()


def remove_tree(folder: Path) -> None:
    """Remove a folder, if it is there, with all that is in it."""
    for path, folders, files in os.walk(folder, topdown=False):
        for name in files:
            remove(Path(path, name))
        for name in folders:
            remove_folder(Path(path, name))
    if folder.is_dir():
        remove_folder(folder)


_HINT = "Check the free space and the permissions of the catalog's folder."
_HINTS = {
    errno.ENOSPC: "Free some space there, or use a catalog on another disk; what is complete is kept.",
    errno.EDQUOT: "Your quota is used up: free some space, or use another disk; what is complete is kept.",
    errno.EROFS: "It is mounted read-only: mount it for writing, or use another catalog.",
    errno.EIO: "The disk reports a fault: look at the system's log before you trust what it holds.",
    errno.EMFILE: "This process has too many files open: raise the limit (ulimit -n).",
    errno.ENFILE: "The system has too many files open: end other programs, or raise its limit.",
}


def refusal(doing: str, error: OSError) -> CatalogError:
    """Return the error for what the file system refused; `doing` says what, as in `cannot write /catalog`."""
    return CatalogError(f"{doing}: {error.strerror or error}", hint=_HINTS.get(error.errno or 0, _HINT))


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an `OSError` of the file system into a `CatalogError` that names the place."""
    try:
        yield
    except OSError as exc:
        raise refusal(f"cannot write {place}", exc) from exc


def require_space(root: Path, needed: int) -> None:
    """Check that so many bytes are free where a catalog lies, or will lie.

    Raises:
        CatalogError: There are fewer.
    """
    with writing(root):
        free = shutil.disk_usage(_existing(root)).free
    if free < needed:
        raise CatalogError(
            f"{root} needs about {format_bytes(needed)}, but its disk has {format_bytes(free)} free",
            hint="Free some space there, use a catalog on another disk, or ask for a shorter window.",
        )


_MOUNTS = Path("/proc/mounts")

_NETWORK = ("9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs")


def network_file_system(root: Path) -> str:
    """Return the type of the network file system that a catalog lies on, or nothing.

    On one of those, locks may not hold between machines. Known on Linux only.
    """
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
        place = _existing(root).resolve()
    except OSError:  # no Linux, or no right to look: nothing is known
        return ""
    depth, kind = -1, ""
    for line in lines:
        _, point, found, *_ = line.split()
        mounted = Path(point.replace("\\040", " "))
        if place.is_relative_to(mounted) and len(mounted.parts) >= depth:
            depth, kind = len(mounted.parts), found
    return kind if kind in _NETWORK else ""


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next((each for each in (path, *path.absolute().parents) if each.exists()), path)
