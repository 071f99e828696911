"""What the tests of the catalog share: tables, provenance, and the engine as a reader in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog import Catalog, CatalogWriter, Provenance, Source, schema
from ticklake.types import CatalogType, InstrumentSpec, Window

SPEC = InstrumentSpec("BTCUSDT-PERP.BINANCE", price_precision=1, size_precision=3)
PROVENANCE = Provenance(
    lake_key="BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN",
    data_type="trades",
    lake="gs://ticks",
    sources=(Source("gs://ticks/a.parquet", '"etag-1"', 123, 4), Source("gs://ticks/b.parquet", None, 5, 0)),
    counts={"read": 4, "written": 3, "outside": 1},
)


def trades(times: list[int], spec: InstrumentSpec = SPEC) -> pa.Table:
    """Return trades at the given `ts_init`, numbered by it."""
    rows = len(times)
    wanted = schema(CatalogType.TRADES, spec)
    return pa.table(
        {
            "price": pa.array([f"{60_000 + i}.1" for i in range(rows)]).cast(wanted.field("price").type),
            "size": pa.array(["0.001"] * rows).cast(wanted.field("size").type),
            "aggressor_side": pa.DictionaryArray.from_arrays(
                pa.array([i % 2 for i in range(rows)], pa.int8()), pa.array(["BUY", "SELL"])
            ),
            "trade_id": pa.array([str(time) for time in times], pa.string()),
            "ts_event": pa.array(times, pa.int64()).cast(wanted.field("ts_event").type),
            "ts_init": pa.array(times, pa.int64()).cast(wanted.field("ts_init").type),
        },
        schema=wanted,
    )


def put(root: Path | Catalog, window: Window, times: list[int] | None = None, **options: Any) -> Path:
    """Write a file of trades and return its path."""
    spec = options.pop("spec", SPEC)
    provenance = options.pop("provenance", PROVENANCE)
    path = root.path if isinstance(root, Catalog) else root
    with CatalogWriter(path, CatalogType.TRADES, spec, window, **options) as writer:
        writer.write(trades([window.start] if times is None else times, spec))
        return writer.commit(provenance)


def damage(path: Path) -> None:
    """Flip a bit of the first column's values."""
    column = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(data)


def files_below(root: Path) -> set[str]:
    """Return the relative paths of all files below a folder, lock files aside."""
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


_READ = """
import json, sys
from nautilus_trader.persistence import ParquetDataCatalog
root, call, arguments = json.loads(sys.argv[1])
found = getattr(ParquetDataCatalog(root), call)(**arguments)
print(json.dumps([one.to_dict() for one in found], default=str))
"""


def engine_read(root: Path, call: str, **arguments: Any) -> list[dict[str, Any]]:
    """Return what the engine's catalog reads; in another process, for a Rust panic aborts it."""
    done = subprocess.run(
        [sys.executable, "-c", _READ, json.dumps([str(root), call, arguments])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
