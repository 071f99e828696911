"""A small price series of every instrument, for the report: the extremes of each of many time buckets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog.rows import read_rows
from ticklake.types import CatalogType, Window

__all__ = ["PRICES_SCHEMA", "downsample", "write_prices"]

_BUCKETS = 1_500

PRICES_SCHEMA = pa.schema(
    [
        pa.field("instrument_id", pa.string(), nullable=False),
        pa.field("ts_event", pa.timestamp("ns", tz="UTC"), nullable=False),
        pa.field("price", pa.float64(), nullable=False),
    ]
)

type _Ints = npt.NDArray[np.int64]
type _Floats = npt.NDArray[np.float64]


def write_prices(
    files: Mapping[tuple[str, CatalogType], tuple[Path, ...]], window: Window, path: Path
) -> None:
    """Write the thinned trade prices of every instrument that has trades.

    Args:
        files: Catalog files by instrument and type.
        window: What of them counts, by `ts_init`.
        path: The Parquet file to write: `instrument_id`, `ts_event` (the engine's clock, `ts_init`), `price`.
    """
    tables = [PRICES_SCHEMA.empty_table()]
    for (nautilus_id, kind), paths in sorted(files.items()):
        if kind is CatalogType.TRADES:
            times, prices = downsample(_batches(paths, window), window, _BUCKETS)
            columns = [[nautilus_id] * len(times), times.tolist(), prices.tolist()]
            arrays = [pa.array(c, f.type) for c, f in zip(columns, PRICES_SCHEMA, strict=True)]
            tables.append(pa.table(arrays, schema=PRICES_SCHEMA))
    pq.write_table(pa.concat_tables(tables), path, compression="zstd")


def downsample(
    batches: Iterable[tuple[_Ints, _Floats]], window: Window, buckets: int
) -> tuple[_Ints, _Floats]:
    """Return the points of lowest and highest price of each time bucket, in time order.

    Args:
        batches: Times in nanoseconds, in order, and prices.
        window: What is divided into buckets.
        buckets: How many; at most twice as many points come back.
    """
    width = -(-(window.end - window.start) // buckets)
    low: dict[int, tuple[float, int]] = {}
    high: dict[int, tuple[float, int]] = {}
    for times, prices in batches:
        numbers = (times - window.start) // width
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(times)], strict=True):
            bucket, part = int(numbers[start]), prices[start:stop]
            least, most = start + int(part.argmin()), start + int(part.argmax())
            # The negated price makes the minimum of both tuples the extreme that came first.
            low[bucket] = min(low.get(bucket, (np.inf, 0)), (float(prices[least]), int(times[least])))
            high[bucket] = min(high.get(bucket, (np.inf, 0)), (-float(prices[most]), int(times[most])))
    points = sorted(
        {(at, price) for price, at in low.values()} | {(at, -price) for price, at in high.values()}
    )
    return (
        np.array([at for at, _ in points], dtype=np.int64),
        np.array([price for _, price in points], dtype=np.float64),
    )


def _batches(paths: Iterable[Path], window: Window) -> Iterator[tuple[_Ints, _Floats]]:
    for path in paths:
        for rows in read_rows(path, window, ["ts_init", "price"]):
            yield rows["ts_init"].to_numpy(), rows["price"].cast(pa.float64()).to_numpy()
