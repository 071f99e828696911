"""File and folder names of a NautilusTrader catalog, and where two of them are one folder.

A tick file lies at `data/<catalog type>/<instrument folder>/<first>_<last>.parquet`; its name is the closed
interval of `ts_init` that it answers for.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from ticklake.errors import CatalogError
from ticklake.types import NANOS_PER_DAY, Window

__all__ = [
    "engine_dir",
    "file_name",
    "instrument_dir",
    "other_spelling",
    "parse_file_name",
    "parse_instrument_dir",
]

_NANOS_PER_SECOND = 1_000_000_000
_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_POINT = r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3])-([0-5]\d)-([0-5]\d)-(\d{9})Z"
_NAME = re.compile(rf"{_POINT}_{_POINT}\.parquet", re.ASCII)

# Percent-encoded in a folder's name, besides control characters and what is not ASCII: what `object_store`
# encodes, the crate with which the engine writes, and what the engine itself loses (it drops `/`, writes `_`
# for `^`, and makes two folders of a backslash).
_ENCODED = frozenset('"#%*<>?[]`{|}~') | frozenset("/^\\")
_LONGEST = 240  # bytes; a lock file of the same name and a suffix has to fit into a segment of 255


def file_name(window: Window) -> str:
    """Return the name of the file that answers for `window`, as the engine spells it."""
    first, last = window.closed
    return f"{_point(first)}_{_point(last)}.parquet"


def _point(nanos: int) -> str:
    seconds, fraction = divmod(nanos, _NANOS_PER_SECOND)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H-%M-%S}-{fraction:09d}Z"


def parse_file_name(name: str) -> Window | None:
    """Return the window that a file answers for, or None where the name is none that `file_name` gives.

    The engine is laxer: it takes any number of fractional digits and any tail before `.parquet`. Such files
    are strays here, because no window has a second name.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    fields = match.groups()
    try:
        return Window.from_closed(_nanos(*fields[:5]), _nanos(*fields[5:]))
    except ValueError:  # no such day, out of range, or the end before the start
        return None


def _nanos(date: str, hours: str, minutes: str, seconds: str, fraction: str) -> int:
    whole = int(hours) * 3_600 + int(minutes) * 60 + int(seconds)
    return _midnight(date) + whole * _NANOS_PER_SECOND + int(fraction)


@lru_cache(maxsize=4_096)
def _midnight(date: str) -> int:
    return (dt.date.fromisoformat(date).toordinal() - _EPOCH_ORDINAL) * NANOS_PER_DAY


def instrument_dir(nautilus_id: str) -> str:
    """Return the folder of an instrument: one for each id, and for ordinary ids as the engine spells it.

    Where the engine's spelling would be that of another id as well, it is ours: `BTC/USD.KRAKEN` lies in
    `BTC%2FUSD.KRAKEN` and not in `BTCUSD.KRAKEN`. The engine reads such a folder when it reads all
    instruments, and lists it by its id; to find it by its id it wants `engine_dir`.

    Raises:
        CatalogError: The id is no `SYMBOL.VENUE`, no text, or too long for a file name.
    """
    symbol, _, venue = nautilus_id.rpartition(".")
    if not symbol or not venue:
        raise CatalogError(
            f"{nautilus_id!r} is not a Nautilus instrument id (SYMBOL.VENUE)",
            hint="Set nautilus_id to an id of that form.",
        )
    try:
        folder = "".join(_encoded(char) for char in nautilus_id)
    except UnicodeEncodeError as exc:
        raise CatalogError(
            f"instrument id {nautilus_id!r} is no text: it has half of a surrogate pair",
            hint="Set nautilus_id to an id without.",
        ) from exc
    if len(folder) > _LONGEST:
        raise CatalogError(
            f"instrument id {nautilus_id[:40]!r}… needs a folder name of {len(folder)} bytes, {_LONGEST} is "
            "the limit",
            hint="Set nautilus_id to a shorter id.",
        )
    return folder


def _encoded(char: str) -> str:
    if char.isascii() and char.isprintable() and char not in _ENCODED:
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode())


def parse_instrument_dir(name: str) -> str | None:
    """Return the Nautilus id of an instrument folder, or None where the name is none of `instrument_dir`."""
    try:
        nautilus_id = unquote(name, errors="strict")
        return nautilus_id if instrument_dir(nautilus_id) == name else None
    except (CatalogError, UnicodeDecodeError):
        return None


def engine_dir(nautilus_id: str) -> str:
    """Return the folder in which the engine looks for an instrument that it is asked for by its id.

    Several ids may have the same; what is in one such folder must be of one instrument.

    Raises:
        CatalogError: As `instrument_dir`; or the engine does not find again what it writes of that id,
            because it has a backslash, control characters, or nothing but `/` and `.`.
    """
    folder = instrument_dir(nautilus_id).replace("%2F", "").replace("%5E", "_")
    if folder in (".", "..") or any(
        char == "\\" or not char.isprintable() for char in nautilus_id if char.isascii()
    ):
        raise CatalogError(
            f"the engine cannot find instrument id {nautilus_id!r} in a catalog",
            hint="Set nautilus_id to one of printable characters without a backslash.",
        )
    return folder


def other_spelling(folder: Path) -> str | None:
    """Return the other name of its parent folder under which a folder is to be found, if there is one.

    That is so where the file system takes names for equal that differ in case or Unicode form, and where
    somebody linked two folders: two instruments would share one.

    Raises:
        OSError: The folders cannot be looked at.
    """
    try:
        there = folder.stat()
    except FileNotFoundError:
        return None
    with os.scandir(folder.parent) as entries:
        for entry in entries:
            same = entry.inode() == there.st_ino or entry.is_symlink()
            if entry.name != folder.name and same and _is(entry, there):
                return entry.name
    return None


def _is(entry: os.DirEntry[str], there: os.stat_result) -> bool:
    try:
        return os.path.samestat(Path(entry.path).stat(), there)
    except FileNotFoundError:  # a link to nowhere
        return False
