"""Nautilus instruments from the lake's instrument list of a day, or from the config.

Perpetuals (linear and inverse) become `CryptoPerpetual`, spot pairs `CurrencyPair`. What the list does not
say stays at the engine's neutral values: no margin requirement (as in the engine's own Tardis instruments),
no upper limits. `ts_event` and `ts_init` are the midnight (UTC) that the definition is good from.
"""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ticklake.catalog.provenance import Source
from ticklake.catalog.schema import DECIMAL_SCALE, PRICE_MAX, SIZE_MAX
from ticklake.config import InstrumentConfig, InstrumentDefinition
from ticklake.errors import ConfigError, NotListedError, SourceSchemaError
from ticklake.instruments.symbology import nautilus_id as spelled_id
from ticklake.types import InstrumentKey, InstrumentSpec, Window

if TYPE_CHECKING:
    from nautilus_trader.model import CryptoPerpetual, CurrencyPair

    type Instrument = CryptoPerpetual | CurrencyPair

__all__ = ["carried_from", "carry", "find", "from_config", "from_lake", "spec_of"]

_TYPES = {"PERPETUAL": "perpetual", "SPOT_PAIR": "spot", "SPOT": "spot"}
_REQUIRED = ("instrument_key", "base_asset", "quote_asset", "tick_size", "min_size")

# Sizes on these venues, live and recorded, are amounts of the quote or base asset. The size of a contract
# only converts them to a count, so that it is no multiplier of the notional.
_SIZED_BY_AMOUNT = frozenset({"DERIBIT"})

_DEFINE_IT = "Give the instrument a definition in the config."


def find(table: pa.Table, key: InstrumentKey) -> Mapping[str, Any]:
    """Return the row of an instrument, whether the list spells its key with or without the `@…` suffix.

    Args:
        table: The lake's instrument list of a day.
        key: What to look for.

    Raises:
        SourceSchemaError: The list lacks columns.
        NotListedError: No row matches (the nearest keys are named).
        ConfigError: Rows that differ match.
    """
    import pyarrow.compute as pc  # takes time, and the catalog's definitions need no list

    missing = [name for name in _REQUIRED if name not in table.column_names]
    if missing:
        raise SourceSchemaError(
            f"the instrument list has no column {', '.join(missing)}; it has {', '.join(table.column_names)}",
            instrument=key.text,
            hint=_DEFINE_IT,
        )
    for spellings in ([key.text], [key.bare] if key.margin else [f"{key.bare}@LIN", f"{key.bare}@INV"]):
        mask = pc.is_in(table.column("instrument_key"), value_set=pa.array(spellings))
        rows: list[dict[str, Any]] = table.filter(mask).to_pylist()
        if len({repr(row) for row in rows}) > 1:
            raise ConfigError(
                f"{key}: the instrument list has {len(rows)} rows for "
                f"{', '.join(sorted({row['instrument_key'] for row in rows}))}, which differ",
                instrument=key.text,
                hint="Write the key with its suffix, or give the instrument a definition in the config.",
            )
        if rows:
            return rows[0]
    raise NotListedError(
        f"{key}: not in the instrument list of {table.num_rows} rows{_near(table, key)}",
        instrument=key.text,
        hint=_DEFINE_IT,
    )


def _near(table: pa.Table, key: InstrumentKey) -> str:
    import pyarrow.compute as pc

    keys = table.column("instrument_key").drop_null()
    akin = keys.filter(pc.match_substring(keys, key.symbol.split("-")[0], ignore_case=True))
    candidates = (akin if len(akin) else keys).slice(0, 2_000).to_pylist()
    near = difflib.get_close_matches(key.text, candidates, n=5, cutoff=0.5)
    return f"; near are {', '.join(near)}" if near else ""


