"""Run the benchmarks and print them: `python -m benchmarks [--trades N] [--rounds N]`."""

from __future__ import annotations

import argparse
import os
import platform

from benchmarks.ingest import run


def main() -> None:
    """Measure and print a Markdown table of ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--trades", type=int, default=3_000_000, help="trades of the day (default: 3,000,000)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="runs of each route; medians count (default: 3)"
    )
    arguments = parser.parse_args()
    found = run(arguments.trades, arguments.rounds)
    ours = found["ticklake fetch"]["seconds"]
    print(
        f"{arguments.trades:,} trades, local file to catalog; {os.cpu_count()} cores, {platform.machine()}\n"
    )
    print("| route | seconds | rows/s | peak MB | times ticklake |")
    print("|---|--:|--:|--:|--:|")
    for name, one in found.items():
        seconds, rows = one["seconds"], one["rows"]
        speed, ratio = f"{rows / seconds:,.0f}", f"{seconds / ours:.2f}x"
        print(f"| {name} | {seconds:.2f} | {speed} | {one['peak_mb']:,.0f} | {ratio} |")


main()
