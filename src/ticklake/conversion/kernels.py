"""Vectorised conversion of single columns: numbers, times, sides and ids. No Python object per row.

A price or size leaves as the 16 little-endian bytes of a decimal128(38, 16), the form in which the engine
keeps it. Floats take the short way where they can: times the power of ten they are near an integer below
2**52, dividing that by the power of ten gives back the very same float, and two multiplications make the 128
bits of it. Only values that fail this are looked at again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from ticklake.catalog.schema import DECIMAL, DECIMAL_SCALE, ENUM, TIMESTAMP
from ticklake.conversion.faults import Fault

__all__ = [
    "ABSENT",
    "MAX_NANOS",
    "SIDES",
    "Fault",
    "decimal_array",
    "derived_trade_ids",
    "dictionary",
    "enum_array",
    "floats_to_raw",
    "raw_of",
    "schema_without_views",
    "sides",
    "text",
    "times_to_nanos",
    "timestamp_array",
    "to_raw",
    "unusable_ids",
    "without_views",
]

type Ints = npt.NDArray[np.int64]
type Floats = npt.NDArray[np.floating[Any]]
type Faults = npt.NDArray[np.uint8]
type Mask = npt.NDArray[np.bool_]

_MAX_INT = 2**63 - 1

MAX_NANOS = 2**63 - 2
"""The last nanosecond that a window can hold (its end is exclusive and a signed 64-bit integer)."""


def dictionary(*values: str) -> pa.StringArray:
    """Return an array of texts. Made without `pa.array`, which imports pandas and so most of what is slow."""
    ends = np.cumsum([0, *(len(value.encode()) for value in values)], dtype=np.int32)
    text = "".join(values).encode()
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends.tobytes()), pa.py_buffer(text))


SIDES = dictionary("NO_AGGRESSOR", "BUY", "SELL")
"""Dictionary of `aggressor_side`; `sides` returns indices into it."""

# Values are worked on in blocks whose intermediate arrays fit a core's cache: twice as fast as all at once.
_BLOCK = 16_384

# A multiple of the precision that went through a little float arithmetic is still taken as that multiple.
_NOISE_ULPS = 4

_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_NOT_A_NUMBER = r"^[+-]?(?i:nan)$"
# What fits a decimal256(76, 38) for certain, once the value is known to lie in the engine's range.
_FITTING = r"^-?\d{0,30}\.?\d{0,38}$|^-?\d{1,14}\.?\d{0,20}[eE](\+?[01]?\d|-0?\d|-1[0-8])$"
_USABLE_ID = rb"^[\x01-\x7f]*[\x21-\x7e][\x01-\x7f]*$"
_MAX_ID = 36
_WIDE = pa.decimal256(76, 38)
# Holds the shortest text of any float in the engine's range of which `_shortest` is asked.
_WRITTEN = pa.decimal128(38, 20)
_NOTHING: npt.NDArray[np.intp] = np.empty(0, np.intp)


ABSENT = Fault.ZERO


def without_views[T: (pa.RecordBatch, pa.Table)](rows: T) -> T:
    """Return rows whose text is that of the source, but not in views (`string_view`, as Polars writes it).

    Arrow can neither filter nor take views, nor decode dictionaries of them.
    """
    plain = schema_without_views(rows.schema)
    return rows if plain.equals(rows.schema) else rows.cast(plain)


def schema_without_views(schema: pa.Schema) -> pa.Schema:
    """Return the schema that `without_views` makes of one."""
    return pa.schema([field.with_type(_without_view(field.type)) for field in schema], schema.metadata)


def _without_view(kind: pa.DataType) -> pa.DataType:
    if pt.is_string_view(kind):
        return pa.string()
    if pt.is_binary_view(kind):
        return pa.binary()
    if pt.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_view(kind.value_type), kind.ordered)
    return kind


def to_raw(column: pa.Array, precision: int, limit: int) -> tuple[Ints, Faults]:
    """Convert numbers of any accepted type to the engine's 128 bits.

    Args:
        column: Floats, integers, decimals or text, plain or dictionary-encoded.
        precision: Decimal places that a value may have.
        limit: Largest value of the engine's range.

    Returns:
        An array of shape (n, 2) with the low and high 64 bits, zero where there is a fault; and the `Fault`s.
    """
    if pt.is_dictionary(column.type):
        column = _decoded(column)
    if pt.is_null(column.type):
        column = column.cast(pa.float64())
    if pt.is_float64(column.type) or pt.is_float32(column.type):
        values = column.to_numpy(zero_copy_only=False)
        raw, faults = floats_to_raw(values, precision, limit)
    elif pt.is_integer(column.type):
        raw, faults = _integers_to_raw(column, limit)
    elif pt.is_decimal(column.type):
        raw, faults = _decimals_to_raw(column, precision, limit)
    else:
        raw, faults = _text_to_raw(column.cast(pa.string()), precision, limit)
    if column.null_count:
        # Before, a null was whatever number stands in its slot.
        faults[_mask(column.is_null())] = Fault.NULL
        raw[faults == Fault.NULL] = 0
    return raw, faults


def floats_to_raw(values: Floats, precision: int, limit: int) -> tuple[Ints, Faults]:
    """Convert contiguous float32 or float64 values; see `to_raw`.

    A value is accepted when it is within a few units in the last place of its own type of a multiple of
    10**-precision. Where multiples lie closer than floats do, the shortest decimal text that reads back as
    the same float decides, which is the number as it was once written.
    """
    raw = _unwritten(len(values))
    faults = np.zeros(len(values), np.uint8)
    scale = 10.0**precision
    top = min(limit * scale, _dense(values.dtype))
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        wide = block.astype(np.float64, copy=False)
        with np.errstate(invalid="ignore", over="ignore"):
            ticks = np.rint(wide * scale)
        dense = _NOTHING
        # A NaN fails every comparison, so it never takes the short way.
        if not (
            ticks.min() > 0
            and ticks.max() < top
            and np.array_equal((ticks / scale).astype(block.dtype, copy=False), block)
        ):
            faults[start : start + _BLOCK] = _range_faults(wide, limit)
            ticks, dense = _examine(block, ticks, scale, faults[start : start + _BLOCK])
        out = raw[start : start + _BLOCK]
        _pack(ticks.astype(np.int64), DECIMAL_SCALE - precision, out)
        if len(dense):
            out[dense] = _shortest(block[dense], precision)
    return raw, faults


def _range_faults(values: npt.NDArray[np.float64], limit: int) -> Faults:
    faults = np.zeros(len(values), np.uint8)
    faults[values > limit] = Fault.OUT_OF_RANGE
    faults[values < 0] = Fault.NEGATIVE
    faults[np.isinf(values)] = Fault.NOT_A_NUMBER
    faults[values == 0] = Fault.ZERO
    faults[np.isnan(values)] = Fault.NAN
    return faults


def _examine(
    block: Floats, ticks: npt.NDArray[np.float64], scale: float, faults: Faults
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Find what is off the grid, correct ticks that float rounding moved, name the values that need text.

    Args:
        block: The values.
        ticks: The nearest multiples of the precision, as they came out of the product.
        scale: Ticks in 1.
        faults: What is known to be wrong; learns what is off the grid.

    Returns:
        The ticks, zero where there is a fault, and where the shortest text has to decide.
    """
    ticks = np.where(faults == Fault.NONE, ticks, 0.0)
    dense = ticks >= _dense(block.dtype)
    open_ = np.flatnonzero((faults == Fault.NONE) & ~dense)
    value, nearest = block[open_], ticks[open_]

    def at(candidate: npt.NDArray[np.float64]) -> Floats:
        return (candidate / scale).astype(block.dtype, copy=False)

    # The product may have been rounded across a half when it has nearly all the float's digits.
    for neighbour in (nearest - 1, nearest + 1):
        nearest = np.where((at(nearest) != value) & (at(neighbour) == value), neighbour, nearest)
    # Nothing positive is the multiple zero, though the tiniest floats are within their noise of it.
    off = (nearest == 0) | (np.abs(at(nearest) - value) > _NOISE_ULPS * np.spacing(value))
    faults[open_[off]] = Fault.OFF_PRECISION
    ticks[open_] = np.where(off, 0.0, nearest)
    ticks[dense] = 0.0
    return ticks, np.flatnonzero(dense)


