"""The engine's process, begun early: it imports what a run needs while the caller plans and fetches.

Nothing of a strategy is imported before it gets its job. This module imports nothing that takes time, so that
the process can be begun before all else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Ended", "EngineProcess"]

_LAST_LINES = 30


@dataclass(frozen=True, slots=True)
class Ended:
    """How the engine's process ended.

    Attributes:
        code: Its exit code; negative for the number of a signal.
        printed: The last lines that it printed.
    """

    code: int
    printed: str

    def __str__(self) -> str:
        ended = f"ended with exit code {self.code}"
        if self.code < 0:
            ended = f"was ended by {signal.Signals(-self.code).name}"
        return ended + (f"; it last printed:\n{self.printed}" if self.printed else " and printed nothing")


class EngineProcess:
    """A process that waits for a job, has one, or has ended; it does not outlive the block, nor this process.

    What it prints while it waits is kept, and seen only if it gets a job.
    """

    def __init__(self) -> None:
        progress, told = os.pipe()
        try:
            # -P keeps the current directory out of sys.path until strategies are imported: nothing there can
            # take the place of a module of the library.
            self._process = subprocess.Popen(  # noqa: S603 (this interpreter and our own module)
                [sys.executable, "-P", "-m", "ticklake.backtesting.worker", str(told)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(told,),
                encoding="utf-8",
                errors="replace",
            )
        except BaseException:
            os.close(progress)
            raise
        finally:
            os.close(told)
        self._progress = os.fdopen(progress, encoding="ascii")
        self._readers: list[threading.Thread] = []
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, if it has not ended, and let go of its pipes."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._progress):
            if pipe is not None:
                pipe.close()

    @property
    def waits(self) -> bool:
        """Whether it can be given a job."""
        return not self._readers and self._process.poll() is None

    def run(
        self,
        folder: Path,
        *,
        meanwhile: Callable[[], object],
        on_output: Callable[[str], None],
        on_progress: Callable[[float], None],
    ) -> None:
        """Give it the job in a folder, and wait until it has done it, or has ended.

        Args:
            folder: See `worker`.
            meanwhile: Called when it has its job, before it is waited for.
            on_output: Gets each line that it prints, from a thread of its own.
            on_progress: Gets how far it is, from 0 to 1, likewise.
        """
        for relay in (
            partial(_relay, self._process.stdout or (), on_output, self._last),
            partial(_relay_progress, self._progress, on_progress),
        ):
            reader = threading.Thread(target=relay, daemon=True)
            reader.start()
            self._readers.append(reader)
        if self._process.stdin is not None:
            # Where it is gone already, its exit code tells.
            with suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), os.fsencode(folder) + b"\0")
        meanwhile()
        # It closes this pipe when it has nothing more to do than to end.
        self._readers[-1].join()

    def wait(self) -> Ended:
        """Wait for its end."""
        code = self._process.wait()
        self.close()
        return Ended(code, "".join(self._last).strip())


def _relay(lines: Iterable[str], on_output: Callable[[str], None], last: deque[str]) -> None:
    for line in lines:
        last.append(line)
        on_output(line)


def _relay_progress(lines: Iterable[str], on_progress: Callable[[float], None]) -> None:
    for line in lines:
        on_progress(float(line))
