"""Repeating a request after a passing failure, by Google's published strategy. Knows nothing of stores.

Waits grow exponentially with full jitter, and are bounded in number and time. Where a store says that it is
asked too much, all requests to it pause. Its `Retry-After` would be better than our guess, but obstore (0.12)
tells neither the headers of an answer that is an error, nor anything made of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from ticklake.errors import TransientLakeError

__all__ = ["MAX_WAIT", "Throttle", "repeat"]

MAX_WAIT = 32.0
"""The longest wait before a request is sent again, in seconds, however many failed before it."""


class Throttle:
    """When a store that was asked too much may be asked again; shared by all requests to it.

    Pauses double as long as no request succeeds. Used from one event loop only.

    Args:
        first: The first pause, in seconds.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._until = 0.0
        self._refusals = 0

    @property
    def remaining(self) -> float:
        """Seconds of the pause that are left."""
        return max(0.0, self._until - time.monotonic())

    def refused(self) -> None:
        """Pause: the store is asked too much. Requests that were under way together count as one."""
        if not self.remaining:
            self._until = time.monotonic() + _growing(self._first, self._refusals)
            self._refusals += 1

    def passed(self) -> None:
        """Take note of a request that succeeded."""
        self._refusals = 0


async def repeat[T](
    attempt: Callable[[], Awaitable[T]],
    *,
    throttle: Throttle,
    max_retries: int,
    retry_timeout: float,
    first_wait: float,
) -> T:
    """Make attempts until one succeeds, or fails for good.

    The last one begins at most `retry_timeout` after the call, so that the whole takes no longer than that
    and one attempt.

    Args:
        attempt: Sends the request, and ends in bounded time.
        throttle: Of the store.
        max_retries: How often it is sent again.
        retry_timeout: Seconds from now in which that may begin.
        first_wait: The most that the first wait takes, in seconds; it doubles each time, up to `MAX_WAIT`.

    Raises:
        TransientLakeError: The last attempt's, with the number of requests and the time that they took.
    """
    began = time.monotonic()
    deadline = began + retry_timeout
    await _sleep_until(min(deadline, time.monotonic() + throttle.remaining))
    sent = 0
    while True:
        try:
            result = await attempt()
        except TransientLakeError as exc:
            sent += 1
            pause = throttle.remaining
            # Full jitter; after a pause too, or all would come back at once.
            again = time.monotonic() + pause + random.uniform(0, _growing(first_wait, sent - 1))  # noqa: S311 (no secret)
            if sent > max_retries or again > deadline:
                if sent > 1:
                    seconds = time.monotonic() - began
                    exc.message += f"; given up after {sent} requests in {seconds:.1f} s"
                    exc.args = (exc.message,)
                raise
            await _sleep_until(again)
            # Another request may have been refused meanwhile.
            await _sleep_until(min(deadline, time.monotonic() + throttle.remaining))
        else:
            throttle.passed()
            return result


def _growing(first: float, times: int) -> float:
    # The exponent is bounded, as the number of retries hardly is.
    return min(MAX_WAIT, first * 2.0 ** min(times, 64))


async def _sleep_until(moment: float) -> None:
    if (seconds := moment - time.monotonic()) > 0:
        await asyncio.sleep(seconds)
