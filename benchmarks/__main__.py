"""Run the benchmarks: `python -m benchmarks [--quick] [--only NAME,...] [--out FOLDER]`."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts
from benchmarks.results import markdown
from benchmarks.scale import FULL, QUICK, Scale

__all__ = ["BENCHMARKS", "run_all"]

BENCHMARKS = ("ingest", "jobs", "windows", "start", "replay")
"""Modules of this package, each with `run(scale, folder) -> Result`."""


def main() -> None:
    """Measure, print Markdown, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure ticklake.")
    parser.add_argument("--quick", action="store_true", help="small inputs and few rounds: under two minutes")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help=f"some of {','.join(BENCHMARKS)}")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes"
    )
    arguments = parser.parse_args()
    names = tuple(arguments.only.split(","))
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    command = "make bench QUICK=1" if arguments.quick else "make bench"
    if names != BENCHMARKS:
        command = f"{command} (only {', '.join(names)})"
    document = run_all(QUICK if arguments.quick else FULL, names, command=command)
    arguments.out.mkdir(parents=True, exist_ok=True)
    made = dt.datetime.fromisoformat(document["made"])
    path = arguments.out / f"{made:%Y%m%dT%H%M%SZ}{'-quick' if arguments.quick else ''}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(markdown(document))
    print(f"written to {path}", file=sys.stderr)


def run_all(scale: Scale, names: tuple[str, ...] = BENCHMARKS, *, command: str) -> dict[str, Any]:
    """Run benchmarks and return what they found as plain JSON values."""
    machine = machine_facts()
    made, began = dt.datetime.now(dt.UTC), time.perf_counter()
    results = []
    for name in names:
        print(f"{name} …", file=sys.stderr)
        one = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="ticklake-bench-") as folder:
            result = importlib.import_module(f"benchmarks.{name}").run(scale, Path(folder))
        results.append(replace(result, seconds=round(time.perf_counter() - one, 1)).to_dict())
    return {
        "version": 1,
        "command": command,
        "date": f"{made:%Y-%m-%d}",
        "made": made.isoformat(timespec="seconds"),
        "quick": scale is not FULL,
        "seconds": round(time.perf_counter() - began, 1),
        "machine": machine,
        "benchmarks": results,
    }


if __name__ == "__main__":
    main()