def _dense(kind: np.dtype[Any]) -> int:
    """Return the number of ticks from which on two multiples of the precision can be the same float."""
    return int(2 ** np.finfo(kind).nmant)


def _shortest(values: Floats, precision: int) -> Ints:
    """Return the 128 bits of the shortest decimals that read back as these floats.

    Where multiples of the precision are so dense, rounding to one moves a value by less than its noise.
    """
    written = pa.array(values).cast(pa.string()).cast(_WRITTEN)
    return raw_of(pc.round(written, ndigits=precision, round_mode="half_to_even").cast(DECIMAL))


def _pack(ticks: Ints, zeros: int, out: Ints) -> None:
    """Write `ticks * 10**zeros` as 128-bit integers; `ticks` not negative and below 2**53."""
    # Without the twos of the factor the product mostly fits 64 bits, and shifts make two words of it.
    odd = 5**zeros
    if ticks.max(initial=0) <= _MAX_INT // odd:
        product = ticks * odd
        np.left_shift(product, zeros, out=out[:, 0])
        np.right_shift(product, 64 - zeros, out=out[:, 1])
        return
    factor = 10**zeros
    low = ticks.view(np.uint64) * np.uint64(factor)  # modulo 2**64
    out[:, 0] = low.view(np.int64)
    # The high word is the exact integer (ticks * factor - low) / 2**64. It is below 2**35, so that float
    # arithmetic misses it by much less than a half.
    high = ticks * (factor / 2.0**64)
    high -= low * 2.0**-64
    out[:, 1] = np.rint(high)


