"""The engine's own process: `python -m ticklake.backtesting.worker PIPE`.

It imports the engine, and waits for the path of a folder on its standard input, which a zero byte ends. It
finds `job.json` there and leaves the result tables with `outcome.json` in it, or `failure.json`. To the file
descriptor PIPE it writes how far it is, as lines of numbers from 0 to 1, and closes it when all is written.
It ends when its standard input closes, so that it does not outlive a parent that was killed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import TracebackType

__all__ = ["FAILURE", "JOB", "OUTCOME", "main"]

JOB, OUTCOME, FAILURE = "job.json", "outcome.json", "failure.json"


def main(pipe: int) -> None:
    """Run the job that comes, and tell a pipe how far it is."""
    # A Ctrl-C reaches the whole process group; the parent ends this one. The engine would swallow it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An abort in the engine prints the Python stack that led to it.
    faulthandler.enable()
    # What is imported stays, and need never be looked through for garbage.
    gc.disable()
    # What goes wrong in a broken installation goes wrong again below, where it is reported.
    with contextlib.suppress(Exception):
        import_module("ticklake.backtesting.engine")
        import_module("pandas")  # which pyarrow imports as soon as it makes an array
    gc.freeze()
    gc.enable()
    folder = _folder_of_job()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.excepthook = _reporter(folder / FAILURE)
    from ticklake.backtesting.engine import simulate
    from ticklake.backtesting.job import EngineJob

    def tell(share: float) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, f"{share:.4f}\n".encode())

    outcome = simulate(EngineJob.from_json((folder / JOB).read_text(encoding="utf-8")), folder, tell)
    unfinished = folder / f"{OUTCOME}.tmp"
    unfinished.write_text(outcome.to_json(), encoding="utf-8")
    unfinished.rename(folder / OUTCOME)
    # Its end takes a while; what it came to can be looked at by then.
    os.close(pipe)


# Both use the descriptor itself: a buffered reader's lock would be held when the interpreter ends.
def _folder_of_job() -> Path:
    path = b""
    while not path.endswith(b"\0"):
        if not (read := os.read(0, 4_096)):
            os._exit(1)
        path += read
    return Path(os.fsdecode(path[:-1]))


def _end_with_parent() -> None:
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
    main(int(sys.argv[1]))
