"""A trivial model of a lake and of the catalog that is fetched from it, and what the catalog holds in truth.

All windows that are asked for begin and end at points of a grid; what is kept around them may end anywhere.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from nautilus_trader.persistence import ParquetDataCatalog

from crash_support import at_step, die
from fetch_support import BTC_PERP, DAY, DEFINITION, ETH_PERP, HOUR, PERP_ID, SECOND, START
from ticklake.catalog import Catalog
from ticklake.catalog.compaction import compact
from ticklake.catalog.maintenance import prune
from ticklake.fetching import FetchReport, FetchRequest, fetch
from ticklake.lake import Lake
from ticklake.types import CatalogType, Window

DAYS = 3
# Rows may be filed under a day that they lie ten seconds outside of: the cells at midnight have such rows.
GRID = sorted(
    {START + day * DAY + offset for day in range(DAYS) for offset in (0, 5 * SECOND, 8 * HOUR, 16 * HOUR)}
    | {START + day * DAY - 5 * SECOND for day in range(1, DAYS + 1)}
    | {START + DAYS * DAY}
)
MIDNIGHTS = [START + day * DAY for day in range(DAYS + 1)]
ALL = (GRID[0], GRID[-1])
SLACK = 10 * SECOND
GROUP = 5
IDS = {BTC_PERP: PERP_ID, ETH_PERP: "ETHUSDT-PERP.BINANCE"}
SOURCES = {
    CatalogType.TRADES: ("trades", "deltas"),
    CatalogType.DELTAS: ("book_snapshot_1", "deltas"),
    CatalogType.DEPTHS: ("book_snapshot_1", "depth"),
}

type Span = tuple[int, int]
"""A window in nanoseconds; the second is exclusive."""

type Place = tuple[CatalogType, str]
"""Type and lake key."""

PLACES: list[Place] = [(kind, key) for kind in SOURCES for key in IDS]


@dataclass(frozen=True, order=True)
class Row:
    """A source row: its version and position tell all of its values."""

    ts: int
    version: int
    number: int
    bad: bool = False


type Rows = tuple[Row, ...]
type State = dict[Place, dict[Span, Rows]]
"""The files of a catalog, by the windows that they answer for."""


def window_of(span: Span) -> Window:
    return Window(*span)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the union of spans, in order."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def days_of(span: Span) -> list[int]:
    return [day for day in range(DAYS) if span[0] < MIDNIGHTS[day + 1] and span[1] > MIDNIGHTS[day]]


@dataclass(frozen=True)
class Ask:
    """One request of a fetch."""

    place: Place
    span: Span

    def request(self) -> FetchRequest:
        kind, key = self.place
        data_type, book_as = SOURCES[kind]
        symbol = "BTC" if key == BTC_PERP else "ETH"
        definition = {**DEFINITION, "base": symbol, "raw_symbol": f"{symbol}USDT"}
        return FetchRequest(key, data_type, window_of(self.span), book_as, definition=definition)


# The lake


@dataclass
class Source:
    """A lake in a folder, and what its files hold; a day is absent where there is no file."""

    folder: Path
    days: dict[tuple[str, str, int], Rows] = field(default_factory=dict)
    groups: dict[tuple[str, str, int], list[Span] | None] = field(default_factory=dict)
    versions: int = 0

    def put(self, key: str, data_type: str, day: int, seed: int) -> None:
        """Write a file of a day, or another version of it, with up to 25 rows."""
        chance = random.Random(seed)
        self.versions += 1
        first, last = START + day * DAY, START + (day + 1) * DAY
        corners = [(first - 9 * SECOND, first + 9 * SECOND), (last - 9 * SECOND, last + 9 * SECOND)]
        spans = [*corners, (first, last), (first, last)]
        times = [chance.randrange(*chance.choice(spans)) for _ in range(chance.choice([0, 1, 8, 25]))]
        times += times[:3]  # rows of one time keep their order
        if chance.random() < 0.5:
            times.sort()
        bad = {number for number in range(len(times)) if data_type == "trades" and chance.random() < 0.1}
        rows = tuple(Row(ts, self.versions, number, number in bad) for number, ts in enumerate(times))
        path = self._path(key, data_type, day)
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new file in one step: whoever reads the old one meanwhile has all of it.
        fresh = path.with_suffix(".new")
        statistics = chance.random() < 0.8
        pq.write_table(
            _table(data_type, rows), fresh, row_group_size=GROUP, write_statistics=statistics or not rows
        )
        fresh.replace(path)
        self.days[key, data_type, day] = rows
        parts = [times[first : first + GROUP] for first in range(0, len(times), GROUP)]
        self.groups[key, data_type, day] = (
            [(min(part), max(part)) for part in parts] if statistics or not rows else None
        )

    def remove(self, key: str, data_type: str, day: int) -> None:
        """Delete the file of a day."""
        if self.days.pop((key, data_type, day), None) is not None:
            self._path(key, data_type, day).unlink()

    def _path(self, key: str, data_type: str, day: int) -> Path:
        date = Window(START + day * DAY, START + day * DAY + 1).days[0]
        return self.folder / f"raw_tick_data/by_date/day-{date}/data_type-{data_type}/{key}.parquet"

    def absent(self, place: Place, span: Span) -> list[int]:
        """Return the days of a window that the lake does not have."""
        return [day for day in days_of(span) if (place[1], SOURCES[place[0]][0], day) not in self.days]

    def rows(self, place: Place, span: Span) -> Rows:
        """Return all rows of a window, in order; those of one time as the files have them."""
        found = [
            row
            for day in range(DAYS)
            for row in self.days.get((place[1], SOURCES[place[0]][0], day), ())
            if span[0] <= row.ts < span[1]
        ]
        return tuple(sorted(found, key=lambda row: row.ts))

    def kept(self, place: Place, span: Span) -> Span:
        """Return what can be kept with a window of one day: what row groups that meet it have for certain."""
        own = days_of(span)[0]
        start, end = MIDNIGHTS[own], MIDNIGHTS[own + 1]
        first, last = start + SLACK if span[0] >= start + SLACK else start, end
        last = end - SLACK if span[1] <= end - SLACK else end
        looked_at = [own - 1] * (first == start) + [own] + [own + 1] * (last == end)
        for day in looked_at:
            name = place[1], SOURCES[place[0]][0], day
            if name not in self.days:
                continue
            groups = self.groups[name]
            if groups is None:
                return span
            before = [high for _, high in groups if high < span[0]]
            after = [low for low, _ in groups if low >= span[1]]
            met = [(low, high) for low, high in groups if low < span[1] and high >= span[0]]
            if day == own:
                if not met:
                    return span
                before = before or [min(low for low, _ in met) - 1]
                after = after or [max(high for _, high in met) + 1]
            first, last = max([first, *(high + 1 for high in before)]), min([last, *after])
        return min(first, span[0]), max(last, span[1])


def _price(row: Row) -> Decimal:
    return 60_000 + Decimal(row.number) / 10


def _table(data_type: str, rows: Rows) -> pa.Table:
    prices = [float(_price(row)) for row in rows]
    times = pa.array([row.ts for row in rows], pa.int64())
    columns: dict[str, Any] = {"ts_event": times, "ts_init": times}
    if data_type == "trades":
        columns |= {
            "price": pa.array([-1.0 if row.bad else float(_price(row)) for row in rows], pa.float64()),
            "size": pa.array([row.version / 1_000 for row in rows], pa.float64()),
            "aggressor_side": pa.array([1 + row.number % 2 for row in rows], pa.int8()),
            "trade_id": pa.array([f"{row.version}-{row.number}" for row in rows], pa.string()),
        }
    else:
        columns |= {
            "bid_price_0": pa.array(prices, pa.float64()),
            "bid_size_0": pa.array([row.version / 1_000 for row in rows], pa.float64()),
            "ask_price_0": pa.array([price + 1 for price in prices], pa.float64()),
            "ask_size_0": pa.array([row.version / 1_000 for row in rows], pa.float64()),
        }
    return pa.table(columns)


# The model


@dataclass(frozen=True)
class Change:
    """What becomes visible at once: files that go, and the one that comes in their place."""

    place: Place
    gone: tuple[Span, ...]
    come: Span | None = None
    rows: Rows = ()


@dataclass
class Model:
    """The catalog that there should be. Operations return what they would change, one step after another."""

    source: Source
    files: State = field(default_factory=dict)

    def after(self, changes: Iterable[Change]) -> State:
        """Return the files that are there after changes."""
        files = {place: dict(there) for place, there in self.files.items()}
        for change in changes:
            there = files.setdefault(change.place, {})
            for span in change.gone:
                del there[span]
            if change.come is not None:
                there[change.come] = change.rows
        return {place: there for place, there in files.items() if there}

    def missing(self, place: Place, span: Span) -> list[Span]:
        """Return what no file answers for, cut at midnights."""
        there = self.files.get(place, {})
        points = sorted({*span, *MIDNIGHTS, *(point for file in there for point in file)})
        parts: list[Span] = []
        for a, b in pairwise(point for point in points if span[0] <= point <= span[1]):
            if any(first <= a and b <= end for first, end in there):
                continue
            if parts and parts[-1][1] == a and a not in MIDNIGHTS:
                parts[-1] = parts[-1][0], b
            else:
                parts.append((a, b))
        return parts

    def wanted(self, place: Place, span: Span, *, refresh: bool) -> list[Span]:
        """Return the windows that a fetch has to write."""
        met = [(a, b) for a, b in self.files.get(place, ()) if a < span[1] and b > span[0]]
        return sorted([*self.missing(place, span), *(met if refresh else [])])

    def _widened(self, place: Place, span: Span) -> Span:
        """Return what a missing part is kept with, as far as it is missing too."""
        (gap,) = (gap for gap in self.missing(place, ALL) if gap[0] <= span[0] and span[1] <= gap[1])
        wide = self.source.kept(place, span)
        return max(wide[0], gap[0]), min(wide[1], gap[1])

    def fetch(self, asks: Iterable[Ask], *, refresh: bool = False, keep: str = "row_groups") -> list[Change]:
        """Return what a fetch changes that leaves out holes."""
        now, changes = Model(self.source, self.files), []
        for ask in asks:
            for span in now.wanted(ask.place, ask.span, refresh=refresh):
                if not self.source.absent(ask.place, span):
                    gone = (span,) if span in now.files.get(ask.place, ()) else ()
                    wide = now._widened(ask.place, span) if keep == "row_groups" and not gone else span
                    changes.append(Change(ask.place, gone, wide, self.source.rows(ask.place, wide)))
                    now.files = now.after(changes[-1:])
        return changes

    def has_holes(self, asks: Iterable[Ask], *, refresh: bool) -> bool:
        """Whether the lake lacks a day of what a fetch has to write of its requests."""
        return any(
            MIDNIGHTS[day] < min(b, ask.span[1]) and MIDNIGHTS[day + 1] > max(a, ask.span[0])
            for ask in asks
            for a, b in self.wanted(ask.place, ask.span, refresh=refresh)
            for day in self.source.absent(ask.place, (a, b))
        )

    def prune(self, span: Span, kind: CatalogType | None) -> list[Change]:
        """Return what is removed: the files that lie wholly in a window."""
        return [
            Change(place, (file,))
            for place in sorted(self.files, key=lambda place: (place[0], IDS[place[1]]))
            for file in sorted(self.files[place])
            if kind in (None, place[0]) and span[0] <= file[0] and file[1] <= span[1]
        ]

    def joined(self, spans: dict[Place, list[Span]]) -> State:
        """Return the same content in other files, each of which has all of some that touch within a day.

        Raises:
            ValueError: They do not.
        """
        found: State = {}
        for place in {*spans, *self.files}:
            there = self.files.get(place, {})
            for a, b in spans.get(place, ()):
                parts = [part for part in sorted(there) if a <= part[0] and part[1] <= b]
                ends = [a, *(part[1] for part in parts)]
                if [part[0] for part in parts] != ends[:-1] or ends[-1] != b:
                    raise ValueError(f"{place} {(a, b)} is made of {parts}")
                if len(parts) > 1 and len(days_of((a, b))) > 1:
                    raise ValueError(f"{place} {(a, b)} is of more than one day")
                rows = tuple(row for part in parts for row in there[part])
                found.setdefault(place, {})[a, b] = rows
        return found

    def part(self, place: Place, file: Span, part: Span) -> Rows:
        """Return the rows of a file that lie in a part of it."""
        return tuple(row for row in self.files[place][file] if part[0] <= row.ts < part[1])

    def content(self) -> tuple[object, ...]:
        """Return coverage and rows, whatever files they are in."""
        return tuple(
            (
                place,
                tuple(merged(there)),
                tuple(row for _, rows in sorted(there.items()) for row in rows if not row.bad),
            )
            for place, there in sorted(self.files.items())
        )


# What is there


def catalog_rows(kind: CatalogType, rows: Rows) -> list[tuple[object, ...]]:
    """Return the catalog rows that source rows have to become."""
    found: list[tuple[object, ...]] = []
    for row in rows:
        price, size = _price(row), Decimal(row.version) / 1_000
        if row.bad:
            continue
        if kind is CatalogType.TRADES:
            side = ("BUY", "SELL")[row.number % 2]
            found.append((row.ts, price, size, side, f"{row.version}-{row.number}"))
        elif kind is CatalogType.DEPTHS:
            found.append((row.ts, [(price, size)], [(price + 1, size)]))
        else:
            found += [
                (row.ts, "CLEAR", "NO_ORDER_SIDE", 0, 0),
                (row.ts, "ADD", "BUY", price, size),
                (row.ts, "ADD", "SELL", price + 1, size),
            ]
    return found


_COLUMNS = {
    CatalogType.TRADES: ["ts_init", "price", "size", "aggressor_side", "trade_id"],
    CatalogType.DELTAS: ["ts_init", "action", "side", "price", "size"],
    CatalogType.DEPTHS: ["ts_init", "bids", "asks"],
}


def read_rows(kind: CatalogType, path: Path) -> list[tuple[object, ...]]:
    """Return the rows of a catalog file as Polars reads them, in the form of `catalog_rows`."""
    import polars as pl  # here, as a process that is killed has no need of it

    table = pl.read_parquet(path).select(_COLUMNS[kind]).with_columns(pl.col("ts_init").to_physical())
    if kind is CatalogType.DEPTHS:
        return [
            (ts, *([(level["price"], level["size"]) for level in side] for side in sides))
            for ts, *sides in table.iter_rows()
        ]
    return table.rows()


def span_of_name(name: str) -> Span:
    """Return what a file's name says that it answers for."""
    first, last = (_nanos(text) for text in name.removesuffix(".parquet").split("_"))
    return first, last + 1


