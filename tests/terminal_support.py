"""Commands on a terminal of their own (a pty), and what is on its screen meanwhile."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TICKLAKE = str(Path(sys.executable).parent / "ticklake")
# What moves the cursor and clears; colours are of no concern here.
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Screen:
    """What a command wrote to its terminal, and how it ended."""

    raw: str
    code: int

    @property
    def lines(self) -> list[str]:
        """All lines that were ever shown, without escape sequences."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", _SEQUENCE.sub("", self.raw)) if line.strip()]

    @property
    def left(self) -> list[str]:
        """The lines that are left when all is done: what a terminal makes of the sequences."""
        rows: list[str] = [""]
        row = column = 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", self.raw):
            if part == "\r":
                column = 0
            elif part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif part.startswith("\x1b["):
                number = int(re.sub(r"\D", "", part) or 1)
                if part[-1] == "A":
                    row -= number
                elif part[-1] == "K":
                    rows[row] = ""
                assert part[-1] in "AKmhl", part
            else:
                rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
                column += len(part)
        return [line.rstrip() for line in rows if line.strip()]

    @property
    def cursor_is_shown(self) -> bool:
        """Whether the cursor, if it was hidden, was shown again."""
        return self.raw.rfind("\x1b[?25h") >= self.raw.rfind("\x1b[?25l")


def on_terminal(
    *arguments: object,
    columns: int,
    cwd: Path | None = None,
    meanwhile: Callable[[subprocess.Popen[bytes], str], object] = lambda *_: None,
    timeout: float = 60,
) -> Screen:
    """Run a command whose output goes to a terminal of this width.

    Args:
        arguments: Of the command.
        columns: The width.
        cwd: Where.
        meanwhile: Called with the process and all it has shown so far, each time that it shows more.
        timeout: Seconds that it may take.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [TICKLAKE, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
            meanwhile(process, shown.decode(errors="replace"))
        return Screen(shown.decode(), process.wait(timeout=max(1, deadline - time.monotonic())))
    finally:
        process.kill()
        process.wait()
        os.close(ours)
