"""The model of a market: orders, quotes and latencies of one instrument on one day, as arrays.

In the order in which it is computed: activity follows the hours of the day and a few slowly changing
regimes. Orders arrive in clusters (Neyman-Scott), an order fills in one or more trades at one time, and its
side tends to be that of the orders around it. The book is seen in snapshots; between two of them the mid
price moves with the order flow of the interval and by heavy-tailed noise, or not at all, and is tied to the
next day's first price. Trades take place at the touch of the latest snapshot. Resting orders stay at their
prices from snapshot to snapshot, and the heavier side of the touch tends to be the one that the price moves
away from.

Times are exchange times in whole milliseconds, as Binance gives them. The recorder sees things later by a
latency that varies, so its times are not quite in order and the last rows of a day arrive on the next.
"""

from __future__ import annotations

import datetime as dt
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BTC_PERPETUAL",
    "BTC_SPOT",
    "ETH_PERPETUAL",
    "BookSide",
    "Floats",
    "Ints",
    "SimulatedDay",
    "SyntheticInstrument",
    "Trades",
    "require_positive",
]

type Ints = NDArray[np.int64]
type Floats = NDArray[np.float64]
type Bools = NDArray[np.bool_]

_DAY_SECONDS = 86_400
_DAY_MS = _DAY_SECONDS * 1_000
_EPOCH = dt.date(1970, 1, 1)

# How far the price goes in a day, as a fraction of it; in which share of the intervals between two snapshots
# it goes at all; and of what such a step is composed (the squares add up to one).
_DAILY_MOVE = 0.02
_MOVING_SHARE = 0.45
_FLOW_PART, _NOISE_PART = 0.6, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticInstrument:
    """What is simulated of one instrument, and in which columns it is written.

    Attributes:
        key: The lake's instrument key.
        price: The price around which days open.
        tick: Price increment.
        lot: Size increment.
        trade_size: Median size of a trade.
        touch_size: Median size at the best bid and ask.
        level_size: Median size at a deeper level.
        level_gap: Mean distance of neighbouring deeper levels, in ticks.
        first_trade_id: Where trade ids would have begun at the epoch.
        trades_dialect: Columns of its trades: `nautilus` (times in ns) or `tardis` (us).
        book_dialect: Columns of its book snapshots: `nautilus` (ns), `tardis` (us) or `volume` (us).
    """

    key: str
    price: float
    tick: Decimal
    lot: Decimal
    trade_size: float
    touch_size: float
    level_size: float
    level_gap: float
    first_trade_id: int = 0
    trades_dialect: Literal["nautilus", "tardis"] = "nautilus"
    book_dialect: Literal["nautilus", "tardis", "volume"] = "nautilus"


