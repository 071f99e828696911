"""The engine's own log of a run: its warnings and errors, one JSON object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ticklake.backtesting.job import LogKind

__all__ = ["ENGINE_LOG", "LogSummary", "kind_of", "read_log"]

ENGINE_LOG = "engine-log.jsonl"

# Of each kind of record so many stay in the file: some strategies make the engine warn at every event.
_KEPT_PER_KIND = 20
_MOST_KINDS = 200
_OTHER = "(other messages)"
_LONGEST = 400

# Ids, times and numbers, but not the digits of a name (L2_MBP, 1000SHIBUSDT-PERP).
_VARIES = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?<![A-Za-z0-9_])-?\d++(?:[-.:_T]\d++)*+Z?(?![A-Za-z0-9_])"
)


@dataclass(slots=True)
class LogSummary:
    """What the log says.

    Attributes:
        kinds: The kinds of records, the most frequent first.
        raised: The first traceback of Python code, if there is one.
        dropped_fills: Fills that the engine left out.
        first_dropped: The message about the first of them.
    """

    kinds: tuple[LogKind, ...] = ()
    raised: str = ""
    dropped_fills: int = 0
    first_dropped: str = ""
    _counts: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, level: str, message: str) -> int:
        """Count a record and return how many of its kind there are now."""
        kind = (level, kind_of(message))
        if kind not in self._counts and len(self._counts) >= _MOST_KINDS:
            kind = (level, _OTHER)
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        if "Traceback (most recent call last)" in message and not self.raised:
            self.raised = message.strip()
        if message.startswith("Skipping fill"):
            self.dropped_fills += 1
            self.first_dropped = self.first_dropped or message
        return count

    def close(self) -> None:
        """Set `kinds`, when all records are counted."""
        kinds = [LogKind(level, message, count) for (level, message), count in self._counts.items()]
        self.kinds = tuple(sorted(kinds, key=lambda kind: (-kind.count, kind.level, kind.message)))


def kind_of(message: str) -> str:
    """Return a message with `#` for every id, time and number; a very long one is cut between words."""
    masked = " ".join(_VARIES.sub("#", message).split())
    if len(masked) <= _LONGEST:
        return masked
    return masked[:_LONGEST].rpartition(" ")[0] + " …"


def read_log(folder: Path) -> LogSummary:
    """Return what the engine logged in a run folder, and leave the first records of each kind in the file.

    An empty log is removed.
    """
    summary, path = LogSummary(), folder / ENGINE_LOG
    if not path.exists():
        return summary
    short = path.with_suffix(".short")
    with path.open(encoding="utf-8") as lines, short.open("w", encoding="utf-8") as kept:
        kept.writelines(_first_of_each_kind(lines, summary))
    summary.close()
    if summary.kinds:
        short.replace(path)
    else:
        short.unlink()
        path.unlink()
    return summary


def _first_of_each_kind(lines: Iterator[str], summary: LogSummary) -> Iterator[str]:
    for line in lines:
        record = json.loads(line)
        if summary.add(record["level"], record["message"]) <= _KEPT_PER_KIND:
            yield line
