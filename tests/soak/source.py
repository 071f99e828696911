"""A lake whose rows tell which version of which object they are of, and what a catalog may hold of it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from fetch_support import BTC_PERP, DAY, DEFINITION, ETH_PERP, HOUR, PERP_ID, SECOND, START
from ticklake.types import CatalogType, Window

__all__ = [
    "DAYS",
    "DEFINITIONS",
    "IDS",
    "OBJECTS",
    "PLACES",
    "SOURCES",
    "Marks",
    "SourceObject",
    "marks_of",
    "problems_of",
]

DAYS = 3
IDS = {BTC_PERP: PERP_ID, ETH_PERP: "ETHUSDT-PERP.BINANCE"}
DEFINITIONS = {
    key: {**DEFINITION, "base": base, "raw_symbol": f"{base}USDT"}
    for key, base in ((BTC_PERP, "BTC"), (ETH_PERP, "ETH"))
}
SOURCES = {
    CatalogType.TRADES: ("trades", "deltas"),
    CatalogType.DELTAS: ("book_snapshot_5", "deltas"),
    CatalogType.DEPTHS: ("book_snapshot_5", "depth"),
}
PLACES = [(kind, key) for kind in CatalogType for key in IDS]
_ROWS = {"trades": 1_600, "book_snapshot_5": 600}
_DAY_CODE = 1_000_000
_SLACK = 10 * SECOND

type Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Marks:
    """What identifies rows: time, object and version in one number, and position in the object."""

    times: Ints
    codes: Ints
    numbers: Ints


@dataclass(frozen=True, order=True)
class SourceObject:
    """A file of the lake: one instrument, data type and day (counted from `START`)."""

    key: str
    data_type: str
    day: int

    @property
    def path(self) -> str:
        date = Window(START + self.day * DAY, START + self.day * DAY + 1).days[0]
        return f"raw_tick_data/by_date/day-{date}/data_type-{self.data_type}/{self.key}.parquet"

    def content(self, version: int) -> bytes:
        """Return the bytes of a version, always the same."""
        times, _ = self._rows(version)
        rows = len(times)
        code = (self.day * _DAY_CODE + version) / 1_000
        numbers = np.arange(rows)
        prices = 60_000 + numbers / 10
        columns: dict[str, pa.Array] = {"ts_event": pa.array(times), "ts_init": pa.array(times)}
        if self.data_type == "trades":
            columns["price"] = pa.array(np.where(self._bad(numbers), -1.0, prices))
            # Between the columns that are needed, so that no request brings a whole file.
            columns["noise"] = pa.array(_noise(self, version, rows), pa.binary())
            columns["size"] = pa.array(np.full(rows, code))
            columns["aggressor_side"] = pa.array(np.full(rows, 1, np.int8))
            columns["trade_id"] = pa.array([f"{self.day}-{version}-{number}" for number in range(rows)])
        else:
            columns["noise"] = pa.array(_noise(self, version, rows), pa.binary())
            for level in range(5):
                for side, sign in (("bid", -1), ("ask", 1)):
                    away = level if side == "bid" else level + 1
                    columns[f"{side}_price_{level}"] = pa.array(prices + sign * away)
                    columns[f"{side}_size_{level}"] = pa.array(np.full(rows, code))
        return _parquet(pa.table(columns), times.searchsorted(self._edges(version)))

    @lru_cache(maxsize=4_096)  # noqa: B019 (there are a dozen objects, for the life of the process)
    def etag(self, version: int) -> str:
        """Return what a server says that a version is."""
        return f'"{hashlib.sha256(self.content(version)).hexdigest()[:16]}"'

    @lru_cache(maxsize=4_096)  # noqa: B019 (as above)
    def _rows(self, version: int) -> tuple[Ints, Ints]:
        """Return the times of all rows, and the numbers of those that can be converted."""
        rows = _ROWS[self.data_type] + version * 37 % 100
        chance = np.random.default_rng([version, self.day, *self.key.encode()])
        start = START + self.day * DAY
        random = chance.integers(start + SECOND, start + DAY - SECOND, rows)
        edges = self._edges(version)
        inside = np.sort(
            np.concatenate([random, edges - 1, edges, start + np.array([5 * SECOND, DAY - 5 * SECOND])])
        )
        # Filed under this day, but received before or after it.
        before = start - np.array([9, 5, 1]) * SECOND - version
        after = start + DAY + np.array([1, 5, 9]) * SECOND + version
        times = np.concatenate([before, inside, after])
        numbers = np.arange(len(times))
        return times, numbers[~self._bad(numbers)]

    def _edges(self, version: int) -> Ints:
        """Return the full hours at which a row group begins; what is kept around a window ends there."""
        hours = (3, 4, 6, 8)[version % 4]
        return START + self.day * DAY + np.arange(hours, 24, hours) * HOUR

    def _bad(self, numbers: Ints) -> npt.NDArray[np.bool_]:
        return (numbers % 700 == 13) & (self.data_type == "trades")

    def expected(self, version: int, first: int, end: int) -> tuple[Ints, Ints]:
        """Return times and numbers of the rows that the catalog must have of a part of time."""
        times, numbers = self._rows(version)
        times = times[numbers]
        inside = (times >= first) & (times < end)
        return times[inside], numbers[inside]


OBJECTS = [SourceObject(key, kind, day) for key in IDS for kind in _ROWS for day in range(DAYS)]


def _parquet(table: pa.Table, edges: Ints) -> bytes:
    """Return a file whose row groups begin at some rows."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, use_dictionary=False, write_page_checksum=True) as writer:
        for first, end in pairwise([0, *map(int, edges), table.num_rows]):
            writer.write_table(table.slice(first, end - first))
    return sink.getvalue()


