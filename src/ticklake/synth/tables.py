"""The columns of a simulated day, in the dialects and order in which lakes in the field have them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from ticklake.synth.market import (
    BTC_PERPETUAL,
    Floats,
    Ints,
    SimulatedDay,
    SyntheticInstrument,
    require_positive,
)
from ticklake.types import InstrumentKey

__all__ = ["book_columns", "book_table", "instruments_table", "trade_columns", "trades_table"]

# Templates of a level's columns, in the order in which they stand in a file, and the first level's number.
_BOOK_COLUMNS = {
    "nautilus": (("ask_price_{}", "ask_size_{}", "bid_price_{}", "bid_size_{}"), 0),
    "tardis": (("asks[{}].price", "asks[{}].amount", "bids[{}].price", "bids[{}].amount"), 0),
    "volume": (("ask_price_{}", "ask_volume_{}", "bid_price_{}", "bid_volume_{}"), 1),
}


def trades_table(
    instrument: SyntheticInstrument = BTC_PERPETUAL,
    day: dt.date = dt.date(2024, 8, 8),
    *,
    trades: int = 400_000,
    snapshots: int = 150_000,
    seed: int = 7,
) -> pa.Table:
    """Return one UTC day of trades, in the columns of the instrument's dialect and in order of exchange time.

    Args:
        instrument: What to simulate.
        day: The UTC day, by exchange time.
        trades: Rows of the table.
        snapshots: Book snapshots that the trades are made against; those of `book_table` if both get the same
            arguments.
        seed: Another seed gives other ticks.

    Raises:
        ValueError: A count is not positive.
    """
    return trade_columns(SimulatedDay(instrument, day, trades=trades, snapshots=snapshots, seed=seed))


def book_table(
    instrument: SyntheticInstrument = BTC_PERPETUAL,
    day: dt.date = dt.date(2024, 8, 8),
    *,
    trades: int = 400_000,
    snapshots: int = 150_000,
    levels: int = 5,
    seed: int = 7,
) -> pa.Table:
    """Return one UTC day of book snapshots, in the columns of the instrument's dialect.

    Args:
        instrument: What to simulate.
        day: The UTC day, by exchange time.
        trades: Trades that move the book; those of `trades_table` if both get the same arguments.
        snapshots: Rows of the table.
        levels: Levels a side.
        seed: Another seed gives other ticks.

    Raises:
        ValueError: A count is not positive.
    """
    return book_columns(SimulatedDay(instrument, day, trades=trades, snapshots=snapshots, seed=seed), levels)


def instruments_table(instruments: Sequence[SyntheticInstrument], *, levels: int = 5) -> pa.Table:
    """Return a day's list of instruments, in the columns of the lake's `instruments.parquet`.

    Args:
        instruments: What to list.
        levels: Levels a side of the book snapshots that the list names.
    """
    rows = [_listing(instrument, levels) for instrument in instruments]
    kinds = {"inverse": pa.bool_(), "contract_size": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in _listing(BTC_PERPETUAL, levels)])
    return pa.Table.from_pylist(rows, schema=schema)


def _listing(instrument: SyntheticInstrument, levels: int) -> dict[str, Any]:
    key = InstrumentKey(instrument.key)
    base, quote = key.symbol.split("-")
    perpetual = key.instrument_type == "PERPETUAL"
    return {
        "instrument_key": key.text,
        "venue": key.venue,
        "instrument_type": key.instrument_type,
        "symbol": key.symbol,
        "available_from_datetime": "2019-09-08T00:00:00Z",
        "available_to_datetime": "2099-12-31T00:00:00Z",
        "data_types": f"trades,book_snapshot_{levels}",
        "base_asset": base,
        "quote_asset": quote,
        "settle_asset": quote,
        "exchange_raw_symbol": f"{base}{quote}",
        "tardis_symbol": f"{base}{quote}".lower(),
        "tardis_exchange": key.venue.lower(),
        "data_provider": "synthetic",
        "venue_type": "centralized",
        "asset_class": "crypto",
        "inverse": False,
        "symbol_type": key.instrument_type.lower(),
        "contract_type": "linear" if perpetual else "",
        "strike": "",
        "option_type": "",
        "expiry": "",
        "contract_size": 1.0,
        "tick_size": str(instrument.tick),
        "settlement_type": "cash" if perpetual else "",
        "underlying": key.symbol,
        "min_size": str(instrument.lot),
        "ccxt_symbol": f"{base}/{quote}:{quote}" if perpetual else f"{base}/{quote}",
        "ccxt_exchange": "binanceusdm" if perpetual else "binance",
    }


def trade_columns(simulated: SimulatedDay) -> pa.Table:
    """Return the trades of a simulated day in the columns of its instrument's dialect."""
    instrument, trades = simulated.instrument, simulated.trades()
    rows = trades.event_us.size
    event_us, init_us = simulated.midnight_us + trades.event_us, simulated.midnight_us + trades.init_us
    prices, sizes = _on_grid(trades.price_ticks, instrument.tick), _on_grid(trades.size_lots, instrument.lot)
    first = simulated.first_trade_id
    ids = pa.array(np.arange(first, first + rows)).cast(pa.string())
    # 1 buy, 2 sell.
    sides = np.where(trades.buys, 1, 2).astype(np.int8)
    if instrument.trades_dialect == "tardis":
        names = pa.DictionaryArray.from_arrays(pa.array(sides - 1), ["buy", "sell"]).cast(pa.string())
        return pa.table(
            {
                "timestamp": event_us,
                "local_timestamp": init_us,
                "id": ids,
                "side": names,
                "price": prices,
                "amount": sizes,
            }
        )
    return pa.table(
        {
            "instrument_key": pa.repeat(instrument.key, rows),
            "price": prices,
            "size": sizes,
            "aggressor_side": sides,
            "trade_id": ids,
            "ts_event": event_us * 1_000,
            "ts_init": init_us * 1_000,
        }
    )


def book_columns(simulated: SimulatedDay, levels: int) -> pa.Table:
    """Return the book snapshots of a simulated day in the columns of its instrument's dialect."""
    require_positive(levels=levels)
    instrument = simulated.instrument
    event_us, init_us = (simulated.midnight_us + times for times in simulated.snapshot_times())
    columns: dict[str, Any]
    if instrument.book_dialect == "nautilus":
        columns = {
            "instrument_key": pa.repeat(instrument.key, event_us.size),
            "ts_event": event_us * 1_000,
            "ts_init": init_us * 1_000,
        }
    else:
        columns = {"timestamp": event_us, "local_timestamp": init_us}
    templates, first = _BOOK_COLUMNS[instrument.book_dialect]
    for level, (asks, bids) in enumerate(simulated.levels(levels), start=first):
        arrays = (
            _on_grid(asks.price_ticks, instrument.tick),
            _on_grid(asks.size_lots, instrument.lot),
            _on_grid(bids.price_ticks, instrument.tick),
            _on_grid(bids.size_lots, instrument.lot),
        )
        columns |= {template.format(level): array for template, array in zip(templates, arrays, strict=True)}
    return pa.table(columns)


def _on_grid(steps: Ints, increment: Decimal) -> Floats:
    """Return multiples of an increment as the floats that their decimal texts would be read as."""
    numerator, denominator = increment.as_integer_ratio()
    # A quotient of two exact integers is rounded once, and correctly.
    return (steps * numerator) / denominator
