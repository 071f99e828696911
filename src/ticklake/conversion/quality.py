"""Which source rows cannot be converted and why, what is remarkable about others, and the counts of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ticklake.conversion.faults import Fault
from ticklake.errors import ConversionError, PrecisionError
from ticklake.types import DataType, InstrumentSpec

__all__ = ["ConversionCounts", "Note", "Reason", "Verdict"]

type Mask = npt.NDArray[np.bool_]


class Reason(StrEnum):
    """Why a source row cannot be converted. A row has one: the first that applies, in order of the checks."""

    NULL_TIME = "null_time"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    """Before 1970 or after 2262."""
    FAR_FROM_DAY = "far_from_day"
    """Further outside the day of its file than the slack: no window would look for it there."""
    NULL_PRICE = "null_price"
    NULL_SIZE = "null_size"
    NOT_FINITE = "not_finite"
    """NaN, infinite, or text that is no number."""
    ZERO_PRICE = "zero_price"
    ZERO_SIZE = "zero_size"
    NEGATIVE_PRICE = "negative_price"
    NEGATIVE_SIZE = "negative_size"
    OUT_OF_RANGE = "out_of_range"
    """Larger than the engine's largest price or size."""
    OFF_PRECISION = "off_precision"
    """Not a multiple of the instrument's precision, beyond float noise."""
    BAD_TRADE_ID = "bad_trade_id"
    """Null, blank, longer than 36 characters, or not ASCII."""


class Note(StrEnum):
    """What is remarkable about rows that are converted all the same."""

    NO_AGGRESSOR = "no_aggressor"
    """The trade's side is missing or unknown."""
    CROSSED_BOOK = "crossed_book"
    """The best bid is not below the best ask."""
    LEVEL_ORDER = "level_order"
    """The levels of a side do not get worse from one to the next."""
    EMPTY_BOOK = "empty_book"
    """The snapshot has no level at all."""
    LEVEL_GAP = "level_gap"
    """A level is absent that has one behind it on its side."""
    EVENT_TIME = "event_time"
    """`ts_event` is more than a day from `ts_init`."""
    REPEATED_TRADE = "repeated_trade"
    """The trade came shortly before, with the same id and content."""
    REUSED_TRADE_ID = "reused_trade_id"
    """Another trade shortly before has its id."""


_FAULT_OF_PRICE = {
    Fault.NULL: Reason.NULL_PRICE,
    Fault.NAN: Reason.NOT_FINITE,
    Fault.ZERO: Reason.ZERO_PRICE,
    Fault.NOT_A_NUMBER: Reason.NOT_FINITE,
    Fault.NEGATIVE: Reason.NEGATIVE_PRICE,
    Fault.OUT_OF_RANGE: Reason.OUT_OF_RANGE,
    Fault.OFF_PRECISION: Reason.OFF_PRECISION,
}
_FAULT_OF_SIZE = _FAULT_OF_PRICE | {
    Fault.NULL: Reason.NULL_SIZE,
    Fault.ZERO: Reason.ZERO_SIZE,
    Fault.NEGATIVE: Reason.NEGATIVE_SIZE,
}
_REASONS = tuple(Reason)
_MAX_SHOWN = 80
_PRECISION_REASONS = frozenset({Reason.OUT_OF_RANGE, Reason.OFF_PRECISION})


@dataclass(slots=True)
class ConversionCounts:
    """What became of source rows: `read == outside + bad + written` once everything is written.

    Attributes:
        read: Source rows looked at.
        outside: Rows whose `ts_init` lies outside the window.
        quarantined: Rows that could not be converted, by reason.
        notes: Remarkable rows among the converted ones, by kind; a row can have more than one.
        written: Source rows that were converted and handed on.
        catalog_rows: Rows made of them; a book snapshot becomes several deltas.
    """

    read: int = 0
    outside: int = 0
    quarantined: Counter[Reason] = field(default_factory=Counter)
    notes: Counter[Note] = field(default_factory=Counter)
    written: int = 0
    catalog_rows: int = 0

    @property
    def bad(self) -> int:
        """Rows that could not be converted, whatever the reason."""
        return self.quarantined.total()

    def __add__(self, other: ConversionCounts) -> ConversionCounts:
        return ConversionCounts(
            read=self.read + other.read,
            outside=self.outside + other.outside,
            quarantined=self.quarantined + other.quarantined,
            notes=self.notes + other.notes,
            written=self.written + other.written,
            catalog_rows=self.catalog_rows + other.catalog_rows,
        )


