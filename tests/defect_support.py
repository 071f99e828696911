"""Kinds of defects of source files, what becomes of each, and files that have them in any known dialect."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fetch_support import DAY, SECOND, START
from ticklake.conversion import Note, Reason
from ticklake.errors import ConversionError, CorruptObjectError, LakeError, SourceSchemaError, TicklakeError

ROWS = 300
GROUP = 60
BAD = 130
"""The row that has the defect, where one has it: in the middle of the third row group."""
LEVELS = 3
STEP = 240 * SECOND
BEYOND = 2**63 - 1
"""A time after 2262 in any unit."""

TRADES = "trades"
BOOK = f"book_snapshot_{LEVELS}"
DIALECTS = ("nautilus", "tardis", "volume")

type Edit = Callable[[dict[str, list[Any]]], object]


# Files


def plain_trades() -> dict[str, list[Any]]:
    """Return good trades, one every four minutes, by the columns of the nautilus dialect."""
    times = [START + n * STEP for n in range(ROWS)]
    return {
        "ts_init": times,
        "ts_event": [time - 2_000 for time in times],
        "price": [60_000 + n % 50 / 10 for n in range(ROWS)],
        "size": [(1 + n % 9) / 1_000 for n in range(ROWS)],
        "aggressor_side": [1 + n % 2 for n in range(ROWS)],
        "trade_id": [str(1_000 + n) for n in range(ROWS)],
    }


def plain_book() -> dict[str, list[Any]]:
    """Return good snapshots, one every four minutes, by the columns of the nautilus dialect."""
    times = [START + n * STEP for n in range(ROWS)]
    columns: dict[str, list[Any]] = {"ts_init": times, "ts_event": [time - 2_000 for time in times]}
    for level in range(LEVELS):
        for side, sign in (("bid", -1), ("ask", 1)):
            columns[f"{side}_price_{level}"] = [
                round(60_000 + n % 50 / 10 + sign * (1 + level) / 10, 1) for n in range(ROWS)
            ]
            columns[f"{side}_size_{level}"] = [(1 + n % 9) / 1_000 for n in range(ROWS)]
    return columns


def names_of(dialect: str, data_type: str) -> dict[str, str]:
    """Return a dialect's names of the plain columns."""
    times = ("ts_init", "ts_event") if dialect == "nautilus" else ("local_timestamp", "timestamp")
    names = dict(zip(("ts_init", "ts_event"), times, strict=True))
    if data_type == TRADES:
        others = {
            "nautilus": ("price", "size", "aggressor_side", "trade_id"),
            "tardis": ("price", "amount", "side", "id"),
            "volume": ("price", "volume", "side", "trade_id"),
        }[dialect]
        return names | dict(zip(("price", "size", "aggressor_side", "trade_id"), others, strict=True))
    for level in range(LEVELS):
        for side in ("bid", "ask"):
            price, size = {
                "nautilus": (f"{side}_price_{level}", f"{side}_size_{level}"),
                "tardis": (f"{side}s[{level}].price", f"{side}s[{level}].amount"),
                "volume": (f"{side}_price_{level + 1}", f"{side}_volume_{level + 1}"),
            }[dialect]
            names |= {f"{side}_price_{level}": price, f"{side}_size_{level}": size}
    return names


def in_dialect(plain: Mapping[str, list[Any]], dialect: str, data_type: str) -> pa.Table:
    """Return plain columns as a dialect has them."""
    names = names_of(dialect, data_type)
    return pa.table({names[name]: _column(name, values, dialect) for name, values in plain.items()})


