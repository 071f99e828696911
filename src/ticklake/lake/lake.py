"""The lake: what is in it, and scans of one instrument's ticks in a window."""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from ticklake.config import DialectConfig, LakeConfig, LayoutConfig, StorageConfig
from ticklake.conversion.dialects import nanos_per_unit, recognise
from ticklake.errors import ConfigError, CorruptObjectError, ObjectChangedError, SourceSchemaError
from ticklake.lake.layout import Layout, TickFile
from ticklake.lake.loop import gather, run
from ticklake.lake.objects import SourceObject
from ticklake.lake.reader import Footer, SourceBatch, find_footer, read_ahead
from ticklake.lake.scan import ObjectPlan, ScanPlan, candidate_days, plan_object
from ticklake.lake.store import Store, Transfer
from ticklake.lake.url import StoreUrl
from ticklake.types import DataType, InstrumentKey, Window

__all__ = ["DEFAULT_IN_FLIGHT_BYTES", "Lake", "Scan"]

_DEFAULT_STORAGE = StorageConfig()

DEFAULT_IN_FLIGHT_BYTES = 256 * 1024 * 1024
"""How much a scan fetches and decodes ahead of its consumer."""


class Lake:
    """Tick files in object storage, or in a folder.

    Nothing is opened before it is needed. Footers are kept for the life of the lake, so that a second window
    of a file needs none; an object that changed meanwhile is noticed (`ObjectChangedError`) and read anew the
    next time. May be used by several threads, but not across a fork of the process.

    Args:
        ticks: URL of the bucket, folder or server that holds the ticks: `gs://`, `s3://`, `az://`, `file://`,
            `http(s)://`, `memory://`, or a plain path.
        instruments: URL of the one that holds the instrument lists, if there is one.
        layout: A named layout (`default`, `hive`) or path templates.
        storage: Store options, the same for both.
        partition_slack: How far `ts_init` may lie outside the UTC day that a row is filed under, in
            nanoseconds.

    Raises:
        ConfigError: A URL, the layout or a store option is not valid.
    """

    def __init__(
        self,
        ticks: str | Path,
        instruments: str | Path | None = None,
        *,
        layout: str | LayoutConfig | Layout = "default",
        storage: StorageConfig = _DEFAULT_STORAGE,
        partition_slack: int = 10_000_000_000,
    ) -> None:
        self.layout = Layout.of(layout)
        self.transfer = Transfer()
        self._ticks = _TickFiles(_store(ticks, storage, self.transfer), self.layout, partition_slack)
        self._instruments = None if instruments is None else _store(instruments, storage, self.transfer)
        self._instrument_lists: dict[dt.date, tuple[pa.Table, SourceObject]] = {}

    @classmethod
    def from_config(cls, config: LakeConfig) -> Self:
        """Return the lake that a config describes.

        Raises:
            ConfigError: A URL, the layout or a store option is not valid.
        """
        return cls(
            config.ticks,
            config.instruments,
            layout=config.layout,
            storage=config.storage,
            partition_slack=config.partition_slack,
        )

    def __repr__(self) -> str:
        instruments = f", instruments={self._instruments.url.text!r}" if self._instruments else ""
        return f"Lake({self._ticks.store.url.text!r}{instruments})"

    def scan(
        self,
        key: str | InstrumentKey,
        data_type: str | DataType,
        window: Window,
        *,
        dialect: DialectConfig | None = None,
    ) -> Scan:
        """Return a scan of one instrument's ticks in a window; nothing is read yet.

        Args:
            key: The instrument's key in the lake.
            data_type: `trades` or `book_snapshot_N`.
            window: Half-open window of `ts_init`.
            dialect: What the columns mean, for files in no known dialect.

        Raises:
            ValueError: The key or the data type is not valid.
        """
        return Scan(self._ticks, _key(key), _data_type(data_type), window, dialect)

    def list(self) -> Iterator[TickFile]:
        """Yield all tick files with size and time, as the store lists them; other objects are left out.

        Raises:
            LakeError: The store could not be listed.
        """
        for item in self._ticks.store.list(self.layout.tick_prefix):
            if (file := self.layout.parse_tick_path(item.path)) is not None:
                yield replace(file, size=item.size, last_modified=item.last_modified)

    def days(self, key: str | InstrumentKey, data_type: str | DataType) -> tuple[dt.date, ...]:
        """Return the days for which the lake has a file, in order.

        Lists the days only, then asks for each day's file: no listing of the whole lake.

        Raises:
            LakeError: The store could not be asked.
        """
        return run(self._ticks.days(_data_type(data_type), _key(key)))

    def instruments(self, day: dt.date) -> tuple[pa.Table, SourceObject]:
        """Return the instrument list of a day; read once, kept for the life of the lake.

        Raises:
            ConfigError: The lake has no instrument lists.
            ObjectNotFoundError: There is none of that day.
            LakeError: It could not be read.
        """
        if self._instruments is None:
            raise ConfigError(
                "the lake has no instrument lists",
                hint="Set lake.instruments to their URL, or define the instrument in the config.",
            )
        if (found := self._instrument_lists.get(day)) is None:
            found = _read_table(self._instruments, self.layout.instruments_path(day))
            self._instrument_lists[day] = found
        return found


