"""Rows that could not be converted: kept whole, beside the catalog's data, never read as data.

They lie at `<root>/quarantine/<catalog type>/<instrument folder>/<window>.<digest>.parquet`, the source's own
columns with `row` (position in the source file), `reason`, `column`, `ts_init_ns` and `source` (its URL) in
front. The data file of the window names the one that belongs to it in its provenance. A new one is written
before the data file, old ones are removed after it, so that whenever a process dies the rows of the data file
that is there are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog import disk
from ticklake.catalog.listing import scan
from ticklake.catalog.naming import file_name, instrument_dir, parse_file_name
from ticklake.catalog.writer import AtomicFile
from ticklake.errors import CatalogError
from ticklake.types import CatalogType, Window

__all__ = [
    "quarantine_folder",
    "quarantine_of",
    "quarantined_windows",
    "remove_other_quarantine",
    "write_quarantine",
]


def quarantine_folder(root: Path, catalog_type: str, nautilus_id: str) -> Path:
    """Return where the bad rows of an instrument and type are kept."""
    return root / "quarantine" / catalog_type / instrument_dir(nautilus_id)


def write_quarantine(
    root: Path, catalog_type: CatalogType, nautilus_id: str, window: Window, rows: Sequence[pa.Table]
) -> str:
    """Write the bad rows of a window, beside what an earlier fetch of it left.

    Args:
        root: The catalog.
        catalog_type: What the rows would have become.
        nautilus_id: The instrument.
        window: The window that was fetched.
        rows: The bad rows, one table or more. Columns that differ between them are null where missing, and
            text where their types have nothing in common.

    Returns:
        The file's name, the same for the same rows; empty where there is no bad row.

    Raises:
        CatalogError: The file system refused, or a column cannot be kept.
    """
    if not rows:
        return ""
    folder = quarantine_folder(root, catalog_type, nautilus_id)
    content = pa.BufferOutputStream()
    try:
        pq.write_table(_concatenated(rows), content)
    except pa.ArrowException as exc:
        raise CatalogError(
            f"bad rows of {window} cannot be kept in {folder}: {exc}",
            instrument=nautilus_id,
            hint="Set on_bad_row: fail to see the first of them.",
        ) from exc
    data = content.getvalue()
    name = f"{_stem(window)}.{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    with AtomicFile(root, folder / name) as file:
        file.stream.write(data)
        file.commit()
    return name


def remove_other_quarantine(
    root: Path, catalog_type: CatalogType, nautilus_id: str, window: Window, keep: str
) -> None:
    """Remove the bad rows that earlier fetches of a window left, all but those in the file `keep`.

    Raises:
        CatalogError: The file system refused.
    """
    folder = quarantine_folder(root, catalog_type, nautilus_id)
    with disk.writing(folder):
        others = [
            path for path in quarantine_of(root, catalog_type, nautilus_id, window) if path.name != keep
        ]
        for path in others:
            disk.remove(path)
        if others:
            disk.sync_folder(folder)


def quarantine_of(root: Path, catalog_type: str, nautilus_id: str, window: Window) -> list[Path]:
    """Return the files with the bad rows of a window: that which its data file names, and what was left."""
    return list(quarantine_folder(root, catalog_type, nautilus_id).glob(f"{_stem(window)}.*parquet"))


def quarantined_windows(root: Path, catalog_type: CatalogType, nautilus_id: str) -> list[Window]:
    """Return the windows of which bad rows are kept, in order."""
    names = {entry.name for entry in scan(quarantine_folder(root, catalog_type, nautilus_id))}
    windows = {parse_file_name(f"{name.partition('.')[0]}.parquet") for name in names}
    return sorted(window for window in windows if window is not None)


def _stem(window: Window) -> str:
    return file_name(window).removesuffix(".parquet")


def _concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:  # days whose files have other types: 5 and "5" are both kept as text
        types: dict[str, set[pa.DataType]] = {}
        for field in (field for table in tables for field in table.schema):
            types.setdefault(field.name, set()).add(field.type)
        drifting = {name for name, found in types.items() if len(found) > 1}
        return pa.concat_tables([_as_text(table, drifting) for table in tables], promote_options="permissive")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    fields = [field.with_type(pa.string()) if field.name in names else field for field in table.schema]
    return table.cast(pa.schema(fields))
