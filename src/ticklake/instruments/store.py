"""Instrument definitions in the catalog: one file a day, which answers for that whole UTC day."""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog import Catalog, disk
from ticklake.catalog.cache import retried
from ticklake.catalog.integrity import check_file
from ticklake.catalog.locks import lock_of
from ticklake.catalog.naming import file_name
from ticklake.catalog.records import forget_record, record_published
from ticklake.catalog.writer import AtomicFile, data_folder
from ticklake.errors import CatalogCorruptError
from ticklake.types import InstrumentKey, Window

if TYPE_CHECKING:
    from ticklake.instruments.definitions import Instrument

__all__ = ["load", "save"]

_FOLDERS = ("crypto_perpetual", "currency_pair")


def save(catalog: Catalog, instruments: Iterable[Instrument], day: dt.date) -> list[Path]:
    """Keep definitions in the catalog, as what holds during a whole UTC day, and return their files.

    A definition of the same instrument and day is replaced in one step, one of another type removed after
    that. An equal one is left alone, so that this writes and locks nothing where all are known. Definitions
    are points in time: what else the catalog has of the day, of the engine's own writer for example, stays.

    Args:
        catalog: Where.
        instruments: Definitions whose `ts_init` is the midnight that begins `day`.
        day: The UTC day.

    Raises:
        ValueError: A definition is of another time.
        CatalogError: The id cannot be a folder, or the file system refused.
    """
    window = Window.of_day(day)
    paths = []
    for instrument in instruments:
        if instrument.ts_init != window.start:
            raise ValueError(f"the definition of {instrument.id} is not of {day} but of {instrument.ts_init}")
        folder, content = _encoded(instrument)
        path, *others = (
            data_folder(catalog.path, each, instrument.id.value) / file_name(window)
            for each in sorted(_FOLDERS, key=lambda each: each != folder)
        )
        if _content(path) != content or any(other.exists() for other in others):
            with catalog.lock(lock_of(folder), instrument.id.value):
                _write(catalog, path, content, others)
        paths.append(path)
    return paths


def _write(catalog: Catalog, path: Path, content: bytes, others: Iterable[Path]) -> None:
    forget_record(catalog.path, path)
    with AtomicFile(catalog.path, path) as file:
        file.stream.write(content)
        file.commit()
    record_published(catalog.path, path, 1)
    with disk.writing(path):
        for other in (other for other in others if other.exists()):
            forget_record(catalog.path, other)
            disk.remove(other)
            disk.sync_folder(other.parent)
            with suppress(OSError):  # more definitions in it
                disk.remove_folder(other.parent)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:  # whatever is wrong with it shows when it is written
        return None


def _encoded(instrument: Instrument) -> tuple[str, bytes]:
    """Return the type's folder and the file's content, both of the engine's own writer."""
    from nautilus_trader.persistence import ParquetDataCatalog

    with tempfile.TemporaryDirectory(prefix="ticklake-") as scratch:
        ParquetDataCatalog(scratch).write_instruments([instrument])
        # Not the path that it returns, which spells an id as it is and not as it is on disk.
        (path,) = Path(scratch, "data").rglob("*.parquet")
        return path.relative_to(scratch).parts[1], path.read_bytes()


def load(
    catalog: Catalog, key: InstrumentKey, day: dt.date, *, nautilus_id: str | None = None
) -> Instrument | None:
    """Return the definition that the catalog keeps of a lake key for a UTC day, or None.

    Only what was read from the lake counts, not what a config once defined; and only under the live adapter's
    id, unless another is given.

    Args:
        catalog: Where to look.
        key: The lake's instrument, with or without its `@…` suffix.
        day: The UTC day.
        nautilus_id: The id that the config gives it, if it does.

    Raises:
        CatalogCorruptError: A definition of that day cannot be read.
        CatalogError: Definitions are being replaced faster than they can be read.
    """
    # Looked for again where one of another type, which has another folder, replaces it before it is opened.
    return retried(lambda: _loaded(catalog, key, day, nautilus_id))


def _loaded(catalog: Catalog, key: InstrumentKey, day: dt.date, nautilus_id: str | None) -> Instrument | None:
    for folder, row in _rows(catalog, Window.of_day(day), nautilus_id):
        info = json.loads(row["info"] or "{}")
        if (
            info.get("defined_by") == "lake"
            and InstrumentKey(info["lake_key"]).matches(key)
            and info.get("id_from") == ("symbology" if nautilus_id is None else "config")
        ):
            return _decoded(folder, row | {"info": info})
    return None


def _rows(catalog: Catalog, window: Window, nautilus_id: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the type's folder and the last definition that is good at the window's start, by instrument."""
    for folder in _FOLDERS:
        ids = sorted(catalog.instrument_ids(folder)) if nautilus_id is None else [nautilus_id]
        for each in ids:
            for file in catalog.files(folder, each, window):
                if file.window.intersect(window) != window:
                    continue
                check = check_file(catalog, file, deep=False)
                if check is not None and check.problems:
                    raise CatalogCorruptError(
                        f"{file.path} is damaged: {check.problems[0]}",
                        hint="Mend it with `ticklake verify RUN.yaml --repair`, which fetches it again.",
                    )
                good = [row for row in _read(file.path) if row["ts_init"] <= window.start]
                if good:
                    yield folder, max(good, key=lambda row: int(row["ts_init"]))


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        with pa.OSFile(str(path)) as file:  # one file, though it may be replaced meanwhile
            table = pq.ParquetFile(file).read()  # `read_table` imports pandas
        for name in ("ts_event", "ts_init"):
            index = table.schema.get_field_index(name)
            # Not a cast, for which Arrow imports all of its compute module.
            times = [chunk.view(pa.int64()) for chunk in table.column(index).chunks]
            table = table.set_column(index, name, pa.chunked_array(times, pa.int64()))
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError) as exc:
        raise CatalogCorruptError(
            f"{path} is not a readable instrument file: {exc}", hint="Remove it and fetch again."
        ) from exc


def _decoded(folder: str, row: Mapping[str, Any]) -> Instrument:
    from nautilus_trader.model import CryptoPerpetual, CurrencyPair

    kind = CryptoPerpetual if folder == "crypto_perpetual" else CurrencyPair
    return kind.from_dict({"type": kind.__name__, **row})