BTC_PERPETUAL = SyntheticInstrument(
    key="BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN",
    price=61_800.0,
    tick=Decimal("0.1"),
    lot=Decimal("0.001"),
    trade_size=0.016,
    touch_size=3.0,
    level_size=0.05,
    level_gap=5.0,
    first_trade_id=5_000_000_000,
)
ETH_PERPETUAL = SyntheticInstrument(
    key="BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN",
    price=2_680.0,
    tick=Decimal("0.01"),
    lot=Decimal("0.001"),
    trade_size=0.08,
    touch_size=24.0,
    level_size=2.0,
    level_gap=2.0,
    first_trade_id=4_000_000_000,
    trades_dialect="tardis",
    book_dialect="tardis",
)
BTC_SPOT = SyntheticInstrument(
    key="BINANCE:SPOT_PAIR:BTC-USDT",
    price=61_820.0,
    tick=Decimal("0.01"),
    lot=Decimal("0.00001"),
    trade_size=0.003,
    touch_size=1.5,
    level_size=0.02,
    level_gap=12.0,
    first_trade_id=3_000_000_000,
    book_dialect="volume",
)


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades in order; times in microseconds since midnight."""

    event_us: Ints
    init_us: Ints
    buys: Bools
    price_ticks: Ints
    size_lots: Ints


@dataclass(frozen=True, slots=True)
class BookSide:
    """A level of one side of the book, at every snapshot."""

    price_ticks: Ints
    size_lots: Ints


@dataclass(frozen=True, slots=True)
class _Orders:
    """Aggressive orders in order; times in milliseconds since midnight."""

    ms: Ints
    buys: Bools
    fills: Ints


@dataclass(frozen=True, slots=True)
class _Touch:
    """The best prices at each snapshot, in ticks, and where the price goes next (-1, 0 or 1)."""

    bid: Ints
    ask: Ints
    next_move: Ints


class SimulatedDay:
    """One instrument on one UTC day.

    Args:
        instrument: What to simulate.
        day: The UTC day.
        trades: Number of trades.
        snapshots: Number of book snapshots.
        seed: Another seed gives another day.

    Raises:
        ValueError: A count is not positive, or the seed is negative.
    """

    def __init__(
        self, instrument: SyntheticInstrument, day: dt.date, *, trades: int, snapshots: int, seed: int
    ) -> None:
        require_positive(trades=trades, snapshots=snapshots)
        self.instrument = instrument
        self.day = day
        self._seed = seed
        activity = _activity(self._random("activity"))
        self._orders = _arrivals(self._random("orders"), activity, trades)
        self._snapshot_ms = _snapshot_times(self._random("snapshots"), activity, snapshots)
        # The latest snapshot that an order can have seen.
        self._seen = np.searchsorted(self._snapshot_ms, self._orders.ms, side="right") - 1
        self._touch = self._walk()

    def _random(self, purpose: str, day: dt.date | None = None) -> np.random.Generator:
        # Each purpose has a stream of its own, so that asking for more of one thing changes no other.
        stream = zlib.crc32(f"{self.instrument.key} {purpose}".encode())
        return np.random.default_rng([self._seed, stream, (day or self.day).toordinal()])

    def _opening_ticks(self, day: dt.date) -> float:
        opening = self.instrument.price * self._random("opening", day).lognormal(0.0, _DAILY_MOVE / 2)
        return opening / float(self.instrument.tick)

    def _walk(self) -> _Touch:
        """Walk from this day's first price to the next day's, pushed by the order flow."""
        random, orders, count = self._random("prices"), self._orders, self._snapshot_ms.size
        flow = np.bincount(
            self._seen, weights=np.where(orders.buys, orders.fills, -orders.fills), minlength=count
        )
        # Impact grows with the square root of the volume.
        impact = np.sign(flow) * np.sqrt(np.abs(flow))
        impact /= math.sqrt(float(np.mean(impact * impact))) or 1.0
        noise = random.laplace(0.0, math.sqrt(0.5), count)
        moving = random.random(count) < _MOVING_SHARE
        day_move = _DAILY_MOVE * self.instrument.price / float(self.instrument.tick)
        scale = day_move / math.sqrt(_MOVING_SHARE * count)
        steps = np.where(moving, (_FLOW_PART * impact + _NOISE_PART * noise) * scale, 0.0)

        opening, closing = self._opening_ticks(self.day), self._opening_ticks(self.day + dt.timedelta(days=1))
        # What is missing to the next day's first price is made up in equal parts wherever the price moves.
        moved = np.concatenate(([0], np.cumsum(moving[:-1])))
        walk = np.concatenate(([0.0], np.cumsum(steps[:-1])))
        walk += (closing - opening - walk[-1]) * (moved / max(moved[-1], 1))
        bid = np.floor(opening + walk).astype(np.int64)
        wide = random.random(count) < 0.015
        spread = np.where(wide, 1 + random.geometric(0.25, count), 1)
        return _Touch(bid=bid, ask=bid + spread, next_move=np.sign(steps).astype(np.int64))

    @property
    def midnight_us(self) -> int:
        """The start of the day in microseconds since the epoch."""
        return (self.day - _EPOCH).days * _DAY_MS * 1_000

    @property
    def first_trade_id(self) -> int:
        """The id of the first trade; ids go on over midnight if every day has as many trades."""
        return self.instrument.first_trade_id + (self.day - _EPOCH).days * int(self._orders.fills.sum())

    def trades(self) -> Trades:
        """Return the trades: the fills of an order follow each other, at the touch and by a microsecond."""
        random, orders, touch = self._random("trades"), self._orders, self._touch
        fills = orders.fills
        order = np.repeat(np.arange(fills.size), fills)
        nth_fill = np.arange(order.size) - (np.cumsum(fills) - fills)[order]
        price_ticks = np.where(orders.buys, touch.ask[self._seen], touch.bid[self._seen])
        return Trades(
            event_us=orders.ms[order] * 1_000,
            init_us=_arrival_us(random, orders.ms)[order] + nth_fill,
            buys=orders.buys[order],
            price_ticks=price_ticks[order],
            size_lots=self._lots(random, self.instrument.trade_size, 1.6, order.size),
        )

    def snapshot_times(self) -> tuple[Ints, Ints]:
        """Return exchange times and arrival times of the snapshots, in microseconds since midnight."""
        return self._snapshot_ms * 1_000, _arrival_us(self._random("snapshot arrivals"), self._snapshot_ms)

    def levels(self, number: int) -> Iterator[tuple[BookSide, BookSide]]:
        """Yield asks and bids of each level, best first."""
        random, bid, ask = self._random("levels"), self._touch.bid, self._touch.ask
        # The heavier side of the touch holds: four times in five the price moves towards the lighter one.
        move = self._touch.next_move
        bid_heavy = np.where(
            move == 0, random.random(bid.size) < 0.5, (move > 0) ^ (random.random(bid.size) < 0.2)
        )
        light, heavy = (
            self._lots(random, self.instrument.touch_size * factor, 0.6, bid.size) for factor in (0.6, 1.6)
        )
        yield (
            BookSide(ask, np.where(bid_heavy, light, heavy)),
            BookSide(bid, np.where(bid_heavy, heavy, light)),
        )

        # Prices at which orders rest all day, enough of them below the lowest and above the highest touch.
        low, high = int(bid.min()), int(ask.max())
        prices = np.cumsum(random.geometric(1 / self.instrument.level_gap, high - low + 2 * number + 1))
        prices += low - prices[number]
        below = np.searchsorted(prices, bid, side="left")
        above = np.searchsorted(prices, ask, side="right") - 1

        # A resting size is looked up by its price and a slow clock, which ticks at other times for each
        # price, so it mostly stays as it is from one snapshot to the next.
        lots = self._lots(random, self.instrument.level_size, 1.5, 1 << 16)
        clock = np.arange(bid.size)

        def resting_at(ticks: Ints) -> BookSide:
            return BookSide(ticks, lots[(ticks * 40_503 + ((clock + ticks) >> 4) * 30_011) & 0xFFFF])

        for level in range(1, number):
            yield resting_at(prices[above + level]), resting_at(prices[below - level])

    def _lots(self, random: np.random.Generator, median: float, spread: float, count: int) -> Ints:
        """Return log-normal sizes in lots, at least one lot each."""
        lots = random.lognormal(math.log(median / float(self.instrument.lot)), spread, count)
        return np.maximum(np.rint(lots), 1).astype(np.int64)


def _activity(random: np.random.Generator) -> Floats:
    """Return the share of a day's activity that falls into each of its seconds."""
    # By the hour: quiet while Asia sleeps in, busy around the openings of Europe and New York.
    hours = np.interp(
        np.arange(_DAY_SECONDS) / 3_600,
        [0, 0.5, 1, 5, 8, 10, 13, 14, 16, 20, 23, 24],
        [1.3, 1.0, 0.8, 0.6, 1.0, 0.8, 1.1, 2.0, 1.5, 0.8, 0.7, 1.3],
    )
    weights = hours
    for regime_seconds, spread in ((900, 0.4), (60, 0.4), (5, 0.6)):
        regimes = random.lognormal(0.0, spread, _DAY_SECONDS // regime_seconds)
        weights = weights * np.repeat(regimes, regime_seconds)
    return weights / weights.sum()


def _arrivals(random: np.random.Generator, activity: Floats, trades: int) -> _Orders:
    """Return orders that have `trades` fills in all: clusters of orders, orders of fills."""
    long = random.random(trades) < 0.05
    fills = _cut(random.geometric(np.where(long, 0.06, 0.4)), trades)
    sizes = _cut(random.geometric(0.3, fills.size), fills.size)

    seconds = np.repeat(np.arange(_DAY_SECONDS), random.multinomial(sizes.size, activity))
    births = seconds * 1_000 + random.integers(0, 1_000, sizes.size)
    # A product of exponentials has the long tail of real order flow: most answer at once, some much later.
    delays = random.exponential(random.exponential(random.exponential(200.0, fills.size))).astype(np.int64)
    delays[np.cumsum(sizes) - sizes] = 0
    parents = np.repeat(births, sizes)
    times = parents + delays
    times = np.where(times < _DAY_MS, times, parents)

    turns = random.random(sizes.size) < 0.4
    sides = np.repeat(np.cumsum(turns) % 2 == 0, sizes) ^ (random.random(fills.size) < 0.2)

    order = np.argsort(times, kind="stable")
    times = times[order]
    # Something always happens in a day's last millisecond, and is seen only after midnight.
    times[-3:] = _DAY_MS - 1
    return _Orders(ms=times, buys=sides[order], fills=fills)


def _cut(counts: Ints, total: int) -> Ints:
    """Return the leading counts that add up to `total`, the last one shortened to fit."""
    ends = np.cumsum(counts)
    number = int(np.searchsorted(ends, total)) + 1
    head = counts[:number].copy()
    head[-1] -= ends[number - 1] - total
    return head


def _snapshot_times(random: np.random.Generator, activity: Floats, snapshots: int) -> Ints:
    """Return times from midnight to the last millisecond, at a pace that quickens with the activity."""
    pace = np.concatenate(([0.0], np.cumsum(0.5 / _DAY_SECONDS + 0.5 * activity)))
    marks = (np.arange(snapshots) + random.random(snapshots)) * (pace[-1] / snapshots)
    times: Ints = np.interp(marks, pace, np.arange(_DAY_SECONDS + 1) * 1_000.0).astype(np.int64)
    times[-1] = _DAY_MS - 1
    times[0] = 0
    return times


def _arrival_us(random: np.random.Generator, ms: Ints) -> Ints:
    """Return when the recorder saw what happened at `ms`, in microseconds since midnight.

    The latency is 2 ms or more: a level that changes by the minute, jitter, and now and then a hiccup.
    """
    level = random.integers(2_000, 5_000, _DAY_SECONDS // 60)[ms // 60_000]
    jitter = random.exponential(400.0, ms.size)
    hiccup = np.where(random.random(ms.size) < 0.001, random.integers(0, 80_000, ms.size), 0)
    return ms * 1_000 + level + jitter.astype(np.int64) + hiccup


def require_positive(**counts: int) -> None:
    """Raise `ValueError` for a count below one, by its name."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; it must be 1 or more")
