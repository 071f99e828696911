"""Where the commands write: results to stdout; progress, notes, warnings and errors to stderr."""

from __future__ import annotations

import json
import os
import sys

from rich.console import Console
from rich.markup import escape

__all__ = [
    "format_bytes",
    "print_error",
    "print_json",
    "print_note",
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


def stderr() -> Console:
    """Return a console on the current standard error."""
    return Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_error(error: object) -> None:
    """Print why the command failed, in one paragraph on stderr."""
    stderr().print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)


def print_warning(text: str, *, kind: str = "warning") -> None:
    """Print on stderr what a user must know though the command goes on, after a word for what it is."""
    stderr().print(f"[yellow]{kind}:[/] {escape(text)}", soft_wrap=True)


def print_note(text: str) -> None:
    """Print a remark on stderr."""
    stderr().print(escape(text), style="dim", soft_wrap=True)


def format_bytes(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
