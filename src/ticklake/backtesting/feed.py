"""What a run's ticks were like over time, for the report: how late they came, and how the book stood.

Millions of rows become some hundred stretches of time, each with its extremes, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ticklake.catalog.rows import row_groups
from ticklake.types import CatalogType, Window

__all__ = ["BOOK_SCHEMA", "LATENCY_SCHEMA", "write_feed"]

_STRETCHES = 400
_BATCH_ROWS = 65_536
_BOOK_VALUES = ("mid", "spread", "bid_size", "ask_size")
_F_LAST, _F_SNAPSHOT = 128, 32

# Latencies are counted in bins that grow by 2 %, from a microsecond to a day, as an HDR histogram does; also
# below zero, where the recorder's clock is behind the venue's.
_GROWTH, _LEAST_NS, _MOST_NS = 1.02, 1_000, 86_400_000_000_000
_BINS = int(np.log(_MOST_NS / _LEAST_NS) / np.log(_GROWTH)) + 1

_STRETCH = [
    pa.field("instrument_id", pa.string(), nullable=False),
    pa.field("data_type", pa.string(), nullable=False),
    pa.field("ts_start", pa.timestamp("ns", tz="UTC"), nullable=False),
    pa.field("updates", pa.int64(), nullable=False),
]

LATENCY_SCHEMA = pa.schema(
    [
        *_STRETCH,
        *(pa.field(f"{name}_ns", pa.int64(), nullable=False) for name in ("min", "p50", "p99", "max")),
    ]
)

BOOK_SCHEMA = pa.schema(
    [*_STRETCH]
    + [pa.field(f"{value}_{what}", pa.float64()) for value in _BOOK_VALUES for what in ("min", "mean", "max")]
)

type _Ints = npt.NDArray[np.int64]
type _Floats = npt.NDArray[np.float64]
type _Flags = npt.NDArray[np.bool_]
type _Read = Callable[[list[str]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class _Updates:
    """Updates of one batch: a trade each, or what the book is after each of its updates.

    Attributes:
        init: `ts_init`, in order.
        event: `ts_event`.
        book: A row of numbers for each of `_BOOK_VALUES`; NaN where a side is empty. None for trades.
    """

    init: _Ints
    event: _Ints
    book: _Floats | None = None

    def within(self, window: Window) -> Self:
        inside = (self.init >= window.start) & (self.init < window.end)
        if inside.all():
            return self
        book = None if self.book is None else self.book[:, inside]
        return type(self)(self.init[inside], self.event[inside], book)


def write_feed(
    files: Mapping[tuple[str, CatalogType], tuple[Path, ...]], window: Window, latency: Path, book: Path
) -> None:
    """Write how late every instrument's ticks came, and how its book stood, in stretches of the window.

    A row is a stretch that has `updates`: trades, or updates of a book. Latency is `ts_init - ts_event` in
    nanoseconds; its quantiles are within 2 % (and not finer than a microsecond). `mid` and `spread` are in
    units of price, `bid_size` and `ask_size` are the sums of a side's levels; means are over updates. A book
    is read off snapshots, as the catalog has them; incremental updates tell their latency only.

    Args:
        files: Catalog files by instrument and type.
        window: What of them counts, by `ts_init`.
        latency: The Parquet file to write with `LATENCY_SCHEMA`.
        book: The Parquet file to write with `BOOK_SCHEMA`.
    """
    latencies, books = [LATENCY_SCHEMA.empty_table()], [BOOK_SCHEMA.empty_table()]
    for (nautilus_id, kind), paths in sorted(files.items()):
        late, stood = _Latency(window), _Book(window)
        # No row group without rows of the window is read. An update may have rows on both sides of such a
        # limit, but all of them are of one time, so that it lies outside the window.
        read = partial(_batches, paths, window)
        for updates in (found.within(window) for found in _READERS[kind](read)):
            if len(updates.init):
                late.add(updates)
                stood.add(updates)
        latencies.append(_table(LATENCY_SCHEMA, nautilus_id, kind, late.columns()))
        books.append(_table(BOOK_SCHEMA, nautilus_id, kind, stood.columns()))
    pq.write_table(pa.concat_tables(latencies), latency, compression="zstd")
    pq.write_table(pa.concat_tables(books), book, compression="zstd")


def _table(
    schema: pa.Schema, nautilus_id: str, kind: CatalogType, columns: list[_Ints | _Floats]
) -> pa.Table:
    names = [[name] * len(columns[0]) for name in (nautilus_id, str(kind))]
    values = [
        *names,
        *([None if value != value else value for value in column.tolist()] for column in columns),
    ]
    arrays = [pa.array(each, field.type) for each, field in zip(values, schema, strict=True)]
    return pa.table(arrays, schema=schema)


class _Stretched:
    """Equal stretches of a window."""

    def __init__(self, window: Window) -> None:
        self._start = window.start
        self._width = -(-(window.end - window.start) // _STRETCHES)
        self._counts = np.zeros(_STRETCHES, np.int64)

    def _numbers(self, times: _Ints) -> _Ints:
        return (times - self._start) // self._width

    def _used(self) -> _Ints:
        return np.flatnonzero(self._counts)

    def _heads(self, used: _Ints) -> list[_Ints | _Floats]:
        return [self._start + used * self._width, self._counts[used]]


class _Latency(_Stretched):
    """How late the updates of each stretch came."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._bins = np.zeros(_STRETCHES * 2 * _BINS, np.int64)
        self._low = np.full(_STRETCHES, np.iinfo(np.int64).max)
        self._high = np.full(_STRETCHES, np.iinfo(np.int64).min)

    def add(self, updates: _Updates) -> None:
        numbers, late = self._numbers(updates.init), updates.init - updates.event
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        into = numbers[first]
        self._low[into] = np.minimum(self._low[into], np.minimum.reduceat(late, first))
        self._high[into] = np.maximum(self._high[into], np.maximum.reduceat(late, first))
        self._counts[into] += np.diff(first, append=len(late))
        sizes = np.log(np.clip(np.abs(late), _LEAST_NS, _MOST_NS) / _LEAST_NS) / np.log(_GROWTH)
        bins = np.minimum(sizes.astype(np.int64), _BINS - 1)
        found = numbers * (2 * _BINS) + np.where(late < 0, _BINS - 1 - bins, _BINS + bins)
        least = int(numbers[0]) * 2 * _BINS
        counted = np.bincount(found - least)
        self._bins[least : least + len(counted)] += counted

    def columns(self) -> list[_Ints | _Floats]:
        used = self._used()
        low, high = self._low[used], self._high[used]
        below = np.cumsum(self._bins.reshape(_STRETCHES, 2 * _BINS)[used], axis=1)

        def quantile(share: float) -> _Ints:
            wanted = np.ceil(share * self._counts[used])
            number = (below < wanted[:, None]).sum(axis=1) - _BINS
            middle = _LEAST_NS * _GROWTH ** np.where(number < 0, -0.5 - number, number + 0.5)
            return np.clip(np.where(number < 0, -middle, middle).astype(np.int64), low, high)

        return [*self._heads(used), low, quantile(0.5), quantile(0.99), high]


