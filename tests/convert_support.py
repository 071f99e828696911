"""What the tests of the conversion share: small sources, catalogs on disk, and reading them back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog.naming import file_name, instrument_dir
from ticklake.types import CatalogType, DataType, InstrumentSpec, Window

TRADES = DataType("trades")
BOOK5 = DataType("book_snapshot_5")

BTC = InstrumentSpec("BTCUSDT-PERP.BINANCE", price_precision=1, size_precision=3)
ETH = InstrumentSpec("ETHUSDT-PERP.BINANCE", price_precision=2, size_precision=3)
SPOT = InstrumentSpec("BTCUSDT.BINANCE", price_precision=2, size_precision=5)
KEYS = {
    "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN": BTC,
    "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN": ETH,
    "BINANCE:SPOT_PAIR:BTC-USDT": SPOT,
}

T0 = 1_723_161_600_000_000_000  # 2024-08-09T00:00:00Z

QUERIES = {
    CatalogType.TRADES: "query_trade_ticks",
    CatalogType.DELTAS: "query_order_book_deltas",
    CatalogType.DEPTHS: "query_order_book_depths",
}


def source_path(lake: Path, key: str, day: str, data_type: DataType) -> Path:
    """Return a file of the real lake."""
    folder = lake / "market-data-tick-cefi" / "raw_tick_data" / "by_date" / f"day-{day}"
    return folder / f"data_type-{data_type}" / f"{key}.parquet"


def trades(rows: int = 3, **columns: Any) -> pa.Table:
    """Return trades in the nautilus dialect, one ns apart; columns given replace or join them."""
    values: dict[str, Any] = {
        "price": [61800.1 + i for i in range(rows)],
        "size": [0.001 * (i + 1) for i in range(rows)],
        "aggressor_side": pa.array([1 + i % 2 for i in range(rows)], pa.int8()),
        "trade_id": [str(100 + i) for i in range(rows)],
        "ts_event": pa.array([T0 + i for i in range(rows)], pa.int64()),
        "ts_init": pa.array([T0 + i for i in range(rows)], pa.int64()),
    }
    return pa.table({name: column for name, column in (values | columns).items() if column is not None})


def book(*snapshots: tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]) -> pa.Table:
    """Return snapshots in the nautilus dialect, one ns apart, from (price, size) levels of bids and asks."""
    columns: dict[str, Any] = {
        name: [T0 + i for i in range(len(snapshots))] for name in ("ts_event", "ts_init")
    }
    for side, name in enumerate(("bid", "ask")):
        for level in range(len(snapshots[0][0])):
            levels = [snapshot[side][level] for snapshot in snapshots]
            columns[f"{name}_price_{level}"] = pa.array([price for price, _ in levels], pa.float64())
            columns[f"{name}_size_{level}"] = pa.array([size for _, size in levels], pa.float64())
    return pa.table(columns)


def times(table: pa.Table, column: str = "ts_init") -> list[int]:
    """Return a time column as integers."""
    return table[column].cast(pa.int64()).to_pylist()


def write_catalog(root: Path, table: pa.Table, catalog_type: CatalogType, spec: InstrumentSpec) -> Path:
    """Write a table where the engine looks for it."""
    keys = times(table)
    folder = root / "data" / catalog_type / instrument_dir(spec.nautilus_id)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(Window.from_closed(keys[0], keys[-1]))
    pq.write_table(table, path)
    return path


def read_catalog(root: Path, catalog_type: CatalogType) -> list[Any]:
    """Read everything of a type with the engine."""
    from nautilus_trader.persistence import ParquetDataCatalog

    return getattr(ParquetDataCatalog(str(root)), QUERIES[catalog_type])()


_READER = """
import json, sys
from nautilus_trader.persistence import ParquetDataCatalog
found = getattr(ParquetDataCatalog(sys.argv[1]), sys.argv[2])()
json.dump([item.to_dict() for item in found], sys.stdout)
"""


def read_catalog_apart(root: Path, catalog_type: CatalogType) -> list[dict[str, Any]]:
    """Read everything of a type with the engine in another process, which a Rust panic would abort."""
    done = subprocess.run(
        [sys.executable, "-c", _READER, str(root), QUERIES[catalog_type]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
