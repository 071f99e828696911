"""What may be wrong between this machine and a lake: credentials, store, network, clock."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, Request, build_opener

from ticklake.catalog.doctor import Finding
from ticklake.config import RunConfig, StorageConfig, public_host
from ticklake.errors import (
    AccessDeniedError,
    ConfigError,
    LakeError,
    ObjectNotFoundError,
    TransientLakeError,
)
from ticklake.lake.credentials import credential_used
from ticklake.lake.layout import Layout
from ticklake.lake.loop import run
from ticklake.lake.store import Store
from ticklake.lake.transfer import Transfer
from ticklake.lake.url import StoreUrl
from ticklake.types import DataType, InstrumentKey

__all__ = ["examine_lake"]

_SKEW = 60  # seconds
_LITTLE = 8  # bytes


def examine_lake(settings: RunConfig) -> list[Finding]:
    """Ask the stores of a run config for the first things that a fetch would read.

    Each request is sent once, for a few bytes; what is not there is no fault. No strategy is imported.
    """
    lake, day = settings.lake, settings.window.as_window().days[0]
    layout, first = Layout.of(lake.layout), settings.instruments[0]
    storage = lake.storage.model_copy(update={"max_retries": 0})
    ticks = layout.tick_paths(DataType(first.data[0]), day, InstrumentKey(first.key))
    asked = [_examine(lake.ticks, ticks, storage)]
    if lake.instruments is not None:
        asked.append(_examine(lake.instruments, [layout.instruments_path(day)], storage))
    servers = dict.fromkeys(server for _, server in asked if server is not None)
    return [
        *(finding for findings, _ in asked for finding in findings),
        *(_clock(server, storage) for server in servers),
    ]


def _examine(url: str, paths: Sequence[str], storage: StorageConfig) -> tuple[list[Finding], str | None]:
    """Return what is to be said of a store, and the URL of its server, if that answers."""
    try:
        place = StoreUrl.parse(url, allow_http=storage.allow_http)
        store = Store(place, storage, Transfer())
    except ConfigError as exc:
        return [Finding("store", str(exc), wrong=True)], None
    findings = []
    if place.scheme in ("gs", "s3", "az"):
        tried = credential_used(place.scheme, storage)
        findings.append(Finding("credentials", f"{place.text} is asked with {tried}", wrong=False))
    answer = _ask(store, paths)
    return [*findings, answer], None if answer.check == "network" else _server(place, storage)


def _ask(store: Store, paths: Sequence[str]) -> Finding:
    for path in paths:
        try:
            run(store.read_suffix(path, _LITTLE))
        except ObjectNotFoundError:
            continue
        except AccessDeniedError as exc:
            return Finding("credentials", str(exc), wrong=True)
        except TransientLakeError as exc:
            return Finding("network", str(exc), wrong=True)
        except (LakeError, ConfigError) as exc:
            return Finding("store", str(exc), wrong=True)
        return Finding("store", f"{store.url.of(path)} can be read", wrong=False)
    return Finding("store", f"{store.url.text} answers; it has no {paths[0]}", wrong=False)


def _server(place: StoreUrl, storage: StorageConfig) -> str | None:
    """Return the URL of the server that is asked, without what is asked of it."""
    try:
        url = _service(place, storage)
        public_host(url)
    except ConfigError:  # one of the environment, with credentials in it
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else None


def _service(place: StoreUrl, storage: StorageConfig) -> str:
    env = os.environ.get
    if storage.endpoint is not None and place.scheme in ("gs", "s3", "az"):
        return storage.endpoint
    match place.scheme:
        case "gs":
            return "https://storage.googleapis.com"
        case "s3":
            region = storage.region or env("AWS_REGION") or env("AWS_DEFAULT_REGION") or "us-east-1"
            return env("AWS_ENDPOINT_URL") or env("AWS_ENDPOINT") or f"https://s3.{region}.amazonaws.com"
        case "az":
            account = storage.account_name or env("AZURE_STORAGE_ACCOUNT_NAME") or ""
            return env("AZURE_STORAGE_ENDPOINT") or f"https://{account}.blob.core.windows.net"
        case _:
            return place.text


class _AsItIs(HTTPErrorProcessor):
    """Takes every answer for one: a refusal and a redirect have a date as well."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:  # noqa: ARG002 (urllib's)
        return response

    https_response = http_response


def _clock(server: str, storage: StorageConfig) -> Finding:
    """Hold the machine's clock against a server's; obstore does not tell the headers of an answer."""
    try:
        request = Request(server, method="HEAD")  # noqa: S310 (http or https)
        before = time.time()
        with build_opener(_AsItIs).open(request, timeout=storage.connect_timeout / 1e9) as answer:
            theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (OSError, HTTPException, ValueError, TypeError) as exc:
        # Without a Date it is a TypeError.
        text = f"the store does not tell its time ({type(exc).__name__}), so the clock was not checked"
        return Finding("clock", text, wrong=False)
    host = urlsplit(server).hostname
    # The header counts whole seconds, and was written between the two.
    off = max(before - 1 - theirs, theirs - time.time(), 0.0)
    if off <= _SKEW:
        return Finding("clock", f"this machine's clock agrees with that of {host}", wrong=False)
    side = "ahead of" if time.time() > theirs else "behind"
    text = (
        f"this machine's clock is {off:,.0f} s {side} that of {host}; set it right, or signed requests are "
        "refused (S3: from 15 minutes on)"
    )
    return Finding("clock", text, wrong=True)