class _Book(_Stretched):
    """How the book stood in each stretch."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        shape = (len(_BOOK_VALUES), _STRETCHES)
        self._known, self._sum = np.zeros(shape, np.int64), np.zeros(shape)
        self._low, self._high = np.full(shape, np.nan), np.full(shape, np.nan)

    def add(self, updates: _Updates) -> None:
        if updates.book is None or not updates.book.shape[1]:
            return
        numbers = self._numbers(updates.init)
        first = np.flatnonzero(np.diff(numbers, prepend=-1))
        into, known = numbers[first], np.isfinite(updates.book)
        self._counts[into] += np.diff(first, append=len(numbers))
        self._known[:, into] += np.add.reduceat(known, first, axis=1, dtype=np.int64)
        self._sum[:, into] += np.add.reduceat(np.where(known, updates.book, 0), first, axis=1)
        self._low[:, into] = np.fmin(self._low[:, into], np.fmin.reduceat(updates.book, first, axis=1))
        self._high[:, into] = np.fmax(self._high[:, into], np.fmax.reduceat(updates.book, first, axis=1))

    def columns(self) -> list[_Ints | _Floats]:
        used = self._used()
        known = self._known[:, used]
        mean = np.divide(self._sum[:, used], known, out=np.full(known.shape, np.nan), where=known > 0)
        values = zip(self._low[:, used], mean, self._high[:, used], strict=True)
        return [*self._heads(used), *(column for columns in values for column in columns)]


def _trades(read: _Read) -> Iterator[_Updates]:
    for batch in read(["ts_init", "ts_event"]):
        yield _Updates(_times(batch["ts_init"]), _times(batch["ts_event"]))


def _depths(read: _Read) -> Iterator[_Updates]:
    for batch in read(["bids", "asks", "ts_init", "ts_event"]):
        bid, bid_size = _side(batch["bids"], np.fmax)
        ask, ask_size = _side(batch["asks"], np.fmin)
        yield _Updates(
            _times(batch["ts_init"]), _times(batch["ts_event"]), _stand(bid, ask, bid_size, ask_size)
        )


def _side(levels: pa.ListArray, best: np.ufunc) -> tuple[_Floats, _Floats]:
    """Return the best price (NaN where there is none) and the total size of a side of each snapshot."""
    offsets, flat = levels.offsets.to_numpy(), levels.values
    price, size = _floats(flat.field("price")), _floats(flat.field("size"))
    return _each(np.where(size > 0, price, np.nan), offsets, best, np.nan), _each(size, offsets, np.add, 0.0)


def _each(values: _Floats, offsets: _Ints, by: np.ufunc, empty: float) -> _Floats:
    """Return one number for each list of values that `offsets` bounds."""
    filled = np.flatnonzero(np.diff(offsets))
    found = np.full(len(offsets) - 1, empty)
    if len(filled):
        found[filled] = by.reduceat(values[: offsets[-1]], offsets[filled])
    return found


def _deltas(read: _Read) -> Iterator[_Updates]:
    rest: _Rows | None = None
    for batch in read(["action", "side", "price", "size", "flags", "ts_init", "ts_event"]):
        rows = _Rows.of(batch) if rest is None else rest.followed_by(_Rows.of(batch))
        # A batch may end within an update.
        whole = int(np.flatnonzero(rows.last)[-1]) + 1 if rows.last.any() else 0
        rest = rows.part(whole, len(rows.last))
        if whole:
            yield rows.part(0, whole).updates()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of deltas, column by column."""

    last: _Flags
    snapshot: _Flags
    bid: _Flags
    ask: _Flags
    price: _Floats
    size: _Floats
    init: _Ints
    event: _Ints

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        flags, added = batch["flags"].to_numpy(), _equals(batch["action"], "ADD")
        return cls(
            flags & _F_LAST != 0,
            flags & _F_SNAPSHOT != 0,
            added & _equals(batch["side"], "BUY"),
            added & _equals(batch["side"], "SELL"),
            _floats(batch["price"]),
            _floats(batch["size"]),
            _times(batch["ts_init"]),
            _times(batch["ts_event"]),
        )

    def _columns(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def followed_by(self, other: Self) -> Self:
        pairs = zip(self._columns(), other._columns(), strict=True)
        return type(self)(*(np.concatenate(pair) for pair in pairs))

    def part(self, start: int, stop: int) -> Self:
        return type(self)(*(column[start:stop] for column in self._columns()))

    def updates(self) -> _Updates:
        """Return the updates that these rows are, the last of which is whole."""
        last = np.flatnonzero(self.last)
        offsets = np.concatenate(([0], last + 1))
        book = _stand(
            _each(np.where(self.bid, self.price, np.nan), offsets, np.fmax, np.nan),
            _each(np.where(self.ask, self.price, np.nan), offsets, np.fmin, np.nan),
            _each(np.where(self.bid, self.size, 0), offsets, np.add, 0.0),
            _each(np.where(self.ask, self.size, 0), offsets, np.add, 0.0),
        )
        # What a lone change leaves of the book is not told by its row.
        book[:, ~self.snapshot[last]] = np.nan
        return _Updates(self.init[last], self.event[last], book)


def _stand(bid: _Floats, ask: _Floats, bid_size: _Floats, ask_size: _Floats) -> _Floats:
    return np.stack([(bid + ask) / 2, ask - bid, bid_size, ask_size])


_READERS = {CatalogType.TRADES: _trades, CatalogType.DEPTHS: _depths, CatalogType.DELTAS: _deltas}


def _batches(paths: Iterable[Path], window: Window, columns: list[str]) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            groups = row_groups(path, window)
            yield from file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=columns)


def _times(column: pa.Array) -> _Ints:
    times: _Ints = column.view(pa.int64()).to_numpy()
    return times


def _floats(column: pa.Array) -> _Floats:
    """Return decimals as floats, NaN where there is none."""
    floats: _Floats = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    return floats


def _equals(column: pa.DictionaryArray, name: str) -> _Flags:
    names = column.dictionary.to_pylist()
    wanted = names.index(name) if name in names else len(names)
    equal: _Flags = column.indices.to_numpy() == wanted
    return equal
