"""Running a job: in a child process, so that what goes wrong in the engine stays there, or in this one."""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ticklake import errors
from ticklake.backtesting.child import Ended, EngineProcess
from ticklake.backtesting.job import EngineJob, EngineOutcome
from ticklake.backtesting.log import read_log
from ticklake.backtesting.worker import FAILURE, JOB, OUTCOME
from ticklake.errors import BacktestError, TicklakeError

__all__ = ["run_engine", "running"]


def run_engine(
    job: EngineJob,
    folder: Path,
    *,
    in_process: bool = False,
    on_output: Callable[[str], None] | None = None,
    on_simulated: Callable[[float], None] | None = None,
) -> EngineOutcome:
    """Run a job and leave its result tables in a folder; arguments and errors are those of `running`."""
    with running(
        job, folder, in_process=in_process, on_output=on_output, on_simulated=on_simulated
    ) as outcome:
        return outcome


@contextmanager
def running(
    job: EngineJob,
    folder: Path,
    *,
    in_process: bool = False,
    process: EngineProcess | None = None,
    meanwhile: Callable[[], object] | None = None,
    on_output: Callable[[str], None] | None = None,
    on_simulated: Callable[[float], None] | None = None,
) -> Iterator[EngineOutcome]:
    """Run a job, leave its result tables in a folder, and give its outcome while the engine's process ends.

    It ends with the block, and may still fail then.

    Args:
        job: What to run. The catalog must hold everything it needs.
        folder: An existing folder; see `engine.simulate` for what is written into it.
        in_process: Run in this process, for a debugger. A Rust panic then ends this process, and the engine's
            log goes where the first run of the process put it.
        process: A process that waits for a job. Without one, or where it has ended meanwhile, one is begun.
        meanwhile: Called once while the engine works; in this process, before that.
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

            if meanwhile is not None:
                meanwhile()
            outcome = simulate(job, folder, on_simulated)
            # What the engine leaves behind in cycles may be dropped in no other thread than this.
            gc.collect()
            yield _with_log(outcome, folder)
            return
        if process is None or not process.waits:
            process = EngineProcess()
        # It is gone before the folder is, also when Ctrl-C ended the wait.
        with process:
            (folder / JOB).write_text(job.to_json(), encoding="utf-8")
            process.run(
                folder,
                meanwhile=meanwhile or _nothing,
                on_output=on_output or _to_stderr,
                on_progress=on_simulated or _nothing_of,
            )
            (folder / JOB).unlink()
            if not (folder / OUTCOME).exists():
                _require_success(folder, process.wait())
            yield _with_log(_outcome(folder), folder)
            _require_success(folder, process.wait())
    finally:
        (folder / JOB).unlink(missing_ok=True)
        shutil.rmtree(folder / ".view", ignore_errors=True)


def _with_log(outcome: EngineOutcome, folder: Path) -> EngineOutcome:
    """Return an outcome with what the engine logged.

    Raises:
        BacktestError: That tells of what makes the results worthless.
    """
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


def _nothing() -> None:
    """Do what nobody asked for."""


def _nothing_of(_: object) -> None:
    """Take what nobody asked for."""


def _to_stderr(line: str) -> None:
    sys.stderr.write(line)


def _outcome(folder: Path) -> EngineOutcome:
    outcome = folder / OUTCOME
    text = outcome.read_text(encoding="utf-8")
    outcome.unlink()
    return EngineOutcome.from_json(text)


def _require_success(folder: Path, ended: Ended) -> None:
    if ended.code == 0:
        return
    failure = folder / FAILURE
    if failure.exists():
        raise _error(json.loads(failure.read_text(encoding="utf-8")))
    raise BacktestError(
        f"the engine's process {ended}",
        hint="Run with --in-process (in Python: in_process=True) in a debugger to see where.",
    )


def _error(failure: dict[str, str | None]) -> TicklakeError:
    kind = getattr(errors, str(failure["type"]), None)
    if kind is None:
        return BacktestError(f"the run failed:\n{failure['traceback']}".strip())
    error: TicklakeError = kind(str(failure["message"]), hint=failure["hint"])
    return error
