"""Measuring: routes that do the same work, in turns, each in a process of its own.

A route is a function that prepares (imports, a warm-up) and returns the work; only that is timed. In a round
each route runs once, and every other round goes backwards, so that what slows the machine down for a while
slows down all of them. Ratios are taken within a round: their median is what counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Route", "Samples", "in_turns", "measure", "spawn"]

type Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Route:
    """One way to do the work.

    Attributes:
        name: What the tables call it.
        function: `package.module:name` of the function that prepares and returns the work. The work returns
            figures of its own, or None.
        arguments: Its keyword arguments, plain JSON values.
    """

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Samples:
    """What was measured: figures by name, a list of rounds for each route."""

    def __init__(self, names: Sequence[str]) -> None:
        if len(set(names)) < len(names):
            raise ValueError(f"routes share a name: {', '.join(names)}")
        self.rounds: dict[str, list[Figures]] = {name: [] for name in names}

    def add(self, name: str, figures: Figures) -> None:
        """Keep what one run of a route yielded."""
        self.rounds[name].append(figures)

    def median(self, name: str, figure: str = "seconds") -> float:
        """Return the median of a route's figure."""
        return statistics.median(one[figure] for one in self.rounds[name])

    def ratio(self, above: str, below: str, figure: str = "seconds") -> float:
        """Return the median over the rounds of one route's figure divided by another's."""
        return statistics.median(self.paired(above, below, lambda a, b: a[figure] / max(b[figure], 1e-9)))

    def difference(self, more: str, less: str, figure: str = "seconds") -> float:
        """Return the median over the rounds of one route's figure less another's."""
        return statistics.median(self.paired(more, less, lambda a, b: a[figure] - b[figure]))

    def paired(self, one: str, other: str, combine: Callable[[Figures, Figures], float]) -> list[float]:
        """Return what two routes make together in each round."""
        return [combine(a, b) for a, b in zip(self.rounds[one], self.rounds[other], strict=True)]


def in_turns(
    routes: Sequence[Route], rounds: int, *, run: Callable[[Route], Figures] | None = None
) -> Samples:
    """Run all routes once a round, and every other round backwards.

    Args:
        routes: What to measure.
        rounds: How often.
        run: How a route is run; by default in a child process (`measure`).
    """
    samples = Samples([route.name for route in routes])
    for index in range(rounds):
        for route in routes if index % 2 == 0 else reversed(routes):
            samples.add(route.name, (run or measure)(route))
    return samples


def measure(route: Route) -> Figures:
    """Run a route in a process of its own and return its figures; see `benchmarks.child`.

    Raises:
        RuntimeError: It failed; its output is in the message.
    """
    process = spawn("benchmarks.child", route.function)
    told, _ = process.communicate(json.dumps(dict(route.arguments)))
    if process.returncode:
        raise RuntimeError(f"{route.name} failed; see above")
    return dict(json.loads(told))


def spawn(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a module of the benchmarks in a child process that is talked to through its standard streams.

    What it prints goes to our standard error: its answers have standard output for themselves (`answer`).
    """
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )
