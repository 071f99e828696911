"""File and folder names of a NautilusTrader catalog. Pure: no file is touched here.

A tick file lies at `data/<catalog type>/<instrument folder>/<first>_<last>.parquet`; its name is the closed
interval of `ts_init` that it answers for.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from urllib.parse import unquote

from ticklake.errors import CatalogError
from ticklake.types import NANOS_PER_DAY, Window

__all__ = ["file_name", "instrument_dir", "parse_file_name", "parse_instrument_dir"]

_NANOS_PER_SECOND = 1_000_000_000
_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_POINT = r"(\d{4}-\d\d-\d\d)T([01]\d|2[0-3])-([0-5]\d)-([0-5]\d)-(\d{9})Z"
_NAME = re.compile(rf"{_POINT}_{_POINT}\.parquet", re.ASCII)

# What the `object_store` crate, with which the engine writes, percent-encodes in a path segment besides
# control characters and what is not ASCII.
_ENCODED = frozenset('"#%*<>?[]`{|}~')
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
    """Return the folder of an instrument, exactly as the engine spells it.

    Raises:
        CatalogError: The engine would lose what the id says (it drops `/`, writes `_` for `^`, makes two
            folders of a backslash, cannot find control characters again), so that two instruments could
            share one folder; or the id is no `SYMBOL.VENUE`, or too long for a file name.
    """
    symbol, _, venue = nautilus_id.rpartition(".")
    if not symbol or not venue:
        raise CatalogError(f"{nautilus_id!r} is not a Nautilus instrument id (SYMBOL.VENUE)")
    lost = sorted({char for char in nautilus_id if char in "/^\\" or ord(char) < 32 or ord(char) == 127})
    if lost:
        raise CatalogError(
            f"the engine's catalog cannot keep instrument id {nautilus_id!r} apart from others: it does not "
            f"preserve {', '.join(map(repr, lost))}",
            hint="Set nautilus_id to an id without.",
        )
    folder = "".join(_encoded(char) for char in nautilus_id)
    if len(folder) > _LONGEST:
        raise CatalogError(
            f"instrument id {nautilus_id[:40]!r}… needs a folder name of {len(folder)} bytes, {_LONGEST} is "
            "the limit",
            hint="Set nautilus_id to a shorter id.",
        )
    return folder


def _encoded(char: str) -> str:
    if char.isascii() and char not in _ENCODED:
        return char
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def parse_instrument_dir(name: str) -> str | None:
    """Return the Nautilus id of an instrument folder, or None where the name is none of `instrument_dir`."""
    nautilus_id = unquote(name, errors="surrogateescape")
    try:
        return nautilus_id if instrument_dir(nautilus_id) == name else None
    except CatalogError:
        return None
