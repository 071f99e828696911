"""What the processes of a soak tell: a line of JSON for each thing, in a file for each process."""

from __future__ import annotations

import json
import os
import resource
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Log", "read_logs"]


class Log:
    """The log of one process. Its time of modification tells since when the process does what it does."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)

    def write(self, **values: Any) -> None:
        # In one step: a process that is killed leaves no half of a line, or one that ends its file.
        os.write(self._descriptor, json.dumps({"at": time.time(), **values}).encode() + b"\n")

    def problem(self, text: str) -> None:
        """Tell of a promise that was not kept."""
        self.write(problem=text)

    @contextmanager
    def operation(self, name: str, expected: Collection[type[Exception]] = ()) -> Iterator[dict[str, Any]]:
        """Tell when something begins and how it ended; the block adds what else there is to tell.

        Any exception ends here. One that is not of exactly an expected type is a problem.
        """
        self.write(begin=name)
        told: dict[str, Any] = {"end": name, "error": None}
        began = time.monotonic()
        try:
            yield told
        except Exception as exc:  # noqa: BLE001 (whatever it is, it has to be told)
            told |= {"error": type(exc).__name__, "message": str(exc)}
            if type(exc) not in expected:
                self.problem(f"{name} failed: {''.join(traceback.format_exception(exc))}")
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.write(seconds=time.monotonic() - began, memory=usage.ru_maxrss * 1024, **told)


def read_logs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what all logs of a folder tell, by process and time; a line that was cut off is left out."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield {"process": path.stem, **json.loads(line)}
