"""The command line: parse, call the API, render. No logic of its own."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ticklake.backtesting.child import EngineProcess

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the `ticklake` command.

    Exits with 0 (done), 1 (the work failed), 2 (bad usage or config) or 130 (Ctrl-C). What failed is told in
    one paragraph; with `--debug`, anywhere on the command line, the traceback goes before it.
    """
    arguments, debug = _without_debug(sys.argv[1:])
    # What is left when all is done goes with the process: nobody has to look through it.
    atexit.register(gc.freeze)
    with _engine(arguments) as process:
        _run(arguments, process, debug=debug)


def _engine(arguments: Sequence[str]) -> AbstractContextManager[EngineProcess | None]:
    """Begin the engine's process where it will be wanted; it imports the engine while we import all else."""
    if arguments[:1] != ["backtest"] or {"--in-process", "--help"} & {*arguments}:
        return nullcontext()
    from ticklake.backtesting.child import EngineProcess

    return EngineProcess()


def _run(arguments: list[str], process: EngineProcess | None, *, debug: bool) -> None:
    from ticklake.cli.console import print_error, print_notes_of, print_unexpected, stderr
    from ticklake.cli.starting import app
    from ticklake.errors import ConfigError, TicklakeError

    try:
        app(arguments, obj=process)
    except TicklakeError as exc:
        print_notes_of(exc)
        print_error(exc, traceback=debug)
        sys.exit(2 if isinstance(exc, ConfigError) else 1)
    except Exception as exc:  # noqa: BLE001 (a mistake of ours: told like what others got wrong)
        print_notes_of(exc)
        print_unexpected(exc, traceback=debug)
        sys.exit(1)
    except SystemExit as exc:
        if exc.code == _INTERRUPTED:
            # Whoever interrupts again does not want to wait for the end of threads.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            stderr().show_cursor()  # it may have been hidden by what was interrupted as it began
            print_error("Interrupted; nothing is half-written.")
        raise


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take `--debug` out of the arguments, wherever it stands before a `--`."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    left = [argument for argument in options if argument != "--debug"]
    return [*left, *arguments[len(options) :]], len(left) < len(options)
