"""Trades that come again are counted, whatever their ids look like and however they are batched."""

from __future__ import annotations

import uuid
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ticklake.conversion.repeats as repeats
from convert_support import BTC, T0, TRADES, trades
from ticklake.conversion import Note, Repeats, convert
from ticklake.conversion.repeats import BLOCK, REACH


def converted(ids: list[str], **columns: list[float]) -> pa.RecordBatch:
    """Return trades of the catalog's schema that differ in their ids alone, but for some columns."""
    rows = len(ids)
    same = {"price": [1.5] * rows, "size": [0.5] * rows, "aggressor_side": pa.array([1] * rows, pa.int8())}
    source = trades(rows, **(same | {"ts_event": pa.array([T0] * rows), "trade_id": ids} | columns))
    (batch,) = convert(source, spec=BTC, data_type=TRADES).table.combine_chunks().to_batches()
    return batch


def by_hand(ids: list[str], prices: list[float], reach: int) -> Counter[Note]:
    found: Counter[Note] = Counter()
    for row, trade_id in enumerate(ids):
        before = [other for other in range(max(0, row - reach), row) if ids[other] == trade_id]
        if before:
            alike = prices[before[-1]] == prices[row]
            found[Note.REPEATED_TRADE if alike else Note.REUSED_TRADE_ID] += 1
    return found


@given(
    numbers=st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1.5, 2.5])), min_size=1, max_size=60),
    is_rising=st.booleans(),
    name=st.sampled_from(["{}", "{:05}", "{:012}x", "trade number {:020}"]),
    reach=st.integers(1, 30),
    block=st.integers(1, 30),
    data=st.data(),
)
def test_equals_a_search_by_hand(
    numbers: list[tuple[int, float]], is_rising: bool, name: str, reach: int, block: int, data: st.DataObject
) -> None:
    if is_rising:
        numbers.sort()
    ids, prices = [name.format(n) for n, _ in numbers], [price for _, price in numbers]
    batch = converted(ids, price=prices)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(repeats, "REACH", reach)
        patched.setattr(repeats, "BLOCK", block)
        found = Repeats()
        row = 0
        while row < len(ids):
            rows = data.draw(st.integers(1, 20))
            found.add(batch.slice(row, rows))
            row += rows
            if data.draw(st.booleans()):
                found.counts()
        assert found.counts() == by_hand(ids, prices, reach)


@pytest.mark.parametrize("column", ["price", "size", "aggressor_side", "ts_event"])
def test_a_trade_that_differs_is_another_one_with_the_same_id(column: str) -> None:
    values = {"price": [1.5, 1.6], "size": [1, 2], "aggressor_side": [1, 2], "ts_event": [T0, T0 + 1]}
    source = {name: value if name == column else value[:1] * 2 for name, value in values.items()}
    result = convert(trades(2, trade_id=["7", "7"], **source), spec=BTC, data_type=TRADES)
    assert result.counts.notes == {Note.REUSED_TRADE_ID: 1}
    same = convert(
        trades(2, trade_id=["7", "7"], **{n: v[:1] * 2 for n, v in values.items()}),
        spec=BTC,
        data_type=TRADES,
    )
    assert same.counts.notes == {Note.REPEATED_TRADE: 1}
    assert same.counts.written == 2, "it is counted, not left out"


def test_ids_that_do_not_rise_at_full_length() -> None:
    ids = [str(uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(REACH + 2)]
    ids[-2], ids[-1] = ids[1], ids[0]  # as far back as is looked, and one further
    ids[5_000] = ids[70]
    batch = converted(ids)
    found = Repeats()
    for row in range(0, len(ids), 10_000):
        found.add(batch.slice(row, 10_000))
        assert sum(trade.num_rows for trade in found._trades) <= REACH + BLOCK + 10_000
    assert found.counts() == by_hand_once(ids)


def by_hand_once(ids: list[str]) -> Counter[Note]:
    last: dict[str, int] = {}
    found = 0
    for row, trade_id in enumerate(ids):
        found += row - last.get(trade_id, -REACH - 1) <= REACH
        last[trade_id] = row
    return Counter({Note.REPEATED_TRADE: found})


def test_what_is_held_is_bounded() -> None:
    batch = converted([f"{n % 700:05}" for n in range(5_000)])
    found = Repeats()
    for _ in range(60):
        found.add(batch)
        assert sum(trade.num_rows for trade in found._trades) <= REACH + BLOCK + 5_000
    assert found.counts() == {Note.REPEATED_TRADE: 60 * 5_000 - 700}
