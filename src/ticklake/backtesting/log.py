"""The engine's own log of a run: its warnings and errors, one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ENGINE_LOG", "LogSummary", "read_log"]

ENGINE_LOG = "engine-log.jsonl"
_SAMPLES = 20
_SAMPLE_LENGTH = 300


@dataclass(slots=True)
class LogSummary:
    """What the log says.

    Attributes:
        counts: Records by level.
        samples: The first messages, cut to a readable length.
        raised: The first traceback of Python code, if there is one.
        dropped_fills: Fills that the engine left out.
        first_dropped: The message about the first of them.
    """

    counts: dict[str, int] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    raised: str = ""
    dropped_fills: int = 0
    first_dropped: str = ""

    def add(self, level: str, message: str) -> None:
        """Count a record."""
        self.counts[level] = self.counts.get(level, 0) + 1
        if len(self.samples) < _SAMPLES:
            self.samples.append(message[:_SAMPLE_LENGTH])
        if "Traceback (most recent call last)" in message and not self.raised:
            self.raised = message.strip()
        if message.startswith("Skipping fill"):
            self.dropped_fills += 1
            self.first_dropped = self.first_dropped or message


def read_log(folder: Path) -> LogSummary:
    """Return what the engine logged in a run folder; an empty log is removed."""
    summary, path = LogSummary(), folder / ENGINE_LOG
    if not path.exists():
        return summary
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            summary.add(record["level"], record["message"])
    if not summary.counts:
        path.unlink()
    return summary
