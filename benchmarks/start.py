"""How long it takes to begin: a backtest with nothing in the catalog, with all, and the engine by itself."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness import Route, Samples, in_turns
from benchmarks.inputs import KEY, MIDNIGHT, NAUTILUS_ID, lake_urls, make_lake
from benchmarks.results import Check, Result, Table, table
from benchmarks.scale import Scale
from benchmarks.server import serving

__all__ = ["coverage", "run"]

type Figures = dict[str, float]

_LATENCY = 20
_MINUTE = 60_000_000_000
_DAY = (MIDNIGHT, MIDNIGHT + 1_440 * _MINUTE)
_FIVE_MINUTES = (MIDNIGHT + 840 * _MINUTE, MIDNIGHT + 845 * _MINUTE)
_COLD, _WARM, _BARE = "ticklake backtest, cold", "ticklake backtest, warm", "bare BacktestNode"
_HELP, _NOTHING, _COVERAGE = "ticklake --help", "python -c pass", "coverage"


def run(scale: Scale, folder: Path) -> Result:
    """Measure whole processes, from their start to their end."""
    make_lake(folder / "lake", trades=scale.trades)
    with serving(folder) as server:
        server.take(_LATENCY)
        runs = _Runs(folder, f"{server.new_url()}/lake")
        runs.ticklake(_DAY, runs.catalog)  # what the warm ones find
        day = _in_turns(
            {
                _COLD: lambda: runs.ticklake(_DAY, runs.new_folder()),
                _WARM: lambda: runs.ticklake(_DAY, runs.catalog),
                _BARE: lambda: runs.bare(_DAY),
            },
            scale.rounds,
        )
        short = _in_turns(
            {
                _COLD: lambda: runs.ticklake(_FIVE_MINUTES, runs.new_folder()),
                _WARM: lambda: runs.ticklake(_FIVE_MINUTES, runs.catalog),
                _BARE: lambda: runs.bare(_FIVE_MINUTES),
            },
            scale.rounds,
        )
    program = str(Path(sys.executable).parent / "ticklake")
    commands = _in_turns(
        {
            _HELP: lambda: _timed([program, "--help"]),
            _NOTHING: lambda: _timed([sys.executable, "-c", "pass"]),
        },
        2 * scale.rounds,
    )
    _write_many(folder / "many", scale.many_files)
    many = in_turns(
        [Route(_COVERAGE, "benchmarks.start:coverage", {"catalog": str(folder / "many")})], scale.rounds
    )
    return Result(
        "start",
        "Start",
        (
            Check("a day: cold / warm", day.ratio(_COLD, _WARM), "x", 1.25, at_most=True),
            Check("warm: added to a bare BacktestNode", _added(short), "ms", 300, at_most=True),
            Check("ticklake --help", 1_000 * commands.median(_HELP), "ms", 250, at_most=True),
            Check(
                f"coverage of {scale.many_files:,} files",
                1_000 * many.median(_COVERAGE),
                "ms",
                100,
                at_most=True,
            ),
        ),
        (
            _table(f"A day of {scale.trades:,} trades, {_LATENCY} ms of latency", day),
            _table(f"Five minutes of it, {_LATENCY} ms of latency", short),
            table(
                "Commands",
                ("command", "ms"),
                [(name, f"{1_000 * commands.median(name):.0f}") for name in (_HELP, _NOTHING)],
            ),
        ),
        ("Whole processes are timed, the interpreter's start and the engine's import included.",),
        {"day": day.rounds, "five minutes": short.rounds, "commands": commands.rounds, "many": many.rounds},
    )


def _in_turns(ways: dict[str, Callable[[], Figures]], rounds: int) -> Samples:
    return in_turns([Route(name, "") for name in ways], rounds, run=lambda route: ways[route.name]())


def _added(samples: Samples) -> float:
    return 1_000 * samples.difference(_WARM, _BARE)


def _table(title: str, samples: Samples) -> Table:
    rows = [
        (
            name,
            f"{samples.median(name):.2f}",
            f"{samples.median(name, 'first_tick'):.2f}",
            f"{samples.ratio(name, _WARM):.2f}x",
        )
        for name in samples.rounds
    ]
    return table(title, ("run", "seconds", "seconds to the first tick", "/ warm"), rows)


class _Runs:
    """Runs of one strategy over a lake, with and without ticklake."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._numbers = itertools.count()
        self._told = folder / "told"
        self.catalog = self.new_folder()

    def new_folder(self) -> Path:
        """Return a folder that is not there yet."""
        return self._folder / f"new-{next(self._numbers)}"

    def ticklake(self, span: tuple[int, int], catalog: Path) -> Figures:
        """Run `ticklake backtest`."""
        ticks, instruments = lake_urls(self._url)
        config = self._folder / "run.yaml"
        values = {
            "lake": {"ticks": ticks, "instruments": instruments},
            "catalog": str(catalog),
            "window": {"start": span[0], "end": span[1]},
            "instruments": [{"key": KEY, "data": ["trades"]}],
            "venues": {
                "BINANCE": {
                    "account": "MARGIN",
                    "oms": "NETTING",
                    "book": "L1_MBP",
                    "balances": ["1_000_000 USDT"],
                    "fees": {"maker": "0.0002", "taker": "0.0005"},
                    "latency": "5ms",
                }
            },
            "strategies": [
                {
                    "path": "benchmarks.strategy:FirstTick",
                    "config_path": "benchmarks.strategy:FirstTickConfig",
                    "config": {"instrument_id": NAUTILUS_ID, "told": str(self._told)},
                }
            ],
            "runs": str(self._folder / "runs"),
        }
        config.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
        program = str(Path(sys.executable).parent / "ticklake")
        return self._timed([program, "backtest", str(config), "--quiet"])

    def bare(self, span: tuple[int, int]) -> Figures:
        """Run the engine by itself on the warm catalog."""
        arguments = (str(self.catalog), NAUTILUS_ID, str(span[0]), str(span[1] - 1), str(self._told))
        return self._timed([sys.executable, "-m", "benchmarks.bare", *arguments])

    def _timed(self, command: Sequence[str]) -> Figures:
        began = time.monotonic()
        figures = _timed(command)
        return figures | {"first_tick": float(self._told.read_text()) - began}


def _timed(command: Sequence[str]) -> Figures:
    # As installed packages are: with the bytecode of their modules beside them.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return {"seconds": seconds}


def _write_many(root: Path, files: int) -> None:
    """Write the names of a catalog; coverage looks at nothing else."""
    from ticklake.catalog.naming import file_name
    from ticklake.types import Window

    folder = root / "data" / "trades" / NAUTILUS_ID
    folder.mkdir(parents=True)
    for index in range(files):
        start = MIDNIGHT + 5 * index * _MINUTE
        (folder / file_name(Window(start, start + 5 * _MINUTE))).touch()


def coverage(catalog: str) -> Callable[[], Figures]:
    """Ask what a catalog covers."""
    from ticklake import Catalog

    Catalog(tempfile.gettempdir()).coverage()
    return lambda: {"files": sum(one.files for one in Catalog(catalog).coverage())}
