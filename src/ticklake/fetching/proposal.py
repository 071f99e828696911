"""What a first run on a lake could be: its layout, its days, an instrument, five minutes that have data."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa

from ticklake.config import StorageConfig
from ticklake.conversion.dialects import TradesDialect
from ticklake.errors import ConfigError, LakeError, TicklakeError
from ticklake.instruments import from_lake, venue_of
from ticklake.lake import Lake, ObjectPlan, RowGroupPlan, TickFile
from ticklake.lake.lacking import no_ticks
from ticklake.lake.layout import LAYOUTS
from ticklake.lake.times import time_range
from ticklake.types import DataType, InstrumentKey, Window

if TYPE_CHECKING:
    from nautilus_trader.model import CryptoPerpetual, CurrencyPair

    type Instrument = CryptoPerpetual | CurrencyPair

__all__ = ["Proposal", "propose"]

LENGTH = 5 * 60 * 1_000_000_000
"""Nanoseconds of the window that is proposed."""

_SUPPORTED = frozenset({"PERPETUAL", "SPOT_PAIR", "SPOT"})

# Of a lake so large that its newest days are not a matter of one look: how much is looked at.
_MOST_DAYS = 8
_MOST_CANDIDATES = 4
_MOST_GROUPS = 3


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a first run on a lake could be.

    Attributes:
        layout: Name of the layout that fits.
        days: All days of which the lake has anything, in order.
        day: The UTC day that was looked at.
        files: The tick files of that day.
        key: The instrument: of those with a book the one with most bytes of trades, else of all.
        data_types: `trades`, and the book that has rows at that time, where there is one.
        window: Five minutes of that day with trades.
        trades: How many.
        price: The first of them that is a number; None where none is.
        lists: URL of the lake's instrument lists; None where none were found.
        instrument: What the list says of the instrument; None without a list.
        doubts: What the user has to see to, in sentences.
    """

    layout: str
    days: tuple[dt.date, ...]
    day: dt.date
    files: tuple[TickFile, ...]
    key: InstrumentKey
    data_types: tuple[DataType, ...]
    window: Window
    trades: int
    price: float | None
    lists: str | None
    instrument: Instrument | None
    doubts: tuple[str, ...]


def propose(ticks: str, lists: str | None, *, layout: str | None, storage: StorageConfig) -> Proposal:
    """Look at what is in a lake: its days, the files of one of the newest, and a few minutes of one of them.

    The newest day may be being written still, so the one before it is looked at first.

    Args:
        ticks: URL of the bucket, folder or server that holds the ticks.
        lists: URL of the one that holds the instrument lists; None looks where they usually are.
        layout: Name of the layout; None tries all that have a name.
        storage: Store options.

    Raises:
        ConfigError: A URL, the layout or a store option is not valid.
        LakeError: The lake cannot be read or listed, or has nothing that a run could be made of.
        SourceSchemaError: The files match no known dialect.
    """
    lake, name, days = _recognised(ticks, layout, storage)
    newest = [*days[-2:-1], days[-1], *reversed(days[:-2])]
    looked: list[str] = []
    for day in newest[:_MOST_DAYS]:
        files = tuple(lake.list(day))
        for key in islice(_candidates(files), _MOST_CANDIDATES):
            found = _window(lake, key, day)
            if found is not None:
                window, rows, price = found
                url, instrument, doubts = _definition(ticks, lists, name, storage, key, day)
                types = (DataType("trades"), *_book(lake, files, key, window))
                return Proposal(
                    *(name, days, day, files, key, types, window, rows, price, url, instrument, doubts)
                )
        kinds = sorted({f"{file.data_type} of {file.instrument}" for file in files})
        looked.append(f"{day}: {', '.join(kinds[:3])}{' and more' * (len(kinds) > 3)}")
    raise LakeError(
        "the lake has no trades of a perpetual or spot pair of a known venue on the days that were looked at "
        f"({'; '.join(looked)})",
        url=lake.root,
        hint="Write the config by hand (docs/config.md), with nautilus_id and definition of the instrument.",
    )


def _recognised(
    ticks: str, layout: str | None, storage: StorageConfig
) -> tuple[Lake, str, tuple[dt.date, ...]]:
    names = list(LAYOUTS) if layout is None else [layout]
    for name in names:
        lake = Lake(ticks, layout=name, storage=storage)
        if days := lake.all_days():
            return lake, name, days
    raise no_ticks(ticks, (LAYOUTS[name] for name in names))


