"""The command line: parse, call the API, render. No logic of its own."""

from __future__ import annotations

import atexit
import copy
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer

    from ticklake.backtesting.child import EngineProcess

__all__ = ["main", "program"]

_INTERRUPTED = 130
_TOLD = "Interrupted; nothing is half-written."
_NOBODY_READS = 141
_OBJECTS_BETWEEN_COLLECTIONS = 200_000


def program() -> None:
    """Run `main` as a process of its own.

    Where all went well the process ends at once: to take apart what was imported takes 20 ms, a tenth of what
    a warm run takes besides the engine. What is registered for the end is done, as after a fork.
    """
    try:
        main()
    except SystemExit as exc:
        if exc.code:
            raise
    atexit._run_exitfuncs()  # noqa: SLF001 (as `multiprocessing.popen_fork` does)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        os._exit(_NOBODY_READS)
    os._exit(0)


def main() -> None:
    """Run the `ticklake` command.

    Exits with 0 (done), 1 (the work failed), 2 (bad usage or config), 130 (Ctrl-C) or 141 (whoever read what
    it prints has seen enough, as `head`; other programs end by SIGPIPE then). What failed is told in one
    paragraph; with `--debug`, anywhere on the command line, the traceback goes before it.
    """
    arguments, debug = _without_debug(sys.argv[1:])
    # What is imported stays, and is some 100,000 objects: to look through it for garbage takes a tenth of a
    # warm run. A fetch of a day leaves 1,300 objects in circles, none of which holds data.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        with _engine(arguments) as process:
            _run(arguments, process, debug=debug)
    except KeyboardInterrupt:
        # Before the app had begun, which tells of it by its exit code. What prints errors elsewhere may be
        # what was being imported.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.stderr.write(f"error: {_TOLD}\n")
        sys.exit(_INTERRUPTED)


def _engine(arguments: Sequence[str]) -> AbstractContextManager[EngineProcess | None]:
    """Begin the engine's process where it will be wanted; it imports the engine while we import all else."""
    if arguments[:1] != ["backtest"] or {"--in-process", "--help"} & {*arguments}:
        return nullcontext()
    # A thread of NumPy's, in this process and that one, would spin for 40 ms when it is imported, on a core
    # that the other one needs; this lets it sleep at once.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    from ticklake.backtesting.child import EngineProcess

    return EngineProcess()


def _run(arguments: list[str], process: EngineProcess | None, *, debug: bool) -> None:
    from ticklake.cli.console import print_error, print_notes_of, print_unexpected, stderr
    from ticklake.cli.starting import app
    from ticklake.errors import ConfigError, TicklakeError

    try:
        _with_one_command(app, arguments)(arguments, obj=process)
    except TicklakeError as exc:
        print_notes_of(exc)
        print_error(exc, traceback=debug)
        sys.exit(2 if isinstance(exc, ConfigError) else 1)
    except Exception as exc:  # noqa: BLE001 (a mistake of ours: told like what others got wrong)
        print_notes_of(exc)
        print_unexpected(exc, traceback=debug)
        sys.exit(1)
    except SystemExit as exc:
        # Rich and Typer make an exit with 1 of it, quietly, wherever it happens.
        if isinstance(exc.__context__, BrokenPipeError):
            sys.exit(_NOBODY_READS)
        if exc.code == _INTERRUPTED:
            # Whoever interrupts again does not want to wait for the end of threads.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            stderr().show_cursor()  # it may have been hidden by what was interrupted as it began
            print_error(_TOLD)
        raise


def _with_one_command(app: Typer, arguments: Sequence[str]) -> Typer:
    """Return the app with the command that is asked for alone: to build the parsers of all takes a while."""
    asked = [
        each
        for each in app.registered_commands
        if each.callback is not None and [each.name or each.callback.__name__] == [*arguments[:1]]
    ]
    one = copy.copy(app)
    one.registered_commands = asked or app.registered_commands
    return one


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take `--debug` out of the arguments, wherever it stands before a `--`."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    left = [argument for argument in options if argument != "--debug"]
    return [*left, *arguments[len(options) :]], len(left) < len(options)
