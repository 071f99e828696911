"""What is measured on: synthetic days as a lake, larger ones, and as CSV files for the engine's loaders."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ticklake.fetching import FetchRequest
from ticklake.synth import BTC_PERPETUAL, ETH_PERPETUAL, SyntheticLake, write_synthetic_lake
from ticklake.types import NANOS_PER_DAY, BookAs, DataType, InstrumentKey, Window

__all__ = [
    "DAY",
    "DAY_SPAN",
    "GROUP_ROWS",
    "KEY",
    "MIDNIGHT",
    "NAUTILUS_ID",
    "lake_urls",
    "make_lake",
    "request",
    "source",
    "write_book_csv",
    "write_grown",
    "write_trades_csv",
]

DAY = dt.date(2024, 8, 8)
MIDNIGHT = Window.of_day(DAY).start
KEY = BTC_PERPETUAL.key
NAUTILUS_ID = "BTCUSDT-PERP.BINANCE"
DAY_SPAN = (MIDNIGHT, MIDNIGHT + NANOS_PER_DAY)
GROUP_ROWS = 100_000
"""Rows of a row group of the lakes in the field."""


def make_lake(
    folder: Path,
    *,
    trades: int = 1_000,
    snapshots: int = 1_000,
    days: int = 1,
    instruments: int = 1,
    group_rows: int = GROUP_ROWS,
) -> SyntheticLake:
    """Write a lake: snappy, statistics, row groups of 100,000."""
    return write_synthetic_lake(
        folder,
        start=DAY,
        days=days,
        instruments=(BTC_PERPETUAL, ETH_PERPETUAL)[:instruments],
        trades_per_day=trades,
        snapshots_per_day=snapshots,
        row_group_size=group_rows,
    )


def lake_urls(base: str | Path) -> tuple[str, str]:
    """Return the URLs of a lake's two buckets below a folder or URL."""
    return f"{base}/market-data-tick-cefi", f"{base}/instruments-store-cefi"


def request(
    data_type: str = "trades", span: tuple[int, int] = DAY_SPAN, *, key: str = KEY, book_as: str = "deltas"
) -> FetchRequest:
    """Return the request of a half-open span of `ts_init`."""
    return FetchRequest(InstrumentKey(key), DataType(data_type), Window(*span), BookAs(book_as))


def source(folder: Path, data_type: str = "trades") -> Path:
    """Return the first day's file of the first instrument of a lake."""
    found = folder.rglob(f"day-{DAY}/data_type-{data_type}/{KEY}.parquet")
    return next(iter(found))


def write_grown(small: Path, large: Path, times: int) -> None:
    """Write the trades of a lake's day, as many times as many at as many times the rate.

    Args:
        small: The lake.
        large: Another, whose file of the day is replaced.
        times: How often its rows are repeated, each time in the next part of the day.
    """
    table = pq.read_table(source(small), partitioning=None)
    with pq.ParquetWriter(source(large), table.schema, compression="snappy") as writer:
        for part in range(times):
            shifted = table
            for name in ("ts_event", "ts_init"):
                since = pc.add(pc.subtract(table[name], MIDNIGHT), part * NANOS_PER_DAY)
                column = pc.add(pc.divide(since, times), MIDNIGHT)
                shifted = shifted.set_column(shifted.schema.get_field_index(name), name, column)
            writer.write_table(shifted, row_group_size=GROUP_ROWS)


def write_trades_csv(folder: Path, target: Path) -> None:
    """Write the trades of a lake as Tardis does."""
    rows = pq.read_table(source(folder), partitioning=None)
    sides = pa.array(["unknown", "buy", "sell"]).take(pc.cast(rows["aggressor_side"], pa.int64()))
    columns = {"id": rows["trade_id"], "side": sides, "price": rows["price"], "amount": rows["size"]}
    _write_csv(rows, columns, target)


def write_book_csv(folder: Path, target: Path) -> None:
    """Write the book snapshots of a lake as Tardis does."""
    rows = pq.read_table(source(folder, "book_snapshot_5"), partitioning=None)
    names = {"asks[{}].price": "ask_price_{}", "asks[{}].amount": "ask_size_{}"}
    names |= {theirs.replace("ask", "bid"): ours.replace("ask", "bid") for theirs, ours in names.items()}
    columns = {
        theirs.format(level): rows[ours.format(level)] for level in range(5) for theirs, ours in names.items()
    }
    _write_csv(rows, columns, target)


def _write_csv(rows: pa.Table, columns: dict[str, Any], target: Path) -> None:
    first = {
        "exchange": pa.repeat("binance-futures", len(rows)),
        "symbol": pa.repeat("BTCUSDT", len(rows)),
        "timestamp": pc.divide(rows["ts_event"], 1_000),
        "local_timestamp": pc.divide(rows["ts_init"], 1_000),
    }
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    pyarrow.csv.write_csv(pa.table(first | columns), target, options)
