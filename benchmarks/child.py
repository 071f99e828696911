"""A measured process: `python -m benchmarks.child package.module:function`, its arguments as JSON on stdin.

Prints one JSON object: `seconds` of wall time, `cpu_seconds` of this process and its children in that time,
`busy_seconds` of all cores whoever had them, `peak_mb` of memory, and what the work itself returned.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

__all__ = ["answers", "load", "peak_memory_mb"]


def main() -> None:
    """Prepare, time the work, print the figures."""
    out = answers()
    work = load(sys.argv[1])(**json.load(sys.stdin))
    cpu, busy = _cpu_seconds(), _busy_seconds()
    began = time.perf_counter()
    figures = work()
    seconds = time.perf_counter() - began
    found = {
        "seconds": seconds,
        "cpu_seconds": _cpu_seconds() - cpu,
        "busy_seconds": _busy_seconds() - busy,
        "peak_mb": peak_memory_mb(),
    }
    print(json.dumps(found | (figures or {})), file=out)


def answers() -> TextIO:
    """Return standard output for our answers, and send all else that is printed there to standard error."""
    own = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return own


def load(path: str) -> Callable[..., Any]:
    """Return what `package.module:name` names."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def peak_memory_mb() -> float:
    """Return the peak memory of this process; `getrusage` would count that of its parent before the fork."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _busy_seconds() -> float:
    """Return how long the machine's cores have worked, without idling and waiting for disks."""
    path = Path("/proc/stat")
    if not path.exists():
        return float("nan")
    # user, nice, system, idle, iowait, irq, softirq, steal, and guests, who are in user already; see proc(5).
    ticks = [int(value) for value in path.read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
