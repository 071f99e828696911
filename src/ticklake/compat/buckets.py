"""Bucket names to stores: `gs://<bucket>`, or what a mapping or the environment says instead."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ticklake.config import StorageConfig, parse_storage
from ticklake.errors import ConfigError

__all__ = ["BUCKETS", "BucketPlace", "Buckets", "bucket_place"]

BUCKETS = "TICKLAKE_BUCKETS"
"""Environment variable that says where buckets are."""

_HINT = (
    f"Write {BUCKETS} as bucket=url,bucket=url, or as JSON: "
    '{"bucket": "url", "other": {"url": "s3://other", "storage": {"region": "eu-west-1"}}}. '
    "* stands for all other buckets, and {bucket} in a URL for the name."
)

type Buckets = Mapping[str, str | Path | Mapping[str, Any]]
"""Where buckets are: URLs or folders by bucket name, or mappings with `url` and `storage` (store options).

`*` stands for every bucket without an entry of its own, and `{bucket}` in a URL for its name. An entry
without `url` is `gs://<bucket>`.
"""


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Where a bucket is.

    Attributes:
        url: Of the store.
        storage: How to reach it, with the keys of `StorageConfig`.
    """

    url: str
    storage: Mapping[str, Any]

    @property
    def options(self) -> StorageConfig:
        """How to reach it."""
        return parse_storage(self.storage, source=f"the storage of {self.url}")


def bucket_place(bucket: str, buckets: Buckets | None = None) -> BucketPlace:
    """Return where a bucket is.

    Args:
        bucket: Its name.
        buckets: Where buckets are; None asks the environment (`TICKLAKE_BUCKETS`).

    Raises:
        ConfigError: What is said of it is not usable.
    """
    if not bucket or "/" in bucket:
        raise ConfigError(
            f"{bucket!r} is not the name of a bucket", hint="Give the name alone, without gs://."
        )
    known = _from_environment() if buckets is None else buckets
    found = known.get(bucket, known.get("*", {}))
    entry = found if isinstance(found, Mapping) else {"url": found}
    url: object = entry.get("url", "gs://{bucket}")
    storage: object = entry.get("storage", {})
    if (
        not isinstance(url, str | Path)
        or not isinstance(storage, Mapping)
        or entry.keys() - {"url", "storage"}
    ):
        raise ConfigError(
            f"what is said of the bucket {bucket} is no URL, and no mapping of url and storage", hint=_HINT
        )
    return BucketPlace(str(url).replace("{bucket}", bucket), storage)


def _from_environment() -> Buckets:
    text = os.environ.get(BUCKETS, "").strip()
    if not text.startswith("{"):
        return _pairs(text)
    try:
        values = json.loads(text)
    except ValueError:
        # Not what was found: it may hold a secret.
        raise ConfigError(f"{BUCKETS} begins like JSON and is none", hint=_HINT) from None
    return dict(values)


def _pairs(text: str) -> Buckets:
    found = {}
    for pair in filter(None, (pair.strip() for pair in text.split(","))):
        bucket, separator, url = pair.partition("=")
        if not separator or not bucket.strip() or not url.strip() or bucket.strip() in found:
            raise ConfigError(f"{BUCKETS} has a part that is not bucket=url, or a bucket twice", hint=_HINT)
        found[bucket.strip()] = url.strip()
    return found
