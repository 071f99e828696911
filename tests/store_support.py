"""Stores to test: one of each kind that talks HTTP, all at one server."""

from __future__ import annotations

import base64
from pathlib import Path

from lake_support import RangeServer
from ticklake.config import StorageConfig
from ticklake.lake import Store, StoreUrl, Transfer

CANARY = "CANARY0secret0CANARY"
CONTENT = bytes(range(256)) * 4
SLOW = 30_000_000_000


def store(url: str | Path, **options: object) -> Store:
    storage = StorageConfig.model_validate({"max_retries": 0, "retry_wait": "1ms", **options})
    return Store(StoreUrl.parse(str(url), allow_http=storage.allow_http), storage, Transfer())


def clouds(server: RangeServer, **options: object) -> dict[str, Store]:
    """Return one store of each kind that talks HTTP, with secrets, all at the server."""
    secret = base64.b64encode(CANARY.encode()).decode()
    return {
        "http": store(server.url, **options),
        "gs": store("gs://bucket", endpoint=server.url, bearer_token=CANARY, **options),
        "s3": store(
            "s3://bucket",
            endpoint=server.url,
            access_key_id=CANARY,
            secret_access_key=CANARY,
            session_token=CANARY,
            **options,
        ),
        "az": store("az://bucket", endpoint=server.url, account_name="me", account_key=secret, **options),
        "sas": store(
            "az://bucket", endpoint=server.url, account_name="me", sas_token=f"sv=1&sig={CANARY}", **options
        ),
    }


KINDS = ["http", "gs", "s3", "az", "sas"]