def _nanos(text: str) -> int:
    seconds = dt.datetime.strptime(text[:19], "%Y-%m-%dT%H-%M-%S").replace(tzinfo=dt.UTC).timestamp()
    return int(seconds) * SECOND + int(text[20:29])


type Observed = dict[Place, dict[Span, list[tuple[object, ...]]]]


def observe(catalog: Path) -> Observed:
    """Return what the files of a catalog hold. One that lies within another answers for nothing."""
    found: Observed = {}
    for kind, key in PLACES:
        paths = (catalog / "data" / kind / IDS[key]).glob("*.parquet")
        spans = {span_of_name(path.name): path for path in paths}
        outer = {
            span: path
            for span, path in spans.items()
            if not any(a <= span[0] and span[1] <= b for a, b in spans if (a, b) != span)
        }
        if outer:
            found[kind, key] = {span: read_rows(kind, path) for span, path in outer.items()}
    return found


def expected(state: State) -> Observed:
    """Return what files have to hold."""
    return {
        place: {span: catalog_rows(place[0], rows) for span, rows in there.items()}
        for place, there in state.items()
    }


def engine_rows(catalog: Path) -> dict[CatalogType, int]:
    """Return how many rows the engine reads."""
    engine = ParquetDataCatalog(str(catalog))
    return {
        CatalogType.TRADES: len(engine.query_trade_ticks()),
        CatalogType.DELTAS: len(engine.query_order_book_deltas()),
        CatalogType.DEPTHS: len(engine.query_order_book_depths()),
    }


# The operations, to be run here or in a process that dies


def run_fetch(lake: Path, catalog: Path, asks: Sequence[Ask], **options: Any) -> FetchReport:
    return fetch(Lake(lake), Catalog(catalog), [ask.request() for ask in asks], **options)


def run_prune(lake: Path, catalog: Path, span: Span, kind: CatalogType | None) -> None:
    prune(Catalog(catalog), window_of(span), kind)


def run_compact(lake: Path, catalog: Path) -> None:
    compact(Catalog(catalog))


def die_at(number: int, operation: Callable[..., object], *arguments: object, **options: object) -> None:
    """Run an operation that is killed before its n-th change of the disk."""
    with at_step(number, die):
        operation(*arguments, **options)
