"""What the text of an obstore error tells, and which of it may be shown.

obstore has one class for most failures; status, error code and cause stand in the text only. It also quotes
URLs and response bodies, which can hold what was signed and with what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from ticklake.config import StorageConfig
from ticklake.errors import TicklakeError
from ticklake.lake.credentials import secrets

__all__ = ["Failure", "Owner", "of_owner"]

type Owner = Literal["lake", "runs"]
"""Whose a store is."""

_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_STATUS = re.compile(r"status code: (?P<status>\d{3})[^:<{\n]*:?")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_QUERY = re.compile(r"\?[^\s?]+")
_USER_INFO = re.compile(r"//[^/\s@]+@")
_HOST = re.compile(r"://([^/\s?]+)")
# Why there was no connection, which the Rust debug text alone tells.
_NO_CONNECTION = {
    "ConnectionRefused": "it refuses connections",
    '"dns error"': "its name is not known",
    "HostUnreachable": "it cannot be reached",
    "NetworkUnreachable": "its network cannot be reached",
}
# What is wrong with a key file is told by quoting it; where the whole key was given instead of a path, so is
# where it lies. Of both, only what the operating system says is left.
_KEY_FILE = re.compile(r"(service account file).*?(: [^:{}\"]*\(os error \d+\))?$")
# The token endpoints that the clouds' client libraries ask where no credential was given.
_CREDENTIAL_TEXT = re.compile(
    r"token request|//169\.254\.|//metadata\.google|GCP credential error|service account file|"
    r"Invalid Access Key|Account must be specified"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What the text of an obstore error tells.

    Attributes:
        text: One line without response body, query strings and secrets.
        status: The HTTP status, if it was an answer.
        code: The store's own error code in the body, like `NoSuchBucket`.
        silence: Which host does not answer and why, where no connection to it could be made.
    """

    text: str
    status: int | None
    code: str | None
    silence: str | None

    @classmethod
    def of(cls, exc: Exception, storage: StorageConfig) -> Failure:
        """Return what an error tells; known secrets are taken out of its text."""
        # After a blank line obstore repeats everything as a Rust debug text.
        text, _, debug = str(exc).partition("\n\nDebug source")
        if isinstance(exc, TimeoutError):
            text = f"no whole answer within {storage.timeout / 1e9:g} s (lake.storage.timeout)"
        for secret in secrets(storage):
            text = text.replace(secret, "…")
        answer = _STATUS.search(text)
        code = _CODE.search(text)
        if answer:
            # The body can quote what was signed, and with which key id.
            text = text[: answer.end()].rstrip(": ")
        text = _QUERY.sub("?…", _USER_INFO.sub("//…@", " ".join(text.split())))
        text = _KEY_FILE.sub(r"\1\2", text)
        return cls(
            text,
            status=int(answer["status"]) if answer else None,
            code=code[1] if code else None,
            silence=None if answer else _silence(text, debug),
        )

    @property
    def told(self) -> str:
        """The store's answer in brackets, or nothing."""
        parts = [str(part) for part in (self.status, self.code) if part is not None]
        return f" ({' '.join(parts)})" if parts else ""

    @property
    def is_refusal(self) -> bool:
        """Whether the store says that it is asked too much."""
        return self.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

    @property
    def no_bucket(self) -> bool:
        """Whether not only the object but its bucket does not exist."""
        return self.code in ("NoSuchBucket", "ContainerNotFound")

    @property
    def no_credentials(self) -> bool:
        """Whether no credential was found, or one that cannot even be used to ask."""
        return _CREDENTIAL_TEXT.search(self.text) is not None and not self._has_passing_status

    @property
    def local_permission(self) -> bool:
        """Whether the operating system refused access to a file."""
        return "(os error 13)" in self.text

    @property
    def plain_http(self) -> bool:
        """Whether the client refused to talk plain http."""
        return "builder error" in self.text

    @property
    def no_ranges(self) -> bool:
        """Whether the server answered a range request with the whole object."""
        return "non-partial response" in self.text

    @property
    def cannot_list(self) -> bool:
        """Whether a web server does not know the request that lists."""
        unknown = self.status in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
        return unknown and "PROPFIND" in self.text

    @property
    def is_lasting(self) -> bool:
        """Whether the same request would fail again."""
        if self.status is not None:
            return not self._has_passing_status
        return "LocalFileSystem" in self.text or "Received redirect" in self.text

    @property
    def _has_passing_status(self) -> bool:
        return self.status is not None and (
            self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status in _PASSING
        )


def _silence(text: str, debug: str) -> str | None:
    host = _HOST.search(text)
    why = next((why for sign, why in _NO_CONNECTION.items() if sign in debug), None)
    return f"nothing answers at {host[1]}: {why}" if host and why else None


def of_owner[E: TicklakeError](error: E, owner: Owner) -> E:
    """Return an error, which speaks of the lake and its options, in the words of the store's owner."""

    def reworded(text: str) -> str:
        return text.replace("lake.storage", "runs_storage").replace("the lake's URL", "the URL of the runs")

    if owner == "runs":
        error.message, error.hint = reworded(error.message), error.hint and reworded(error.hint)
        error.args = (error.message,)
    return error