def _candidates(files: Iterable[TickFile]) -> Iterator[InstrumentKey]:
    """Yield the instruments that could be run, those with a book and many trades first."""
    trades = [file for file in files if file.data_type == "trades"]
    with_book = {file.instrument for file in files if file.data_type != "trades"}
    for file in sorted(trades, key=lambda file: (file.instrument not in with_book, -(file.size or 0))):
        try:
            key = InstrumentKey(file.instrument)
            venue_of(key)
        except ValueError:  # no key, or of no venue that is known
            continue
        if key.instrument_type in _SUPPORTED:
            yield key


def _window(lake: Lake, key: InstrumentKey, day: dt.date) -> tuple[Window, int, float | None] | None:
    """Return five minutes of a day with trades, how many, and their first price; None if it has none."""
    whole = Window.of_day(day)
    scan = lake.scan(key, "trades", whole)
    own = [item for item in scan.plan().objects if item.day == day]
    groups = [(item, group) for item in own for group in item.row_groups]
    moments = [moment for _, group in sorted(groups, key=_pace)[:_MOST_GROUPS] for moment in _moments(group)]
    if groups and not moments:  # no statistics: the rows have to tell
        batch = next(scan.batches())
        moments = list(time_range(batch.table, batch.dialect) or ())
    starts = (moment - moment % LENGTH for moment in moments if whole.start <= moment < whole.end)
    for start in dict.fromkeys(starts):
        window = Window(start, start + LENGTH)
        table = lake.scan(key, "trades", window).to_table(on_hole="skip")
        if table.num_rows:
            return window, table.num_rows, _first_price(table, own[0])
    return None


def _pace(planned: tuple[ObjectPlan, RowGroupPlan]) -> float:
    """Return how long a row of a row group takes; one without statistics comes last."""
    group = planned[1]
    if group.time_min is None or group.time_max is None:
        return float("inf")
    return (group.time_max - group.time_min) / group.rows


def _moments(group: RowGroupPlan) -> tuple[int, ...]:
    if group.time_min is None or group.time_max is None:
        return ()
    return (group.time_min + group.time_max) // 2, group.time_min, group.time_max


def _first_price(table: pa.Table, planned: ObjectPlan) -> float | None:
    dialect = planned.dialect
    if not isinstance(dialect, TradesDialect):
        raise TypeError("trades are read by a dialect of trades")
    prices = (float(value.as_py()) for value in table[dialect.price] if value.is_valid)
    return next((price for price in prices if math.isfinite(price) and price > 0), None)


def _book(lake: Lake, files: Iterable[TickFile], key: InstrumentKey, window: Window) -> Iterator[DataType]:
    """Yield the book to replay, if any has row groups in the window: of 5 levels, or of the fewest."""
    books = []
    for name in {file.data_type for file in files if file.instrument == key.text} - {"trades"}:
        try:
            books.append(DataType(name))
        except ValueError:  # one that is not read
            continue
    for book in sorted(books, key=lambda book: (book.depth != 5, book.depth or 0)):
        if lake.scan(key, book, window).plan().row_groups:
            yield book
            return


def _definition(
    ticks: str, given: str | None, layout: str, storage: StorageConfig, key: InstrumentKey, day: dt.date
) -> tuple[str | None, Instrument | None, tuple[str, ...]]:
    """Return where the instrument lists are, what they say of the instrument, and what is doubtful."""
    for url in [given] if given else _usual_places(ticks):
        try:
            table, _ = Lake(ticks, url, layout=layout, storage=storage).instruments(day)
        except (LakeError, ConfigError):
            if given:
                raise
            continue
        try:
            return url, from_lake(table, key, day), ()
        except TicklakeError as exc:
            return url, None, (str(exc),)
    doubt = (
        "no instrument lists were found beside the ticks: name their URL (lake.instruments), or fill in the "
        "instrument's definition"
    )
    return None, None, (doubt,)


def _usual_places(ticks: str) -> tuple[str, ...]:
    """Return where instrument lists are: in the bucket of the ticks, or in one that is named alike."""
    sibling = re.sub(r"market-data-tick(?!.*market-data-tick)", "instruments-store", ticks)
    return tuple(dict.fromkeys((sibling, ticks)))
