"""Numbers, times, sides and ids, column by column, against Python's own arithmetic."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ticklake.catalog.schema import DECIMAL, PRICE_MAX, SIZE_MAX
from ticklake.conversion import kernels
from ticklake.conversion.kernels import Fault

PRECISIONS = st.integers(0, 16)
WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def _converted(values: Any, precision: int, limit: int = PRICE_MAX) -> tuple[list[Decimal], list[Fault]]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    raw, faults = kernels.to_raw(column, precision, limit)
    decimals = kernels.decimal_array(raw)
    assert decimals.type == DECIMAL
    assert all(value == 0 for value, fault in zip(decimals.to_pylist(), faults, strict=True) if fault)
    return decimals.to_pylist(), [Fault(fault) for fault in faults]


def _multiple(ticks: int, precision: int) -> Decimal:
    return Decimal(ticks).scaleb(-precision, WIDE)


@st.composite
def multiples(draw: st.DrawFn) -> tuple[int, Decimal]:
    precision = draw(PRECISIONS)
    digits = draw(st.integers(1, 13 + precision))
    ticks = draw(st.integers(1, min(10**digits, PRICE_MAX * 10**precision)))
    return precision, _multiple(ticks, precision)


@given(multiples())
@example((16, _multiple(PRICE_MAX * 10**16, 16)))
@example((0, Decimal(1)))
@example((16, Decimal("0.0000000000000001")))
@example((15, Decimal("8.186267203754450")))  # ...451 is the same float
def test_floats_become_the_multiple_they_were_written_as(number: tuple[int, Decimal]) -> None:
    precision, exact = number
    value = float(exact)
    (got,), (fault,) = _converted([value], precision)

    assert fault is Fault.NONE
    assert float(got) == value
    assert got == got.quantize(_multiple(1, precision), context=WIDE)
    if len(exact.normalize(WIDE).as_tuple().digits) <= 15:  # as many as a float is sure to keep
        assert got == exact


@given(st.integers(2**52, 17 * 10**28), PRECISIONS)
def test_where_multiples_are_denser_than_floats_the_shortest_text_decides(ticks: int, precision: int) -> None:
    exact = _multiple(ticks, precision)
    assume(2**52 * 10.0**-precision <= float(exact) <= PRICE_MAX)
    (got,), (fault,) = _converted([float(exact)], precision)
    written = Decimal(repr(float(exact))).quantize(_multiple(1, precision), context=WIDE)
    assert (got, fault) == (written, Fault.NONE)


@given(multiples(), st.integers(-3, 3))
def test_float_noise_is_taken_away(number: tuple[int, Decimal], ulps: int) -> None:
    precision, exact = number
    value = float(exact)
    assume(math.ulp(value) * 16 < 10.0**-precision)
    for _ in range(abs(ulps)):
        value = math.nextafter(value, math.inf if ulps > 0 else 0.0)
    assume(value <= PRICE_MAX)
    assert _converted([value], precision) == ([exact], [Fault.NONE])


@given(multiples(), st.floats(0.01, 0.99))
def test_values_between_multiples_are_flagged(number: tuple[int, Decimal], part: float) -> None:
    precision, exact = number
    value = float(exact) + part * 10.0**-precision
    assume(math.ulp(value) * 2048 < 10.0**-precision)
    assume(value <= PRICE_MAX)
    assert _converted([value], precision) == ([0], [Fault.OFF_PRECISION])


@given(st.integers(0, 6), st.integers(1, 2**24 - 1), st.integers(-2, 2))
def test_float32_has_its_own_noise(precision: int, ticks: int, ulps: int) -> None:
    exact = _multiple(ticks, precision)
    value = np.float32(float(exact))
    if ticks < 2**19:
        for _ in range(abs(ulps)):
            value = np.nextafter(value, np.float32(np.inf if ulps > 0 else 0.0))
    (got,), (fault,) = _converted(pa.array(np.array([value])), precision)
    assert fault is Fault.NONE
    if ticks < 10**6:
        assert got == exact


def test_float32_beyond_its_digits_keeps_its_shortest_text() -> None:
    assert _converted(pa.array([61800.3], pa.float32()), 4)[0] == [Decimal("61800.3")]
    assert _converted(pa.array([61800.35], pa.float32()), 1)[1] == [Fault.OFF_PRECISION]
    # The same number as a float64 is a different one, and not on the grid.
    assert _converted(pa.array([float(np.float32(0.1))]), 4)[1] == [Fault.OFF_PRECISION]


@pytest.mark.parametrize("limit", [PRICE_MAX, SIZE_MAX])
def test_limits_hold_for_float32_too(limit: int) -> None:
    near = np.float32(limit)
    for _ in range(3):
        near = np.nextafter(near, np.float32(0))
    for _ in range(7):
        (got,), (fault,) = _converted(pa.array(np.array([near])), 0, limit)
        assert fault is (Fault.NONE if float(near) <= limit else Fault.OUT_OF_RANGE)
        assert got <= limit
        near = np.nextafter(near, np.float32(np.inf))


def test_results_do_not_depend_on_the_neighbours() -> None:
    rng = np.random.default_rng(1)
    values = np.round(rng.uniform(0.01, 1e5, 100_000), 2)
    exact = [Decimal(repr(float(value))) for value in values]
    assert _converted(pa.array(values), 2) == (exact, [Fault.NONE] * len(exact))
    values[::1000] = np.nan
    values[7::1000] = 0.005
    got, faults = _converted(pa.array(values), 2)
    for i, fault in enumerate(faults):
        expected = {0: Fault.NAN, 7: Fault.OFF_PRECISION}.get(i % 1000, Fault.NONE)
        assert fault is expected
        assert got[i] == (0 if expected else exact[i])


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (math.nan, Fault.NAN),
        (math.inf, Fault.NOT_A_NUMBER),
        (-math.inf, Fault.NOT_A_NUMBER),
        (0.0, Fault.ZERO),
        (-0.0, Fault.ZERO),
        (-1.5, Fault.NEGATIVE),
        (-1e300, Fault.NEGATIVE),
        (1e300, Fault.OUT_OF_RANGE),
        (PRICE_MAX + 1.0, Fault.OUT_OF_RANGE),
        (float(PRICE_MAX), Fault.NONE),
        (PRICE_MAX + 0.1, Fault.OUT_OF_RANGE),
        (5e-324, Fault.OFF_PRECISION),
        (0.05, Fault.OFF_PRECISION),
        (None, Fault.NULL),
    ],
)
def test_faults_of_floats(value: float | None, fault: Fault) -> None:
    got, faults = _converted(pa.array([1.5, value, 2.5], pa.float64()), 1)
    assert faults == [Fault.NONE, fault, Fault.NONE]
    assert (got[0], got[2]) == (Decimal("1.5"), Decimal("2.5"))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), PRECISIONS)
def test_integers_are_exact(values: list[int], precision: int) -> None:
    got, faults = _converted(pa.array(values, pa.int64()), precision, SIZE_MAX)
    for value, result, fault in zip(values, got, faults, strict=True):
        assert (fault is Fault.NONE) == (0 < value <= SIZE_MAX)
        assert result == (value if fault is Fault.NONE else 0)


def test_unsigned_and_small_integers() -> None:
    assert _converted(pa.array([2**64 - 1, 7, None], pa.uint64()), 0) == (
        [0, 7, 0],
        [Fault.OUT_OF_RANGE, Fault.NONE, Fault.NULL],
    )
    assert _converted(pa.array([-1, 0, 127], pa.int8()), 3) == (
        [0, 0, 127],
        [Fault.NEGATIVE, Fault.ZERO, Fault.NONE],
    )


@given(st.decimals(-(10**14), 10**14, places=5), PRECISIONS)
def test_decimals_and_text_are_exact(value: Decimal, precision: int) -> None:
    if value > PRICE_MAX:
        expected = Fault.OUT_OF_RANGE
    elif value < 0:
        expected = Fault.NEGATIVE
    elif value == 0:
        expected = Fault.ZERO
    elif value.quantize(_multiple(1, min(precision, 5)), context=WIDE) != value:
        expected = Fault.OFF_PRECISION
    else:
        expected = Fault.NONE
    result = value if expected is Fault.NONE else 0
    for kind in (pa.decimal128(20, 5), pa.decimal128(38, 18), pa.string(), pa.large_string()):
        column = pa.array([str(value)]).cast(kind)
        assert _converted(column, precision) == ([result], [expected]), kind


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1.5", "1.5"),
        ("1.50000000000000000000", "1.5"),
        ("15e-1", "1.5"),
        ("1.7014118346046e+13", str(PRICE_MAX)),
        (".5", "0.5"),
        ("5.", "5"),
        ("1.55", Fault.OFF_PRECISION),
        ("1e-30", Fault.OFF_PRECISION),
        ("1e400", Fault.OUT_OF_RANGE),
        (f"{PRICE_MAX}.1", Fault.OUT_OF_RANGE),
        (f"{PRICE_MAX}." + "0" * 30 + "1", Fault.OUT_OF_RANGE),
        ("9" * 80, Fault.OUT_OF_RANGE),
        ("-1", Fault.NEGATIVE),
        ("-1e400", Fault.NEGATIVE),
        ("0.00", Fault.ZERO),
        ("nan", Fault.NAN),
        ("NaN", Fault.NAN),
        ("", Fault.NULL),
        ("inf", Fault.NOT_A_NUMBER),
        ("1,5", Fault.NOT_A_NUMBER),
        (" 1", Fault.NOT_A_NUMBER),
        ("٣", Fault.NOT_A_NUMBER),
        ("0x10", Fault.NOT_A_NUMBER),
    ],
)
def test_text(text: str, result: str | Fault) -> None:
    fault = result if isinstance(result, Fault) else Fault.NONE
    value = Decimal(0 if fault else str(result))
    for column in (pa.array(["1.5", text, None]), pa.array(["1.5", text, None]).dictionary_encode()):
        got, faults = _converted(column, 1)
        assert (got, faults) == ([Decimal("1.5"), value, 0], [Fault.NONE, fault, Fault.NULL])


def test_small_decimals_and_slices() -> None:
    for kind in (pa.decimal32(5, 2), pa.decimal64(10, 2)):
        column = pa.array([Decimal("9.99"), Decimal("1.25"), Decimal("1.50"), None], kind).slice(1)
        assert _converted(column, 1) == (
            [0, Decimal("1.5"), 0],
            [Fault.OFF_PRECISION, Fault.NONE, Fault.NULL],
        )
    assert _converted(pa.array([9.0, 1.5, None, 2.0]).slice(1), 1)[0] == [Decimal("1.5"), 0, 2]


@pytest.mark.parametrize(
    ("kind", "per_unit"),
    [
        (pa.int64(), 1),
        (pa.int64(), 1_000),
        (pa.uint64(), 1_000),
        (pa.int32(), 1_000_000_000),
        (pa.timestamp("us"), 1_000),
        (pa.timestamp("ns", "UTC"), 1),
        (pa.timestamp("s", "Asia/Tokyo"), 1_000_000_000),
    ],
)
def test_times(kind: pa.DataType, per_unit: int) -> None:
    values = [0, 5, None, 1_723_161_600]
    column = pa.array(values, pa.int64()).cast(kind)
    got, null, outside = kernels.times_to_nanos(column, per_unit)
    assert got.tolist() == [(value or 0) * per_unit for value in values]
    assert null.tolist() == [False, False, True, False]
    assert not outside.any()


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]))
def test_times_never_overflow(value: int, per_unit: int) -> None:
    got, _, outside = kernels.times_to_nanos(pa.array([value], pa.int64()), per_unit)
    fits = 0 <= value * per_unit <= kernels.MAX_NANOS
    assert bool(outside[0]) is not fits
    assert int(got[0]) == (value * per_unit if fits else 0)


def test_unsigned_times_beyond_signed_ones() -> None:
    _, _, outside = kernels.times_to_nanos(pa.array([2**64 - 1], pa.uint64()), 1)
    assert outside.tolist() == [True]


BUY, SELL = frozenset({"1", "buy", "buyer"}), frozenset({"2", "sell", "seller"})


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, 2, 0, 3, None, -1], pa.int8()), [1, 2, 0, 0, 0, 0]),
        (pa.array([1, 2], pa.uint64()), [1, 2]),
        (pa.array([1.0, 2.0, math.nan, None, 1.5]), [1, 2, 0, 0, 0]),
        (
            pa.array(["BUY", "Sell", "BUYER", "seller", "NO_AGGRESSOR", "", "1", "ß", None]),
            [1, 2, 1, 2, 0, 0, 1, 0, 0],
        ),
        (pa.array(["buy", "sell"], pa.large_string()), [1, 2]),
        (pa.array(["buy", None], pa.string_view()), [1, 0]),
        (pa.array(["sell", None, "buy"]).dictionary_encode(), [2, 0, 1]),
        (pa.array(["sell", "buy"], pa.string_view()).dictionary_encode(), [2, 1]),
        (pa.array([True, False, None]), [0, 0, 0]),
        (pa.nulls(2), [0, 0]),
        (pa.array(["buy", "sell", "buy"]).slice(1), [2, 1]),
        *(
            (
                pa.DictionaryArray.from_arrays(
                    pa.array([1, None, 0, 2], kind), pa.array(["buy", "sell", None])
                ),
                [2, 0, 1, 0],
            )
            for kind in (pa.int8(), pa.uint8(), pa.uint16(), pa.uint32(), pa.int64(), pa.uint64())
        ),
    ],
)
def test_sides(column: pa.Array, expected: list[int]) -> None:
    assert kernels.sides(column, BUY, SELL).tolist() == expected


def test_sides_may_be_booleans() -> None:
    assert kernels.sides(pa.array([True, False]), frozenset({"true"}), frozenset({"false"})).tolist() == [
        1,
        2,
    ]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array(["a", None]), ["a", None]),
        (pa.array([2**63, 5], pa.uint64()), [str(2**63), "5"]),
        (pa.array(["a"], pa.string_view()), ["a"]),
        (pa.array(["b", "a"], pa.large_string()).dictionary_encode(), ["b", "a"]),
        (pa.DictionaryArray.from_arrays(pa.array([1, None], pa.uint8()), pa.array(["a", "b"])), ["b", None]),
    ],
)
def test_ids_as_text(column: pa.Array, expected: list[str]) -> None:
    ids = kernels.text(column)
    assert ids.type == pa.string()
    assert ids.to_pylist() == expected


@given(st.lists(st.one_of(st.none(), st.text(max_size=40), st.text(" \x00\x7fab", max_size=38))))
def test_unusable_ids(ids: list[str | None]) -> None:
    mask = kernels.unusable_ids(pa.array(["x", *ids], pa.string()).slice(1))
    found = [False] * len(ids) if mask is None else mask.tolist()
    for text, unusable in zip(ids, found, strict=True):
        usable = bool(text) and text.isascii() and len(text) <= 36 and "\x00" not in text
        assert unusable is not (usable and any("!" <= character <= "~" for character in text))


def test_ids_that_are_not_utf8_are_unusable() -> None:
    ids = pa.array([b"ok", b"\xff\xfe"], pa.binary()).view(pa.string())
    mask = kernels.unusable_ids(ids)
    assert mask is not None
    assert mask.tolist() == [False, True]


def test_derived_ids() -> None:
    ids = kernels.derived_trade_ids(np.array([5, 2**63 - 2]), np.array([0, 10**12]))
    assert ids.to_pylist() == ["5-0", "9223372036854775806-1000000000000"]
    assert kernels.unusable_ids(ids) is None


def test_views_become_plain_text_and_nothing_else_changes() -> None:
    values = ["a", None, "longer than twelve bytes"]
    views = pa.array(values, pa.string_view())
    batch = pa.record_batch(
        {
            "view": views,
            "binary": pa.array([b"x", None, b""], pa.binary_view()),
            "category": pa.DictionaryArray.from_arrays(pa.array([2, 0, 1], pa.uint8()), views),
            "number": [1, 2, 3],
            "text": pa.array(values, pa.large_string()),
        }
    )
    plain = kernels.without_views(batch)
    assert plain.schema.types == [
        pa.string(),
        pa.binary(),
        pa.dictionary(pa.uint8(), pa.string()),
        pa.int64(),
        pa.large_string(),
    ]
    assert plain.to_pylist() == batch.to_pylist()
    assert kernels.without_views(batch.slice(1)).to_pylist() == batch.to_pylist()[1:]
    assert kernels.without_views(pa.Table.from_batches([batch])).to_pylist() == batch.to_pylist()
    assert kernels.without_views(plain) is plain