def _column(name: str, values: list[Any], dialect: str) -> pa.Array:
    if name.startswith("ts_"):
        if dialect == "nautilus":
            return pa.array(values, pa.int64())
        # Microseconds.
        return pa.array(
            [v if v is None else 2**62 if v == BEYOND else v // 1_000 for v in values], pa.int64()
        )
    if name == "aggressor_side":
        if dialect == "nautilus":
            return pa.array(values, pa.int8())
        return pa.array([{1: "buy", 2: "SELL", None: None}.get(v, "?") for v in values])
    if name == "trade_id":
        as_bytes = [v.encode() if isinstance(v, str) else v for v in values]
        return pa.array(as_bytes, pa.binary()).view(pa.string())
    return pa.array(values, pa.float64())


def written(table: pa.Table, *, rows: int = GROUP, **options: Any) -> bytes:
    """Return a table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows, **options)
    return sink.getvalue()


# What becomes of a defect


@dataclass(frozen=True)
class Quarantined:
    """Rows are kept in quarantine; with `on_bad_row: fail` the fetch is an error."""

    reason: Reason
    rows: tuple[int, ...] = (BAD,)

    def __str__(self) -> str:
        return f"quarantine, `{self.reason}`"


@dataclass(frozen=True)
class Warned:
    """Rows are written and counted in a warning."""

    note: Note
    count: int = 1

    def __str__(self) -> str:
        return f"warning, `{self.note}`"


@dataclass(frozen=True)
class Refused:
    """An error; nothing is published. With `on_bad_row: fail` it may be that of a row, which comes sooner."""

    error: type[TicklakeError]
    said: str
    of_row: tuple[type[TicklakeError], ...] = ()

    def __str__(self) -> str:
        return f"`{self.error.__name__}`"


@dataclass(frozen=True)
class Written:
    """No defect to ticklake: all rows are written, or those of the window."""

    how: str
    outside: int = 0
    warning: str = ""

    def __str__(self) -> str:
        return self.how


type Outcome = Quarantined | Warned | Refused | Written


@dataclass(frozen=True)
class Defect:
    """A defect.

    Attributes:
        title: What it is, for the documentation.
        trades, book: What becomes of it there; None where there is no such thing.
        edit: Spoils plain columns of trades.
        edit_book: Spoils those of books; None where `edit` does for both.
        damage: Spoils the file; takes the table in its dialect and the names of its columns.
        statistics: Whether it is tried with statistics, without, or both.
    """

    title: str
    trades: Outcome | None = None
    book: Outcome | None = None
    edit: Edit = field(default=lambda columns: None)
    edit_book: Edit | None = None
    damage: Callable[[pa.Table, dict[str, str]], bytes | pa.Table] = field(default=lambda table, names: table)
    statistics: Sequence[bool] = (True,)

    def plain(self, data_type: str) -> dict[str, list[Any]]:
        """Return the spoiled columns."""
        columns = plain_trades() if data_type == TRADES else plain_book()
        edit = self.edit if data_type == TRADES else self.edit_book or self.edit
        edit(columns)
        return columns

    def file(self, data_type: str, dialect: str, statistics: bool) -> bytes:
        """Return the spoiled file in a dialect."""
        table = in_dialect(self.plain(data_type), dialect, data_type)
        found = self.damage(table, names_of(dialect, data_type))
        if isinstance(found, bytes):
            return found
        return written(found, write_statistics=statistics)


def put(column: str, value: Any, row: int = BAD) -> Edit:
    """Return an edit that puts a value into a row."""

    def edit(columns: dict[str, list[Any]]) -> None:
        columns[column][row] = value

    return edit


def _number(title: str, column: str, value: Any, trades: Reason, book: Reason | Note | None = None) -> Defect:
    """Return a bad price or size, of a trade and of a level in the middle."""
    found = trades if book is None else book
    return Defect(
        title,
        Quarantined(trades),
        Quarantined(found) if isinstance(found, Reason) else Warned(found),
        put(column, value),
        put(f"ask_{column}_1" if column == "size" else f"bid_{column}_1", value),
    )


def _time(title: str, column: str, value: int | None, reason: Reason) -> Defect:
    bad = Quarantined(reason)
    return Defect(title, bad, bad, put(column, value), statistics=(True, False))


def _id(title: str, value: Any) -> Defect:
    return Defect(title, Quarantined(Reason.BAD_TRADE_ID), edit=put("trade_id", value))


def _schema(
    title: str,
    said: str,
    damage: Callable[[pa.Table, dict[str, str]], bytes | pa.Table],
    error: type[LakeError | SourceSchemaError] = SourceSchemaError,
) -> Defect:
    return Defect(title, Refused(error, said), Refused(error, said), damage=damage)


def _book(title: str, outcome: Outcome, bids: Sequence[Any], asks: Sequence[Any]) -> Defect:
    """Return a snapshot with these prices."""

    def edit(columns: dict[str, list[Any]]) -> None:
        for side, prices in (("bid", bids), ("ask", asks)):
            for level, price in enumerate(prices):
                columns[f"{side}_price_{level}"][BAD] = price

    return Defect(title, book=outcome, edit=edit)


def _first(names: dict[str, str]) -> str:
    return names.get("price") or names["bid_price_0"]


def _as(kind: pa.DataType, which: Callable[[dict[str, str]], str] = _first) -> Callable[..., pa.Table]:
    def damage(table: pa.Table, names: dict[str, str]) -> pa.Table:
        column = which(names)
        at = table.column_names.index(column)
        values = (
            pa.nulls(len(table), kind) if pa.types.is_nested(kind) else table[column].cast(kind, safe=False)
        )
        return table.set_column(at, column, values)

    return damage


def _with_values(kind: pa.DataType, value: Any) -> Callable[..., pa.Table]:
    """Return a damage by which prices are of another type, and one of them is a certain value."""

    def damage(table: pa.Table, names: dict[str, str]) -> pa.Table:
        at = table.column_names.index(_first(names))
        values = table[_first(names)].cast(pa.string()).to_pylist()
        values[BAD] = value
        return table.set_column(at, _first(names), pa.array(values).cast(kind))

    return damage


def _without(table: pa.Table, names: dict[str, str]) -> pa.Table:
    return table.drop_columns([_first(names)])


def _twice(table: pa.Table, names: dict[str, str]) -> pa.Table:
    return table.append_column(_first(names), table[_first(names)])


def _wrong_unit(rows: range) -> Edit:
    def edit(columns: dict[str, list[Any]]) -> None:
        for name in ("ts_init", "ts_event"):
            for row in rows:
                columns[name][row] //= 1_000_000

    return edit


def _lie(table: pa.Table, names: dict[str, str]) -> bytes:
    """Let the statistics of a row group begin after its first rows: the order relies on them."""
    data = written(table)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    statistics = pq.read_metadata(io.BytesIO(data)).row_group(2).column(0).statistics
    later = (statistics.min_raw + statistics.max_raw) // 2
    told = data[footer:].replace(statistics.min_raw.to_bytes(8, "little"), later.to_bytes(8, "little"))
    return data[:footer] + told


def _no_row_group(table: pa.Table, names: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    pq.ParquetWriter(sink, table.schema).close()
    return sink.getvalue()


def _repeat(rows: int, **changes: Any) -> Edit:
    """Return an edit that writes a trade over the one so many rows later, but for some columns."""

    def edit(columns: dict[str, list[Any]]) -> None:
        for name, values in columns.items():
            if name != "ts_init":
                values[BAD + rows] = changes.get(name, values[BAD])

    return edit


def _reverse(rows: range) -> Edit:
    def edit(columns: dict[str, list[Any]]) -> None:
        for values in columns.values():
            values[rows.start : rows.stop] = values[rows.start : rows.stop][::-1]

    return edit


def _one_time(columns: dict[str, list[Any]]) -> None:
    columns["ts_init"] = [START + DAY // 2] * ROWS


EMPTY = Written("warning; the window is empty", warning="has no rows at all")
ORDERED = Written("written in order")

DEFECTS: tuple[Defect, ...] = (
    _number("price is null", "price", None, Reason.NULL_PRICE, Note.LEVEL_GAP),
    _number("size is null", "size", None, Reason.NULL_SIZE, Note.LEVEL_GAP),
    _number("price is NaN", "price", float("nan"), Reason.NOT_FINITE, Note.LEVEL_GAP),
    _number("size is NaN", "size", float("nan"), Reason.NOT_FINITE, Note.LEVEL_GAP),
    _number("price is infinite", "price", float("inf"), Reason.NOT_FINITE),
    _number("size is minus infinite", "size", float("-inf"), Reason.NOT_FINITE),
    _number("price is zero", "price", 0.0, Reason.ZERO_PRICE, Note.LEVEL_GAP),
    _number("size is zero", "size", 0.0, Reason.ZERO_SIZE, Note.LEVEL_GAP),
    _number("price is negative", "price", -60_000.1, Reason.NEGATIVE_PRICE),
    _number("size is negative", "size", -0.001, Reason.NEGATIVE_SIZE),
    _number("price is beyond the engine's range", "price", 1e15, Reason.OUT_OF_RANGE),
    _number("size is beyond the engine's range", "size", 1e15, Reason.OUT_OF_RANGE),
    _number("price has more decimals than the precision", "price", 60_000.15, Reason.OFF_PRECISION),
    _number("size has more decimals than the precision", "size", 1.0005, Reason.OFF_PRECISION),
    _number("size is less than the precision can tell from zero", "size", 0.0001, Reason.OFF_PRECISION),
    Defect(
        "price is text and no number",
        Quarantined(Reason.NOT_FINITE),
        Quarantined(Reason.NOT_FINITE),
        damage=_with_values(pa.string(), "6O000.1"),
    ),
    Defect(
        "price is a decimal beyond the engine's range",
        Quarantined(Reason.OUT_OF_RANGE),
        Quarantined(Reason.OUT_OF_RANGE),
        damage=_with_values(pa.decimal128(38, 1), f"{10**30}.0"),
    ),
    Defect("side is null", Warned(Note.NO_AGGRESSOR), edit=put("aggressor_side", None)),
    Defect("side is unknown", Warned(Note.NO_AGGRESSOR), edit=put("aggressor_side", 7)),
    _id("trade id is null", None),
    _id("trade id is empty", ""),
    _id("trade id is blank", "  "),
    _id("trade id has more than 36 characters", "1" * 37),
    _id("trade id is not ASCII", "n° 5"),
    Defect(
        "trade id is no UTF-8",
        Refused(CorruptObjectError, "UTF8"),
        edit=put("trade_id", b"\xff\xfe1"),
    ),
    _id("trade id has a NUL byte", "1\x002"),
    Defect("trade comes again, at a later `ts_init`", Warned(Note.REPEATED_TRADE), edit=_repeat(70)),
    Defect("trade has the id of another", Warned(Note.REUSED_TRADE_ID), edit=_repeat(70, size=0.5)),
    _time("`ts_init` is null", "ts_init", None, Reason.NULL_TIME),
    _time("`ts_event` is null", "ts_event", None, Reason.NULL_TIME),
    _time("`ts_init` is before 1970", "ts_init", -5_000, Reason.TIME_OUT_OF_RANGE),
    _time("`ts_event` is before 1970", "ts_event", -5_000, Reason.TIME_OUT_OF_RANGE),
    _time("`ts_init` is after 2262", "ts_init", BEYOND, Reason.TIME_OUT_OF_RANGE),
    _time("`ts_init` is years ahead", "ts_init", 2**62, Reason.FAR_FROM_DAY),
    _time("`ts_init` is of a day before", "ts_init", START - 11 * SECOND, Reason.FAR_FROM_DAY),
    _time("`ts_init` is of a day after", "ts_init", START + DAY + 10 * SECOND, Reason.FAR_FROM_DAY),
    Defect(
        "`ts_init` is of a neighbouring day within the slack",
        Written("outside; the window of that day has it", outside=1),
        Written("outside; the window of that day has it", outside=1),
        put("ts_init", START + DAY + 9 * SECOND),
        statistics=(True, False),
    ),
    Defect(
        "`ts_event` is more than a day from `ts_init`",
        Warned(Note.EVENT_TIME),
        Warned(Note.EVENT_TIME),
        put("ts_event", START // 1_000_000 * 1_000),
    ),
    Defect(
        "times of all rows are in another unit",
        Refused(SourceSchemaError, "unit of the time columns", of_row=(ConversionError,)),
        Refused(SourceSchemaError, "unit of the time columns", of_row=(ConversionError,)),
        _wrong_unit(range(ROWS)),
        statistics=(True, False),
    ),
    Defect(
        "times of a row group are in another unit",
        Quarantined(Reason.FAR_FROM_DAY, tuple(range(120, 180))),
        Quarantined(Reason.FAR_FROM_DAY, tuple(range(120, 180))),
        _wrong_unit(range(120, 180)),
        statistics=(True, False),
    ),
    Defect("rows of a row group are out of order", ORDERED, ORDERED, _reverse(range(125, 135))),
    Defect(
        "row groups are out of order",
        ORDERED,
        ORDERED,
        _reverse(range(90, 270)),
        statistics=(True, False),
    ),
    Defect(
        "rows are earlier than their statistics say",
        Refused(CorruptObjectError, "the footer says"),
        Refused(CorruptObjectError, "the footer says"),
        damage=_lie,
    ),
    Defect("all rows have one `ts_init`", ORDERED, ORDERED, _one_time),
    _book("best bid is above the best ask", Warned(Note.CROSSED_BOOK), [70_000.0], []),
    _book("levels are out of order", Warned(Note.LEVEL_ORDER), [], [60_004.1, 60_004.3, 60_004.2]),
    _book("two levels have one price", Warned(Note.LEVEL_ORDER), [], [60_004.1, 60_004.2, 60_004.2]),
    _book("book has no level", Warned(Note.EMPTY_BOOK), [None] * 3, [None] * 3),
    _book("book has one side", Written("written"), [None] * 3, []),
    _schema("a column is missing", "match no known dialect|complete levels a side", _without),
    _schema("a column stands twice", "stand more than once", _twice),
    _schema("a price is a truth value", "not a float", _as(pa.bool_())),
    _schema("a price is a half float", "not a float", _as(pa.float16())),
    _schema("a price is a list", "not a float", _as(pa.list_(pa.float64()))),
    _schema("a time is a float", "not an integer or a timestamp", _as(pa.float64(), lambda n: n["ts_init"])),
    Defect("file has no rows", EMPTY, EMPTY, damage=lambda table, names: written(table.slice(0, 0))),
    Defect("file has no row group", EMPTY, EMPTY, damage=_no_row_group),
    _schema(
        "file is no Parquet", "not a Parquet file", lambda t, n: b"id,price\n1,5\n" * 9, CorruptObjectError
    ),
)


def table_of_defects() -> str:
    """Return the table of the documentation."""
    lines = ["| what is wrong | trades | book snapshots |", "|---|---|---|"]
    lines += [f"| {defect.title} | {defect.trades or '—'} | {defect.book or '—'} |" for defect in DEFECTS]
    return "\n".join(lines)
