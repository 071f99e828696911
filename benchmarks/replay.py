"""How fast the engine replays a catalog, by the shape of its files: row groups, number of files, chunks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.harness import Route, Samples, in_turns
from benchmarks.inputs import KEY, MIDNIGHT, NAUTILUS_ID, lake_urls, make_lake, request
from benchmarks.results import Result, Table, table
from benchmarks.scale import Scale
from ticklake.config import EngineConfig
from ticklake.types import NANOS_PER_DAY

__all__ = ["SHAPES", "replay", "run"]

_KINDS = ("trades", "order_book_deltas", "order_book_depths")


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a catalog's day is stored, and replayed."""

    group_rows: int | None = None  # as the catalog has it
    files: int = 1
    chunk_size: int | None = EngineConfig().chunk_size

    def __str__(self) -> str:
        chunk = f"{self.chunk_size:,}" if self.chunk_size else "none"
        rows = f"{self.group_rows:,}" if self.group_rows else "default"
        return f"{rows} / {self.files} / {chunk}"


_DEFAULT = _Shape()
# The most telling first: fewer are measured in a smaller run.
SHAPES = (
    _DEFAULT,
    replace(_DEFAULT, chunk_size=None),
    replace(_DEFAULT, files=24),
    replace(_DEFAULT, group_rows=1_048_576),
    replace(_DEFAULT, group_rows=32_768),
    replace(_DEFAULT, files=288),
    replace(_DEFAULT, chunk_size=50_000),
    replace(_DEFAULT, chunk_size=250_000),
)


def run(scale: Scale, folder: Path) -> Result:
    """Measure each shape of each type, one thing changed at a time."""
    base = _fetch(scale, folder)
    found: dict[str, Samples] = {}
    for kind in _KINDS:
        routes = []
        for shape in SHAPES[: scale.replay_shapes]:
            catalog = folder / f"{kind}-{shape.group_rows}-{shape.files}"
            if not catalog.exists():
                _write(base, catalog, kind, shape)
            arguments = {"catalog": str(catalog), "kind": kind, "chunk_size": shape.chunk_size}
            routes.append(Route(str(shape), "benchmarks.replay:replay", arguments))
        found[kind] = in_turns(routes, scale.rounds)
    ticks = dict.fromkeys(_KINDS, scale.replay_snapshots) | {"trades": scale.replay_trades}
    return Result(
        "replay",
        "Replay by shape of the catalog",
        tables=(
            _overview(found, ticks),
            *(_table(kind, samples, ticks[kind]) for kind, samples in found.items()),
        ),
        notes=(
            "A `BacktestNode` on a day, nobody listening. Shapes differ from the default in one thing.",
            "Ticks are trades or book snapshots, of which each is several deltas.",
        ),
        samples={kind: samples.rounds for kind, samples in found.items()},
    )


def _fetch(scale: Scale, folder: Path) -> Path:
    from ticklake import Catalog, Lake, fetch

    lake, catalog = folder / "lake", folder / "catalog"
    make_lake(lake, trades=scale.replay_trades, snapshots=scale.replay_snapshots)
    books = [request("book_snapshot_5", book_as=name) for name in ("deltas", "depth")]
    fetch(Lake(*lake_urls(lake)), Catalog(catalog), [request(), *books])
    return catalog


def _write(base: Path, target: Path, kind: str, shape: _Shape) -> None:
    """Write the rows of one type of a catalog in another shape."""
    from ticklake import Catalog, InstrumentSpec, Window
    from ticklake.catalog import CatalogWriter, Provenance
    from ticklake.types import CatalogType

    catalog_type = CatalogType(kind)
    (file,) = Catalog(base).files(catalog_type, NAUTILUS_ID)
    rows = pq.read_table(file.path, partitioning=None)
    metadata = rows.schema.metadata
    spec = InstrumentSpec(NAUTILUS_ID, int(metadata[b"price_precision"]), int(metadata[b"size_precision"]))
    rows = rows.replace_schema_metadata(None)
    times = rows["ts_init"].cast("int64").to_numpy()
    edges = [MIDNIGHT + index * NANOS_PER_DAY // shape.files for index in range(shape.files + 1)]
    for window in (Window(start, end) for start, end in pairwise(edges)):
        first, last = np.searchsorted(times, [window.start, window.end])
        with CatalogWriter(target, catalog_type, spec, window, row_group_rows=shape.group_rows) as writer:
            writer.write(rows.slice(first, last - first))
            writer.commit(Provenance(KEY, kind))
    for definitions in (base / "data").glob("*perpetual*"):
        shutil.copytree(definitions, target / "data" / definitions.name)


def replay(catalog: str, kind: str, chunk_size: int | None) -> Callable[[], dict[str, float]]:
    """Replay a catalog's day with the engine alone."""
    from benchmarks.bare import run_node

    span = (MIDNIGHT, MIDNIGHT + NANOS_PER_DAY - 1)
    return lambda: {"events": run_node(catalog, kind, NAUTILUS_ID, span, chunk_size).iterations}


def _overview(found: dict[str, Samples], ticks: dict[str, int]) -> Table:
    rows = [
        (
            kind,
            f"{samples.median(str(_DEFAULT)):.2f}",
            f"{ticks[kind] / samples.median(str(_DEFAULT)):,.0f}",
            f"{1e6 * samples.median(str(_DEFAULT)) / ticks[kind]:.2f}",
            f"{samples.median(str(_DEFAULT), 'peak_mb'):,.0f}",
        )
        for kind, samples in found.items()
    ]
    return table("As it is by default", ("type", "seconds", "ticks/s", "us a tick", "peak MB"), rows)


def _table(kind: str, samples: Samples, ticks: int) -> Table:
    default = str(_DEFAULT)
    rows = [
        (
            name,
            f"{samples.median(name):.2f}",
            f"{ticks / samples.median(name):,.0f}",
            f"{samples.median(name, 'peak_mb'):,.0f}",
            f"{samples.ratio(name, default):.2f}x",
            f"{samples.ratio(name, default, 'peak_mb'):.2f}x",
        )
        for name in samples.rounds
    ]
    header = ("rows a group / files / chunk", "seconds", "ticks/s", "peak MB", "time", "memory")
    return table(f"{kind}, {ticks:,} ticks", header, rows)
