"""Runs of plain values, in folders and in buckets."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from lake_support import MotoServer
from test_report_html import FakeRun
from ticklake.backtesting.places import run_folder
from ticklake.backtesting.results import TABLES
from ticklake.backtesting.tables import SCHEMAS
from ticklake.config import StorageConfig

BUCKET = "my-runs"


def summary(run_id: str, **changes: Any) -> dict[str, Any]:
    """Return the summary of a run of the demo's size."""
    started = dt.datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ")
    return {
        **FakeRun(id=run_id).summary,
        "started": f"{started.isoformat()}.000Z",
        "strategies": ["trade_momentum:TradeMomentum"],
        "results_digest": "0123456789abcdef" * 4,
        "engine_version": "2.0.0rc7",
        "fetch_seconds": 0.5,
        "bytes_read": 1_000,
        "requests": 3,
        **changes,
    }


def fill(folder: Path, values: dict[str, Any], config: dict[str, Any] | None = None) -> None:
    """Write the files of a run into a folder."""
    run = FakeRun()
    for name in TABLES:
        table = getattr(run, name) if name != "account" else SCHEMAS[name].empty_table()
        pq.write_table(table, folder / f"{name}.parquet")
    pq.write_table(run.prices, folder / "prices.parquet")
    (folder / "provenance.json").write_text("{}")
    (folder / "config.yaml").write_text(yaml.safe_dump(config or {"window": {"start": "2024-08-08"}}))
    (folder / "report.html").write_text("<!doctype html>")
    (folder / "summary.json").write_text(json.dumps(values))


def put_run(
    place: str | Path,
    run_id: str,
    storage: StorageConfig | None = None,
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Write a run as a backtest does, and return its id."""
    with run_folder(place, run_id, storage) as folder:
        fill(folder, summary(run_id, **changes), config)
    return run_id


@contextmanager
def bucket() -> Iterator[MotoServer]:
    """Serve a bucket, as `s3://` and `gs://`.

    All servers of a process share what moto holds: take a folder in it that no other test takes.
    """
    import boto3  # here, as it takes longer to import than many a test

    with MotoServer() as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=BUCKET)
        server.requests.clear()
        yield server


def options(server: MotoServer, scheme: str, **more: object) -> dict[str, object]:
    """Return the store options by which the bucket is reached."""
    keys = (
        {"region": "us-east-1", "access_key_id": "test", "secret_access_key": "CANARY0secret0CANARY"}
        if scheme == "s3"
        else {"bearer_token": "CANARY0secret0CANARY"}
    )
    return {"endpoint": server.url, "retry_wait": "1ms", **keys, **more}


def storage_of(server: MotoServer, scheme: str, **more: object) -> StorageConfig:
    """Return the same, validated."""
    return StorageConfig.model_validate(options(server, scheme, **more))


@contextmanager
def failing(
    server: MotoServer, fails: Callable[[str, str], bool], status: str = "500 Made"
) -> Iterator[None]:
    """Answer requests with an error whose method and path `fails` picks."""
    app = server._app

    def meddle(environ: dict[str, Any], start_response: Callable[..., object]) -> Any:
        if fails(environ["REQUEST_METHOD"], environ["PATH_INFO"]):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(status, [("Content-Length", "0")])
            return [b""]
        return app(environ, start_response)

    server._app = meddle
    try:
        yield
    finally:
        server._app = app
