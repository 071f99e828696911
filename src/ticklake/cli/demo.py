"""The demo: a synthetic lake, and what a backtest on it costs the first and the second time."""

from __future__ import annotations

import datetime as dt
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from ticklake.backtesting import Run, backtest
from ticklake.cli.console import format_bytes, print_note, stdout
from ticklake.cli.options import example_strategies
from ticklake.cli.progress import backtest_progress, work
from ticklake.cli.render import print_notes, print_runs
from ticklake.errors import ConfigError
from ticklake.synth import SyntheticLake, write_synthetic_lake

__all__ = ["run_demo"]

_DAY = dt.date(2024, 8, 8)
_WINDOWS = {
    "five-minutes": ("2024-08-08T14:00:00Z", "2024-08-08T14:05:00Z"),
    "one-hour": ("2024-08-08T14:00:00Z", "2024-08-08T15:00:00Z"),
}


_CATALOG = "demo-catalog"
# Says that a catalog was made by the demo, which may therefore empty it.
_MARKER = ".made-by-ticklake-demo"


def run_demo(folder: Path) -> None:
    """Write a synthetic lake of two days, backtest five minutes, an hour, and the five minutes again.

    What is in the folder already stays, but for what an earlier demo made and nobody changed.

    Args:
        folder: Where everything goes. The demo has a catalog of its own in it, which is emptied first, so
            that the first run is a cold one.

    Raises:
        ConfigError: Something in the folder stands in the way that the demo did not make.
    """
    console = stdout()
    examples = example_strategies()
    if examples is None:
        raise ConfigError(
            "the demo needs the strategies in the examples folder of a checkout, which is not here",
            hint="Clone the project and run `make demo` there.",
        )
    _empty(folder / _CATALOG)
    with work("writing a synthetic lake", enabled=True):
        lake = write_synthetic_lake(folder / "lake", start=_DAY, days=2, row_group_size=10_000)
    console.print(f"A synthetic lake of {lake.rows:,} rows lies in {folder / 'lake'}", soft_wrap=True)
    for strategy in ("trade_momentum.py", "book_imbalance.py"):
        if not (folder / strategy).exists():
            shutil.copyfile(examples / strategy, folder / strategy)
    configs = {name: _write_config(folder, name, _config(folder, name, lake)) for name in _WINDOWS}
    runs = [(name, _run(path)) for name, path in configs.items()]
    runs.append(("five-minutes again", _run(configs["five-minutes"])))
    console.print()
    print_runs(runs)
    moved = runs[-1][1].summary["bytes_read"]
    console.print(
        f"\nThe second run of the five minutes moved {format_bytes(moved)}: the catalog is the cache."
    )
    mine = folder / "five-minutes.yaml"
    console.print(f"Try it: change {mine} and run", soft_wrap=True)
    console.print(f"  {_command(mine)}", soft_wrap=True)


def _empty(catalog: Path) -> None:
    """Empty the demo's catalog; the marker stays, so that an interrupted demo can be run again.

    Raises:
        ConfigError: The demo did not make it.
    """
    marker = catalog / _MARKER
    if catalog.exists() and not marker.is_file():
        raise ConfigError(
            f"{catalog} is not the demo's: it has no {_MARKER}, so it is left alone",
            hint="Give the demo another folder, or move this one away.",
        )
    catalog.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for child in catalog.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child != marker:
            child.unlink()


def _run(config: Path) -> Run:
    stdout().print(_command(config), style="bold", soft_wrap=True)
    with backtest_progress(enabled=True) as callbacks:
        run = backtest(config, **callbacks)
    print_notes(run)
    return run


def _command(config: Path) -> str:
    """Return how a config is run from here: the program may not be on PATH."""
    program, found = sys.argv[0], shutil.which("ticklake")
    if found and Path(found).resolve() == Path(program).resolve():
        program = "ticklake"
    return shlex.join([program, "backtest", str(config)])


def _write_config(folder: Path, name: str, values: dict[str, Any]) -> Path:
    """Write a config and return its path: beside the user's own, where that was changed."""
    text = yaml.safe_dump(values, sort_keys=False)
    path = folder / f"{name}.yaml"
    if path.exists() and path.read_bytes() != text.encode():
        own = folder / f"{name}.demo.yaml"
        print_note(f"{path} was changed and is left as it is; the demo runs {own}")
        text = f"# The demo writes this file anew each time; change {path.name} instead.\n{text}"
        path = own
    path.write_text(text, encoding="utf-8")
    return path


def _config(folder: Path, name: str, lake: SyntheticLake) -> dict[str, Any]:
    start, end = _WINDOWS[name]
    return {
        "lake": {"ticks": lake.ticks_url, "instruments": lake.instruments_url},
        "catalog": str(folder / _CATALOG),
        "window": {"start": start, "end": end},
        "instruments": [
            {"key": key, "data": ["trades", "book_snapshot_5"], "book_as": "deltas"} for key in lake.keys
        ],
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "oms": "NETTING",
                "book": "L2_MBP",
                "balances": ["1_000_000 USDT"],
                "fees": {"maker": "0.0002", "taker": "0.0005"},
                "latency": "5ms",
            }
        },
        "strategies": [
            {
                "path": "trade_momentum:TradeMomentum",
                "config_path": "trade_momentum:TradeMomentumConfig",
                "config": {"instrument_id": "BTCUSDT-PERP.BINANCE", "size": "0.1"},
            },
            {
                "path": "book_imbalance:BookImbalance",
                "config_path": "book_imbalance:BookImbalanceConfig",
                "config": {"instrument_id": "ETHUSDT-PERP.BINANCE", "size": "1", "max_position": "3"},
            },
        ],
        "runs": str(folder / "runs"),
    }
