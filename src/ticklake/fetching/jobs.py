"""Work side by side, in threads: what comes of it and what it tells is handed on in the calling thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["Crew", "in_order"]


class Crew:
    """Does work in a number of threads; a single worker is the calling thread itself.

    Args:
        workers: How many pieces of work are under way at once, at most.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._events: SimpleQueue[Future[Any] | Callable[[], object]] = SimpleQueue()

    def tell(self, event: Callable[[], object]) -> None:
        """Have something called in the calling thread, in the order in which it is told; for work."""
        if self._workers == 1:
            event()
        else:
            self._events.put(event)

    def do[K, T](self, todo: deque[tuple[K, Callable[[], T]]]) -> Generator[tuple[K, T]]:
        """Begin work in order, and yield each with what came of it as soon as it is done.

        What is put into `todo` meanwhile is done as well. An error ends all: work under way is stopped and
        waited for, which takes as long as the batch at hand. The same holds for an interrupt, and where the
        generator is closed.

        Args:
            todo: Names of the pieces of work, and what does them; taken out as they begin.

        Raises:
            BaseException: What the first piece that failed raised; of several, the first to be begun.
        """
        if self._workers == 1:
            while todo:
                key, work = todo.popleft()
                yield key, work()
            return
        from ticklake.lake.loop import Stop  # takes time to import, as asyncio does

        stop = Stop()
        running: dict[Future[T], K] = {}
        with ThreadPoolExecutor(self._workers, thread_name_prefix="ticklake-job") as pool:
            try:
                while todo or running:
                    while todo and len(running) < self._workers:
                        key, work = todo.popleft()
                        future = pool.submit(stop.call, work)
                        running[future] = key
                        future.add_done_callback(self._events.put)
                    event = self._next()
                    if not isinstance(event, Future):
                        event()
                    elif event.exception() is None:
                        yield running.pop(event), event.result()
                    else:
                        stop.stop()
                        raise _first_error(running)
            finally:
                stop.stop()

    def _next(self) -> Future[Any] | Callable[[], object]:
        from ticklake.lake.loop import TICK

        # Without an end, an interrupt that comes just before would not wake it.
        while True:
            try:
                return self._events.get(timeout=TICK)
            except Empty:
                continue


def _first_error(running: Iterable[Future[Any]]) -> BaseException:
    from ticklake.lake.loop import Stopped

    futures = list(running)
    wait_for(futures)
    errors = (error for future in futures if (error := future.exception()) is not None)
    return next(error for error in errors if not isinstance(error, Stopped))


def in_order[T](works: Iterable[Callable[[], T]], workers: int) -> list[T]:
    """Do work side by side and return what came of it, in the order in which it was given.

    Args:
        works: What does it.
        workers: How many are under way at once, at most.

    Raises:
        BaseException: The first that was raised; it ends all.
    """
    todo = deque(enumerate(works))
    with closing(Crew(max(1, min(workers, len(todo)))).do(todo)) as results:
        found = dict(results)
    return [found[index] for index in sorted(found)]
