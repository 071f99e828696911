"""Eight units (instrument, day) over a bucket that answers late: side by side, and one after another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Route, in_turns
from benchmarks.inputs import MIDNIGHT, lake_urls, make_lake, request
from benchmarks.results import Check, Result, table
from benchmarks.scale import Scale
from benchmarks.server import serving
from ticklake.synth import BTC_PERPETUAL, ETH_PERPETUAL
from ticklake.types import NANOS_PER_DAY

__all__ = ["fetch_units", "run"]

_DAYS = 4
_LATENCY = 20
_AS_IT_IS, _ONE = "as it is by default", "jobs=1"
_SIDE_BY_SIDE = (2, 4)


def run(scale: Scale, folder: Path) -> Result:
    """Measure how busy eight units keep the cores."""
    make_lake(folder, trades=scale.unit_trades, days=_DAYS, instruments=2)
    names: dict[str, int | None] = {_AS_IT_IS: None, _ONE: 1}
    names |= {f"jobs={jobs}": jobs for jobs in _SIDE_BY_SIDE}
    with serving(folder) as server:
        server.take(_LATENCY)
        samples = in_turns(
            [
                Route(name, "benchmarks.jobs:fetch_units", {"url": server.new_url(), "jobs": jobs})
                for name, jobs in names.items()
            ],
            scale.rounds,
        )
    cores = os.cpu_count() or 1

    def use(name: str, figure: str) -> float:
        return 100 * samples.median(name, figure) / (samples.median(name) * cores)

    most = f"jobs={_SIDE_BY_SIDE[-1]}"
    checks = [Check(f"{most}: cores that work", use(most, "busy_seconds"), "%", 85, at_most=False)]
    for name in (f"jobs={jobs}" for jobs in _SIDE_BY_SIDE):
        ratio = samples.ratio(name, _ONE)
        checks.append(Check(f"{name} / one after another", ratio, "x", 1, at_most=True))
    rows = [
        (
            name,
            f"{samples.median(name):.2f}",
            f"{samples.median(name, 'rows') / samples.median(name):,.0f}",
            f"{use(name, 'busy_seconds'):.0f} %",
            f"{use(name, 'cpu_seconds'):.0f} %",
            f"{samples.median(name, 'peak_mb'):,.0f}",
        )
        for name in names
    ]
    title = f"8 days of {scale.unit_trades:,} trades over {_LATENCY} ms"
    notes = ("Cores work for the fetch, and for the server, which has no machine of its own.",)
    return Result(
        "jobs",
        "Units side by side",
        tuple(checks),
        (table(title, ("fetch", "seconds", "rows/s", "cores that work", "for the fetch", "peak MB"), rows),),
        notes,
        {"units": samples.rounds},
    )


def fetch_units(url: str, jobs: int | None) -> Callable[[], dict[str, float]]:
    """Fetch all units of a lake."""
    from ticklake import Catalog, Lake, fetch

    span = (MIDNIGHT, MIDNIGHT + _DAYS * NANOS_PER_DAY)
    wanted = [request("trades", span, key=one.key) for one in (BTC_PERPETUAL, ETH_PERPETUAL)]

    def work() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as target:
            return {"rows": fetch(Lake(*lake_urls(url)), Catalog(target), wanted, jobs=jobs).rows}

    return work
