"""What a benchmark found: checks against targets, tables, raw samples; as JSON and as Markdown.

`python -m benchmarks.results FILE.json` prints a run's targets, for the README; with `--all` all tables.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Check", "Result", "Table", "markdown", "summary", "table"]

type Unit = Literal["x", "%", "MB", "trips", "ms", "rows/s"]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure and its target. Times are the machine's: they are shown, and all else is judged.

    Attributes:
        what: What the figure says.
        value: The figure.
        unit: Its unit.
        bound: The target.
        at_most: Whether the figure may be no more than that; otherwise no less.
    """

    what: str
    value: float
    unit: Unit
    bound: float
    at_most: bool

    @property
    def met(self) -> bool:
        """Whether the figure meets its target."""
        value = round(self.value, 2)  # as it is shown
        return value <= self.bound if self.at_most else value >= self.bound

    @property
    def judged(self) -> bool:
        """Whether it counts on any machine."""
        return self.unit not in ("ms", "rows/s")

    def cells(self) -> tuple[str, ...]:
        """Return the row of the summary."""
        verdict = "met" if self.met else "**missed**"
        sign = "≤" if self.at_most else "≥"
        return (
            self.what,
            quantity(self.value, self.unit),
            f"{sign} {quantity(self.bound, self.unit)}",
            verdict if self.judged else f"({verdict})",
        )


@dataclass(frozen=True, slots=True)
class Table:
    """A Markdown table; all columns but the first are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found.

    Attributes:
        name: Its module.
        title: A heading.
        checks: Figures with targets.
        tables: What was measured.
        notes: What to know about them, in sentences.
        samples: Raw figures by measurement, route and round.
        seconds: How long all of it took.
    """

    name: str
    title: str
    checks: tuple[Check, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    samples: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        values["checks"] = [
            asdict(check) | {"met": check.met, "judged": check.judged} for check in self.checks
        ]
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain


def quantity(value: float, unit: Unit) -> str:
    """Return a figure with its unit."""
    if math.isnan(value):
        return "?"
    match unit:
        case "x":
            return f"{value:.2f}x"
        case "%":
            return f"{value:.0f} %"
        case "rows/s":
            return f"{value / 1e6:.2f}M rows/s"
        case _:
            return f"{value:,.0f} {unit}"


def table(title: str, header: Sequence[str], rows: Iterable[Iterable[str]]) -> Table:
    """Return a table, whatever its rows came in."""
    return Table(title, tuple(header), tuple(tuple(row) for row in rows))


def markdown(document: dict[str, Any]) -> str:
    """Return a whole run as Markdown: the machine, the targets, and every table."""
    parts = [summary(document)]
    for result in document["benchmarks"]:
        parts.append(f"### {result['title']} ({result['seconds']:.0f} s)")
        for one in result["tables"]:
            parts += [one["title"], _table(one["header"], one["rows"])]
        parts.append("\n".join(result["notes"]))
    return "\n\n".join(part for part in parts if part)


def summary(document: dict[str, Any]) -> str:
    """Return the table of targets with what stands above it: date, machine, command."""
    checks = [
        Check(**{name: one[name] for name in ("what", "value", "unit", "bound", "at_most")})
        for result in document["benchmarks"]
        for one in result["checks"]
    ]
    judged = [check for check in checks if check.judged]
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    ran = f"`{document['command']}`, {document['date']}, {document['seconds'] / 60:.1f} min"
    hardware = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB, {machine['system']}"
    )
    software = f"Python {machine['python']}, {versions}, commit {machine['commit']}"
    met = f"{sum(check.met for check in judged)} of {len(judged)} targets are met"
    lines = [
        f"{ran}: {hardware}; {software}.",
        f"{met}. Those in brackets are times of this machine, and not judged.",
    ]
    if document["quick"]:
        lines.append("Quick: small inputs and few rounds; the targets are those of the full run.")
    header = ("what", "measured", "target", "")
    return "\n\n".join([*lines, _table(header, [check.cells() for check in checks])])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    marks = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))


def main() -> None:
    """Print a run again."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description="Print a run again.")
    parser.add_argument("file", type=Path, help="what a run wrote")
    parser.add_argument("--all", action="store_true", help="every table, not only that of the targets")
    arguments = parser.parse_args()
    document = json.loads(arguments.file.read_text(encoding="utf-8"))
    print(markdown(document) if arguments.all else summary(document))


if __name__ == "__main__":
    main()