class Verdict:
    """The bad rows of one batch, with the first reason found and the column it was found in."""

    def __init__(self, rows: int) -> None:
        # 0 is a good row, others are 1 + an index into _REASONS or _columns.
        self._reason = np.zeros(rows, np.uint8)
        self._column = np.zeros(rows, np.uint16)
        self._columns: list[str] = []

    def flag(self, mask: Mask, reason: Reason, column: str) -> None:
        """Give rows a reason, unless they have one already."""
        new = mask & (self._reason == 0)
        if not new.any():
            return
        if column not in self._columns:
            self._columns.append(column)
        self._reason[new] = 1 + _REASONS.index(reason)
        self._column[new] = 1 + self._columns.index(column)

    def flag_faults(self, faults: npt.NDArray[np.uint8], column: str, *, is_price: bool) -> None:
        """Give rows the reasons that stand for the faults of a price or size column."""
        if not faults.any():
            return
        reasons = _FAULT_OF_PRICE if is_price else _FAULT_OF_SIZE
        for fault in np.unique(faults[faults > 0]):
            self.flag(faults == fault, reasons[Fault(fault)], column)

    @property
    def any_bad(self) -> bool:
        """Whether any row is bad."""
        return bool(self._reason.any())

    @property
    def good(self) -> Mask:
        """Which rows can be converted."""
        good: Mask = self._reason == 0
        return good

    def counts(self) -> Counter[Reason]:
        """Return the number of bad rows by reason."""
        found = np.bincount(self._reason, minlength=len(_REASONS) + 1)[1:]
        return Counter({reason: int(n) for reason, n in zip(_REASONS, found, strict=True) if n})

    def quarantine(
        self,
        source: pa.RecordBatch,
        rows: npt.NDArray[np.int64],
        ts_init: npt.NDArray[np.int64],
        url: str | None,
    ) -> pa.Table:
        """Return the bad rows whole, with what is known of them in front of their own columns.

        Args:
            source: The rows that were judged, as read.
            rows: Their positions in the source file.
            ts_init: Their times in nanoseconds, 0 where unusable.
            url: Where they come from.
        """
        bad = np.flatnonzero(self._reason)
        reasons = pa.array([reason.value for reason in _REASONS]).take(pa.array(self._reason[bad] - 1))
        columns = pa.array(self._columns, pa.string()).take(pa.array(self._column[bad] - 1))
        kept = source.take(pa.array(bad))
        ours = {
            "row": pa.array(rows[bad]),
            "reason": reasons,
            "column": columns,
            "ts_init_ns": pa.array(ts_init[bad], mask=ts_init[bad] == 0),
            "source": pa.repeat(pa.scalar(url, pa.string()), len(bad)),
        }
        return pa.table(
            [*ours.values(), *kept.columns],
            names=[*ours, *_without(kept.schema.names, ours)],
        )

    def error(
        self,
        source: pa.RecordBatch,
        rows: npt.NDArray[np.int64],
        *,
        spec: InstrumentSpec,
        data_type: DataType,
        url: str | None,
    ) -> ConversionError:
        """Return the error that names the first bad row.

        Args:
            source: The rows that were judged, as read.
            rows: Their positions in the source file.
            spec: The instrument.
            data_type: What the rows are.
            url: Where they come from.
        """
        first = int(np.flatnonzero(self._reason)[0])
        reason = _REASONS[self._reason[first] - 1]
        column = self._columns[self._column[first] - 1]
        value = _shown(source.column(column)[first])
        more = int(np.count_nonzero(self._reason)) - 1
        others = f" (and {more} more bad rows close by)" if more else ""
        error = PrecisionError if reason in _PRECISION_REASONS else ConversionError
        return error(
            f"row {rows[first]} cannot be converted: {column} is {value}, {_explain(reason, spec)}{others}",
            instrument=spec.nautilus_id,
            data_type=data_type.name,
            url=url,
            hint="Correct the source or the instrument's precision, or set `on_bad_row: quarantine` to go on "
            "without such rows.",
        )


def _without(names: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return the names, those that are taken with `source_` in front."""
    return [f"source_{name}" if name in set(taken) else name for name in names]


def _shown(value: pa.Scalar) -> str:
    # Not as_py(): it fails for times with nanoseconds and for text that is not UTF-8.
    if not value.is_valid:
        return "null"
    if pa.types.is_timestamp(value.type):
        return f"{value.value} {value.type.unit} since the epoch"
    if pa.types.is_dictionary(value.type):
        return _shown(value.value)
    if isinstance(value, pa.BinaryScalar):  # of which the text types are kinds
        text = repr(value.as_buffer().to_pybytes().decode("utf-8", "backslashreplace"))
        return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
    return str(value)


def _explain(reason: Reason, spec: InstrumentSpec) -> str:
    if reason is Reason.OFF_PRECISION:
        return (
            f"which is not a multiple of the precision (the price has {spec.price_precision} decimal places, "
            f"the size {spec.size_precision})"
        )
    return {
        Reason.NULL_TIME: "but a row needs its time",
        Reason.TIME_OUT_OF_RANGE: "which lies before 1970 or after 2262",
        Reason.FAR_FROM_DAY: "which is further outside the day of its file than lake.partition_slack; it may "
        "have another unit",
        Reason.NULL_PRICE: "but a trade needs a price",
        Reason.NULL_SIZE: "but a trade needs a size",
        Reason.NOT_FINITE: "which is not a finite number",
        Reason.ZERO_PRICE: "but a price must be positive",
        Reason.ZERO_SIZE: "but a size must be positive",
        Reason.NEGATIVE_PRICE: "but a price must be positive",
        Reason.NEGATIVE_SIZE: "but a size must be positive",
        Reason.OUT_OF_RANGE: "which is beyond the engine's range",
        Reason.BAD_TRADE_ID: "but a trade id has 1 to 36 ASCII characters",
    }[reason]
