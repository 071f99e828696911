"""Trades from a local file into a catalog: ticklake, the engine's own route, and a plain Arrow copy.

Each measurement runs in a process of its own, in turns, and reports wall time of the work alone (imports and
making the input left out) and the peak memory of its process.
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq

DAY = dt.date(2024, 8, 8)
KEY = "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN"
COLUMNS = ("price", "size", "aggressor_side", "trade_id", "ts_event", "ts_init")


def make_input(folder: Path, trades: int) -> None:
    """Write the same trades as a lake and as the CSV file that the engine's loader reads."""
    import pyarrow as pa
    import pyarrow.compute as pac

    from ticklake.synth import BTC_PERPETUAL, write_synthetic_lake

    write_synthetic_lake(
        folder,
        start=DAY,
        days=1,
        instruments=(BTC_PERPETUAL,),
        trades_per_day=trades,
        snapshots_per_day=max(1, trades // 20),
    )
    rows = pq.read_table(source(folder), partitioning=None)
    micros = {name: pac.divide(rows[name], 1_000) for name in ("ts_event", "ts_init")}
    sides = pa.array(["unknown", "buy", "sell"]).take(pac.cast(rows["aggressor_side"], pa.int64()))
    table = pa.table(
        {
            "exchange": pa.repeat("binance-futures", len(rows)),
            "symbol": pa.repeat("BTCUSDT", len(rows)),
            "timestamp": micros["ts_event"],
            "local_timestamp": micros["ts_init"],
            "id": rows["trade_id"],
            "side": sides,
            "price": rows["price"],
            "amount": rows["size"],
        }
    )
    pc.write_csv(table, folder / "trades.csv", pc.WriteOptions(quoting_style="none"))


def source(folder: Path) -> Path:
    return next(folder.rglob("data_type-trades/*.parquet"))


def ticklake_route(folder: Path, target: Path) -> int:
    from ticklake.catalog import Catalog
    from ticklake.fetching import FetchRequest, fetch
    from ticklake.lake import Lake
    from ticklake.types import DataType, InstrumentKey, Window

    lake = Lake(folder / "market-data-tick-cefi", folder / "instruments-store-cefi")
    request = FetchRequest(InstrumentKey(KEY), DataType("trades"), Window.of_day(DAY))
    return fetch(lake, Catalog(target), [request]).rows


def engine_route(folder: Path, target: Path) -> int:
    from nautilus_trader.adapters.tardis import load_tardis_trades
    from nautilus_trader.model import InstrumentId
    from nautilus_trader.persistence import ParquetDataCatalog

    trades = load_tardis_trades(folder / "trades.csv", 1, 3, InstrumentId.from_str("BTCUSDT-PERP.BINANCE"))
    trades.sort(key=lambda trade: trade.ts_init)
    target.mkdir()
    ParquetDataCatalog(str(target)).write_trade_ticks(trades)
    return len(trades)


def arrow_copy(folder: Path, target: Path) -> int:
    target.mkdir()
    table = pq.read_table(source(folder), columns=list(COLUMNS), partitioning=None)
    pq.write_table(table, target / "copy.parquet", compression="zstd")
    return len(table)


ROUTES: dict[str, Callable[[Path, Path], int]] = {
    "ticklake fetch": ticklake_route,
    "engine (Tardis loader + write_trade_ticks)": engine_route,
    "Arrow copy of the six columns": arrow_copy,
}


MODULES = {
    "ticklake fetch": ("ticklake.fetching", "nautilus_trader.model", "nautilus_trader.persistence"),
    "engine (Tardis loader + write_trade_ticks)": (
        "nautilus_trader.adapters.tardis",
        "nautilus_trader.persistence",
    ),
    "Arrow copy of the six columns": (),
}


def measure(name: str, folder: Path) -> dict[str, float]:
    """Run one route in this process."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for module in MODULES[name]:
            importlib.import_module(module)
        began = time.perf_counter()
        rows = ROUTES[name](folder, Path(scratch) / "target")
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows": rows, "peak_mb": peak_memory_mb()}


def peak_memory_mb() -> float:
    """Return the peak memory of this process; `getrusage` would count that of its parent before the fork."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def run(trades: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return medians by route; rounds interleave the routes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_input(folder, trades)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ROUTES}
        for _ in range(rounds):
            for name in ROUTES:
                command = [sys.executable, "-m", "benchmarks.ingest", name, str(folder)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[name].append(json.loads(done.stdout))
    return {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for name, runs in found.items()
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
