"""The engine's own process: `python -m ticklake.backtesting.worker FOLDER PIPE`.

It finds `job.json` in the folder and leaves the result tables with `outcome.json` there, or `failure.json`.
To the file descriptor PIPE it writes how far it is, as lines of numbers from 0 to 1. It ends when its
standard input closes, so that it does not outlive a parent that was killed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ticklake.backtesting.job import EngineJob

__all__ = ["FAILURE", "JOB", "OUTCOME", "main"]

JOB, OUTCOME, FAILURE = "job.json", "outcome.json", "failure.json"


def main(folder: Path, pipe: int) -> None:
    """Run the job in a folder and tell a pipe how far it is."""
    # A Ctrl-C reaches the whole process group; the parent ends this one. The engine would swallow it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An abort in the engine prints the Python stack that led to it.
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.excepthook = _reporter(folder / FAILURE)
    # After the hook, so that a broken installation is reported too.
    from ticklake.backtesting.engine import simulate

    def tell(share: float) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, f"{share:.4f}\n".encode())

    outcome = simulate(EngineJob.from_json((folder / JOB).read_text(encoding="utf-8")), folder, tell)
    (folder / OUTCOME).write_text(outcome.to_json(), encoding="utf-8")


def _end_with_parent() -> None:
    # The descriptor itself: a buffered reader's lock would be held when the interpreter ends.
    os.read(0, 1)
    os._exit(1)


def _reporter(path: Path) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def report(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
        path.write_text(
            json.dumps(
                {
                    "type": kind.__name__,
                    "message": getattr(exc, "message", str(exc)),
                    "hint": getattr(exc, "hint", None),
                    "traceback": "".join(traceback.format_exception(kind, exc, trace)),
                }
            ),
            encoding="utf-8",
        )

    return report


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
