"""What the columns of a source file mean: the known dialects, their recognition, and declared mappings.

Pure: looks at schemas only. Units come from the dialect, never from the magnitude of values.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.types as pt

from ticklake.config import DialectConfig, parse_dialect
from ticklake.errors import SourceSchemaError
from ticklake.types import DataType

__all__ = [
    "BookDialect",
    "Dialect",
    "TradesDialect",
    "Unit",
    "declaration",
    "nanos",
    "nanos_per_unit",
    "recognise",
]

type Unit = Literal["ns", "us", "ms", "s"]

_NANOS_PER_UNIT: dict[str, int] = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MAX_COLUMNS_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """The time columns; `unit` is that of integer ones, an Arrow timestamp has its own.

    Attributes:
        name: `nautilus`, `tardis`, `volume`, or `declared`.
        ts_event: Column of the exchange's time.
        ts_init: Column of the receive time; None where the file has none, `ts_init` is `ts_event` then.
        unit: Unit of integer time columns.
    """

    name: str
    ts_event: str
    ts_init: str | None
    unit: Unit

    @property
    def time_column(self) -> str:
        """The column that is the engine's clock: `ts_init`, or `ts_event` where there is none."""
        return self.ts_init or self.ts_event

    @property
    def nanos_per_unit(self) -> int:
        """Nanoseconds in one unit of an integer time column."""
        return _NANOS_PER_UNIT[self.unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class TradesDialect(_Times):
    """The columns of a trades file.

    Attributes:
        price, size: Columns of the price and the traded quantity.
        side: Column of the aggressor's side; None where the file has none (no aggressor then).
        buy, sell: The values of `side` that mean an aggressive buyer or seller, as case-folded text
            (`"1"` also stands for the integer 1, `"true"` for the boolean); any other value is no aggressor.
        trade_id: Column of the trade id; None where the file has none (ids are derived then).
    """

    price: str
    size: str
    side: str | None
    buy: frozenset[str]
    sell: frozenset[str]
    trade_id: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read: times, numbers, then side and id where they exist."""
        return _distinct((self.ts_init, self.ts_event, self.price, self.size, self.side, self.trade_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class BookDialect(_Times):
    """The columns of a file of book snapshots, one row a snapshot; best level first.

    Attributes:
        bid_price, bid_size, ask_price, ask_size: Columns by level; all four have the same length.
    """

    bid_price: tuple[str, ...]
    bid_size: tuple[str, ...]
    ask_price: tuple[str, ...]
    ask_size: tuple[str, ...]

    @property
    def depth(self) -> int:
        """Levels a side."""
        return len(self.bid_price)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read: times, then bid prices, bid sizes, ask prices and ask sizes."""
        return _distinct(
            (self.ts_init, self.ts_event, *self.bid_price, *self.bid_size, *self.ask_price, *self.ask_size)
        )


type Dialect = TradesDialect | BookDialect


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownTrades:
    """A trades dialect as found in the field: price, size and `ts_event` identify it, others may lack."""

    name: str
    price: str
    size: str
    side: str
    buy: frozenset[str]
    sell: frozenset[str]
    trade_ids: tuple[str, ...]
    ts_event: str
    ts_init: str
    unit: Unit

    @property
    def required(self) -> tuple[str, ...]:
        return (self.price, self.size, self.ts_event)

    def describe(self) -> str:
        optional = ", ".join((self.side, " or ".join(self.trade_ids), self.ts_init))
        return f"{self.name} ({', '.join(self.required)}; optional {optional}; {self.unit})"

    def bind(self, names: set[str], data_type: DataType) -> TradesDialect:  # noqa: ARG002 (as _KnownBook's)
        return TradesDialect(
            name=self.name,
            price=self.price,
            size=self.size,
            side=self.side if self.side in names else None,
            buy=self.buy,
            sell=self.sell,
            trade_id=next((name for name in self.trade_ids if name in names), None),
            ts_event=self.ts_event,
            ts_init=self.ts_init if self.ts_init in names else None,
            unit=self.unit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _KnownBook:
    """A book dialect as found in the field; `{level}` in the templates counts from `first_level`."""

    name: str
    bid_price: str
    bid_size: str
    ask_price: str
    ask_size: str
    first_level: int
    ts_event: str
    ts_init: str
    unit: Unit

    @property
    def templates(self) -> tuple[str, str, str, str]:
        return (self.bid_price, self.bid_size, self.ask_price, self.ask_size)

    @property
    def required(self) -> tuple[str, ...]:
        return (self.ts_event, *(_at_level(template, self.first_level) for template in self.templates))

    def describe(self) -> str:
        ask_price, ask_size = (_at_level(t, self.first_level) for t in (self.ask_price, self.ask_size))
        return (
            f"{self.name} ({ask_price}, {ask_size}, … and the same of bids, {self.ts_event}; "
            f"optional {self.ts_init}; {self.unit})"
        )

    def bind(self, names: set[str], data_type: DataType) -> BookDialect:
        return _book_dialect(
            names,
            data_type,
            name=self.name,
            templates=self.templates,
            first_level=self.first_level,
            ts_event=self.ts_event,
            ts_init=self.ts_init if self.ts_init in names else None,
            unit=self.unit,
        )


_KNOWN_TRADES = (
    _KnownTrades(
        name="nautilus",
        price="price",
        size="size",
        side="aggressor_side",
        buy=frozenset({"1", "buy", "buyer"}),
        sell=frozenset({"2", "sell", "seller"}),
        trade_ids=("trade_id",),
        ts_event="ts_event",
        ts_init="ts_init",
        unit="ns",
    ),
    _KnownTrades(
        name="tardis",
        price="price",
        size="amount",
        side="side",
        buy=frozenset({"buy"}),
        sell=frozenset({"sell"}),
        trade_ids=("id",),
        ts_event="timestamp",
        ts_init="local_timestamp",
        unit="us",
    ),
    _KnownTrades(
        name="volume",
        price="price",
        size="volume",
        side="side",
        buy=frozenset({"buy"}),
        sell=frozenset({"sell"}),
        trade_ids=("trade_id", "id"),
        ts_event="timestamp",
        ts_init="local_timestamp",
        unit="us",
    ),
)

_KNOWN_BOOKS = (
    _KnownBook(
        name="nautilus",
        bid_price="bid_price_{level}",
        bid_size="bid_size_{level}",
        ask_price="ask_price_{level}",
        ask_size="ask_size_{level}",
        first_level=0,
        ts_event="ts_event",
        ts_init="ts_init",
        unit="ns",
    ),
    _KnownBook(
        name="tardis",
        bid_price="bids[{level}].price",
        bid_size="bids[{level}].amount",
        ask_price="asks[{level}].price",
        ask_size="asks[{level}].amount",
        first_level=0,
        ts_event="timestamp",
        ts_init="local_timestamp",
        unit="us",
    ),
    _KnownBook(
        name="volume",
        bid_price="bid_price_{level}",
        bid_size="bid_volume_{level}",
        ask_price="ask_price_{level}",
        ask_size="ask_volume_{level}",
        first_level=1,
        ts_event="timestamp",
        ts_init="local_timestamp",
        unit="us",
    ),
)


def declaration(dialect: DialectConfig | Mapping[str, Any] | None) -> DialectConfig | None:
    """Return a declared column mapping as it is, or validated from plain values.

    Raises:
        ConfigError: The values are not those of a mapping.
        TypeError: It is neither.
    """
    if dialect is None or isinstance(dialect, DialectConfig):
        return dialect
    if isinstance(dialect, Mapping):
        return parse_dialect(dialect)
    raise TypeError(f"{dialect!r} is not a dialect; give a DialectConfig or a mapping of its keys")


def recognise(
    schema: pa.Schema,
    data_type: DataType,
    declared: DialectConfig | None = None,
    *,
    url: str | None = None,
) -> Dialect:
    """Return what the columns of a source file mean.

    A file may have more columns than its dialect, and a book file more levels than the data type asks for.

    Args:
        schema: The file's schema.
        data_type: What the file holds.
        declared: The mapping of the config; None recognises a known dialect from the columns' names.
        url: Where the file is, for errors.

    Raises:
        SourceSchemaError: The columns match no known dialect or more than one, a declared column is missing,
            a needed column stands twice or has a type that it cannot have, or the book has too few levels.
    """
    try:
        names = set(schema.names)
        dialect = _known(schema, data_type) if declared is None else _declared(names, data_type, declared)
        _check_types(schema, dialect)
    except SourceSchemaError as exc:
        exc.data_type, exc.url = data_type.name, url
        raise
    return dialect


def _known(schema: pa.Schema, data_type: DataType) -> Dialect:
    names = set(schema.names)
    known: Sequence[_KnownTrades | _KnownBook] = _KNOWN_BOOKS if data_type.is_book else _KNOWN_TRADES
    found = [candidate for candidate in known if names.issuperset(candidate.required)]
    if len(found) == 1:
        return found[0].bind(names, data_type)
    matched = (
        f"more than one known dialect ({', '.join(c.name for c in found)})" if found else "no known dialect"
    )
    raise SourceSchemaError(
        f"the columns match {matched}: {_shown(schema.names)}; "
        f"known are {'; '.join(candidate.describe() for candidate in known)}",
        hint=_how_to_declare(data_type),
    )


def nanos_per_unit(dialect: Dialect, field_type: pa.DataType) -> int:
    """Return the nanoseconds in one unit of a time column of that Arrow type.

    An integer column has the unit of its dialect, an Arrow timestamp its own.
    """
    return _NANOS_PER_UNIT[field_type.unit] if pt.is_timestamp(field_type) else dialect.nanos_per_unit


def nanos(dialect: Dialect, field_type: pa.DataType, value: int | dt.datetime) -> int:
    """Return one value of a time column, for example of a row group's statistics, in nanoseconds UTC.

    Args:
        dialect: The file's dialect.
        field_type: The column's Arrow type.
        value: The integer as stored, or a datetime (naive is UTC).
    """
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        # pandas' Timestamp is a datetime with another three digits.
        below_micro = int(getattr(value, "nanosecond", 0))
        return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1_000 + below_micro
    return int(value) * nanos_per_unit(dialect, field_type)


def _declared(names: set[str], data_type: DataType, declared: DialectConfig) -> Dialect:
    wanted = ("bid_price", "bid_size", "ask_price", "ask_size") if data_type.is_book else ("price", "size")
    columns = [getattr(declared, name) for name in wanted]
    if unsaid := [name for name, column in zip(wanted, columns, strict=True) if column is None]:
        raise SourceSchemaError(
            f"the declared dialect does not say where {' and '.join(unsaid)} stand",
            hint=_how_to_declare(data_type),
        )
    _require(names, (declared.ts_event, declared.ts_init))
    if data_type.is_book:
        if flat := [c for c in columns if "{level}" not in c and data_type.depth != 1]:
            raise SourceSchemaError(
                f"the declared dialect gives every level of the book the same column {flat[0]!r}",
                hint="Write {level} where the level's number stands in the column's name.",
            )
        return _book_dialect(
            names,
            data_type,
            name="declared",
            templates=columns,
            first_level=declared.first_level,
            ts_event=declared.ts_event,
            ts_init=declared.ts_init,
            unit=declared.unit,
        )
    _require(names, (*columns, declared.side, declared.trade_id))
    buy, sell = _side_values(declared.buy), _side_values(declared.sell)
    if buy & sell:
        raise SourceSchemaError(
            f"the declared dialect has the same value {declared.buy!r} for buy and sell (case is ignored, "
            "true is 1 and false is 0)",
        )
    return TradesDialect(
        name="declared",
        price=columns[0],
        size=columns[1],
        side=declared.side,
        buy=buy,
        sell=sell,
        trade_id=declared.trade_id,
        ts_event=declared.ts_event,
        ts_init=declared.ts_init,
        unit=declared.unit,
    )


# A flag is a boolean in some files and an integer in others, however its mapping spells it.
_FLAGS = (frozenset({"true", "1"}), frozenset({"false", "0"}))


def _side_values(value: bool | int | str) -> frozenset[str]:  # noqa: FBT001 (what a config may say)
    text = str(value).casefold()
    return next((flag for flag in _FLAGS if text in flag), frozenset({text}))


def _book_dialect(
    names: set[str],
    data_type: DataType,
    *,
    name: str,
    templates: Sequence[str],
    first_level: int,
    ts_event: str,
    ts_init: str | None,
    unit: Unit,
) -> BookDialect:
    depth = data_type.depth or 0
    levels = range(first_level, first_level + depth)
    sides = tuple(tuple(_at_level(template, level) for level in levels) for template in templates)
    if missing := [column for side in sides for column in side if column not in names]:
        complete = next((n for n in range(depth) if any(side[n] not in names for side in sides)), depth)
        raise SourceSchemaError(
            f"the {name} book has {complete} complete levels a side, {data_type} needs {depth}; "
            f"missing are {_shown(missing)}",
            hint="Check the depth in the data type's name, and the columns of the file.",
        )
    bid_price, bid_size, ask_price, ask_size = sides
    return BookDialect(
        name=name,
        bid_price=bid_price,
        bid_size=bid_size,
        ask_price=ask_price,
        ask_size=ask_size,
        ts_event=ts_event,
        ts_init=ts_init,
        unit=unit,
    )


def _require(names: set[str], columns: Iterable[str | None]) -> None:
    if missing := [column for column in columns if column is not None and column not in names]:
        raise SourceSchemaError(
            f"the declared dialect names columns that the file does not have: {', '.join(missing)}; "
            f"it has {_shown(sorted(names))}",
            hint="Correct the `dialect` of the instrument in the config.",
        )


def _check_types(schema: pa.Schema, dialect: Dialect) -> None:
    count = Counter(schema.names)
    if twice := [column for column in dialect.columns if count[column] > 1]:
        raise SourceSchemaError(f"columns stand more than once: {', '.join(twice)}")
    problems = []
    for column in dialect.columns:
        field_type = schema.field(column).type
        if column in (dialect.ts_event, dialect.ts_init):
            fits, allowed = _is_time(field_type), "an integer or a timestamp"
        elif isinstance(dialect, TradesDialect) and column == dialect.side:
            fits, allowed = _is_side(_plain(field_type)), "text, an integer or a boolean"
        elif isinstance(dialect, TradesDialect) and column == dialect.trade_id:
            fits, allowed = _is_id(_plain(field_type)), "text or an integer"
        else:
            fits, allowed = _is_number(_plain(field_type)), "a float, an integer, a decimal or text"
        if not fits:
            problems.append(f"{column} is {field_type}, not {allowed}")
    if problems:
        raise SourceSchemaError(
            f"columns of the {dialect.name} dialect have types that they cannot have: {'; '.join(problems)}",
            hint="Write the file with one of these types, or declare other columns in the config.",
        )


def _plain(field_type: pa.DataType) -> pa.DataType:
    return field_type.value_type if pt.is_dictionary(field_type) else field_type


def _is_nothing(field_type: pa.DataType) -> bool:
    # What a writer makes of a column that has no value in the whole file.
    return bool(pt.is_null(field_type))


def _is_text(field_type: pa.DataType) -> bool:
    return bool(pt.is_string(field_type) or pt.is_large_string(field_type) or pt.is_string_view(field_type))


def _is_time(field_type: pa.DataType) -> bool:
    return bool(pt.is_integer(field_type) or pt.is_timestamp(field_type))


def _is_number(field_type: pa.DataType) -> bool:
    # A half float has three digits: no market's prices fit, so it is a mistake.
    floating = pt.is_float32(field_type) or pt.is_float64(field_type)
    exact = pt.is_integer(field_type) or _is_decimal(field_type) or _is_text(field_type)
    return bool(floating or exact) or _is_nothing(field_type)


def _is_decimal(field_type: pa.DataType) -> bool:
    # Wider ones and negative scales occur in no lake, and would need code of their own.
    return bool(pt.is_decimal(field_type) and not pt.is_decimal256(field_type) and field_type.scale >= 0)


def _is_side(field_type: pa.DataType) -> bool:
    # pandas makes floats of integers with gaps.
    number = pt.is_integer(field_type) or pt.is_float32(field_type) or pt.is_float64(field_type)
    return bool(number or pt.is_boolean(field_type)) or _is_text(field_type) or _is_nothing(field_type)


def _is_id(field_type: pa.DataType) -> bool:
    return bool(pt.is_integer(field_type)) or _is_text(field_type) or _is_nothing(field_type)


def _at_level(template: str, level: int) -> str:
    return template.replace("{level}", str(level))


def _distinct(columns: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(column for column in columns if column is not None))


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _MAX_COLUMNS_SHOWN
    shown = ", ".join(names[:_MAX_COLUMNS_SHOWN]) or "none at all"
    return f"{shown} and {more} more" if more > 0 else shown


def _how_to_declare(data_type: DataType) -> str:
    if data_type.is_book:
        columns = (
            'bid_price: "b{level}_px", bid_size: "b{level}_qty", ask_price: "a{level}_px", '
            'ask_size: "a{level}_qty", first_level: 0'
        )
    else:
        columns = "price: px, size: qty, side: taker, buy: B, sell: S, trade_id: id"
    return (
        "Declare what the columns mean at the instrument in the config, for example "
        f"`dialect: {{{columns}, ts_event: time, ts_init: received, unit: us}}`."
    )