def _noise(item: SourceObject, version: int, rows: int) -> list[bytes]:
    chance = np.random.default_rng([version, item.day, 1])
    data = chance.bytes(rows * 256)
    return [data[start : start + 256] for start in range(0, len(data), 256)]


def marks_of(kind: CatalogType, table: pl.DataFrame) -> Marks:
    """Return the marks of the rows of a catalog file, one for each source row.

    Raises:
        ValueError: A snapshot has not all of its rows.
    """
    if kind is CatalogType.DEPTHS:
        best = pl.col("bids").list.first()
        table = table.with_columns(
            price=best.struct.field("price"), size=best.struct.field("size"), levels=pl.col("bids").list.len()
        )
        if (table["levels"] != 5).any():
            raise ValueError("a depth has not five levels")
    elif kind is CatalogType.DELTAS:
        bids = table.filter((pl.col("action") == "ADD") & (pl.col("side") == "BUY"))
        if table.height != bids.height // 5 * 11:
            raise ValueError(f"{table.height} deltas are no whole snapshots, with {bids.height} bids")
        table = bids.gather_every(5)
    times = table["ts_init"].to_physical().to_numpy()
    codes = (table["size"].cast(pl.Float64) * 1_000).round().cast(pl.Int64).to_numpy()
    numbers = ((table["price"].cast(pl.Float64) - 60_000) * 10).round().cast(pl.Int64).to_numpy()
    return Marks(times, codes, numbers)


def problems_of(
    kind: CatalogType, key: str, window: Window, marks: Marks
) -> tuple[list[str], set[tuple[int, int]]]:
    """Hold rows against the lake: of each object, all rows of exactly one version in each hour.

    Windows begin and end at full hours, as row groups do, or the slack away from midnight, so that what lies
    between two of these is of one fetch.

    Returns:
        What is wrong, and the days and versions that there are.
    """
    problems: list[str] = []
    seen: set[tuple[int, int]] = set()
    midnights = range(START, START + (DAYS + 1) * DAY, DAY)
    edges = {
        *range(START, START + DAYS * DAY, HOUR),
        *(m + side for m in midnights for side in (-_SLACK, _SLACK)),
    }
    inner = sorted(edge for edge in edges if window.start < edge < window.end)
    for first, end in pairwise([window.start, *inner, window.end]):
        low, high = marks.times.searchsorted([first, end])
        codes, numbers, times = (values[low:high] for values in (marks.codes, marks.numbers, marks.times))
        versions = {tuple(map(int, divmod(code, _DAY_CODE))) for code in np.unique(codes)}
        seen |= versions
        near = [
            day
            for day in range(DAYS)
            if START + day * DAY - _SLACK < end and START + (day + 1) * DAY + _SLACK > first
        ]
        for day in near:
            found = [version for other, version in versions if other == day]
            if len(found) != 1:
                problems.append(f"{key} {kind} {Window(first, end)}: day {day} has versions {found}")
                continue
            wanted = SourceObject(key, SOURCES[kind][0], day).expected(found[0], first, end)
            own = codes == day * _DAY_CODE + found[0]
            if not (np.array_equal(times[own], wanted[0]) and np.array_equal(numbers[own], wanted[1])):
                problems.append(
                    f"{key} {kind} {Window(first, end)}: of version {found[0]} of day {day} there are "
                    f"{own.sum()} rows, not its {len(wanted[0])}"
                )
        if unknown := [day for day, _ in versions if day not in near]:
            problems.append(f"{key} {kind} {Window(first, end)}: rows of the days {unknown}")
    if np.any(np.diff(marks.times) < 0):
        problems.append(f"{key} {kind} {window}: rows are not in order")
    return problems, seen


def read_marks(kind: CatalogType, stream: object) -> Marks:
    """Return the marks of an open catalog file.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return marks_of(kind, pl.read_parquet(stream))
    except PolarsError as exc:
        raise ValueError(f"it cannot be read: {exc}") from exc
