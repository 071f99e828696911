"""Buckets with the real ticks, and what a catalog holds as the engine reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lake_support import MotoServer
from ticklake.config import StorageConfig
from ticklake.fetching import FetchRequest
from ticklake.lake import Lake
from ticklake.types import BookAs, DataType, InstrumentKey, Window

TICKS = "market-data-tick-cefi"
INSTRUMENTS = "instruments-store-cefi"
BTC_PERP = "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN"
ETH_PERP = "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN"
BTC_SPOT = "BINANCE:SPOT_PAIR:BTC-USDT"
MIDNIGHT = "2024-08-09T00:00:00Z"


def local_lake(folder: Path) -> Lake:
    """Return a lake of two folders."""
    return Lake(folder / TICKS, folder / INSTRUMENTS)


def request(
    key: str,
    data_type: str,
    start: str = "2024-08-08T23:50:00Z",
    end: str = MIDNIGHT,
    book_as: str = "deltas",
) -> FetchRequest:
    return FetchRequest(
        InstrumentKey(key), DataType(data_type), Window.parse(start, end), book_as=BookAs(book_as)
    )


@contextmanager
def cloud_of(folder: Path) -> Iterator[MotoServer]:
    """Serve the two folders as buckets of one server, which counts from here on."""
    import boto3  # here, as it takes longer to import than many a test

    with MotoServer() as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        for bucket in (TICKS, INSTRUMENTS):
            client.create_bucket(Bucket=bucket)
            # All servers of a process have one memory.
            for left in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
                client.delete_object(Bucket=bucket, Key=left["Key"])
            for path in sorted((folder / bucket).rglob("*.parquet")):
                client.put_object(
                    Bucket=bucket,
                    Key=path.relative_to(folder / bucket).as_posix(),
                    Body=path.read_bytes(),
                    ACL="public-read",
                )
        server.requests.clear()
        yield server


def cloud_lake(server: MotoServer, scheme: str) -> Lake:
    """Return the lake that a server serves, as `s3` or `gs`."""
    options = {"endpoint": server.url}
    if scheme == "s3":
        options |= {"region": "us-east-1", "access_key_id": "test", "secret_access_key": "test"}
    else:
        options |= {"anonymous": "true"}
    storage = StorageConfig.model_validate(options)
    return Lake(f"{scheme}://{TICKS}", f"{scheme}://{INSTRUMENTS}", storage=storage)


def files_of(catalog: Path) -> dict[str, bytes]:
    """Return all tick files of a catalog by relative path."""
    kinds = ("trades", "order_book_deltas", "order_book_depths")
    return {
        path.relative_to(catalog).as_posix(): path.read_bytes()
        for kind in kinds
        for path in sorted((catalog / "data" / kind).rglob("*.parquet"))
    }


START = Window.parse("2024-08-07", "2024-08-08").start
SECOND = 10**9
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
PERP_ID = "BTCUSDT-PERP.BINANCE"
DEFINITION = {
    "type": "perpetual",
    "base": "BTC",
    "quote": "USDT",
    "raw_symbol": "BTCUSDT",
    "tick_size": "0.1",
    "min_size": "0.001",
}


def made_trades(times: Sequence[int | None], **columns: pa.Array) -> pa.Table:
    """Return trades at these `ts_init`, numbered from 0; `columns` replaces some of theirs."""
    rows = len(times)
    table = {
        "price": pa.array([60_000 + i % 50 / 10 for i in range(rows)]),
        "size": pa.array([0.001 * (1 + i % 9) for i in range(rows)]),
        "aggressor_side": pa.array([1 + i % 2 for i in range(rows)], pa.int8()),
        "trade_id": pa.array([str(i) for i in range(rows)]),
        "ts_event": pa.array([START if time is None else time for time in times]),
        "ts_init": pa.array(times, pa.int64()),
    }
    return pa.table(table | columns)


def put_trades(folder: Path, table: pa.Table, day: int = 0, key: str = BTC_PERP, rows: int = 100) -> Path:
    """Write the trades of a day, counted from `START`, into a lake of one folder."""
    date = Window(START + day * DAY, START + day * DAY + 1).days[0]
    path = folder / f"raw_tick_data/by_date/day-{date}/data_type-trades/{key}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)
    return path


def minutes(day: int = 0, count: int = 1_440) -> list[int]:
    """Return the times of one trade a minute of a day."""
    return [START + day * DAY + i * 60 * SECOND for i in range(count)]


def ask(start: int, end: int, **changes: Any) -> FetchRequest:
    """Ask for trades between two distances from `START`, of an instrument that the config defines."""
    values = {
        "key": BTC_PERP,
        "data_type": "trades",
        "window": (START + start, START + end),
        "definition": DEFINITION,
    }
    return FetchRequest(**(values | changes))


def rows_of(catalog: Path, nautilus_id: str = PERP_ID) -> list[str]:
    """Return the ids of all trades of a catalog, in the order of its files."""
    folder = catalog / "data" / "trades" / nautilus_id
    tables = [pq.read_table(path, partitioning=None) for path in sorted(folder.glob("*.parquet"))]
    return [row for table in tables for row in table["trade_id"].to_pylist()]