class _TickFiles:
    """The tick files of a lake, with the footers read so far."""

    def __init__(self, store: Store, layout: Layout, slack: int) -> None:
        self.store = store
        self.slack = slack
        self._layout = layout
        # By the paths where a file may lie: which of them exists is remembered too.
        self._footers: dict[tuple[str, ...], Footer] = {}

    async def footer(self, data_type: DataType, day: dt.date, key: InstrumentKey) -> Footer | None:
        """Return the footer of a day's file, or None where there is no file; absence is not remembered."""
        paths = self._layout.tick_paths(data_type, day, key)
        footer = self._footers.get(paths) or await find_footer(self.store, paths)
        if footer is not None:
            self._footers[paths] = footer
        return footer

    def forget(self, url: str | None) -> None:
        """Drop the footer of an object that is another version by now."""
        self._footers = {paths: kept for paths, kept in self._footers.items() if kept.version.url != url}

    async def days(self, data_type: DataType, key: InstrumentKey) -> tuple[dt.date, ...]:
        """Return the days that have a file: the layout's folders tell which may, each is then asked for."""
        folders = self._layout.day_folders(data_type, key)
        listed = await gather(self.store.children(folder.prefix) for folder in folders)
        found = {folder.day(child) for folder, paths in zip(folders, listed, strict=True) for child in paths}
        days = sorted(day for day in found if day is not None)
        there = await gather(self._has_file(data_type, day, key) for day in days)
        return tuple(day for day, exists in zip(days, there, strict=True) if exists)

    async def _has_file(self, data_type: DataType, day: dt.date, key: InstrumentKey) -> bool:
        for path in self._layout.tick_paths(data_type, day, key):
            if await self.store.exists(path):
                return True
        return False


