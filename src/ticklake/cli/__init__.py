"""The command line: parse, call the API, render. No logic of its own."""

from __future__ import annotations

import atexit
import gc
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

    Exits with 0 (done), 1 (the work failed), 2 (bad usage or config) or 130 (Ctrl-C).
    """
    # What is left when all is done goes with the process: nobody has to look through it.
    atexit.register(gc.freeze)
    with _engine(sys.argv[1:]) as process:
        _run(process)


def _engine(arguments: Sequence[str]) -> AbstractContextManager[EngineProcess | None]:
    """Begin the engine's process where it will be wanted; it imports the engine while we import all else."""
    if arguments[:1] != ["backtest"] or {"--in-process", "--help"} & {*arguments}:
        return nullcontext()
    from ticklake.backtesting.child import EngineProcess

    return EngineProcess()


def _run(process: EngineProcess | None) -> None:
    from ticklake.cli.console import print_error
    from ticklake.cli.results import app
    from ticklake.errors import ConfigError, TicklakeError

    try:
        app(obj=process)
    except TicklakeError as exc:
        print_error(exc)
        sys.exit(2 if isinstance(exc, ConfigError) else 1)
    except SystemExit as exc:
        if exc.code == _INTERRUPTED:
            print_error("Interrupted. What was fetched whole is kept in the catalog; nothing is half-written")
        raise
