"""Bad answers, a small part of all."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

from lake_support import Answer, Request

__all__ = ["Faults"]


def _status(code: int) -> Callable[[Answer], object]:
    def fault(answer: Answer) -> None:
        answer.status, answer.headers, answer.body = code, {}, b"<Error><Code>Made</Code></Error>"

    return fault


def _hang_up(answer: Answer) -> None:
    answer.status, answer.body, answer.hang_up = None, b"", True


def _cut(answer: Answer) -> None:
    answer.headers["Content-Length"] = str(len(answer.body))
    answer.body, answer.hang_up = answer.body[: len(answer.body) // 2], True


def _short(answer: Answer) -> None:
    answer.body = answer.body[:-1]


def _stall(answer: Answer) -> None:
    answer.stall_at = len(answer.body) // 2


def _shift(answer: Answer) -> None:
    answer.body = answer.body[8:] + answer.body[:8]


def _elsewhere(answer: Answer) -> None:
    size = answer.headers["Content-Range"].rpartition("/")[2]
    answer.headers["Content-Range"] = f"bytes 4-{3 + len(answer.body)}/{size}"


def _zeros(answer: Answer) -> None:
    answer.body = bytes(len(answer.body))


def _other_etag(answer: Answer) -> None:
    answer.headers["ETag"] = '"other"'


def _no_etag(answer: Answer) -> None:
    answer.headers.pop("ETag", None)


def _whole(answer: Answer) -> None:
    answer.status = 200
    answer.headers.pop("Content-Range", None)


_FAULTS: dict[str, Callable[[Answer], object]] = {
    **{str(code): _status(code) for code in (403, 408, 429, 500, 502, 503)},
    "hung up": _hang_up,
    "cut": _cut,
    "short": _short,
    "stalled": _stall,
    "shifted": _shift,
    "of another place": _elsewhere,
    "zeros": _zeros,
    "of another version": _other_etag,
    "of no version": _no_etag,
    "200 for a part": _whole,
}

_OF_VERSION = ("of another version", "of no version")


class Faults:
    """Spoils a share of a server's answers; not found is never said, as it would be a hole and no fault.

    Attributes:
        share: The part of answers that is spoilt, 0 to 1.
        served: How often, by fault.
    """

    def __init__(self, seed: str, share: float) -> None:
        self.share = share
        self.served: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, request: Request, answer: Answer) -> None:
        # What a first answer says of the version is believed: there is nothing to hold it against.
        first = (request.range or "").startswith("bytes=-")
        with self._lock:
            if answer.status != 206 or self._random.random() >= self.share:
                return
            name = self._random.choice([name for name in _FAULTS if not first or name not in _OF_VERSION])
            self.served[name] += 1
        _FAULTS[name](answer)
