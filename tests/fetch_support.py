"""Buckets with the real ticks, and what a catalog holds as the engine reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

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
