"""The demo: a synthetic lake, and what a backtest on it costs the first and the second time."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any

import yaml

from ticklake.backtesting import Run, backtest
from ticklake.cli.render import backtest_progress, format_bytes, print_runs, stdout, work
from ticklake.errors import ConfigError
from ticklake.synth import SyntheticLake, write_synthetic_lake

__all__ = ["run_demo"]

_DAY = dt.date(2024, 8, 8)
_WINDOWS = {
    "five-minutes": ("2024-08-08T14:00:00Z", "2024-08-08T14:05:00Z"),
    "one-hour": ("2024-08-08T14:00:00Z", "2024-08-08T15:00:00Z"),
}


def run_demo(folder: Path) -> None:
    """Write a synthetic lake of two days, backtest five minutes, an hour, and the five minutes again.

    Args:
        folder: Where everything goes. Its catalog is emptied first, so that the first run is a cold one.
    """
    console = stdout()
    examples = _examples()
    shutil.rmtree(folder / "catalog", ignore_errors=True)
    with work("writing a synthetic lake", enabled=True):
        lake = write_synthetic_lake(folder / "lake", start=_DAY, days=2, row_group_size=10_000)
    console.print(f"A synthetic lake of {lake.rows:,} rows lies in {folder / 'lake'}", soft_wrap=True)
    configs = {name: _write_config(folder, name, lake, examples) for name in _WINDOWS}
    runs = [(name, _run(path)) for name, path in configs.items()]
    runs.append(("five-minutes again", _run(configs["five-minutes"])))
    console.print()
    print_runs(runs)
    moved = runs[-1][1].summary["bytes_read"]
    console.print(
        f"\nThe second run of the five minutes moved {format_bytes(moved)}: the catalog is the cache."
    )
    console.print(f"Try it: change {configs['five-minutes']} and run", soft_wrap=True)
    console.print(f"  ticklake backtest {configs['five-minutes']}", soft_wrap=True)


def _run(config: Path) -> Run:
    stdout().print(f"ticklake backtest {config}", style="bold", soft_wrap=True)
    with backtest_progress(enabled=True) as (on_progress, on_fetched):
        return backtest(config, on_progress=on_progress, on_fetched=on_fetched)


def _examples() -> Path:
    """Return the folder of the example strategies, which lies in a checkout of the project."""
    folder = Path(__file__).resolve().parents[3] / "examples"
    if not folder.is_dir():
        raise ConfigError(
            "the demo needs the strategies in the examples folder of a checkout, which is not here",
            hint="Clone the project and run `make demo` there.",
        )
    return folder


def _write_config(folder: Path, name: str, lake: SyntheticLake, examples: Path) -> Path:
    """Write a run config, and beside it the strategies that it names, so that they can be played with."""
    for strategy in ("trade_momentum.py", "book_imbalance.py"):
        if not (folder / strategy).exists():
            shutil.copyfile(examples / strategy, folder / strategy)
    start, end = _WINDOWS[name]
    values: dict[str, Any] = {
        "lake": {"ticks": lake.ticks_url, "instruments": lake.instruments_url},
        "catalog": str(folder / "catalog"),
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
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path
