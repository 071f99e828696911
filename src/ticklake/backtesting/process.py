"""Running a job: in a child process, so that what goes wrong in the engine stays there, or in this one."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ticklake import errors
from ticklake.backtesting.job import EngineJob, EngineOutcome
from ticklake.backtesting.log import read_log
from ticklake.backtesting.worker import FAILURE, JOB, OUTCOME
from ticklake.errors import BacktestError, TicklakeError

__all__ = ["run_engine"]

_LAST_LINES = 30


def run_engine(
    job: EngineJob,
    folder: Path,
    *,
    in_process: bool = False,
    on_output: Callable[[str], None] | None = None,
    on_simulated: Callable[[float], None] | None = None,
) -> EngineOutcome:
    """Run a job and leave its result tables in a folder.

    Args:
        job: What to run. The catalog must hold everything it needs.
        folder: An existing folder; see `engine.simulate` for what is written into it.
        in_process: Run in this process, for a debugger. A Rust panic then ends this process, and the engine's
            log goes where the first run of the process put it.
        on_output: Gets each line that the engine or a strategy prints; by default it goes to standard error.
            In this process they go there always.
        on_simulated: Called a few times a second, from a thread of its own, with the share of the window that
            was replayed, while strategies are called.

    Raises:
        BacktestError: The engine refused the job, its process died, a strategy raised an exception, or
            fills were dropped.
        ConfigError: A strategy cannot be imported or constructed.
    """
    # The engine takes no relative path, and the child's current directory is its own business.
    folder = folder.absolute()
    try:
        if in_process:
            from ticklake.backtesting.engine import simulate

            outcome = simulate(job, folder, on_simulated)
            # What the engine leaves behind in cycles may be dropped in no other thread than this.
            gc.collect()
        else:
            outcome = _in_child(job, folder, on_output or _to_stderr, on_simulated or _to_nobody)
    finally:
        shutil.rmtree(folder / ".view", ignore_errors=True)
    log = read_log(folder)
    if log.raised:
        raise BacktestError(f"a callback of the strategy failed:\n{log.raised}")
    if log.dropped_fills:
        raise BacktestError(
            f"the engine dropped {log.dropped_fills} fills whose price does not fit the instrument's tick, "
            f"first: {log.first_dropped}",
            hint="The instrument's definition in the catalog is not that of this time; correct it.",
        )
    return replace(outcome, log=log.kinds)


def _in_child(
    job: EngineJob, folder: Path, on_output: Callable[[str], None], on_simulated: Callable[[float], None]
) -> EngineOutcome:
    (folder / JOB).write_text(job.to_json(), encoding="utf-8")
    progress, told = os.pipe()
    # -P keeps the current directory out of sys.path until strategies are imported: nothing there can
    # take the place of a module of the library.
    process = subprocess.Popen(  # noqa: S603 (this interpreter and our own module)
        [sys.executable, "-P", "-m", "ticklake.backtesting.worker", str(folder), str(told)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(told,),
        encoding="utf-8",
        errors="replace",
    )
    os.close(told)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    readers = [
        threading.Thread(target=_relay, args=(process.stdout or (), on_output, last), daemon=True),
        threading.Thread(target=_relay_progress, args=(progress, on_simulated), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        process.wait()
    finally:
        # Also when Ctrl-C ended the wait.
        process.kill()
        process.wait()
        for reader in readers:
            reader.join()
        for pipe in (process.stdout, process.stdin):
            if pipe is not None:
                pipe.close()
        (folder / JOB).unlink()
    return _outcome(folder, process.returncode, list(last))


def _relay(lines: Iterable[str], on_output: Callable[[str], None], last: deque[str]) -> None:
    for line in lines:
        last.append(line)
        on_output(line)


def _relay_progress(pipe: int, on_simulated: Callable[[float], None]) -> None:
    with open(pipe, encoding="ascii") as lines:
        for line in lines:
            on_simulated(float(line))


def _to_nobody(share: float) -> None:
    """Take a report that nobody asked for."""


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)


def _outcome(folder: Path, code: int, last: list[str]) -> EngineOutcome:
    outcome, failure = folder / OUTCOME, folder / FAILURE
    if code == 0:
        text = outcome.read_text(encoding="utf-8")
        outcome.unlink()
        return EngineOutcome.from_json(text)
    if failure.exists():
        raise _error(json.loads(failure.read_text(encoding="utf-8")))
    ended = f"ended with exit code {code}"
    if code < 0:
        ended = f"was ended by {signal.Signals(-code).name}"
    printed = "".join(last).strip()
    raise BacktestError(
        f"the engine's process {ended}"
        + (f"; it last printed:\n{printed}" if printed else " and printed nothing"),
        hint="Run with --in-process (in Python: in_process=True) in a debugger to see where.",
    )


def _error(failure: dict[str, str | None]) -> TicklakeError:
    kind = getattr(errors, str(failure["type"]), None)
    if kind is None:
        return BacktestError(f"the run failed:\n{failure['traceback']}".strip())
    error: TicklakeError = kind(str(failure["message"]), hint=failure["hint"])
    return error
