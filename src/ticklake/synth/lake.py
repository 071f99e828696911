"""Writing a synthetic lake to local disk."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.synth.market import (
    BTC_PERPETUAL,
    ETH_PERPETUAL,
    SimulatedDay,
    SyntheticInstrument,
    require_positive,
)
from ticklake.synth.tables import book_columns, instruments_table, trade_columns

__all__ = ["SyntheticFile", "SyntheticLake", "write_synthetic_lake"]

TICKS_BUCKET = "market-data-tick-cefi"
INSTRUMENTS_BUCKET = "instruments-store-cefi"


@dataclass(frozen=True, slots=True)
class SyntheticFile:
    """One tick file of a synthetic lake."""

    path: Path
    key: str
    data_type: str
    day: dt.date
    rows: int


@dataclass(frozen=True, slots=True)
class SyntheticLake:
    """A synthetic lake on local disk: one folder for each bucket.

    Attributes:
        ticks: Folder of the ticks bucket.
        instruments: Folder of the instruments bucket.
        keys: The instrument keys.
        days: The UTC days, in order.
        files: The tick files, by day, instrument and data type.
    """

    ticks: Path
    instruments: Path
    keys: tuple[str, ...]
    days: tuple[dt.date, ...]
    files: tuple[SyntheticFile, ...]

    @property
    def ticks_url(self) -> str:
        """The ticks bucket as a `file://` URL."""
        return self.ticks.as_uri()

    @property
    def instruments_url(self) -> str:
        """The instruments bucket as a `file://` URL."""
        return self.instruments.as_uri()

    @property
    def rows(self) -> int:
        """Rows of all tick files together."""
        return sum(file.rows for file in self.files)


def write_synthetic_lake(
    root: Path,
    *,
    start: dt.date,
    days: int = 2,
    instruments: Sequence[SyntheticInstrument] = (BTC_PERPETUAL, ETH_PERPETUAL),
    trades_per_day: int = 400_000,
    snapshots_per_day: int = 150_000,
    levels: int = 5,
    row_group_size: int = 100_000,
    seed: int = 7,
) -> SyntheticLake:
    """Write a lake in the default layout; files that are there already are replaced, each in one step.

    Args:
        root: Folder that gets the two bucket folders.
        start: First UTC day.
        days: Number of days.
        instruments: What to simulate.
        trades_per_day: Trades of an instrument on a day, exactly.
        snapshots_per_day: Book snapshots of an instrument on a day, exactly.
        levels: Levels a side of a snapshot.
        row_group_size: Rows of a Parquet row group.
        seed: Another seed gives other ticks.

    Raises:
        ValueError: A count is not positive.
    """
    require_positive(days=days, levels=levels, row_group_size=row_group_size)
    root = root.resolve()
    by_date = root / TICKS_BUCKET / "raw_tick_data" / "by_date"
    lake_days = tuple(start + dt.timedelta(days=index) for index in range(days))

    def write_day(unit: tuple[dt.date, SyntheticInstrument]) -> list[SyntheticFile]:
        day, instrument = unit
        simulated = SimulatedDay(
            instrument, day, trades=trades_per_day, snapshots=snapshots_per_day, seed=seed
        )
        tables = {
            "trades": trade_columns(simulated),
            f"book_snapshot_{levels}": book_columns(simulated, levels),
        }
        written = []
        for data_type, table in tables.items():
            path = by_date / f"day-{day}" / f"data_type-{data_type}" / f"{instrument.key}.parquet"
            _write(table, path, row_group_size)
            written.append(SyntheticFile(path, instrument.key, data_type, day, table.num_rows))
        return written

    units = [(day, instrument) for day in lake_days for instrument in instruments]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        files = tuple(file for written in pool.map(write_day, units) for file in written)

    listing = instruments_table(instruments, levels=levels)
    for day in lake_days:
        folder = root / INSTRUMENTS_BUCKET / "instrument_availability" / "by_date" / f"day-{day}"
        _write(listing, folder / "instruments.parquet", row_group_size)
    return SyntheticLake(
        ticks=root / TICKS_BUCKET,
        instruments=root / INSTRUMENTS_BUCKET,
        keys=tuple(instrument.key for instrument in instruments),
        days=lake_days,
        files=files,
    )


def _write(table: pa.Table, path: Path, row_group_size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.tmp")
    pq.write_table(table, partial, compression="snappy", row_group_size=row_group_size, write_statistics=True)
    partial.replace(path)
