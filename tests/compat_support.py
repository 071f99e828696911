"""A bucket of moto for code that speaks of buckets, and a day file to read parts of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from lake_support import DAY_START, SECOND, MotoServer, parquet

BUCKET = "market-data"


def s3_of(server: MotoServer) -> dict[str, Any]:
    """Return what says that all buckets are those of a server."""
    return {"*": {"url": "s3://{bucket}", "storage": _storage(server)}}


def _storage(server: MotoServer) -> dict[str, Any]:
    return {"endpoint": server.url, "region": "us-east-1", "access_key_id": "me", "secret_access_key": "me"}


def client_of(server: MotoServer) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="me",
        aws_secret_access_key="me",
    )


@contextmanager
def served(objects: dict[str, bytes], bucket: str = BUCKET) -> Iterator[MotoServer]:
    """Serve objects as a bucket; the server counts from here on."""
    with MotoServer() as server:
        client = client_of(server)
        client.create_bucket(Bucket=bucket)
        for path, data in objects.items():
            client.put_object(Bucket=bucket, Key=path, Body=data)
        client.close()
        server.requests.clear()
        yield server


def day_of_trades(rows: int = 400_000) -> pa.Table:
    """Return a day of trades, evenly spread, in the nautilus dialect."""
    times = DAY_START + np.arange(rows, dtype=np.int64) * (86_400 * SECOND // rows)
    random = np.random.default_rng(1)
    return pa.table(
        {
            "price": 60_000 + random.integers(0, 10_000, rows) / 10,
            "size": random.integers(1, 100_000, rows) / 1_000,
            "aggressor_side": random.integers(1, 3, rows).astype(np.int8),
            "trade_id": pa.array(10**11 + np.arange(rows)).cast(pa.string()),
            "ts_event": times,
            "ts_init": times,
        }
    )


def day_file(rows: int = 400_000, rows_per_group: int = 4_000) -> bytes:
    return parquet(day_of_trades(rows), rows_per_group=rows_per_group)
