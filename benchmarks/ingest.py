"""From a local file into a catalog: ticklake, the engine's own route, and an Arrow copy of the columns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.harness import Route, Samples, in_turns
from benchmarks.inputs import (
    NAUTILUS_ID,
    lake_urls,
    make_lake,
    request,
    source,
    write_book_csv,
    write_grown,
    write_trades_csv,
)
from benchmarks.results import Check, Result, Table, table
from benchmarks.scale import Scale

__all__ = ["arrow_copy", "engine_books", "engine_trades", "run", "ticklake_fetch"]

type Figures = dict[str, float]
type Work = Callable[[], Figures]

_WARM_UP = 2_000
_COLUMNS = ["price", "size", "aggressor_side", "trade_id", "ts_event", "ts_init"]
_OURS, _COPY = "ticklake fetch", "Arrow copy of the six columns"
_DEPTH, _DELTAS = "ticklake fetch, to depth", "ticklake fetch, to deltas"
_ENGINE = "engine (Tardis loader, catalog writer)"


def run(scale: Scale, folder: Path) -> Result:
    """Measure trades, books, and the memory that a larger file takes."""
    day, large, warm = folder / "day", folder / "large", folder / "warm"
    make_lake(warm, trades=_WARM_UP, snapshots=_WARM_UP)
    make_lake(day, trades=scale.trades, snapshots=scale.snapshots)
    make_lake(large)
    write_grown(day, large, scale.growth)
    for lake in (warm, day):
        write_trades_csv(lake, lake / "trades.csv")
        write_book_csv(lake, lake / "book.csv")

    def route(name: str, function: str, lake: Path = day, **arguments: str) -> Route:
        lakes = {"warm_up": str(warm), "lake": str(lake)}
        return Route(name, f"benchmarks.ingest:{function}", lakes | arguments)

    trades = in_turns(
        [
            route(_OURS, "ticklake_fetch"),
            route(_COPY, "arrow_copy"),
            route(_ENGINE, "engine_trades"),
        ],
        scale.rounds,
    )
    books = in_turns(
        [
            route(_DEPTH, "ticklake_fetch", data_type="book_snapshot_5", book_as="depth"),
            route(_DELTAS, "ticklake_fetch", data_type="book_snapshot_5", book_as="deltas"),
            route(_ENGINE, "engine_books"),
        ],
        scale.rounds,
    )
    small_name, large_name = (f"{rows:,} trades" for rows in (scale.trades, scale.trades * scale.growth))
    memory = in_turns(
        [route(small_name, "ticklake_fetch"), route(large_name, "ticklake_fetch", large)],
        scale.growth_rounds,
    )
    checks = (
        Check("trades: ticklake / Arrow copy", trades.ratio(_OURS, _COPY), "x", 1.15, at_most=True),
        Check("trades: engine / ticklake", trades.ratio(_ENGINE, _OURS), "x", 12, at_most=False),
        Check("trades: rows/s", _speed(trades, _OURS), "rows/s", 3e6, at_most=False),
        Check("books to depth: engine / ticklake", books.ratio(_ENGINE, _DEPTH), "x", 8, at_most=False),
        Check("books to deltas: engine / ticklake", books.ratio(_ENGINE, _DELTAS), "x", 5, at_most=False),
        Check(f"peak memory of {small_name}", trades.median(_OURS, "peak_mb"), "MB", 350, at_most=True),
        Check(
            f"peak memory: {large_name} / {small_name}",
            memory.ratio(large_name, small_name, "peak_mb"),
            "x",
            1.25,
            at_most=True,
        ),
    )
    tables = (
        _table(f"{scale.trades:,} trades", trades, _OURS),
        _table(f"{scale.snapshots:,} book snapshots of 5 levels (rows of the catalog)", books, _DEPTH),
        _table("Ten times the rows" if scale.growth == 10 else "More rows", memory, small_name),
    )
    samples = {"trades": trades.rounds, "books": books.rounds, "memory": memory.rounds}
    return Result("ingest", "Ingest: from a local file into a catalog", checks, tables, samples=samples)


def _speed(samples: Samples, name: str) -> float:
    return samples.median(name, "rows") / samples.median(name)


def _table(title: str, samples: Samples, ours: str) -> Table:
    rows = [
        (
            name,
            f"{samples.median(name):.2f}",
            f"{_speed(samples, name):,.0f}",
            f"{samples.median(name, 'cpu_seconds'):.2f}",
            f"{samples.median(name, 'peak_mb'):,.0f}",
            f"{samples.ratio(name, ours):.2f}x",
        )
        for name in samples.rounds
    ]
    return table(title, ("route", "seconds", "rows/s", "CPU s", "peak MB", f"/ {ours}"), rows)


def ticklake_fetch(warm_up: str, lake: str, data_type: str = "trades", book_as: str = "deltas") -> Work:
    """Fetch a day of a local lake."""
    from ticklake import Catalog, Lake, fetch

    def work(root: str) -> Figures:
        with tempfile.TemporaryDirectory(dir=root) as target:
            wanted = [request(data_type, book_as=book_as)]
            return {"rows": fetch(Lake(*lake_urls(root)), Catalog(target), wanted).rows}

    work(warm_up)
    return lambda: work(lake)


def arrow_copy(warm_up: str, lake: str) -> Work:
    """Read the columns of a day's trades and write them again."""

    def work(root: str) -> Figures:
        with tempfile.TemporaryDirectory(dir=root) as target:
            rows = pq.read_table(source(Path(root)), columns=_COLUMNS, partitioning=None)
            pq.write_table(rows, Path(target, "copy.parquet"), compression="zstd")
        return {"rows": rows.num_rows}

    work(warm_up)
    return lambda: work(lake)


def engine_trades(warm_up: str, lake: str) -> Work:
    """Load a day's trades from CSV and write them as the engine does it."""
    from nautilus_trader.adapters.tardis import load_tardis_trades
    from nautilus_trader.model import InstrumentId
    from nautilus_trader.persistence import ParquetDataCatalog

    def work(root: str) -> Figures:
        with tempfile.TemporaryDirectory(dir=root) as target:
            trades = load_tardis_trades(Path(root, "trades.csv"), 1, 3, InstrumentId.from_str(NAUTILUS_ID))
            trades.sort(key=lambda trade: trade.ts_init)
            ParquetDataCatalog(target).write_trade_ticks(trades)
        return {"rows": len(trades)}

    work(warm_up)
    return lambda: work(lake)


def engine_books(warm_up: str, lake: str) -> Work:
    """Load a day's book snapshots from CSV and write them as depths, as the engine does it."""
    from nautilus_trader.adapters.tardis import load_tardis_depth_from_snapshot5
    from nautilus_trader.model import InstrumentId
    from nautilus_trader.persistence import ParquetDataCatalog

    def work(root: str) -> Figures:
        with tempfile.TemporaryDirectory(dir=root) as target:
            path, instrument = Path(root, "book.csv"), InstrumentId.from_str(NAUTILUS_ID)
            depths = load_tardis_depth_from_snapshot5(path, 1, 3, instrument)
            depths.sort(key=lambda depth: depth.ts_init)
            ParquetDataCatalog(target).write_order_book_depths(depths)
        return {"rows": len(depths)}

    work(warm_up)
    return lambda: work(lake)
