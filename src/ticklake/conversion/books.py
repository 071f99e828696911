"""Book snapshots: from the level columns of a source file to delta rows or depth rows.

In between a snapshot is one row with four fixed-size lists, the prices and the sizes of its bids and asks,
best first; an absent level has price and size zero. Such rows are cheap to put in order, and grow into deltas
only afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from ticklake.catalog.schema import DECIMAL, LEVEL, LEVELS, PRICE_MAX, SIZE_MAX, TIMESTAMP
from ticklake.conversion.dialects import BookDialect
from ticklake.conversion.kernels import (
    ABSENT,
    Faults,
    Floats,
    Ints,
    Mask,
    decimal_array,
    dictionary,
    enum_array,
    floats_to_raw,
    raw_of,
    timestamp_array,
    to_raw,
)
from ticklake.conversion.quality import Note, Verdict
from ticklake.types import InstrumentSpec

__all__ = ["canonical_schema", "deltas", "depths", "snapshots"]

_F_SNAPSHOT = 32
_F_LAST = 128
_ACTIONS = dictionary("ADD", "CLEAR")
_ADD, _CLEAR = 0, 1
_SIDES = dictionary("NO_ORDER_SIDE", "BUY", "SELL")
_NO_SIDE, _BUY, _SELL = 0, 1, 2
_BID, _ASK = ("bid_prices", "bid_sizes"), ("ask_prices", "ask_sizes")


def canonical_schema(depth: int) -> pa.Schema:
    """Return the schema of snapshots between reading and writing.

    Args:
        depth: Levels a side.
    """
    levels = pa.list_(DECIMAL, depth)
    times = [("ts_event", TIMESTAMP), ("ts_init", TIMESTAMP)]
    return pa.schema([*times, *((name, levels) for name in (*_BID, *_ASK))])


def snapshots(
    batch: pa.RecordBatch, dialect: BookDialect, spec: InstrumentSpec, verdict: Verdict
) -> tuple[list[pa.Array], dict[Note, Mask]]:
    """Convert the levels of a batch; levels with a null, NaN or zero price or size become absent ones.

    Args:
        batch: Source rows.
        dialect: What their columns mean.
        spec: The instrument.
        verdict: Learns which rows are bad.

    Returns:
        The lists of the canonical form, and which rows are remarkable.
    """
    # Bids and asks are compared, so that what their numbers are made of has to be the same.
    price = (spec.price_precision, PRICE_MAX, _float_type(batch, [*dialect.bid_price, *dialect.ask_price]))
    size = (spec.size_precision, SIZE_MAX, _float_type(batch, [*dialect.bid_size, *dialect.ask_size]))
    bids = _numbers(batch, dialect.bid_price, *price), _numbers(batch, dialect.bid_size, *size)
    asks = _numbers(batch, dialect.ask_price, *price), _numbers(batch, dialect.ask_size, *size)
    gap = np.zeros(batch.num_rows, np.bool_)
    for side in (bids, asks):
        if not any(numbers.faults.any() for numbers in side):
            continue
        absent = _is_absent(side[0].faults) | _is_absent(side[1].faults)
        gap |= (absent[:, :-1] & ~absent[:, 1:]).any(axis=1)
        for numbers in side:
            numbers.faults[absent] = 0
            numbers.raw[absent] = 0
            numbers.values[absent] = np.nan
    # Of several faults of a row that of a price is told.
    for numbers, names, is_price in (
        (bids[0], dialect.bid_price, True),
        (asks[0], dialect.ask_price, True),
        (bids[1], dialect.bid_size, False),
        (asks[1], dialect.ask_size, False),
    ):
        if numbers.faults.any():
            for level, name in enumerate(names):
                verdict.flag_faults(numbers.faults[:, level], name, is_price=is_price)
    lists = [
        pa.FixedSizeListArray.from_arrays(decimal_array(numbers.raw), dialect.depth)
        for numbers in (*bids, *asks)
    ]
    return lists, _remarkable(bids[0].values, asks[0].values) | {Note.LEVEL_GAP: gap}


class _Numbers(NamedTuple):
    """One kind of number of all levels, an array row a snapshot, a column a level."""

    raw: Ints
    faults: Faults
    values: Floats


def _float_type(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.DataType | None:
    """Return the type of columns that all have the same kind of floats; None where they do not."""
    kind, *others = {batch.schema.field(name).type for name in columns}
    return None if others or not (pt.is_float64(kind) or pt.is_float32(kind)) else kind


def _numbers(
    batch: pa.RecordBatch, columns: Sequence[str], precision: int, limit: int, floats: pa.DataType | None
) -> _Numbers:
    arrays = [batch.column(name) for name in columns]
    rows, width = batch.num_rows, len(arrays)
    if floats is not None:
        values: Floats = np.empty((rows, width), floats.to_pandas_dtype())
        for level, array in enumerate(arrays):
            # A null becomes NaN: both are absent levels.
            values[:, level] = array.to_numpy(zero_copy_only=False)
        raw, faults = floats_to_raw(values.reshape(-1), precision, limit)
        return _Numbers(raw.reshape(rows, width, 2), faults.reshape(rows, width), values)
    raw = np.empty((rows, width, 2), np.int64)
    faults = np.empty((rows, width), np.uint8)
    for level, array in enumerate(arrays):
        raw[:, level], faults[:, level] = to_raw(array, precision, limit)
    return _Numbers(raw, faults, raw[..., 1] * 2.0**64 + raw[..., 0].view(np.uint64))


def _is_absent(faults: Faults) -> Mask:
    absent: Mask = (faults > 0) & (faults <= ABSENT)
    return absent


def _remarkable(bids: Floats, asks: Floats) -> dict[Note, Mask]:
    """Return which snapshots are crossed, have levels out of order, or none; an absent level is NaN."""
    best = []
    unordered = np.zeros(len(bids), np.bool_)
    # Asks get dearer from level to level, and so do bids when they are negated.
    for side in (-bids, asks):
        least = most = side[:, 0]
        for level in range(1, side.shape[1]):
            unordered |= side[:, level] <= most
            most = np.fmax(most, side[:, level])
            least = np.fmin(least, side[:, level])
        best.append(least)
    bid, ask = best
    return {
        Note.CROSSED_BOOK: -bid >= ask,
        Note.LEVEL_ORDER: unordered,
        Note.EMPTY_BOOK: np.isnan(bid) & np.isnan(ask),
    }


def deltas(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return each snapshot as a `CLEAR` and an `ADD` for every level that is there, bids first.

    All rows have the flag `F_SNAPSHOT`, the last of a snapshot also `F_LAST`.

    Args:
        batch: Snapshots in canonical form.
        schema: The catalog's schema of deltas.
    """
    (bid_prices, bid_sizes), (ask_prices, ask_sizes) = _levels(batch, _BID), _levels(batch, _ASK)
    rows, depth = bid_prices.shape[:2]
    levels = 2 * depth
    there = np.ones((rows, 1 + levels), np.bool_)
    there[:, 1 : 1 + depth] = _present(bid_sizes)
    there[:, 1 + depth :] = _present(ask_sizes)
    counts = there.sum(axis=1)
    total = int(counts.sum())
    complete = total == there.size

    def of_pattern(*pattern: int) -> npt.NDArray[np.int8]:
        repeated = np.tile(np.array(pattern, np.int8), rows)
        return repeated if complete else repeated[there.reshape(-1)]

    def with_clear(bids: Ints, asks: Ints) -> pa.Array:
        full = np.empty((rows, 1 + levels, 2), np.int64)
        full[:, 0] = 0
        full[:, 1 : 1 + depth] = bids
        full[:, 1 + depth :] = asks
        column = decimal_array(full)
        return column if complete else column.filter(pa.array(there.reshape(-1)))

    flags = np.full(total, _F_SNAPSHOT, np.uint8)
    flags[np.cumsum(counts) - 1] |= _F_LAST
    zeros = pa.array(np.zeros(total, np.uint64))
    return pa.RecordBatch.from_arrays(
        [
            enum_array(of_pattern(_CLEAR, *[_ADD] * levels), _ACTIONS),
            enum_array(of_pattern(_NO_SIDE, *[_BUY] * depth, *[_SELL] * depth), _SIDES),
            with_clear(bid_prices, ask_prices),
            with_clear(bid_sizes, ask_sizes),
            zeros,
            pa.array(flags),
            zeros,
            timestamp_array(np.repeat(_nanos(batch, "ts_event"), counts)),
            timestamp_array(np.repeat(_nanos(batch, "ts_init"), counts)),
        ],
        schema=schema,
    )