def _unwritten(rows: int) -> Ints:
    """Return room for 128-bit pairs, from Arrow's pool: what batches before left there is warm."""
    return np.ndarray((rows, 2), np.int64, pa.allocate_buffer(16 * rows))


def _integers_to_raw(column: pa.Array, limit: int) -> tuple[Ints, Faults]:
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    faults = np.zeros(len(values), np.uint8)
    faults[values > limit] = Fault.OUT_OF_RANGE
    faults[values < 0] = Fault.NEGATIVE
    faults[values == 0] = Fault.ZERO
    raw = _unwritten(len(values))
    _pack(np.where(faults == Fault.NONE, values, 0).astype(np.int64), DECIMAL_SCALE, raw)
    return raw, faults


def _decimals_to_raw(column: pa.Array, precision: int, limit: int) -> tuple[Ints, Faults]:
    faults = np.zeros(len(column), np.uint8)
    wide = column.cast(_WIDE)
    faults[_mask(pc.not_equal(pc.round(wide, ndigits=precision), wide))] = Fault.OFF_PRECISION
    faults[_mask(pc.greater(wide, limit))] = Fault.OUT_OF_RANGE
    faults[_mask(pc.less(wide, 0))] = Fault.NEGATIVE
    faults[_mask(pc.equal(wide, 0))] = Fault.ZERO
    return raw_of(_only(wide, faults == Fault.NONE).fill_null(0).cast(DECIMAL)).copy(), faults


def _text_to_raw(column: pa.Array, precision: int, limit: int) -> tuple[Ints, Faults]:
    number = _mask(pc.match_substring_regex(column, _NUMBER))
    magnitude = _only(column, number).cast(pa.float64()).fill_null(0).to_numpy(zero_copy_only=False)
    in_range = number & (np.abs(magnitude) <= limit)
    fitting = _mask(pc.match_substring_regex(column, _FITTING))
    raw, faults = _decimals_to_raw(_only(column, in_range & fitting).cast(_WIDE), precision, limit)
    # In range, but with more digits than any precision has.
    faults[in_range & ~fitting] = Fault.OFF_PRECISION
    faults[number & (magnitude > limit)] = Fault.OUT_OF_RANGE
    faults[number & (magnitude < 0)] = Fault.NEGATIVE
    faults[~number] = Fault.NOT_A_NUMBER
    faults[_mask(pc.match_substring_regex(column, _NOT_A_NUMBER))] = Fault.NAN
    faults[_mask(pc.equal(column, ""))] = Fault.NULL
    return raw, faults


def times_to_nanos(column: pa.Array, nanos_per_unit: int) -> tuple[Ints, Mask, Mask]:
    """Convert a time column to nanoseconds since the epoch.

    Args:
        column: Integers or timestamps (a naive one is UTC).
        nanos_per_unit: Nanoseconds in one unit of the column.

    Returns:
        The times, which of them are null, and which lie before 1970 or after `MAX_NANOS`; the times of the
        latter two are 0.
    """
    null = outside = np.zeros(len(column), np.bool_)
    if pt.is_timestamp(column.type):
        column = column.view(pa.int64())
    if column.null_count:
        null = _mask(column.is_null())
        column = column.fill_null(0)
    values = column.to_numpy(zero_copy_only=False)
    last = MAX_NANOS // nanos_per_unit
    if values.min(initial=0) < 0 or values.max(initial=0) > last:
        outside = (values < 0) | (values > last)
        values = np.where(outside, 0, values)
    values = values.astype(np.int64, copy=False)
    return (values if nanos_per_unit == 1 else values * nanos_per_unit), null, outside


