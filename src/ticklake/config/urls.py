"""URLs where they may not be: with credentials in them, or in the place of a folder."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from ticklake.errors import ConfigError

__all__ = ["is_folder", "public_host"]

# Not one letter only, which is a Windows drive.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def is_folder(path: Path) -> bool:
    """Whether a path can be a folder: not where it is a URL, of which `Path` makes `s3:/bucket/name`."""
    return _SCHEME.match(str(path)) is None


def public_host(url: str) -> str:
    """Return the host (or bucket) of a URL that may be shown as it is.

    Raises:
        ConfigError: It is no URL, or has a user, a password, a query or a fragment; none of them is echoed.
    """
    scheme = url.partition("://")[0].lower()
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port  # where a password with a slash in it is not quoted, this is what is left of it
    except ValueError:
        parts = None
    if parts is None:
        # Not in the handler: that error quotes the URL, and would be the context of this one.
        raise ConfigError(
            f"not a valid {scheme}:// URL", hint="Write it like scheme://host/folder, without credentials."
        )
    if "@" in parts.netloc:
        raise ConfigError(
            f"the {scheme}:// URL of {host} carries user info",
            hint="Give credentials through lake.storage or the cloud's environment, never in a URL.",
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"the {scheme}:// URL of {host} has a query or a fragment, but object keys are to follow it",
            hint="Remove everything from ? or #; give an Azure SAS as lake.storage.sas_token.",
        )
    return host