def depths(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return each snapshot as one depth row with the levels that are there.

    Args:
        batch: Snapshots in canonical form.
        schema: The catalog's schema of depths.
    """
    rows = batch.num_rows
    return pa.RecordBatch.from_arrays(
        [
            _depth_side(*_levels(batch, _BID)),
            _depth_side(*_levels(batch, _ASK)),
            pa.array(np.full(rows, _F_SNAPSHOT | _F_LAST, np.uint8)),
            pa.array(np.zeros(rows, np.uint64)),
            batch.column("ts_event"),
            batch.column("ts_init"),
        ],
        schema=schema,
    )


def _depth_side(prices: Ints, sizes: Ints) -> pa.Array:
    there = _present(sizes)
    ends = np.cumsum(there.sum(axis=1), dtype=np.int32)
    total = int(ends[-1]) if len(ends) else 0
    numbers = (decimal_array(raw) for raw in (prices, sizes))
    if total < there.size:
        mask = pa.array(there.reshape(-1))
        numbers = (column.filter(mask) for column in numbers)
    ones, zeros = pa.array(np.ones(total, np.uint32)), pa.array(np.zeros(total, np.uint64))
    levels = pa.StructArray.from_arrays([*numbers, ones, zeros], fields=list(LEVEL))
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    return pa.ListArray.from_arrays(pa.array(offsets), levels, type=LEVELS)


def _levels(batch: pa.RecordBatch, side: tuple[str, str]) -> tuple[Ints, Ints]:
    prices, sizes = (_raw(batch.column(name)) for name in side)
    return prices, sizes


def _raw(lists: pa.Array) -> Ints:
    return raw_of(lists.flatten()).reshape(len(lists), lists.type.list_size, 2)


def _present(sizes: Ints) -> Mask:
    present: Mask = (sizes[..., 0] | sizes[..., 1]) != 0
    return present


def _nanos(batch: pa.RecordBatch, column: str) -> Ints:
    nanos: Ints = batch.column(column).view(pa.int64()).to_numpy()
    return nanos