def from_lake(
    table: pa.Table,
    key: InstrumentKey,
    day: dt.date,
    *,
    nautilus_id: str | None = None,
    source: Source | None = None,
) -> Instrument:
    """Return the Nautilus instrument of a lake key from the lake's instrument list.

    Args:
        table: The lake's instrument list of `day`.
        key: The instrument.
        day: The UTC day that the list is of.
        nautilus_id: The id to use instead of the live adapter's.
        source: The object that the list was read from, for the instrument's `info`.

    Raises:
        SourceSchemaError: The list lacks columns.
        NotListedError: The list has no such instrument.
        ConfigError: Its row cannot be used (the error names key, column
            and value), or the type is not supported.
    """
    kind = _TYPES.get(key.instrument_type)
    if kind is None:
        raise ConfigError(
            f"{key}: type {key.instrument_type} is not supported yet, only {', '.join(_TYPES)}",
            instrument=key.text,
        )
    row = find(table, key)
    inverse = kind == "perpetual" and _inverse(row, key)
    raw_symbol = _text(row, "exchange_raw_symbol") or _text(row, "tardis_symbol").upper()
    if nautilus_id is None:
        nautilus_id = spelled_id(
            key,
            tardis_symbol=_text(row, "tardis_symbol"),
            tardis_exchange=_text(row, "tardis_exchange"),
            exchange_raw_symbol=_text(row, "exchange_raw_symbol"),
            inverse=inverse,
        )
        id_from = "symbology"
    else:
        id_from = "config"
    values = {
        "type": kind,
        "base": _code(row, "base_asset", key),
        "quote": _code(row, "quote_asset", key),
        "settle": _text(row, "settle_asset").upper() or None,
        "raw_symbol": raw_symbol or key.symbol,
        "tick_size": _number(row, "tick_size", key),
        "min_size": _number(row, "min_size", key),
        "inverse": inverse,
    }
    if kind == "perpetual" and nautilus_id.rpartition(".")[2] not in _SIZED_BY_AMOUNT:
        values["contract_size"] = _number(row, "contract_size", key)
    lake_key = key.text if key.margin else row["instrument_key"]
    info = {"lake_key": lake_key, "defined_by": "lake", "id_from": id_from}
    if source is not None:
        info["source_url"] = source.url
        info["source_etag"] = source.etag or ""
    return _build(InstrumentDefinition.model_validate(values), nautilus_id, key, day, info)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    return value.strip() if isinstance(value, str) else ""


def _code(row: Mapping[str, Any], column: str, key: InstrumentKey) -> str:
    if code := _text(row, column).upper():
        return code
    raise _unusable(row, column, key)


def _inverse(row: Mapping[str, Any], key: InstrumentKey) -> bool:
    inverse = row.get("inverse")
    if key.margin is not None and inverse not in (None, key.margin == "INV"):
        raise _unusable(row, "inverse", key)
    return key.margin == "INV" if inverse is None else bool(inverse)


def _number(row: Mapping[str, Any], column: str, key: InstrumentKey) -> Decimal:
    value = row.get(column)
    try:
        # 15 digits are what a binary float holds; the rest is noise.
        number = Decimal(f"{value:.15g}" if isinstance(value, float) else str(value).strip())
    except InvalidOperation as exc:
        raise _unusable(row, column, key) from exc
    if not number.is_finite() or number <= 0:
        raise _unusable(row, column, key)
    return number


def _unusable(row: Mapping[str, Any], column: str, key: InstrumentKey) -> ConfigError:
    return ConfigError(
        f"{key}: {column} {row.get(column)!r} in the lake's instrument list cannot be used",
        instrument=key.text,
        hint=_DEFINE_IT,
    )