class Scan:
    """The ticks of one instrument in a window; made by `Lake.scan`.

    The plan is made once; the same scan may be read any number of times. After an `ObjectChangedError` the
    next use plans anew.
    """

    def __init__(
        self,
        files: _TickFiles,
        key: InstrumentKey,
        data_type: DataType,
        window: Window,
        dialect: DialectConfig | None,
    ) -> None:
        self.key = key
        self.data_type = data_type
        self.window = window
        self._files = files
        self._declared = dialect
        self._planned: tuple[ScanPlan, tuple[Footer, ...]] | None = None

    def __repr__(self) -> str:
        return f"Scan({self.key}, {self.data_type}, {self.window})"

    def plan(self) -> ScanPlan:
        """Return what the scan reads; this reads the files' footers, where the lake does not have them yet.

        Raises:
            SourceSchemaError: The columns of a file match no known dialect.
            LakeError: A footer could not be read.
        """
        return self._plan()[0]

    def batches(self, *, max_in_flight_bytes: int = DEFAULT_IN_FLIGHT_BYTES) -> Generator[SourceBatch]:
        """Yield the row groups that hold rows of the window, in the order of days and positions.

        Rows outside the window are not taken out, nor are rows brought in the order of `ts_init`: a batch's
        watermark tells what can still come. Closing the iterator stops everything that is under way.

        Args:
            max_in_flight_bytes: Bound on the bytes fetched and decoded ahead of the consumer. One row group
                is always under way, however large it is.

        Raises:
            ObjectChangedError: A file was overwritten while it was being read; read again from the start.
            SourceSchemaError: The columns of a file match no known dialect.
            LakeError: A file could not be read.
        """
        plan, footers = self._plan()
        yield from self._read(plan, footers, max_in_flight_bytes)

    def to_table(self) -> pa.Table:
        """Return the rows of the window in the order of `ts_init`, stable, with the source's columns.

        Raises:
            SourceSchemaError: The columns of a file match no known dialect, or those of two days differ.
            LakeError: A file could not be read.
        """
        plan, footers = self._plan()
        if not plan.objects:
            return pa.table({})
        files = list(zip(plan.objects, footers, strict=True))
        read = [file for file in files if file[0].row_groups] or files[:1]
        first, footer = read[0]
        dialect = first.dialect
        if any(item.dialect != dialect for item, _ in read):
            raise self._no_single_table()
        schema = footer.metadata.schema.to_arrow_schema()
        empty = pa.schema([schema.field(name) for name in dialect.columns]).empty_table()
        parts = [_within(batch, self.window) for batch in self._read(plan, footers, DEFAULT_IN_FLIGHT_BYTES)]
        try:
            table = pa.concat_tables([empty, *parts], promote_options="default")
        except pa.ArrowInvalid as exc:
            raise self._no_single_table() from exc
        return table.take(pc.sort_indices(table, sort_keys=[(dialect.time_column, "ascending")]))

    def _no_single_table(self) -> SourceSchemaError:
        return SourceSchemaError(
            f"the files of {self.window} have different columns and make no single table",
            instrument=self.key.text,
            data_type=self.data_type.name,
            hint="Read them one by one, or with batches().",
        )

    def _read(
        self, plan: ScanPlan, footers: tuple[Footer, ...], max_in_flight_bytes: int
    ) -> Generator[SourceBatch]:
        objects = list(zip(plan.objects, footers, strict=True))
        try:
            yield from read_ahead(self._files.store, objects, max_in_flight_bytes=max_in_flight_bytes)
        except ObjectChangedError as exc:
            self._files.forget(exc.url)
            self._planned = None
            raise

    def _plan(self) -> tuple[ScanPlan, tuple[Footer, ...]]:
        if self._planned is None:
            self._planned = self._make_plan()
        return self._planned

    def _make_plan(self) -> tuple[ScanPlan, tuple[Footer, ...]]:
        files = self._files
        days = candidate_days(self.window, files.slack)
        found = run(gather(files.footer(self.data_type, day, self.key) for day in days))
        pairs = list(zip(days, found, strict=True))
        present = [(day, footer) for day, footer in pairs if footer is not None]
        own = set(self.window.days)
        planned = [self._plan_object(day, footer) for day, footer in present]
        plan = ScanPlan(
            self.key,
            self.data_type,
            self.window,
            tuple(item for item, _ in planned),
            tuple(day for day, footer in pairs if footer is None and day in own),
            tuple(note for _, notes in planned for note in notes),
        )
        return plan, tuple(footer for _, footer in present)

    def _plan_object(self, day: dt.date, footer: Footer) -> tuple[ObjectPlan, tuple[str, ...]]:
        try:
            schema = footer.metadata.schema.to_arrow_schema()
            dialect = recognise(schema, self.data_type, self._declared)
        except SourceSchemaError as exc:
            exc.url, exc.instrument = footer.version.url, self.key.text
            raise
        except pa.ArrowException as exc:
            raise CorruptObjectError(
                f"the Parquet schema is not usable: {exc}", url=footer.version.url
            ) from exc
        return plan_object(
            footer.metadata,
            footer.source,
            day=day,
            dialect=dialect,
            window=self.window,
            slack=self._files.slack,
            at_hand=footer.tail.range,
        )


def _store(url: str | Path, storage: StorageConfig, transfer: Transfer) -> Store:
    return Store(StoreUrl.parse(str(url), allow_http=storage.allow_http), storage, transfer)


def _key(key: str | InstrumentKey) -> InstrumentKey:
    return InstrumentKey(key) if isinstance(key, str) else key


def _data_type(data_type: str | DataType) -> DataType:
    return DataType(data_type) if isinstance(data_type, str) else data_type


def _within(batch: SourceBatch, window: Window) -> pa.Table:
    """Return the rows of a batch that are in the window; a row without a time is in none."""
    column = batch.table[batch.dialect.time_column]
    unit = nanos_per_unit(batch.dialect, column.type)
    if pt.is_timestamp(column.type):
        column = column.cast(pa.int64())
    # The window in the column's unit, rounded up at both ends, instead of the column in nanoseconds.
    start, end = -(-window.start // unit), -(-window.end // unit)
    return batch.table.filter(pc.and_(pc.greater_equal(column, start), pc.less(column, end)))


def _read_table(store: Store, path: str) -> tuple[pa.Table, SourceObject]:
    fetched = run(store.read_all(path))
    version = fetched.version
    try:
        table = pq.read_table(pa.BufferReader(fetched.data))
    except (pa.ArrowException, OSError) as exc:
        raise CorruptObjectError(f"not a readable Parquet file: {exc}", url=version.url) from exc
    source = SourceObject(version.url, version.etag, version.size, table.num_rows, version.last_modified)
    return table, source
