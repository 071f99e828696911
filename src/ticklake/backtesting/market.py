"""What the ticks of a run were like, for its report: made of the catalog, so that it needs no engine."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ticklake.backtesting.feed import write_feed
from ticklake.backtesting.job import EngineJob
from ticklake.backtesting.prices import write_prices
from ticklake.catalog import Catalog
from ticklake.errors import BacktestError

__all__ = ["write_market"]


def write_market(job: EngineJob, folder: Path) -> None:
    """Write `prices.parquet`, `latency.parquet` and `book.parquet` of a job into a folder.

    Raises:
        BacktestError: The catalog cannot be read, or the folder not written.
    """
    catalog = Catalog(job.catalog)
    try:
        found = {
            (data.nautilus_id, kind): tuple(
                file.path for file in catalog.files(kind, data.nautilus_id, job.window)
            )
            for data in job.instruments
            for kind in data.types
        }
        files = {place: paths for place, paths in found.items() if paths}
        write_prices(files, job.window, folder / "prices.parquet")
        write_feed(files, job.window, folder / "latency.parquet", folder / "book.parquet")
    except (OSError, pa.ArrowException) as exc:
        raise BacktestError(f"the catalog cannot be read, or the run folder not written: {exc}") from exc