def from_config(config: InstrumentConfig, day: dt.date) -> Instrument:
    """Return the Nautilus instrument that a config defines.

    Args:
        config: The instrument's part of the config, with a `definition`.
        day: The UTC day it is to be good from.

    Raises:
        ConfigError: There is no definition, the engine does not take it, or its id cannot be derived.
    """
    key = InstrumentKey(config.key)
    definition = config.definition
    if definition is None:
        raise ConfigError(f"{key}: the config has no definition of it", instrument=key.text, hint=_DEFINE_IT)
    nautilus_id = config.nautilus_id or spelled_id(
        key, exchange_raw_symbol=definition.raw_symbol, inverse=definition.inverse
    )
    return _build(definition, nautilus_id, key, day, {"lake_key": key.text, "defined_by": "config"})


def _build(
    definition: InstrumentDefinition, nautilus_id: str, key: InstrumentKey, day: dt.date, info: dict[str, str]
) -> Instrument:
    from nautilus_trader.model import (
        CryptoPerpetual,
        Currency,
        CurrencyPair,
        InstrumentId,
        Price,
        Quantity,
        Symbol,
    )

    tick = _increment("tick_size", definition.tick_size, PRICE_MAX, key)
    step = _increment("min_size", definition.min_size, SIZE_MAX, key)
    midnight = Window.of_day(day).start
    multiplier = _increment("contract_size", definition.contract_size, SIZE_MAX, key)
    try:
        price_increment, size_increment = Price.from_str(tick), Quantity.from_str(step)
        common: dict[str, Any] = {
            "instrument_id": InstrumentId.from_str(nautilus_id),
            "raw_symbol": Symbol(definition.raw_symbol),
            # Codes that the engine does not know become crypto currencies of eight decimals.
            "base_currency": Currency.from_str(definition.base),
            "quote_currency": Currency.from_str(definition.quote),
            "price_precision": price_increment.precision,
            "size_precision": size_increment.precision,
            "price_increment": price_increment,
            "size_increment": size_increment,
            "ts_event": midnight,
            "ts_init": midnight,
            "multiplier": Quantity.from_str(multiplier),
            "lot_size": size_increment,
            "min_quantity": size_increment,
            "margin_init": definition.margin_init,
            "margin_maint": definition.margin_maint,
            "info": info,
        }
        if definition.type == "spot":
            return CurrencyPair(**common)
        settle = definition.settle or (definition.base if definition.inverse else definition.quote)
        return CryptoPerpetual(
            **common, settlement_currency=Currency.from_str(settle), is_inverse=definition.inverse
        )
    except ValueError as exc:
        raise ConfigError(
            f"{key}: the engine does not take the definition: {exc}", instrument=key.text
        ) from exc


def _increment(name: str, value: Decimal, largest: int, key: InstrumentKey) -> str:
    """Return a number as plain text without needless zeros: its digits are the precision."""
    text = f"{value.normalize():f}"
    if value > largest or len(text.partition(".")[2]) > DECIMAL_SCALE:
        raise ConfigError(
            f"{key}: {name} {value} is beyond the engine's {DECIMAL_SCALE} decimals or {largest}",
            instrument=key.text,
            hint=_DEFINE_IT,
        )
    return text


def carry(instrument: Instrument, day: dt.date) -> Instrument:
    """Return a lake's definition as it is to hold on another day, which has none of its own.

    Its `info` says which day it is of, also where it was carried before.
    """
    midnight = Window.of_day(day).start
    values = instrument.to_dict()
    own = dt.datetime.fromtimestamp(instrument.ts_init // 10**9, dt.UTC).date()
    info = {"carried_from": own.isoformat(), **values["info"]}
    return type(instrument).from_dict({**values, "ts_event": midnight, "ts_init": midnight, "info": info})


def carried_from(instrument: Instrument) -> str | None:
    """Return the day that a carried definition is of; None for one of its own day."""
    day: str | None = (instrument.info or {}).get("carried_from")
    return day


def spec_of(instrument: Instrument) -> InstrumentSpec:
    """Return what a conversion needs to know of an instrument."""
    return InstrumentSpec(
        instrument.id.value,
        price_precision=instrument.price_precision,
        size_precision=instrument.size_precision,
    )
