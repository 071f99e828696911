"""One event loop in a thread of its own: where requests run, whatever thread waits for them.

The public API is synchronous. Requests are coroutines all the same, because those can be cancelled at once:
a thread that waits for a socket cannot. Who works in several threads stops them with a `Stop`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from concurrent import futures
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

from ticklake.errors import LakeError

__all__ = ["TICK", "Stop", "Stopped", "gather", "in_turn", "run", "settle", "start", "wait"]

TICK = 0.2
"""Seconds between looks at a pending interrupt."""

# How long the end of the process waits for obstore's threads, at most.
_GRACE = 1.0

# What obstore's threads have not let go of yet. One that comes back into the interpreter after its end takes
# the whole process down with it (SIGABRT, seen in 1 of 20 short scripts on a busy machine).
_unsettled: weakref.WeakSet[Awaitable[Any]] = weakref.WeakSet()


class _LoopThread:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        # Held on the loop alone.
        self.turn = asyncio.Lock()

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                thread = threading.Thread(target=self._loop.run_forever, name="ticklake-io", daemon=True)
                thread.start()
                atexit.register(self._stop, self._loop, thread)
            elif self._pid != os.getpid():
                raise LakeError(
                    "connections to a lake do not survive a fork of the process",
                    hint='Start worker processes with the "spawn" or "forkserver" method.',
                )
            return self._loop

    def _stop(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
        if self._pid != os.getpid():
            return

        async def end() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            deadline = time.monotonic() + _GRACE
            while len(_unsettled) and time.monotonic() < deadline:
                await asyncio.sleep(0.001)
            loop.stop()

        asyncio.run_coroutine_threadsafe(end(), loop)
        thread.join(timeout=2 * _GRACE)
        if not thread.is_alive():
            loop.close()


_THREAD = _LoopThread()


class Stopped(Exception):  # noqa: N818 (no error: nothing failed)
    """Work was told to stop; meant for whoever told it, and for nobody else."""


class Stop:
    """Ends work in other threads: an interrupt (Ctrl-C) and the end of `run` reach the main thread alone.

    May be used by several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._under_way: set[Future[Any]] = set()

    def call[T](self, work: Callable[[], T]) -> T:
        """Do work that can be stopped, in this thread.

        Raises:
            Stopped: It was, at a `start` or while it waited.
        """
        context = contextvars.copy_context()
        context.run(_STOP.set, self)
        return context.run(work)

    def stop(self) -> None:
        """Cancel the requests of that work and let it start no others."""
        with self._lock:
            self._stopped = True
            under_way = [*self._under_way]
        for future in under_way:
            future.cancel()

    def check(self) -> None:
        """Return if work may go on.

        Raises:
            Stopped: It may not.
        """
        if self._stopped:
            raise Stopped

    def adopt(self, future: Future[Any]) -> None:
        """Have a request cancelled as well."""
        with self._lock:
            if not self._stopped:
                self._under_way.add(future)
        if self._stopped:
            future.cancel()
        future.add_done_callback(self._under_way.discard)


_STOP: contextvars.ContextVar[Stop | None] = contextvars.ContextVar("ticklake-stop", default=None)


def start[T](work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the loop; cancelling the future cancels the coroutine.

    Raises:
        LakeError: This process is the child of one that has used the loop (`os.fork`).
        Stopped: The work that this belongs to was told to stop.
    """
    stop = _STOP.get()
    try:
        if stop is not None:
            stop.check()
        loop = _THREAD.get()
    except (LakeError, Stopped):
        work.close()
        raise
    future = asyncio.run_coroutine_threadsafe(work, loop)
    if stop is not None:
        stop.adopt(future)
    return future


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop and wait for it; an interrupt (Ctrl-C) cancels it."""
    future = start(work)
    try:
        return wait(future)
    finally:
        future.cancel()


def wait[T](future: Future[T]) -> T:
    """Return a future's result, however an interrupt (Ctrl-C) falls.

    One that arrives just before a thread begins to wait does not wake it: Python acts on it at the next
    instruction, which is after the wait.

    Raises:
        Stopped: The work that this belongs to was told to stop.
    """
    stop = _STOP.get()
    if stop is not None:
        stop.check()
    while not future.done():
        futures.wait([future], timeout=TICK)
        if stop is not None:
            stop.check()
    return future.result()


async def settle[T](work: Awaitable[T]) -> T:
    """Await a future of obstore's; the end of the process waits until obstore has let go of it."""
    _unsettled.add(work)
    try:
        return await work
    finally:
        # The frame may live on in the traceback of an error.
        del work


@asynccontextmanager
async def in_turn() -> AsyncGenerator[None]:
    """Do work that takes a while in the block, so that answers that came meanwhile are taken between two."""
    async with _THREAD.turn:
        await asyncio.sleep(0)
        yield


async def gather[T](works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once and return their results in order; the first error cancels the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
