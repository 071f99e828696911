"""Object stores by URL. The only importer of obstore; its errors become ticklake's here, and nowhere else.

A `Store` reads byte ranges of objects and says which version of the object they are of, and writes whole
objects. Its methods are coroutines for `ticklake.lake.loop`; `put` and `list`, for tools and tests, wait by
themselves.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store

from ticklake.config import StorageConfig
from ticklake.errors import (
    AccessDeniedError,
    ConfigError,
    CorruptObjectError,
    LakeError,
    ObjectChangedError,
    ObjectNotFoundError,
    TicklakeError,
    TransientLakeError,
)
from ticklake.lake.credentials import CREDENTIAL_HINTS, check_environment, credential_used
from ticklake.lake.failure import Failure, Owner, of_owner
from ticklake.lake.loop import run, settle
from ticklake.lake.objects import ObjectVersion
from ticklake.lake.retry import Throttle, repeat
from ticklake.lake.transfer import Transfer
from ticklake.lake.url import StoreUrl, check_endpoint
from ticklake.types import ByteRange

if TYPE_CHECKING:
    from obstore import Attributes, GetOptions, ListStream, ObjectMeta
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, RetryConfig, S3Config

__all__ = ["Fetched", "ObjectInfo", "Store"]

type _Handle = AzureStore | GCSStore | HTTPStore | LocalStore | MemoryStore | S3Store

_LIST_PAGE = 1_000
# What is larger is written in parts of this size, some of them side by side.
_PART = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
# Stores that list in no order.
_UNORDERED = ("file", "http", "https")
_NANOS = 1e9

# Requests are repeated in one place, `ticklake.lake.retry`.
_NO_RETRY: RetryConfig = {"max_retries": 0, "retry_timeout": dt.timedelta(0)}

# Memory stores live as long as the process and are shared by name, so that what one writes another reads.
_MEMORY: dict[str, MemoryStore] = {}


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bytes of an object, where they stand in it, and of which version they are."""

    data: memoryview
    range: ByteRange
    version: ObjectVersion


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing; `path` is relative to the store's URL."""

    path: str
    size: int
    last_modified: dt.datetime


