"""The command line: parse, call the API, render. No logic of its own."""

from __future__ import annotations

import sys

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the `ticklake` command.

    Exits with 0 (done), 1 (the work failed), 2 (bad usage or config) or 130 (Ctrl-C).
    """
    from ticklake.cli.console import print_error
    from ticklake.cli.migration import app
    from ticklake.errors import ConfigError, TicklakeError

    try:
        app()
    except TicklakeError as exc:
        print_error(exc)
        sys.exit(2 if isinstance(exc, ConfigError) else 1)
    except SystemExit as exc:
        if exc.code == _INTERRUPTED:
            print_error("Interrupted. What was fetched whole is kept in the catalog; nothing is half-written")
        raise
