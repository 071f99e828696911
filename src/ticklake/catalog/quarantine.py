"""Rows that could not be converted: kept whole, beside the catalog's data, never read as data.

They lie at `<root>/quarantine/<catalog type>/<instrument folder>/<window>.parquet`, the source's own columns
with `row` (position in the source file), `reason`, `column`, `ts_init_ns` and `source` (its URL) in front.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog.naming import file_name, instrument_dir
from ticklake.errors import CatalogError
from ticklake.types import CatalogType, Window

__all__ = ["quarantine_path", "write_quarantine"]


def quarantine_path(root: Path, catalog_type: CatalogType, nautilus_id: str, window: Window) -> Path:
    """Return where the bad rows of a fetched window are kept."""
    return root / "quarantine" / catalog_type / instrument_dir(nautilus_id) / file_name(window)


def write_quarantine(
    root: Path, catalog_type: CatalogType, nautilus_id: str, window: Window, rows: Sequence[pa.Table]
) -> Path | None:
    """Write the bad rows of a window, replacing what an earlier fetch of it left; without rows, remove that.

    Args:
        root: The catalog.
        catalog_type: What the rows would have become.
        nautilus_id: The instrument.
        window: The window that was fetched.
        rows: The bad rows, one table or more; columns that differ between them are null where missing.

    Returns:
        The file, or None where there is no bad row.

    Raises:
        CatalogError: The file system refused.
    """
    path = quarantine_path(root, catalog_type, nautilus_id, window)
    try:
        if not rows:
            path.unlink(missing_ok=True)
            return None
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("xb") as stream:
                pq.write_table(pa.concat_tables(rows, promote_options="permissive"), stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as exc:
        raise CatalogError(f"cannot write {path}: {exc.strerror or exc}") from exc
    return path