def sides(column: pa.Array, buy: frozenset[str], sell: frozenset[str]) -> npt.NDArray[np.int8]:
    """Return indices into `SIDES`; null and unknown values are no aggressor.

    Args:
        column: Text, integers or booleans, plain or dictionary-encoded.
        buy: The values that mean an aggressive buyer, as case-folded text.
        sell: The values that mean an aggressive seller.
    """
    encoded = column if pt.is_dictionary(column.type) else _encoded(column)
    values = pc.ascii_lower(encoded.dictionary.cast(pa.string()))
    # The last entry stands for a null, whose index is -1.
    meaning = np.zeros(len(values) + 1, np.int8)
    meaning[:-1][_mask(pc.is_in(values, pa.array(sorted(buy), pa.string())))] = 1
    meaning[:-1][_mask(pc.is_in(values, pa.array(sorted(sell), pa.string())))] = 2
    indices = encoded.indices
    if indices.null_count:
        # Polars numbers its categories without sign.
        indices = indices.cast(pa.int64()).fill_null(-1)
    codes: npt.NDArray[np.int8] = meaning[indices.to_numpy(zero_copy_only=False)]
    return codes


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    """Return a plain column with a dictionary: of all values that there can be, where they are few."""
    if column.type not in (pa.int8(), pa.uint8()):
        return column.dictionary_encode()
    values = pa.array(np.arange(256, dtype=np.uint8)).view(column.type)
    return pa.DictionaryArray.from_arrays(column.view(pa.uint8()), values)


def text(column: pa.Array) -> pa.Array:
    """Return text or integers, plain or dictionary-encoded, as an Arrow string array."""
    if pt.is_dictionary(column.type):
        column = _decoded(column)
    return column.cast(pa.string())


def unusable_ids(ids: pa.Array) -> Mask | None:
    """Return which ids the engine would refuse, or None where all are usable.

    A trade id is 1 to 36 ASCII characters without NUL, and not all of them blank.
    """
    if ids.null_count == 0 and _plainly_usable(ids):
        return None
    raw = ids.view(pa.binary())  # the bytes may not even be UTF-8
    usable = _mask(pc.match_substring_regex(raw, _USABLE_ID))
    usable &= _mask(pc.less_equal(pc.binary_length(raw), _MAX_ID))
    return None if usable.all() else ~usable


def _plainly_usable(ids: pa.Array) -> bool:
    """Whether all ids have a right length and only visible ASCII, judged on the buffers."""
    if len(ids) == 0:
        return True
    _, offsets_buffer, data_buffer = ids.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[ids.offset : ids.offset + len(ids) + 1]
    lengths = np.diff(offsets)
    if lengths.min() < 1 or lengths.max() > _MAX_ID:
        return False
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    return bool(data.min() >= ord("!") and data.max() <= ord("~"))


def derived_trade_ids(ts_event: Ints, rows: Ints) -> pa.Array:
    """Return ids for trades that have none: `<ts_event in ns>-<row position in the source file>`.

    They depend on the source only, not on what part of it was asked for.
    """
    return pc.binary_join_element_wise(
        pa.array(ts_event).cast(pa.string()), pa.array(rows).cast(pa.string()), "-"
    )


def decimal_array(raw: Ints) -> pa.Array:
    """Return a contiguous array of 128-bit pairs as an Arrow decimal array, without a copy."""
    return pa.Array.from_buffers(DECIMAL, raw.size // 2, [None, pa.py_buffer(raw)])


def raw_of(decimals: pa.Array) -> Ints:
    """Return an Arrow decimal array without nulls as 128-bit pairs, without a copy (and so not writable)."""
    if len(decimals) == 0:
        return np.empty((0, 2), np.int64)
    pairs: Ints = np.frombuffer(decimals.buffers()[1], np.int64).reshape(-1, 2)
    return pairs[decimals.offset : decimals.offset + len(decimals)]


def timestamp_array(nanos: Ints) -> pa.Array:
    """Return nanoseconds since the epoch as an Arrow timestamp array, without a copy."""
    return pa.array(nanos).view(TIMESTAMP)


def enum_array(indices: npt.NDArray[np.int8], values: pa.Array) -> pa.Array:
    """Return indices into `values` as an Arrow dictionary array."""
    return pa.DictionaryArray.from_arrays(pa.array(indices), values).cast(ENUM)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary.take(column.indices)


def _only(column: pa.Array, mask: Mask) -> pa.Array:
    """Return the column with nulls outside the mask."""
    return pc.if_else(pa.array(mask), column, pa.scalar(None, column.type))


def _mask(condition: pa.Array) -> Mask:
    mask: Mask = condition.fill_null(False).to_numpy(zero_copy_only=False)  # noqa: FBT003 (Arrow's signature)
    return mask