class Store:
    """An object store, opened at its first use.

    A request that fails for a passing reason is sent again (`ticklake.lake.retry`). With all its retries it
    ends within `timeout` and `retry_timeout` of the storage options together, counted from when it is one of
    the `max_concurrency` that run at once.

    Args:
        url: Which one.
        storage: How to reach it.
        transfer: Counts requests and bytes.
        owner: Whose store it is, which errors speak of.

    Raises:
        ConfigError: An endpoint in `storage` is not usable.
    """

    def __init__(
        self,
        url: StoreUrl,
        storage: StorageConfig,
        transfer: Transfer,
        *,
        owner: Owner = "lake",
    ) -> None:
        if storage.endpoint is not None:
            check_endpoint(storage.endpoint, allow_http=storage.allow_http)
        self.url = url
        self._storage = storage
        self._transfer = transfer
        self._owner = owner
        self._lock = threading.Lock()
        self._handle: _Handle | None = None
        self._slots = asyncio.Semaphore(storage.max_concurrency)
        self._throttle = Throttle(storage.retry_wait / _NANOS)

    def __repr__(self) -> str:
        return f"Store({self.url.text!r})"

    async def read_suffix(self, path: str, length: int) -> Fetched:
        """Read the last `length` bytes, or all of a smaller object.

        One request; two on Azure, which cannot count from the end.

        Raises:
            ObjectNotFoundError: There is no such object.
            LakeError: It could not be read.
        """
        if self.url.scheme == "az":
            version = await self._head(path)
            if not version.size:
                return Fetched(memoryview(b""), ByteRange(0, 0), version)
            start = max(0, version.size - length)
            return await self.read_range(ByteRange(start, version.size), path, version)
        return await self._get(
            path,
            {"range": {"suffix": length}},
            lambda version: ByteRange(max(0, version.size - length), version.size),
        )

    async def read_range(self, wanted: ByteRange, path: str, version: ObjectVersion) -> Fetched:
        """Read a range of one version of an object.

        Raises:
            ObjectChangedError: The object is another version by now, or gone.
            LakeError: It could not be read, or the store answered with other bytes.
        """
        options: GetOptions = {"range": (wanted.start, wanted.end)}
        # A weak ETag never matches by If-Match; it is compared below all the same.
        if version.etag is not None and not version.etag.startswith("W/"):
            options["if_match"] = version.etag

        def wanted_of(answered: ObjectVersion) -> ByteRange:
            if not answered.same_as(version):
                raise _changed(version.url)
            return wanted

        try:
            return await self._get(path, options, wanted_of)
        except (ObjectNotFoundError, CorruptObjectError) as exc:
            # It was there, and longer.
            raise _changed(version.url) from exc

    async def read_all(self, path: str) -> Fetched:
        """Read a whole (small) object in one request.

        Raises:
            ObjectNotFoundError: There is no such object.
            LakeError: It could not be read.
        """
        return await self._get(path, {}, lambda version: ByteRange(0, version.size))

    async def is_current(self, path: str, version: ObjectVersion) -> bool:
        """Return whether an object still is the version that it was; this moves no data.

        Raises:
            LakeError: The store could not be asked.
        """
        try:
            return (await self._head(path)).same_as(version)
        except ObjectNotFoundError:
            return False

    async def exists(self, path: str) -> bool:
        """Return whether there is such an object."""
        try:
            await self._head(path)
        except ObjectNotFoundError:
            return False
        return True

    async def children(self, folder: str) -> list[str]:
        """Return the paths of the folders and objects that stand directly in a folder; empty is the root."""
        handle = self._open()
        found = await self._ask(
            folder, lambda: settle(obstore.list_with_delimiter_async(handle, self._folder(folder)))
        )
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return [path.removeprefix(self.url.prefix) for path in paths]

    def list(self, folder: str) -> Iterator[ObjectInfo]:
        """Yield all objects below a folder, page by page; empty is the root.

        Raises:
            LakeError: The store could not be listed.
        """
        handle, prefix = self._open(), self._folder(folder)
        stream: ListStream[Sequence[ObjectMeta]] | None = None
        last: str | None = None

        async def next_page() -> Sequence[ObjectMeta] | None:
            nonlocal stream
            # One that failed is at its end: another goes on after what came, where that is in order.
            if stream is None and last is not None and self.url.scheme in _UNORDERED:
                raise LakeError("the listing broke off", url=self.url.of(folder), hint="Try again.")
            stream, pages = None, stream or obstore.list(handle, prefix, offset=last, chunk_size=_LIST_PAGE)
            try:
                page = await settle(pages.__anext__())
            except StopAsyncIteration:
                return None
            stream = pages
            return page

        while (page := run(self._ask(folder, next_page))) is not None:
            for meta in page:
                path = meta["path"].removeprefix(self.url.prefix)
                yield ObjectInfo(path, meta["size"], meta["last_modified"])
            last = page[-1]["path"]
            if len(page) < _LIST_PAGE:
                return

    def put(self, path: str, data: bytes) -> None:
        """Write an object: for tools, and to fill a `memory://` store in tests.

        Raises:
            LakeError: It could not be written.
        """
        run(self.write(path, data))

    async def write(self, path: str, data: bytes | Path, *, content_type: str | None = None) -> None:
        """Write an object, whole or not at all; one that is there is replaced.

        Args:
            path: Where.
            data: The bytes, or the file that holds them. Large ones go in parts, each of which may take the
                `timeout` of the storage options.
            content_type: What the store says of it to those who ask for it.

        Raises:
            LakeError: It could not be written.
        """
        handle = self._open()
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        parts = max(1, -(-size // _PART))
        attributes: Attributes | None = {"Content-Type": content_type} if content_type else None

        async def send() -> None:
            await settle(
                obstore.put_async(
                    handle,
                    self.url.prefix + path,
                    data,
                    attributes=attributes,
                    chunk_size=_PART,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            )

        # Parts are between a request that begins and one that ends.
        await self._ask(path, send, requests=1 if parts == 1 else parts + 2)

    async def create(self, path: str, data: bytes) -> bool:
        """Write a (small) object where there is none, and return whether there was none.

        Stores that cannot tell replace it.

        Raises:
            LakeError: It could not be written.
        """
        handle = self._open()

        async def send() -> bool:
            try:
                await settle(obstore.put_async(handle, self.url.prefix + path, data, mode="create"))
            except AlreadyExistsError:
                return False
            return True

        return await self._ask(path, send)

    async def delete(self, path: str) -> None:
        """Delete an object; it is no error where there is none.

        Raises:
            LakeError: It could not be deleted.
        """
        handle = self._open()

        async def send() -> None:
            with suppress(FileNotFoundError):
                await settle(obstore.delete_async(handle, self.url.prefix + path))

        await self._ask(path, send)

    async def _head(self, path: str) -> ObjectVersion:
        handle = self._open()
        meta = await self._ask(path, lambda: settle(obstore.head_async(handle, self.url.prefix + path)))
        return self._version(path, meta)

    async def _get(
        self, path: str, options: GetOptions, wanted: Callable[[ObjectVersion], ByteRange]
    ) -> Fetched:
        """Read what `wanted` of the version that the store answers with; any other bytes are an error."""
        handle = self._open()

        async def get() -> Fetched:
            result = await settle(obstore.get_async(handle, self.url.prefix + path, options=options))
            version = self._version(path, result.meta)
            expected = wanted(version)  # before the body: of another version it is not wanted
            data = memoryview(await settle(result.bytes_async()))
            self._transfer.add(size=data.nbytes)
            return _complete(Fetched(data, ByteRange(*result.range), version), expected)

        return await self._ask(path, get)

    async def _ask[T](self, path: str, send: Callable[[], Awaitable[T]], *, requests: int = 1) -> T:
        """Send a request, again after passing failures, and return what `send` makes of the answer.

        Args:
            path: What it is about.
            send: Sends it.
            requests: How many it really is.
        """
        storage = self._storage

        async def attempt() -> T:
            self._transfer.add(requests=requests)
            with self._errors(path):
                # The client's own timeout does not hold for what comes before the request (tokens, names).
                async with asyncio.timeout(requests * storage.timeout / _NANOS):
                    return await send()

        # The slot is held while it waits: what a store cannot answer now is not made up for with more.
        async with self._slots:
            return await repeat(
                attempt,
                throttle=self._throttle,
                max_retries=storage.max_retries,
                retry_timeout=storage.retry_timeout / _NANOS,
                first_wait=storage.retry_wait / _NANOS,
            )

    def _folder(self, folder: str) -> str | None:
        return f"{self.url.prefix}{folder}".strip("/") or None

    def _version(self, path: str, meta: ObjectMeta) -> ObjectVersion:
        return ObjectVersion(self.url.of(path), meta["e_tag"], meta["size"], meta["last_modified"])

    def _open(self) -> _Handle:
        with self._lock:
            if self._handle is None:
                with self._errors(None):
                    self._handle = _open(self.url, self._storage)
            return self._handle

    @contextmanager
    def _errors(self, path: str | None) -> Iterator[None]:
        """Turn obstore's errors into ticklake's, for an object, or (None) for the opening of the store."""
        try:
            yield
        except (BaseError, OSError, ValueError) as exc:
            if isinstance(exc, TicklakeError):
                raise
            failure = Failure.of(exc, self._storage)
            if failure.is_refusal:
                self._throttle.refused()
            # The cause is shown with its text in a traceback: what could be secret in it goes here.
            exc.args = (failure.text,)
            raise of_owner(self._translate(failure, exc, path), self._owner) from exc

    def _translate(self, failure: Failure, exc: Exception, path: str | None) -> TicklakeError:
        url = self.url.text if path is None else self.url.of(path)
        return (
            self._access_error(failure, exc, url)
            or self._usage_error(failure, exc, url, opening=path is None)
            or self._object_error(failure, exc, url)
        )

    def _access_error(self, failure: Failure, exc: Exception, url: str) -> AccessDeniedError | None:
        hint = CREDENTIAL_HINTS[self.url.scheme]
        if failure.no_credentials:
            return AccessDeniedError(
                f"no usable credentials for {self.url.text}, tried with "
                f"{credential_used(self.url.scheme, self._storage)}: {failure.text}",
                url=url,
                hint=hint,
            )
        if failure.status in (401, 403) or isinstance(exc, PermissionDeniedError | UnauthenticatedError):
            return AccessDeniedError(
                f"access denied{failure.told}; tried with {credential_used(self.url.scheme, self._storage)}",
                url=url,
                hint=f"{hint} Some stores also answer so for an object that does not exist.",
            )
        if failure.local_permission:
            return AccessDeniedError("no permission to open the file", url=url, hint=hint)
        return None

    def _usage_error(
        self, failure: Failure, exc: Exception, url: str, *, opening: bool
    ) -> TicklakeError | None:
        if failure.no_bucket:
            return ConfigError(
                f"{self.url.text} does not exist{failure.told}", hint="Check the lake's URL and endpoint."
            )
        if opening or isinstance(exc, ValueError | InvalidPathError | UnknownConfigurationKeyError):
            return ConfigError(
                f"cannot open {url}: {failure.text}", hint="Check the lake's URL, layout and storage."
            )
        if failure.plain_http:
            return ConfigError(
                f"plain http is not allowed for {url}",
                hint="Give the service as lake.storage.endpoint, or set lake.storage.allow_http: true.",
            )
        if failure.cannot_list:
            return LakeError(
                f"the web server cannot list what it has{failure.told}",
                url=url,
                hint="Plain http has no listing (WebDAV servers do): name instrument and window instead.",
            )
        if isinstance(exc, NotSupportedError) or failure.no_ranges:
            return LakeError(
                f"the server cannot do what is needed: {failure.text}",
                url=url,
                hint="Ticks are read by range: use an object store, or a web server with range requests.",
            )
        return None

    def _object_error(self, failure: Failure, exc: Exception, url: str) -> LakeError:
        if isinstance(exc, FileNotFoundError):
            return ObjectNotFoundError(
                "the object does not exist", url=url, hint="Check the lake's URL and layout."
            )
        if isinstance(exc, PreconditionError):
            return _changed(url)
        if failure.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return CorruptObjectError(
                "the object is empty or shorter than it was", url=url, hint="Have it written again."
            )
        if failure.is_lasting:
            return LakeError(
                f"the store refused the request{failure.told}, sent with "
                f"{credential_used(self.url.scheme, self._storage)}: {failure.text}",
                url=url,
                hint="Check the lake's URL, lake.storage.endpoint and region, and that the credential has "
                f"not expired. {CREDENTIAL_HINTS[self.url.scheme]}".rstrip(),
            )
        if failure.silence:
            return TransientLakeError(
                failure.silence,
                url=url,
                hint="Check the lake's URL and lake.storage.endpoint, the network and its proxy.",
            )
        return TransientLakeError(
            f"the store did not answer properly: {failure.text}",
            url=url,
            hint="Check the network and the endpoint, or try again later.",
        )


def _changed(url: str) -> ObjectChangedError:
    return ObjectChangedError(
        "the object was overwritten or deleted while it was being read",
        url=url,
        hint="Read it again from the start.",
    )


def _complete(fetched: Fetched, wanted: ByteRange) -> Fetched:
    """Return what was fetched if it is what was wanted; stores and proxies are known to answer otherwise."""
    if fetched.range == wanted and fetched.data.nbytes == wanted.length:
        return fetched
    raise TransientLakeError(
        f"asked for bytes {wanted.start} to {wanted.end}, the store sent {fetched.data.nbytes} bytes of "
        f"{fetched.range.start} to {fetched.range.end}",
        url=fetched.version.url,
        hint="Try again; if it stays, a proxy or the server is at fault.",
    )


def _open(url: StoreUrl, storage: StorageConfig) -> _Handle:
    if not storage.anonymous:
        check_environment(url.scheme)
    match url.scheme:
        case "memory":
            return _MEMORY.setdefault(url.bucket, MemoryStore())
        case "file":
            return _open_folder(url)
        case "http" | "https":
            client = _client(storage, allow_http=url.scheme == "http")
            return HTTPStore(url.text, client_options=client, retry_config=_NO_RETRY)
        case "gs":
            return _open_gcs(url, storage)
        case "s3":
            return _open_s3(url, storage)
        case "az":
            return _open_azure(url, storage)


def _open_folder(url: StoreUrl) -> LocalStore:
    url.require_folder()
    return LocalStore(url.folder)


# What is not given here the clients take from the environment: AWS_*, AZURE_*, GOOGLE_*, metadata servers,
# and for GCS the application default credentials that gcloud leaves.


def _open_gcs(url: StoreUrl, storage: StorageConfig) -> GCSStore:
    config: GCSConfig = {}
    if storage.endpoint:
        config["base_url"] = storage.endpoint.rstrip("/")
    if storage.anonymous:
        config["skip_signature"] = True
    if storage.service_account:
        config["service_account"] = str(storage.service_account.expanduser())
    if storage.bearer_token:
        config["bearer_token"] = storage.bearer_token.get_secret_value()
    return GCSStore(url.bucket, config=config, client_options=_client(storage), retry_config=_NO_RETRY)


def _open_s3(url: StoreUrl, storage: StorageConfig) -> S3Store:
    config: S3Config = {}
    if storage.endpoint:
        config["endpoint"] = storage.endpoint.rstrip("/")
        # Own endpoints rarely have a host name per bucket.
        config["virtual_hosted_style_request"] = False
    if storage.region:
        config["region"] = storage.region
    if storage.anonymous:
        config["skip_signature"] = True
    if storage.access_key_id:
        config["access_key_id"] = storage.access_key_id.get_secret_value()
    if storage.secret_access_key:
        config["secret_access_key"] = storage.secret_access_key.get_secret_value()
    if storage.session_token:
        config["session_token"] = storage.session_token.get_secret_value()
    return S3Store(url.bucket, config=config, client_options=_client(storage), retry_config=_NO_RETRY)


def _open_azure(url: StoreUrl, storage: StorageConfig) -> AzureStore:
    config: AzureConfig = {}
    if storage.endpoint:
        config["endpoint"] = storage.endpoint.rstrip("/")
    if storage.anonymous:
        config["skip_signature"] = True
    if storage.account_name:
        config["account_name"] = storage.account_name
    if storage.account_key:
        config["account_key"] = storage.account_key.get_secret_value()
    if storage.sas_token:
        config["sas_key"] = storage.sas_token.get_secret_value()
    if storage.bearer_token:
        config["token"] = storage.bearer_token.get_secret_value()
    return AzureStore(url.bucket, config=config, client_options=_client(storage), retry_config=_NO_RETRY)


def _client(storage: StorageConfig, *, allow_http: bool = False) -> ClientConfig:
    options: ClientConfig = {
        # Our own comes first and tells more.
        "timeout": _duration(storage.timeout) + dt.timedelta(seconds=1),
        "connect_timeout": _duration(storage.connect_timeout),
    }
    # An http endpoint that got this far is this machine, or was allowed.
    if allow_http or storage.allow_http or (storage.endpoint or "").lower().startswith("http://"):
        options["allow_http"] = True
    return options


def _duration(nanos: int) -> dt.timedelta:
    return dt.timedelta(microseconds=nanos / 1_000)
