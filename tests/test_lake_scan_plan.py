"""Planning: pure functions from footers to byte ranges."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake_support import DAY, DAY_START, SECOND, parquet, trades
from ticklake.conversion.dialects import recognise
from ticklake.errors import CorruptObjectError, SourceSchemaError
from ticklake.lake import ByteRange, ObjectPlan, RowGroupPlan, SourceObject
from ticklake.lake.scan import candidate_days, coalesce, plan_object, watermarks
from ticklake.parquet.structure import Structure
from ticklake.types import NANOS_PER_DAY, DataType, Window

NOTHING = ByteRange(0, 0)
ranges = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(1, 300)).map(lambda r: ByteRange(r[0], r[0] + r[1])),
    max_size=30,
)


@given(wanted=ranges, max_gap=st.integers(0, 200), max_range=st.integers(1, 500))
def test_coalesced_requests_bring_all_that_is_wanted_and_little_more(
    wanted: list[ByteRange], max_gap: int, max_range: int
) -> None:
    requests = coalesce(wanted, max_gap=max_gap, max_range=max_range)
    fetched = [byte for r in requests for byte in range(r.start, r.end)]
    needed = {byte for r in wanted for byte in range(r.start, r.end)}
    assert fetched == sorted(set(fetched)), "in order, no byte twice"
    assert needed <= set(fetched)
    assert all(0 < r.length <= max_range for r in requests)
    # Bytes moved in vain lie in gaps shorter than max_gap.
    vain, gap = set(fetched) - needed, 0
    for byte in range(max(fetched, default=-1) + 2):
        gap = gap + 1 if byte in vain else 0
        assert gap < max(max_gap, 1)


def test_coalescing_joins_what_is_near_and_cuts_what_is_long() -> None:
    near = [ByteRange(100, 110), ByteRange(0, 10), ByteRange(10, 20), ByteRange(29, 40)]
    assert coalesce(near, max_gap=10, max_range=100) == (ByteRange(0, 40), ByteRange(100, 110))
    assert coalesce([ByteRange(0, 250)], max_gap=0, max_range=100) == (
        ByteRange(0, 83),
        ByteRange(83, 166),
        ByteRange(166, 250),
    )


def group(least: int, time_min: int | None = None, time_max: int | None = None) -> RowGroupPlan:
    return RowGroupPlan(0, 1, 0, time_min, time_max, least, least, 8, (ByteRange(4, 5),))


@given(st.lists(st.integers(-5, 100), max_size=12))
def test_a_watermark_is_the_least_that_can_still_come(times: list[int]) -> None:
    marks = watermarks([group(time) for time in times])
    assert len(marks) == len(times)
    for position, mark in enumerate(marks):
        assert mark == min(times[position + 1 :], default=None)


def test_slack_reaches_over_midnight_and_no_further() -> None:
    day, before, after = DAY, DAY - dt.timedelta(1), DAY + dt.timedelta(1)
    end = DAY_START + NANOS_PER_DAY
    slack = 10 * SECOND
    middle = Window(DAY_START + slack, end - slack)
    assert candidate_days(middle, slack) == (day,)
    assert candidate_days(Window(middle.start - 1, middle.end), slack) == (before, day)
    assert candidate_days(Window(middle.start, middle.end + 1), slack) == (day, after)
    assert candidate_days(Window.of_day(day), 0) == (day,)
    assert candidate_days(Window(0, 1), slack) == (dt.date(1970, 1, 1),)
    assert candidate_days(Window(2**63 - 2, 2**63 - 1), slack) == (dt.date(2262, 4, 11),)


def plan(
    data: bytes,
    window: Window,
    *,
    at_hand: ByteRange = NOTHING,
    slack: int = 10 * SECOND,
    size: int | None = None,
) -> tuple[ObjectPlan, tuple[str, ...]]:
    metadata = pq.read_metadata(pa.BufferReader(data))
    source = SourceObject("memory://x/f", None, size or len(data), metadata.num_rows, dt.datetime.now(dt.UTC))
    return plan_object(
        metadata.schema,
        Structure.parse(data[-8 - metadata.serialized_size : -8]),
        source,
        day=DAY,
        dialect=recognise(metadata.schema.to_arrow_schema(), DataType("trades")),
        window=window,
        slack=slack,
        at_hand=at_hand,
    )


# Ten row groups of ten trades, one a second.
MINUTE = trades([DAY_START + n * SECOND for n in range(100)])


def test_only_row_groups_that_meet_the_window_are_planned() -> None:
    found, notes = plan(
        parquet(MINUTE, rows_per_group=10), Window(DAY_START + 29 * SECOND, DAY_START + 40 * SECOND)
    )
    # Row 29 is the last of group 2, row 40 the first of group 4 and the window's exclusive end.
    assert [g.index for g in found.row_groups] == [2, 3]
    assert [g.first_row for g in found.row_groups] == [20, 30]
    assert found.row_groups[1].time_min == DAY_START + 30 * SECOND
    assert found.row_groups[1].time_max == DAY_START + 39 * SECOND
    assert found.rows == 20
    assert notes == ()


def test_a_window_without_rows_plans_nothing() -> None:
    found, _ = plan(parquet(MINUTE), Window(DAY_START + 200 * SECOND, DAY_START + 300 * SECOND))
    assert (found.row_groups, found.ranges, found.bytes) == ((), (), 0)
    empty, _ = plan(parquet(MINUTE.slice(0, 0)), Window.of_day(DAY))
    assert empty.row_groups == ()


@pytest.mark.parametrize("options", [{"write_statistics": False}, {"write_statistics": ["ts_event"]}])
def test_a_row_group_that_does_not_say_is_read(options: dict[str, object]) -> None:
    far = Window(DAY_START + 20_000 * SECOND, DAY_START + 20_001 * SECOND)
    found, notes = plan(parquet(MINUTE, rows_per_group=50, **options), far)
    assert [(g.index, g.time_min, g.time_max) for g in found.row_groups] == [(0, None, None), (1, None, None)]
    assert {g.least for g in found.row_groups} == {DAY_START - 10 * SECOND}
    assert notes == ()


HOUR = 3_600 * SECOND


@pytest.mark.parametrize(
    ("times", "stand_in"),
    [
        (None, 0),
        ((-3, 2), 0),
        ((0, 5), 0),
        ((4, 5), 4 * HOUR),
        ((4, 10**5), 4 * HOUR),
        ((-5, -5), 0),
        ((-(10**6), -(10**6)), 0),
        ((25, 30), NANOS_PER_DAY - 1),
    ],
)
def test_what_stands_in_for_a_time_is_of_the_day_and_the_row_group_is_read_for_it(
    times: tuple[int, int] | None, stand_in: int
) -> None:
    # Hours from the start of the day; 1654 is before 1970.
    table = trades([DAY_START + n * HOUR for n in times or (-3, 2)] + [DAY_START] * 2)
    data = parquet(table, rows_per_group=2, write_statistics=times is not None)
    read = [hour for hour in range(-4, 30) if 0 in indices(data, DAY_START + hour * HOUR)]
    (whole, _) = plan(data, Window.of_day(DAY))
    assert whole.undated(whole.row_groups[0]) == DAY_START + stand_in
    assert stand_in // HOUR in read
    assert set(read) <= {-1, *range(25)}, "and by no window that is further away than the slack"


def indices(data: bytes, start: int) -> list[int]:
    return [g.index for g in plan(data, Window(start, start + HOUR))[0].row_groups]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_statistics_of_arrow_timestamps_have_their_own_unit(unit: str) -> None:
    times = MINUTE["ts_init"].cast(pa.timestamp("ns")).cast(pa.timestamp(unit, "UTC"))
    table = MINUTE.set_column(MINUTE.schema.names.index("ts_init"), "ts_init", times)
    found, _ = plan(
        parquet(table, rows_per_group=50), Window(DAY_START + 60 * SECOND, DAY_START + 61 * SECOND)
    )
    assert [(g.index, g.time_min) for g in found.row_groups] == [(1, DAY_START + 50 * SECOND)]


@pytest.mark.parametrize("dictionary", [True, False])
def test_only_the_dialects_columns_are_requested(dictionary: bool) -> None:
    table = trades([DAY_START + n for n in range(5_000)])
    data = parquet(table, rows_per_group=5_000, use_dictionary=dictionary)
    found, _ = plan(data, Window.of_day(DAY))
    metadata = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    chunks = {metadata.column(n).path_in_schema: metadata.column(n) for n in range(metadata.num_columns)}
    needed = ["price", "size", "aggressor_side", "trade_id", "ts_event", "ts_init"]
    assert sum(r.length for r in found.row_groups[0].ranges) == sum(
        chunks[n].total_compressed_size for n in needed
    )
    assert len(found.ranges) == 2, "the noise between price and size is worth a second request"
    assert found.bytes < len(data) - chunks["noise"].total_compressed_size


def test_what_is_at_hand_is_not_requested() -> None:
    data = parquet(MINUTE, rows_per_group=10)
    everything = ByteRange(0, len(data))
    found, _ = plan(data, Window.of_day(DAY), at_hand=everything)
    assert (len(found.row_groups), found.ranges) == (10, ())
    last = found.row_groups[-1]
    tail = ByteRange(last.ranges[0].start + 1, len(data))
    partly, _ = plan(data, Window.of_day(DAY), at_hand=tail)
    # The chunk that is not whole is requested whole, the others of its row group are not.
    assert max(r.end for r in partly.ranges) == last.ranges[0].end


@given(st.integers(200, 5_000), st.integers(2, 50))
def test_every_row_group_knows_the_requests_that_bring_it(max_range: int, rows_per_group: int) -> None:
    base, _ = plan(parquet(MINUTE, rows_per_group=rows_per_group), Window.of_day(DAY))
    wanted = [chunk for g in base.row_groups for chunk in g.ranges]
    found = replace(base, ranges=coalesce(wanted, max_range=max_range))
    for g in found.row_groups:
        mine = found.ranges_of(g)
        assert set(mine) == {r for r in found.ranges if any(r.overlaps(chunk) for chunk in g.ranges)}


def test_rows_beyond_the_slack_are_noted() -> None:
    late = trades([DAY_START + NANOS_PER_DAY + 11 * SECOND])
    _, notes = plan(parquet(late), Window.of_day(DAY))
    assert len(notes) == 1
    assert "11.000 s outside its day 2024-08-08" in notes[0]
    assert "Raise lake.partition_slack" in notes[0]
    early = trades([DAY_START - 11 * SECOND, DAY_START])
    assert len(plan(parquet(early), Window.of_day(DAY))[1]) == 1
    assert plan(parquet(early), Window.of_day(DAY), slack=11 * SECOND)[1] == ()
    ancient = trades([-5 * NANOS_PER_DAY, DAY_START])
    assert len(plan(parquet(ancient), Window.of_day(DAY))[1]) == 1, "also before 1970"


@pytest.mark.parametrize("time", [-5 * NANOS_PER_DAY, DAY_START // 1_000, DAY_START + 3 * NANOS_PER_DAY])
def test_a_file_that_is_far_from_its_day_as_a_whole_has_another_unit(time: int) -> None:
    with pytest.raises(SourceSchemaError, match="no row is within a day of 2024-08-08") as caught:
        plan(parquet(trades([time])), Window.of_day(DAY))
    assert "unit" in str(caught.value)


def test_chunks_outside_the_file_are_refused() -> None:
    data = parquet(MINUTE)
    with pytest.raises(CorruptObjectError, match="outside the file"):
        plan(data, Window.of_day(DAY), size=len(data) // 2)
