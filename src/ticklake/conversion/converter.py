"""Source batches in, catalog batches out: the streaming conversion, and the same for whole tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ticklake.catalog.rows import pick
from ticklake.catalog.schema import PRICE_MAX, SIZE_MAX, schema
from ticklake.config import DialectConfig
from ticklake.conversion import books
from ticklake.conversion.dialects import (
    BookDialect,
    Dialect,
    TradesDialect,
    declaration,
    nanos_per_unit,
    recognise,
)
from ticklake.conversion.kernels import (
    MAX_NANOS,
    SIDES,
    Ints,
    Mask,
    decimal_array,
    derived_trade_ids,
    enum_array,
    sides,
    text,
    times_to_nanos,
    timestamp_array,
    to_raw,
    unusable_ids,
    without_views,
)
from ticklake.conversion.order import Orderer
from ticklake.conversion.quality import ConversionCounts, Note, Reason, Verdict
from ticklake.conversion.repeats import Repeats
from ticklake.errors import ConversionError
from ticklake.parquet.footers import read_footer_of_file
from ticklake.types import NANOS_PER_DAY, BookAs, CatalogType, DataType, InstrumentSpec, Moment, Window

__all__ = ["Conversion", "Converter", "convert"]

type OnBadRow = Literal["fail", "quarantine"]

# Rows worked on at once: bounds the memory above what comes in and goes out.
_TRADE_ROWS = 131_072
_BOOK_ROWS = 16_384
# A snapshot is 1 + 2N delta rows of this many bytes, so that deep books are worked on in fewer rows.
_BOOK_BYTES = 16 * 1024 * 1024
_DELTA_BYTES = 67

_NO_BAD_ROWS = pa.schema(
    {
        "row": pa.int64(),
        "reason": pa.string(),
        "column": pa.string(),
        "ts_init_ns": pa.int64(),
        "source": pa.string(),
    }
)


class Converter:
    """Converts the source rows of one instrument and data type to rows of a catalog, batch by batch.

    Feed it with `push` and end with `flush`; both yield batches in the catalog's schema, in `ts_init` order,
    rows of the same time in the order of the source.

    Args:
        spec: The instrument.
        data_type: What the source rows are.
        book_as: What book snapshots become.
        on_bad_row: Whether a row that cannot be converted is an error or goes to `quarantined`.
        on_notes: Called with each kind of remarkable rows in a piece and their `ts_init` (ns).

    Attributes:
        schema: The schema of the batches that leave.
        counts: What became of the rows so far.

    Raises:
        ValueError: An argument is none of its choices.
    """

    def __init__(
        self,
        spec: InstrumentSpec,
        data_type: str | DataType,
        book_as: BookAs = BookAs.DELTAS,
        *,
        on_bad_row: OnBadRow = "fail",
        on_notes: Callable[[Note, Ints], None] | None = None,
    ) -> None:
        if on_bad_row not in (choices := get_args(OnBadRow.__value__)):
            raise ValueError(f"on_bad_row is {on_bad_row!r}, not one of {', '.join(choices)}")
        self.spec = spec
        self.data_type = DataType.of(data_type)
        # Its text is equal to it, but not the same.
        self.book_as = BookAs(book_as)
        self.schema = schema(CatalogType.of(self.data_type, self.book_as), spec)
        self.counts = ConversionCounts()
        # With the time that stands in for one that is unusable.
        self._bad: list[tuple[pa.Table, int]] = []
        self._on_bad_row = on_bad_row
        self._on_notes = on_notes
        self._orderer = Orderer()
        depth = self.data_type.depth
        self._block_rows = _TRADE_ROWS if depth is None else _book_rows(depth)
        self._canonical_schema = self.schema if depth is None else books.canonical_schema(depth)

    @property
    def quarantined(self) -> list[pa.Table]:
        """Tables of bad rows.

        They have `row` (position in the source file), `reason`, `column`, `ts_init_ns` (null where unusable),
        `source` (URL), and the source's own columns.
        """
        return [table for table, _ in self._bad]

    def take_quarantined(self, end: int) -> list[pa.Table]:
        """Take out and return the bad rows before `end`, by `ts_init` or what stands in for it."""
        taken, left = [], []
        for table, undated in self._bad:
            before = pc.less(table["ts_init_ns"].fill_null(undated), end)
            taken.append(table.filter(before))
            left.append((table.filter(pc.invert(before)), undated))
        self._bad = [(table, undated) for table, undated in left if table.num_rows]
        return [table for table in taken if table.num_rows]

    def push(
        self,
        source: pa.Table | pa.RecordBatch,
        dialect: Dialect,
        *,
        watermark: int | None,
        first_row: int = 0,
        window: Window | None = None,
        reach: Window | None = None,
        undated: int | None = None,
        url: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Convert a piece of a source and yield what can go; exhaust the iterator before the next push.

        It is converted block by block, so that what leaves first need not wait for the rest of a row group.

        Args:
            source: The rows, with at least the dialect's columns.
            dialect: What the columns mean.
            watermark: The least `ts_init` (ns) that a later piece can still bring; None where none follows.
            first_row: Position of the piece's first row in its source file.
            window: Keeps the rows whose `ts_init` lies in it; None keeps all.
            reach: Where a `ts_init` of the file can lie; it is not usable elsewhere. None allows any.
            undated: Stands in for a `ts_init` that is not usable, so that such a row counts to one window
                only; None counts it to each.
            url: Where the rows come from, for errors.

        Raises:
            ConversionError: A row cannot be converted (with `on_bad_row="fail"`), or is earlier than an
                earlier watermark allowed.
            PrecisionError: A price or size does not fit the instrument's precision or the engine's range.
        """
        blocks = self._blocks(source)
        times = [_Times.read(block, dialect, reach) for block in blocks]
        for block, read, mark in zip(blocks, times, _watermarks(times, watermark), strict=True):
            parts = self._prepare(block, dialect, read, first_row, window, undated, url)
            first_row += block.num_rows
            canonical = pa.Table.from_batches(parts, self._canonical_schema)
            yield from self._finish(self._orderer.push(canonical, mark))

    def flush(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows still held back for the sake of order."""
        if (rest := self._orderer.flush()) is not None:
            yield from self._finish(rest)

    def _finish(self, canonical: pa.Table) -> Iterator[pa.RecordBatch]:
        """Yield canonical rows, in the order given, as batches in the catalog's schema."""
        for batch in canonical.to_batches(max_chunksize=self._block_rows):
            if batch.num_rows == 0:
                continue
            if not self.data_type.is_book:
                finished = batch
            elif self.book_as is BookAs.DELTAS:
                finished = books.deltas(batch, self.schema)
            else:
                finished = books.depths(batch, self.schema)
            self.counts.written += batch.num_rows
            self.counts.catalog_rows += finished.num_rows
            yield finished

    def _blocks(self, source: pa.Table | pa.RecordBatch) -> list[pa.RecordBatch]:
        """Return the rows in blocks that are converted at once; at least one, perhaps without rows."""
        table = pa.Table.from_batches([source]) if isinstance(source, pa.RecordBatch) else source
        blocks = table.to_batches(max_chunksize=self._block_rows)
        if not blocks:
            blocks = [
                pa.RecordBatch.from_arrays(
                    [pa.nulls(0, kind) for kind in table.schema.types], table.schema.names
                )
            ]
        return [without_views(block) for block in blocks]

    def _prepare(
        self,
        batch: pa.RecordBatch,
        dialect: Dialect,
        times: _Times,
        first_row: int,
        window: Window | None,
        undated: int | None,
        url: str | None,
    ) -> list[pa.RecordBatch]:
        self.counts.read += batch.num_rows
        rows = _Positions(first_row, batch.num_rows)
        if window is not None:
            inside = times.within(window, undated)
            kept = int(np.count_nonzero(inside))
            self.counts.outside += batch.num_rows - kept
            if kept < batch.num_rows:
                rows = _Positions(first_row, batch.num_rows, inside)
                batch, times = pick(batch, inside), times.pick(inside)
        if batch.num_rows == 0:
            return []
        verdict = Verdict(batch.num_rows)
        times.judge(verdict)
        columns, notes = (
            self._trades(batch, dialect, times, rows, verdict)
            if isinstance(dialect, TradesDialect)
            else self._snapshots(batch, dialect, times, verdict)
        )
        notes[Note.EVENT_TIME] = times.apart()
        canonical = pa.RecordBatch.from_arrays(columns, schema=self._canonical_schema)
        if verdict.any_bad:
            if self._on_bad_row == "fail":
                raise verdict.error(batch, rows.all(), spec=self.spec, data_type=self.data_type, url=url)
            self.counts.quarantined += verdict.counts()
            self._bad.append((verdict.quarantine(batch, rows.all(), times.init, url), undated or 0))
            canonical = canonical.filter(pa.array(verdict.good))
            notes = {note: mask & verdict.good for note, mask in notes.items()}
        self.counts.notes += {note: int(np.count_nonzero(mask)) for note, mask in notes.items()}
        if self._on_notes is not None:
            for note, mask in notes.items():
                self._on_notes(note, times.init[mask])
        return [canonical]

    def _trades(
        self, batch: pa.RecordBatch, dialect: TradesDialect, times: _Times, rows: _Positions, verdict: Verdict
    ) -> tuple[list[pa.Array], dict[Note, Mask]]:
        price, faults = to_raw(batch.column(dialect.price), self.spec.price_precision, PRICE_MAX)
        verdict.flag_faults(faults, dialect.price, is_price=True)
        size, faults = to_raw(batch.column(dialect.size), self.spec.size_precision, SIZE_MAX)
        verdict.flag_faults(faults, dialect.size, is_price=False)
        if dialect.trade_id is None:
            ids = derived_trade_ids(times.event, rows.all())
        else:
            ids = text(batch.column(dialect.trade_id))
            if (unusable := unusable_ids(ids)) is not None:
                verdict.flag(unusable, Reason.BAD_TRADE_ID, dialect.trade_id)
        if dialect.side is None:
            aggressor = np.zeros(batch.num_rows, np.int8)
        else:
            aggressor = sides(batch.column(dialect.side), dialect.buy, dialect.sell)
        columns = [
            decimal_array(price),
            decimal_array(size),
            enum_array(aggressor, SIDES),
            ids,
            *times.arrays(),
        ]
        return columns, {Note.NO_AGGRESSOR: aggressor == 0}

    def _snapshots(
        self, batch: pa.RecordBatch, dialect: BookDialect, times: _Times, verdict: Verdict
    ) -> tuple[list[pa.Array], dict[Note, Mask]]:
        levels, notes = books.snapshots(batch, dialect, self.spec, verdict)
        return [*times.arrays(), *levels], notes


@dataclass(frozen=True, slots=True)
class _Positions:
    """Where the rows of a batch stand in the source file: worked out for the few that are asked about it."""

    first: int
    rows: int
    picked: Mask | None = None

    def all(self) -> Ints:
        positions = np.arange(self.first, self.first + self.rows)
        return positions if self.picked is None else positions[self.picked]


@dataclass(frozen=True, slots=True)
class _Times:
    """The times of a batch in nanoseconds, 0 where `bad` has a reason against them."""

    event: Ints
    init: Ints
    bad: tuple[tuple[str, Reason, Mask], ...]
    """Time column, reason and where it holds; those of the clock's column first."""
    undated: Mask
    """Where `init` is not usable."""

    @classmethod
    def read(cls, batch: pa.RecordBatch, dialect: Dialect, reach: Window | None) -> _Times:
        init, bad = _read_times(batch, dialect, dialect.time_column)
        undated = bad[0][-1] | bad[1][-1]
        if reach is not None and len(init) and (init.min() < reach.start or init.max() >= reach.end):
            far = ~undated & ((init < reach.start) | (init >= reach.end))
            bad.append((dialect.time_column, Reason.FAR_FROM_DAY, far))
            undated |= far
            init = np.where(far, 0, init)
        event = init
        if dialect.ts_event != dialect.time_column:
            event, more = _read_times(batch, dialect, dialect.ts_event)
            bad += more
        return cls(event, init, tuple(bad), undated)

    def within(self, window: Window, undated: int | None) -> Mask:
        """Return which rows lie in the window; `undated` tells of those without a usable `ts_init`."""
        inside: Mask = (self.init >= window.start) & (self.init < window.end)
        if self.undated.any():
            inside[self.undated] = undated is None or window.start <= undated < window.end
        return inside

    def pick(self, mask: Mask) -> _Times:
        bad = tuple((name, reason, where[mask]) for name, reason, where in self.bad)
        return _Times(self.event[mask], self.init[mask], bad, self.undated[mask])

    def judge(self, verdict: Verdict) -> None:
        for name, reason, where in self.bad:
            verdict.flag(where, reason, name)

    def apart(self) -> Mask:
        """Return where the two times are more than a day from each other."""
        late = self.init - self.event
        if late.min() >= -NANOS_PER_DAY and late.max() <= NANOS_PER_DAY:
            return np.zeros(len(late), np.bool_)
        apart: Mask = np.abs(late) > NANOS_PER_DAY
        return apart

    def arrays(self) -> tuple[pa.Array, pa.Array]:
        """Return `ts_event` and `ts_init` as the catalog has them."""
        return timestamp_array(self.event), timestamp_array(self.init)


def _watermarks(times: Sequence[_Times], last: int | None) -> list[int | None]:
    """Return the least `ts_init` that can follow each block: of the blocks after it, or after the last."""
    marks = [last]
    for later in reversed(times[1:]):
        least = int(later.init.min(initial=MAX_NANOS))
        marks.append(least if marks[-1] is None else min(least, marks[-1]))
    return marks[::-1]


def _read_times(
    batch: pa.RecordBatch, dialect: Dialect, name: str
) -> tuple[Ints, list[tuple[str, Reason, Mask]]]:
    column = batch.column(name)
    nanos, null, outside = times_to_nanos(column, nanos_per_unit(dialect, column.type))
    return nanos, [(name, Reason.NULL_TIME, null), (name, Reason.TIME_OUT_OF_RANGE, outside)]


def _book_rows(depth: int) -> int:
    return max(1, min(_BOOK_ROWS, _BOOK_BYTES // ((1 + 2 * depth) * _DELTA_BYTES)))


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion made of a source.

    Attributes:
        table: Rows in the catalog's schema, in `ts_init` order.
        quarantined: The bad rows, with the same columns as `Converter.quarantined`.
        counts: What became of the rows.
    """

    table: pa.Table
    quarantined: pa.Table
    counts: ConversionCounts


def convert(
    source: object,
    *,
    spec: InstrumentSpec,
    data_type: str | DataType,
    book_as: BookAs = BookAs.DELTAS,
    dialect: DialectConfig | Mapping[str, Any] | None = None,
    window: Window | tuple[Moment, Moment] | None = None,
    on_bad_row: OnBadRow = "fail",
) -> Conversion:
    """Convert source rows of any kind to a table that a NautilusTrader catalog can hold.

    Args:
        source: Path of a Parquet file; an Arrow table, record batch or reader; a pandas or Polars DataFrame,
            or anything else with the Arrow PyCapsule interface.
        spec: The instrument.
        data_type: What the rows are: `trades` or `book_snapshot_N`.
        book_as: What book snapshots become.
        dialect: What the columns mean; None recognises a known dialect from their names.
        window: Keeps the rows whose `ts_init` lies in it; None keeps all.
        on_bad_row: Whether a row that cannot be converted is an error or goes to `Conversion.quarantined`.

    Raises:
        ConversionError: The source cannot be read, or a row cannot be converted.
        SourceSchemaError: The columns are in no known dialect, or do not fit the declared one.
        PrecisionError: A price or size does not fit the instrument's precision or the engine's range.
        ConfigError: The dialect is not valid.
        TypeError: The source or another argument is of none of these kinds.
        ValueError: An argument is not valid.
    """
    declared = declaration(dialect)
    within = None if window is None else Window.of(window)
    converter = Converter(spec, data_type, book_as, on_bad_row=on_bad_row)
    url = str(source) if isinstance(source, str | Path) else None
    converted: list[pa.RecordBatch] = []
    with _opened(source, url) as rows:
        schema_ = rows.schema_arrow if isinstance(rows, pq.ParquetFile) else rows.schema
        meaning = recognise(schema_, converter.data_type, declared, url=url)
        for batch in _batches(rows, meaning.columns, url):
            # Nothing is known of what follows, so that all is held back; what is in order costs nothing.
            converted += converter.push(
                batch, meaning, watermark=0, first_row=converter.counts.read, window=within, url=url
            )
    converted += converter.flush()
    if not converter.data_type.is_book:
        repeats = Repeats()
        for trades in converted:
            repeats.add(trades)
        converter.counts.notes += repeats.counts()
    bad = converter.quarantined
    return Conversion(
        table=pa.Table.from_batches(converted, converter.schema),
        quarantined=pa.concat_tables(bad) if bad else _NO_BAD_ROWS.empty_table(),
        counts=converter.counts,
    )


def _opened(source: object, url: str | None) -> Any:
    """Return the source as a `ParquetFile` or a `RecordBatchReader`; both are context managers."""
    try:
        if url is not None:
            return pq.ParquetFile(url, metadata=read_footer_of_file(url))
        if hasattr(source, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(source)
        if hasattr(source, "__arrow_c_array__"):
            return pa.table(source).to_reader()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        raise _unreadable(exc, url) from exc
    raise TypeError(
        f"cannot convert a {type(source).__name__}; give the path of a Parquet file, an Arrow table, record "
        "batch or reader, or a DataFrame with the Arrow PyCapsule interface (pandas, Polars)"
    )


def _batches(rows: Any, columns: tuple[str, ...], url: str | None) -> Iterator[pa.RecordBatch]:
    try:
        yield from rows.iter_batches(columns=list(columns)) if isinstance(rows, pq.ParquetFile) else rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        raise _unreadable(exc, url) from exc


def _unreadable(exc: Exception, url: str | None) -> ConversionError:
    return ConversionError(f"the source cannot be read: {exc}", url=url)
