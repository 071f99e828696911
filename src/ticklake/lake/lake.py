"""The lake: what is in it, and scans of one instrument's ticks in a window."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa

from ticklake.config import DialectConfig, LakeConfig, LayoutConfig, StorageConfig
from ticklake.conversion.dialects import declaration, recognise
from ticklake.conversion.kernels import schema_without_views
from ticklake.display import card, format_bytes
from ticklake.errors import (
    ConfigError,
    CorruptObjectError,
    MissingDataError,
    ObjectChangedError,
    SourceSchemaError,
)
from ticklake.lake.files import TickFiles
from ticklake.lake.footers import Footer, read_footer
from ticklake.lake.keeping import widest
from ticklake.lake.layout import Layout, TickFile
from ticklake.lake.loop import gather, run
from ticklake.lake.objects import SourceObject
from ticklake.lake.reader import SourceBatch, read_ahead
from ticklake.lake.rowgroups import DECODERS
from ticklake.lake.scan import ObjectPlan, ScanPlan, candidate_days, facts_of, plan_object
from ticklake.lake.store import Fetched, Store
from ticklake.lake.times import in_order, within
from ticklake.lake.transfer import Transfer
from ticklake.lake.url import StoreUrl
from ticklake.parquet.structure import placed
from ticklake.types import ByteRange, DataType, InstrumentKey, Moment, Window, parse_day

__all__ = ["DEFAULT_IN_FLIGHT_BYTES", "Lake", "Scan"]

_DEFAULT_STORAGE = StorageConfig()
_MAX_LIST = 64 * 1024 * 1024  # bytes of an instrument list: some hundred thousand instruments

DEFAULT_IN_FLIGHT_BYTES = 32 * 1024 * 1024
"""How much a scan fetches and decodes ahead of its consumer: three requests of 8 MiB, and of what is decoded
of them what there is room for."""


class Lake:
    """Tick files in object storage, or in a folder.

    Nothing is opened before it is needed. Footers are kept, so that every later window of a file takes one
    round trip: requests for its data are pinned to the footer's version, and where a window needs none, the
    store is asked whether the file still is that version. One that is not is planned anew, or refused where
    its data is under way already (`ObjectChangedError`). Instrument lists are kept as they were read.
    `forget` drops all that is kept.

    May be used by several threads, but not across a fork of the process. A pickle holds nothing of what was
    read, and no secrets: where it is read, they come from the environment.

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
        self._storage = storage
        self._ticks = TickFiles(_store(ticks, storage, self.transfer), self.layout, partition_slack)
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

    def _repr_html_(self) -> str:
        facts = {
            "ticks": self._ticks.store.url.text,
            "instrument lists": self._instruments.url.text if self._instruments else "none",
            "layout": self.layout.ticks,
            "requests sent": self.transfer.requests,
            "received": format_bytes(self.transfer.bytes),
        }
        return card("Lake", facts)

    def __reduce__(self) -> tuple[object, ...]:
        instruments = self._instruments and self._instruments.url.text
        make = partial(
            type(self), layout=self.layout, storage=self._storage, partition_slack=self._ticks.slack
        )
        return make, (self._ticks.store.url.text, instruments)

    @property
    def root(self) -> str:
        """URL of the ticks in one spelling, by which lakes can be told apart."""
        return self._ticks.store.url.one_spelling

    def scan(
        self,
        key: str | InstrumentKey,
        data_type: str | DataType,
        window: Window | tuple[Moment, Moment],
        *,
        dialect: DialectConfig | Mapping[str, Any] | None = None,
    ) -> Scan:
        """Return a scan of one instrument's ticks in a window; nothing is read yet.

        Args:
            key: The instrument's key in the lake.
            data_type: `trades` or `book_snapshot_N`.
            window: Half-open window of `ts_init`: a `Window`, or its start and end in any form that
                `Window.parse` takes.
            dialect: What the columns mean, for files in no known dialect.

        Raises:
            ValueError: An argument is not valid.
            TypeError: An argument is of none of these kinds.
        """
        return Scan(
            self._ticks,
            InstrumentKey.of(key),
            DataType.of(data_type),
            Window.of(window),
            declaration(dialect),
        )

    def list(self, day: Moment | None = None) -> Iterator[TickFile]:
        """Yield all tick files with size and time in the order of their paths; other objects are left out.

        Args:
            day: Those of this UTC day only, a date or text; what the layout keeps elsewhere is not listed.

        Raises:
            ValueError: It is no day.
            LakeError: The store could not be listed.
        """
        day = None if day is None else parse_day(day)
        prefix = self.layout.tick_prefix if day is None else self.layout.day_prefix(day)
        # Clouds list in this order, folders and web servers do not.
        for item in sorted(self._ticks.store.list(prefix), key=lambda item: item.path):
            file = self.layout.parse_tick_path(item.path)
            if file is not None and day in (None, file.day):
                yield replace(file, size=item.size, last_modified=item.last_modified)

    def all_days(self) -> tuple[dt.date, ...]:
        """Return the days of which the lake has anything, in order.

        One listing of the days, where they are folders of the layout's; else all files are listed.

        Raises:
            LakeError: The store could not be listed.
        """
        folder = self.layout.days_folder
        if folder is None:
            return tuple(sorted({file.day for file in self.list()}))
        children = run(self._ticks.store.children(folder.prefix))
        return tuple(sorted({day for child in children if (day := folder.day(child)) is not None}))

    def days(
        self,
        key: str | InstrumentKey,
        data_type: str | DataType,
        *,
        of: Iterable[dt.date] | None = None,
    ) -> tuple[dt.date, ...]:
        """Return the days for which the lake has a file, in order.

        Lists the days only, then asks for each day's file: no listing of the whole lake.

        Args:
            key: The instrument's key in the lake.
            data_type: `trades` or `book_snapshot_N`.
            of: Only these days; then nothing is listed.

        Raises:
            LakeError: The store could not be asked.
        """
        asked = None if of is None else sorted(set(of))
        return run(self._ticks.days(DataType.of(data_type), InstrumentKey.of(key), asked))

    def one_look(self) -> AbstractContextManager[None]:
        """Return a block in which scans are planned together: a file is looked at once for all of them."""
        return self._ticks.one_look()

    def stop_ahead(self) -> None:
        """Drop the footers that scans looked ahead for (`Scan.look_ahead`) and no plan has taken."""
        self._ticks.stop_ahead()

    def forget(self) -> None:
        """Drop the footers and instrument lists that are kept, so that what comes next reads them anew."""
        self._ticks.forget()
        self._instrument_lists = {}

    def instruments(self, day: Moment) -> tuple[pa.Table, SourceObject]:
        """Return the instrument list of a day; read once, then kept until `forget`.

        Args:
            day: The UTC day, as a date or as text.

        Raises:
            ValueError: It is no day.
            ConfigError: The lake has no instrument lists.
            ObjectNotFoundError: There is none of that day.
            LakeError: It could not be read.
        """
        if self._instruments is None:
            raise ConfigError(
                "the lake has no instrument lists",
                hint="Set lake.instruments to their URL, or define the instrument in the config.",
            )
        day = parse_day(day)
        if (found := self._instrument_lists.get(day)) is None:
            found = _read_table(self._instruments, self.layout.instruments_path(day))
            self._instrument_lists[day] = found
        return found


