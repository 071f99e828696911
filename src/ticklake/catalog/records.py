"""What was written: size, rows and digest of each catalog file, in a small file of its own beside the data.

A file cannot hold its own digest, so it lies at `<root>/.ticklake/manifest/<type>/<instrument>/<name>.json`.
It is removed before a file is replaced and written after a file was published: a process that dies in between
leaves a file without a record, never a record that accuses a good file. Where there is one, it decides. A
file without one is checked whole when it is next used, and recorded then.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Self

from ticklake.catalog import disk
from ticklake.catalog.writer import AtomicFile
from ticklake.errors import CatalogError

__all__ = ["FileRecord", "forget_record", "read_record", "record_published", "write_record"]

_PROCESS = uuid.uuid4().hex
"""Tells files that this process wrote from those of others."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a catalog file was when it was published or last found whole.

    Attributes:
        size: Its bytes.
        rows: Its rows.
        sha256: Digest of its bytes, in hexadecimal.
        mtime_ns: Its time of modification, which damage below the file system does not change.
        writer: The process that wrote it, until another has read all of it and found it whole; then empty.
    """

    size: int
    rows: int
    sha256: str
    mtime_ns: int
    writer: str = ""

    @classmethod
    def of(cls, stream: BufferedReader, rows: int, writer: str = "") -> Self:
        """Return the record of an open file, all of which is read."""
        stat = os.fstat(stream.fileno())
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(stat.st_size, rows, digest, stat.st_mtime_ns, writer)

    def untouched(self, stat: os.stat_result) -> bool:
        """Whether nobody wrote to the file by way of the file system."""
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)

    @property
    def vouched(self) -> bool:
        """Whether all of the file was found whole, or was written by this very process."""
        return self.writer in ("", _PROCESS)


def _path(root: Path, file: Path) -> Path:
    relative = file.relative_to(root / "data")
    return root / ".ticklake" / "manifest" / relative.with_name(f"{relative.name}.json")


def read_record(root: Path, file: Path) -> FileRecord | None:
    """Return the record of a catalog file, or None where there is none that can be read."""
    try:
        values = json.loads(_path(root, file).read_bytes())
        record = FileRecord(**values)
    except (OSError, ValueError, TypeError):  # none, torn, or of a later version: the file is checked afresh
        return None
    types = (int, int, str, int, str)
    return record if tuple(map(type, asdict(record).values())) == types else None


def write_record(root: Path, file: Path, record: FileRecord) -> None:
    """Keep the record of a catalog file. Hold the lock of its type and instrument.

    Raises:
        CatalogError: The file system refused.
    """
    with AtomicFile(root, _path(root, file)) as target:
        target.stream.write(json.dumps(asdict(record), sort_keys=True).encode())
        target.commit()


def forget_record(root: Path, file: Path) -> None:
    """Remove the record of a catalog file, if there is one; do so before the file is replaced or removed.

    Raises:
        CatalogError: The file system refused.
    """
    path = _path(root, file)
    if path.exists():
        with disk.writing(path):
            disk.remove(path)
            # Or a power cut might bring it back, beside another file than the one it is about.
            disk.sync_folder(path.parent)


def record_published(root: Path, file: Path, rows: int) -> None:
    """Record a file that this process has just published. Hold the lock of its type and instrument."""
    # The file is published and good. Without a record it is checked whole when it is next used.
    with suppress(OSError, CatalogError), file.open("rb") as stream:
        write_record(root, file, FileRecord.of(stream, rows, _PROCESS))
