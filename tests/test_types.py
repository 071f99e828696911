import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticklake.types import (
    NANOS_PER_DAY,
    BookAs,
    CatalogType,
    DataType,
    InstrumentKey,
    InstrumentSpec,
    Window,
    format_nanos,
    merge_windows,
    parse_day,
    parse_nanos,
    subtract_windows,
)

MAX = 2**63 - 1
small_windows = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: Window(p[0], p[0] + p[1]))


def points(windows):
    return {t for w in windows for t in range(w.start, w.end)}


@pytest.mark.parametrize(
    ("value", "nanos"),
    [
        ("2024-08-09T00:00:00Z", 1723161600_000000000),
        ("2024-08-09T00:00:00.000000001Z", 1723161600_000000001),
        ("2024-08-09T02:00+02:00", 1723161600_000000000),
        ("2024-08-09 00:00:00.5z", 1723161600_500000000),
        ("2024-08-09", 1723161600_000000000),
        (dt.date(2024, 8, 9), 1723161600_000000000),
        (
            dt.datetime(2024, 8, 9, 1, 0, 0, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
            1723161600_000001000,
        ),
        (17, 17),
    ],
)
def test_points_in_time_are_read_exactly(value, nanos):
    assert parse_nanos(value) == nanos


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2024-08-09T00:00:00", "time zone"),
        (dt.datetime(2024, 8, 9), "time zone"),
        ("yesterday", "ISO 8601"),
        ("2024-13-01", "ISO 8601"),
        ("2024-08-09T00:00:00.0000000001Z", "ISO 8601"),
        ("1969-12-31T23:59:59Z", "outside"),
        ("2300-01-01", "outside"),
        (1.5, "not a point in time"),
        (None, "not a point in time"),
        (-1, "outside"),
        (True, "point in time"),
    ],
)
def test_what_is_not_a_point_in_time_is_refused_with_the_reason(value, why):
    with pytest.raises(ValueError, match=why):
        parse_nanos(value)


@given(st.integers(0, MAX))
def test_formatted_times_parse_back(nanos):
    assert parse_nanos(format_nanos(nanos)) == nanos


@given(st.integers(0, MAX - 1), st.integers(0, MAX))
def test_window_ends_are_half_open_inside_and_closed_for_nautilus(start, end):
    if end <= start:
        with pytest.raises(ValueError, match="not after its start"):
            Window(start, end)
        return
    window = Window(start, end)
    first, last = window.closed
    assert (first, last) == (start, end - 1)
    assert Window.from_closed(first, last) == window


@given(st.integers(0, 40 * NANOS_PER_DAY), st.integers(1, 5 * NANOS_PER_DAY))
def test_days_of_a_window_partition_it(start, length):
    window = Window(start, start + length)
    parts = window.split_days()
    assert parts[0].start == window.start
    assert parts[-1].end == window.end
    assert all(a.end == b.start and a.end % NANOS_PER_DAY == 0 for a, b in itertools.pairwise(parts))
    assert [part.days for part in parts] == [(day,) for day in window.days]


@given(small_windows, st.lists(small_windows, max_size=6))
def test_interval_arithmetic_agrees_with_sets_of_points(window, others):
    merged = merge_windows(others)
    assert points(merged) == points(others)
    assert all(a.end < b.start for a, b in itertools.pairwise(merged))
    missing = subtract_windows(window, others)
    assert points(missing) == points([window]) - points(others)
    assert list(missing) == sorted(missing)


def test_instrument_key_parts():
    key = InstrumentKey("BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN")
    assert (key.venue, key.instrument_type, key.symbol, key.margin) == (
        "BINANCE-FUTURES",
        "PERPETUAL",
        "BTC-USDT",
        "LIN",
    )
    assert key.bare == "BINANCE-FUTURES:PERPETUAL:BTC-USDT"
    assert InstrumentKey("BINANCE:SPOT_PAIR:BTC-USDT").margin is None


@pytest.mark.parametrize(
    "text",
    ["", "BTC-USDT", "A:B", "A:B:C@XYZ", "A:B:C:D", "A:B:../x", "A:B:x/y", "A:B:x\n", "A:B:x%2Fy", "A::C"],
)
def test_what_is_not_an_instrument_key_is_refused(text):
    with pytest.raises(ValueError, match="instrument key"):
        InstrumentKey(text)


def test_data_types_know_their_depth_and_folder():
    assert DataType("book_snapshot_25").depth == 25
    assert DataType("trades").depth is None
    assert CatalogType.of(DataType("trades"), BookAs.DEPTH) == "trades"
    assert CatalogType.of(DataType("book_snapshot_5"), BookAs.DELTAS) == "order_book_deltas"
    assert CatalogType.of(DataType("book_snapshot_5"), BookAs.DEPTH) == "order_book_depths"
    for name in ("quotes", "book_snapshot_0", "book_snapshot_", "Trades"):
        with pytest.raises(ValueError, match="not a data type"):
            DataType(name)


def test_the_last_day_ends_where_time_does():
    last = Window.of_day(dt.date(2262, 4, 11))
    assert last.end == MAX
    late = Window.parse("2262-04-11T01:00:00Z", "2262-04-11T02:00:00Z")
    assert late.split_days() == (late,)


def test_days_are_those_of_utc():
    day = dt.date(2024, 8, 8)
    tokyo = dt.timezone(dt.timedelta(hours=9))
    for value in (day, "2024-08-08", "2024-08-08T23:59:59Z", dt.datetime(2024, 8, 9, 8, 59, tzinfo=tokyo)):
        assert parse_day(value) == day
    with pytest.raises(ValueError, match="2024-08-08T23:55:00Z"):
        parse_day("8 August")


def test_plain_values_are_taken_and_others_refused():
    window = Window.parse("2024-08-08", "2024-08-09")
    assert Window.of(window) is window
    assert Window.of(("2024-08-08", dt.date(2024, 8, 9))) == window
    assert InstrumentKey.of("A:B:C") == InstrumentKey.of(InstrumentKey("A:B:C"))
    assert DataType.of("trades") == DataType.of(DataType("trades"))
    for of, bad, wanted in [
        (Window.of, "2024-08-08", "start and end"),
        (Window.of, ("2024-08-08",), "start and end"),
        (Window.of, None, "a Window"),
        (InstrumentKey.of, None, "InstrumentKey"),
        (InstrumentKey.of, DataType("trades"), "InstrumentKey"),
        (DataType.of, 5, "DataType"),
    ]:
        with pytest.raises(TypeError, match=wanted):
            of(bad)


@pytest.mark.parametrize(
    "bad", [("BTCUSDT", 1, 1), ("BTC.BINANCE", 17, 0), ("BTC.BINANCE", 0, -1), (".BINANCE", 1, 1)]
)
def test_instrument_specs_are_checked(bad):
    with pytest.raises(ValueError, match=r"BTC|BINANCE"):
        InstrumentSpec(*bad)
