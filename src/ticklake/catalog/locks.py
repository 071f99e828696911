"""The right to write one instrument and type of a catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ticklake.catalog import disk
from ticklake.catalog.naming import instrument_dir
from ticklake.errors import CatalogError
from ticklake.types import CatalogType

__all__ = ["hold", "lock_of"]


def lock_of(folder: str) -> str:
    """Return what the lock is called of files in a type's folder: definitions of all types have one."""
    return folder if folder in set(CatalogType) else "instruments"


@contextmanager
def hold(
    root: Path,
    catalog_type: str,
    nautilus_id: str,
    *,
    timeout: float | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold a lock of a catalog; see `Catalog.lock`, which removes what dead holders left as well."""
    from filelock import FileLock, Timeout  # takes time to import, and who finds all there locks nothing

    path = root / ".ticklake" / "locks" / catalog_type / f"{instrument_dir(nautilus_id)}.lock"
    what = f"{catalog_type} of {nautilus_id} to {root}"
    # A soft lock would outlive its holder.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        disk.make_folder(path.parent, root)
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
