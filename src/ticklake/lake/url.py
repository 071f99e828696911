"""URLs of stores: which are allowed, and what they name. Pure: nothing is opened here."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import quote, unquote, urlsplit

from ticklake.config import public_host
from ticklake.errors import ConfigError

__all__ = ["Scheme", "StoreUrl", "check_endpoint"]

type Scheme = Literal["gs", "s3", "az", "file", "http", "https", "memory"]

_BUCKETS = ("gs", "s3", "az")
# Legal in the path of a URL and frequent in object keys: left readable.
_SAFE = "/:@=+,;!$&'()*~"
_HINT = (
    "Write gs://bucket, s3://bucket, az://container, file:///folder, https://host/folder, memory://name, "
    "or a plain path; gs, s3, az and memory also take a folder after the bucket."
)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A checked URL of a bucket, server or folder, or of a folder in it.

    Attributes:
        scheme: What kind of store it is.
        text: The URL as it may be shown, without a trailing slash.
        bucket: Bucket, container, or name of the memory store; empty for others.
        prefix: The folder in the bucket, empty or ending in `/`.
        folder: The absolute folder on disk, for `file`.
    """

    scheme: Scheme
    text: str
    bucket: str = ""
    prefix: str = ""
    folder: Path | None = None

    @property
    def one_spelling(self) -> str:
        """The URL in one spelling, by which lakes can be told apart."""
        return self.text if self.folder is None else Path(os.path.normpath(self.folder)).as_uri()

    @classmethod
    def parse(cls, url: str, *, allow_http: bool = False) -> StoreUrl:
        """Check a URL (or plain path) without opening anything.

        Args:
            url: `gs://bucket/folder`, `s3://…`, `az://container/folder`, `file:///folder`,
                `http(s)://host/folder`, `memory://name`, or a path, relative ones to the current directory.
            allow_http: Allow plain http to hosts other than this machine.

        Raises:
            ConfigError: It is not such a URL, carries credentials, or is plain http to another machine.
        """
        if "://" not in url:
            if not url.strip():
                raise ConfigError("the URL of the lake is empty", hint=_HINT)
            return cls._of_folder(Path(url))
        scheme, _, rest = url.partition("://")
        scheme = scheme.lower()
        if scheme not in get_args(Scheme.__value__):
            raise ConfigError(f"{scheme}:// is not a kind of store that ticklake knows", hint=_HINT)
        host = public_host(url)
        if scheme == "file":
            if host not in ("", "localhost"):
                raise ConfigError(
                    f"file://{host}… names a host, not a folder",
                    hint="Write file:///absolute/path, or a plain path.",
                )
            return cls._of_folder(Path(unquote(urlsplit(url).path)))
        if scheme in ("http", "https"):
            _refuse_plain_http(f"{scheme}://{host}", allow_http=allow_http)
            return cls(cast("Scheme", scheme), f"{scheme}://{rest}".rstrip("/"))
        bucket, _, folder = rest.partition("/")
        if scheme in _BUCKETS and not bucket:
            raise ConfigError(f"{scheme}:// names no bucket", hint=_HINT)
        folder = folder.strip("/")
        if folder and {"", ".", ".."} & set(folder.split("/")):
            raise ConfigError(
                f"the folder in the {scheme}:// URL of {bucket} has an empty, . or .. part",
                hint="Name the folder by the way that leads down to it.",
            )
        text = f"{scheme}://{bucket}/{folder}".removesuffix("/") if folder else f"{scheme}://{bucket}"
        return cls(cast("Scheme", scheme), text, bucket, f"{folder}/" if folder else "")

    @classmethod
    def _of_folder(cls, path: Path) -> StoreUrl:
        folder = path.expanduser().absolute()
        return cls("file", f"file://{quote(str(folder), safe=_SAFE)}".rstrip("/"), folder=folder)

    def require_folder(self) -> None:
        """Check that the folder is there; of what is no folder of this machine, nothing is asked.

        Raises:
            ConfigError: It is not.
        """
        if self.folder is not None and not self.folder.is_dir():
            raise ConfigError(
                f"the folder {self.folder} does not exist",
                hint="Check the lake's URL; relative paths start at the current folder.",
            )

    def of(self, path: str) -> str:
        """Return the URL of an object."""
        # Cloud tools take keys as they are; file and http URLs are percent-encoded.
        return f"{self.text}/{quote(path, safe=_SAFE) if self.scheme in ('file', 'http', 'https') else path}"


def check_endpoint(endpoint: str, *, allow_http: bool) -> None:
    """Check the base URL of a service.

    Raises:
        ConfigError: It is no http(s) URL, carries credentials, or is plain http to another machine.
    """
    scheme = endpoint.partition("://")[0].lower()
    if scheme not in ("http", "https") or not (host := public_host(endpoint)):
        raise ConfigError("lake.storage.endpoint is not an http(s):// URL", hint="Like https://host:9000.")
    _refuse_plain_http(f"{scheme}://{host}", allow_http=allow_http)


def _refuse_plain_http(origin: str, *, allow_http: bool) -> None:
    scheme, _, host = origin.partition("://")
    if scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigError(
            f"{origin} is plain http to another machine: anyone on the way can read and change the data",
            hint="Use https, or set lake.storage.allow_http: true.",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
