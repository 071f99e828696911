"""Where the commands write: results to stdout; progress, notes, warnings and errors to stderr."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import traceback as tracebacks
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ticklake.display import format_bytes, refused

__all__ = [
    "format_bytes",
    "print_error",
    "print_json",
    "print_note",
    "print_notes_of",
    "print_unexpected",
    "print_warning",
    "stderr",
    "stdout",
]

_WIDE = 200


def stdout() -> Console:
    """Return a console on the current standard output; a pipe or file gets wide lines."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


@cache
def stderr() -> Console:
    """Return the console on standard error: one, so that text goes above progress and not through it."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_error(error: object, *, traceback: bool = False) -> None:
    """Print why the command failed, in one paragraph on stderr.

    Args:
        error: The error, or what to say.
        traceback: Whether to print before it where in the code it was raised.
    """
    if traceback and isinstance(error, BaseException):
        tracebacks.print_exception(error)
    _say(str(error), label="error:", label_style="bold red")


def print_unexpected(error: Exception, *, traceback: bool) -> None:
    """Print an error that is not one of ours: of which kind, where, and what to do."""
    if traceback:
        tracebacks.print_exception(error)
    if isinstance(error, OSError):
        print_error(
            f"the operating system refused: {refused(error)}. Check the path, its permissions and its disk."
        )
        return
    where = tracebacks.extract_tb(error.__traceback__)[-1]
    next_ = "please report it with what stands above" if traceback else "run it with --debug to see more"
    print_error(
        f"unexpected {type(error).__name__} in {Path(where.filename).name}, line {where.lineno}: {error}. "
        f"This is a mistake in ticklake; {next_}."
    )


def print_notes_of(error: BaseException) -> None:
    """Print what was noted on the way of an error, like how much was done before it."""
    for note in getattr(error, "__notes__", ()):
        print_note(note)


def print_warning(text: str, *, kind: str = "warning") -> None:
    """Print on stderr what a user must know though the command goes on, after a word for what it is."""
    _say(text, label=f"{kind}:", label_style="yellow")


def print_note(text: str) -> None:
    """Print a remark on stderr."""
    _say(text, style="dim")


def _say(text: str, *, label: str = "", label_style: str = "", style: str = "") -> None:
    console = stderr()
    text = f"{label} {text}" if label else text
    if console.is_terminal:
        text = "\n".join(_broken(line, console.width) for line in text.splitlines())
    said = Text(text, style)
    said.stylize(label_style, 0, len(label))
    console.print(said, soft_wrap=True)


def _broken(line: str, width: int) -> str:
    """Return a line broken between words only: a path or URL can be copied whole."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