class Scan:
    """The ticks of one instrument in a window; made by `Lake.scan`.

    The plan is made once, and the same scan may be read any number of times: what it yields is what the lake
    held then. After an `ObjectChangedError` the next use plans anew.
    """

    def __init__(
        self,
        files: TickFiles,
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

    def _repr_html_(self) -> str:
        # Showing it reads nothing: what a plan costs is for `plan` to pay.
        planned = self._planned and self._planned[0]
        state = f"{planned.bytes:,} bytes in {planned.requests:,} requests" if planned else "nothing read yet"
        return card("Scan", {**facts_of(self.key, self.data_type, self.window), "plan": state})

    def plan(self) -> ScanPlan:
        """Return what the scan reads; this reads the files' footers, where the lake does not keep them.

        Raises:
            SourceSchemaError: The columns of a file match no known dialect.
            LakeError: A footer could not be read.
        """
        return self._plan()[0]

    def look_ahead(self) -> None:
        """Begin to ask for what the plan takes. Waits for nothing: `plan` does, and raises what went wrong.

        For somebody who has something else to ask meanwhile, and calls `Lake.stop_ahead` in the end.
        """
        for day in candidate_days(self.window, self._files.slack):
            planner = _Planner(self._plan_object, day)
            self._files.look_ahead(self.data_type, day, self.key, index=planner.index)

    def widest(self, first: Window, last: Window) -> Window:
        """Return the widest window around this one that reading the same bytes gives all rows of.

        Args:
            first: The piece that the window begins with, in one UTC day.
            last: The piece that it ends with, in one UTC day; perhaps the same.

        Raises:
            SourceSchemaError: The columns of a file match no known dialect.
            LakeError: A footer could not be read.
        """
        return widest(self._plan()[0], first, last, self._files.slack)

    def over(self, window: Window) -> Scan:
        """Return the scan of a wider window that reads the same as this one; it is planned already.

        Args:
            window: A window around this scan's, and no wider than `widest` says.

        Raises:
            ValueError: It is not around this scan's window.
            SourceSchemaError: The columns of a file match no known dialect.
            LakeError: A footer could not be read.
        """
        if window.intersect(self.window) != self.window:
            raise ValueError(f"{window} is not around {self.window}")
        scan = Scan(self._files, self.key, self.data_type, window, self._declared)
        plan, footers = self._plan()
        scan._planned = replace(plan, window=window), footers
        return scan

    def part(self, window: Window) -> Scan:
        """Return a scan of a part of the window, planned of the same versions of the files.

        Raises:
            LakeError: This scan was not planned yet, and a footer could not be read.
        """
        plan, footers = self._plan()
        days = candidate_days(window, self._files.slack)
        known = {item.day: footer for item, footer in zip(plan.objects, footers, strict=True)}
        part = Scan(self._files, self.key, self.data_type, window, self._declared)
        part._planned = part._plan_of([(_Planner(part._plan_object, day), known.get(day)) for day in days])
        return part

    def batches(
        self, *, max_in_flight_bytes: int = DEFAULT_IN_FLIGHT_BYTES, decoders: int = DECODERS
    ) -> Generator[SourceBatch]:
        """Yield the row groups that hold rows of the window, in the order of days and positions.

        Rows outside the window are not taken out, nor are rows brought in the order of `ts_init`: a batch's
        watermark tells what can still come. Closing the iterator stops everything that is under way.

        Args:
            max_in_flight_bytes: Bound on the bytes fetched and decoded ahead of the consumer. Besides the row
                group that it has, one is always under way, however large it is.
            decoders: Threads that decode ahead of the consumer; with 0 it decodes what it takes itself.

        Raises:
            ObjectChangedError: A file was overwritten while it was being read; read again from the start.
            SourceSchemaError: The columns of a file match no known dialect.
            LakeError: A file could not be read.
        """
        plan, footers = self._plan()
        yield from self._read(plan, footers, max_in_flight_bytes, decoders)

    def to_table(self, *, on_hole: Literal["stop", "skip"] = "stop") -> pa.Table:
        """Return the rows of the window in the order of `ts_init`, stable, with the source's columns.

        Rows that are not near the day of their file (`SourceBatch.reach`) are in no window, and the plan's
        notes tell of files that have such. A fetch puts them in quarantine.

        Args:
            on_hole: Whether a day of the window that the lake does not have is an error, or is left out. If
                the lake has none of them it is an error all the same: nothing tells the columns.

        Raises:
            MissingDataError: The lake does not have days of the window; all of them are listed.
            SourceSchemaError: The columns of a file match no known dialect, or those of two days differ.
            LakeError: A file could not be read.
        """
        if on_hole not in ("stop", "skip"):
            raise ValueError(f"on_hole is {on_hole!r}, not one of stop, skip")
        plan, footers = self._plan()
        if plan.absent_days and (on_hole == "stop" or not plan.objects):
            raise self._holes(plan)
        files = list(zip(plan.objects, footers, strict=True))
        read = [file for file in files if file[0].row_groups] or files[:1]
        first, footer = read[0]
        dialect = first.dialect
        if any(item.dialect != dialect for item, _ in read):
            raise self._no_single_table()
        schema = schema_without_views(footer.metadata.schema.to_arrow_schema())
        empty = pa.schema([schema.field(name) for name in dialect.columns]).empty_table()
        # A single row group is decoded here.
        decoders = DECODERS if plan.row_groups > 1 else 0
        parts = [
            within(batch.table, batch.dialect, near)
            for batch in self._read(plan, footers, DEFAULT_IN_FLIGHT_BYTES, decoders, only=self.window)
            if (near := self.window.intersect(batch.reach)) is not None
        ]
        try:
            table = pa.concat_tables([empty, *parts], promote_options="default")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
            raise self._no_single_table() from exc
        return in_order(table, dialect)

    def _holes(self, plan: ScanPlan) -> MissingDataError:
        parts = [self.window.intersect(Window.of_day(day)) for day in plan.absent_days]
        holes = tuple(f"{self.key} {self.data_type} {part}" for part in parts)
        lines = "".join(f"\n  {hole}" for hole in holes)
        hints = []
        if plan.objects:
            hints.append('Pass on_hole="skip" to go on without them.')
        if self.key.margin is None:
            hints.append("If the lake names the instrument with @LIN or @INV, name it so.")
        return MissingDataError(
            f"the lake has no file for {len(holes)} day{'s' * (len(holes) > 1)} of the window:{lines}",
            holes=holes,
            hint=" ".join(hints) or "See which days the lake has with Lake.days.",
        )

    def _no_single_table(self) -> SourceSchemaError:
        return SourceSchemaError(
            f"the files of {self.window} have different columns and make no single table",
            instrument=self.key.text,
            data_type=self.data_type.name,
            hint="Read them one by one, or with batches().",
        )

    def _read(
        self,
        plan: ScanPlan,
        footers: tuple[Footer, ...],
        max_in_flight_bytes: int,
        decoders: int,
        *,
        only: Window | None = None,
    ) -> Generator[SourceBatch]:
        objects = list(zip(plan.objects, footers, strict=True))
        try:
            yield from read_ahead(
                self._files.store,
                objects,
                slack=self._files.slack,
                max_in_flight_bytes=max_in_flight_bytes,
                decoders=decoders,
                only=only,
            )
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
        planners = [_Planner(self._plan_object, day) for day in days]
        found = run(
            gather(
                files.footer(
                    self.data_type, planner.day, self.key, is_pinned=planner.reads_data, index=planner.index
                )
                for planner in planners
            )
        )
        return self._plan_of(list(zip(planners, found, strict=True)))

    def _plan_of(
        self, pairs: Sequence[tuple[_Planner, Footer | None]]
    ) -> tuple[ScanPlan, tuple[Footer, ...]]:
        """Return the plan by the footers of the days that can hold rows of the window."""
        present = [(planner, footer) for planner, footer in pairs if footer is not None]
        own = set(self.window.days)
        planned = [planner.plan(footer) for planner, footer in present]
        plan = ScanPlan(
            self.key,
            self.data_type,
            self.window,
            tuple(item for item, _ in planned),
            tuple(planner.day for planner, footer in pairs if footer is None and planner.day in own),
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
        with placed(footer.version.url):
            return plan_object(
                footer.metadata.schema,
                footer.structure,
                footer.source,
                day=day,
                dialect=dialect,
                window=self.window,
                slack=self._files.slack,
                at_hand=footer.tail.range,
                data=footer.tail.data,
            )


type _Planned = tuple[ObjectPlan, tuple[str, ...]]


class _Planner:
    """Plans the reading of a day's file by the footers that are found one after the other.

    Attributes:
        day: The day.
    """

    def __init__(self, plan: Callable[[dt.date, Footer], _Planned], day: dt.date) -> None:
        self._plan = plan
        self.day = day
        self._last: tuple[Footer, _Planned] | None = None

    def plan(self, footer: Footer) -> _Planned:
        """Return plan and notes."""
        if self._last is None or self._last[0] is not footer:
            self._last = footer, self._plan(self.day, footer)
        return self._last[1]

    def reads_data(self, footer: Footer) -> bool:
        """Whether a plan by this footer makes requests, all of which are pinned to the footer's version."""
        found = self._try(footer)
        return found is not None and bool(found.ranges)

    def index(self, footer: Footer) -> ByteRange | None:
        """Return where the page index is that the plan is better off with."""
        found = self._try(footer)
        return None if found is None else found.index

    def _try(self, footer: Footer) -> ObjectPlan | None:
        try:
            return self.plan(footer)[0]
        except (SourceSchemaError, CorruptObjectError):
            return None  # perhaps the file was mended; otherwise it is an error a moment later


def _store(url: str | Path, storage: StorageConfig, transfer: Transfer) -> Store:
    return Store(StoreUrl.parse(str(url), allow_http=storage.allow_http), storage, transfer)


def _read_table(store: Store, path: str) -> tuple[pa.Table, SourceObject]:
    footer, pieces = run(_read_whole(store, path))
    try:
        parts = [footer.metadata.schema.to_arrow_schema().empty_table()]
        parts += (footer.decode(index, None, pieces) for index in range(footer.metadata.num_row_groups))
        table = pa.concat_tables(parts)
    except (pa.ArrowException, UnicodeDecodeError) as exc:
        raise CorruptObjectError(f"not a readable Parquet file: {exc}", url=footer.version.url) from exc
    return table, footer.source


async def _read_whole(store: Store, path: str) -> tuple[Footer, list[Fetched]]:
    footer = await read_footer(store, path)
    rest = ByteRange(0, footer.tail.range.start)
    if rest.length > _MAX_LIST:
        raise CorruptObjectError(
            f"an instrument list of {footer.version.size:,} bytes, at most {_MAX_LIST:,} are read",
            url=footer.version.url,
            hint="Check lake.instruments and the layout: is it ticks?",
        )
    return footer, [await store.read_range(rest, path, footer.version)] if rest.length else []
