"""Writing a synthetic lake to local disk."""

from __future__ import annotations

import datetime as dt
import itertools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.errors import ConfigError
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
# Stands in the footer of each file that is written here; only such files are ever replaced.
_MARKER = b"ticklake.synthetic"


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
    """Write a lake in the default layout; synthetic files are replaced, each in one step, others never.

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
        ConfigError: A file to be written is there already and is no synthetic one; nothing was written.
    """
    require_positive(days=days, levels=levels, row_group_size=row_group_size)
    root = root.resolve()
    lake_days = tuple(start + dt.timedelta(days=index) for index in range(days))
    data_types = ("trades", f"book_snapshot_{levels}")
    keys = tuple(instrument.key for instrument in instruments)
    _refuse_to_replace(
        [
            *(_tick_path(root, *parts) for parts in itertools.product(lake_days, data_types, keys)),
            *(_listing_path(root, day) for day in lake_days),
        ]
    )

    def write_day(unit: tuple[dt.date, SyntheticInstrument]) -> list[SyntheticFile]:
        day, instrument = unit
        simulated = SimulatedDay(
            instrument, day, trades=trades_per_day, snapshots=snapshots_per_day, seed=seed
        )
        written = []
        for data_type in data_types:
            trades = data_type == "trades"
            table = trade_columns(simulated) if trades else book_columns(simulated, levels)
            path = _tick_path(root, day, data_type, instrument.key)
            _write(table, path, row_group_size)
            written.append(SyntheticFile(path, instrument.key, data_type, day, table.num_rows))
        return written

    units = list(itertools.product(lake_days, instruments))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        files = tuple(file for written in pool.map(write_day, units) for file in written)

    listing = instruments_table(instruments, levels=levels)
    for day in lake_days:
        _write(listing, _listing_path(root, day), row_group_size)
    return SyntheticLake(
        ticks=root / TICKS_BUCKET,
        instruments=root / INSTRUMENTS_BUCKET,
        keys=keys,
        days=lake_days,
        files=files,
    )


def _tick_path(root: Path, day: dt.date, data_type: str, key: str) -> Path:
    by_date = root / TICKS_BUCKET / "raw_tick_data" / "by_date"
    return by_date / f"day-{day}" / f"data_type-{data_type}" / f"{key}.parquet"


def _listing_path(root: Path, day: dt.date) -> Path:
    by_date = root / INSTRUMENTS_BUCKET / "instrument_availability" / "by_date"
    return by_date / f"day-{day}" / "instruments.parquet"


def _refuse_to_replace(targets: Iterable[Path]) -> None:
    if foreign := [path for path in targets if path.exists() and not _is_synthetic(path)]:
        more = f" (and {len(foreign) - 1:,} more like it)" if len(foreign) > 1 else ""
        raise ConfigError(
            f"{foreign[0]}{more} would be replaced, but it is not marked as synthetic; nothing was written",
            hint="Name another folder, or move the files away if they are not needed",
        )


def _is_synthetic(path: Path) -> bool:
    try:
        return _MARKER in (pq.read_metadata(path).metadata or {})
    except (pa.ArrowInvalid, OSError):
        return False


def _write(table: pa.Table, path: Path, row_group_size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.tmp")
    marked = table.replace_schema_metadata({_MARKER: b"true"})
    pq.write_table(
        marked, partial, compression="snappy", row_group_size=row_group_size, write_statistics=True
    )
    partial.replace(path)
