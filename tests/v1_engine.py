"""Run by NautilusTrader 1.231.0 in its own environment: read, write and replay catalogs, answers as JSON.

It is no test and imports nothing of ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nautilus_trader.backtest.node import (
    BacktestDataConfig,
    BacktestEngineConfig,
    BacktestNode,
    BacktestRunConfig,
    BacktestVenueConfig,
)
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.data import BookOrder, OrderBookDelta, TradeTick
from nautilus_trader.model.enums import AggressorSide, BookAction, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId
from nautilus_trader.model.instruments import CryptoPerpetual, CurrencyPair
from nautilus_trader.model.objects import Currency, Price, Quantity
from nautilus_trader.persistence.catalog import ParquetDataCatalog


def read(folder: str) -> dict[str, Any]:
    catalog = ParquetDataCatalog(folder)
    ids = [str(instrument.id) for instrument in catalog.instruments()]
    return {
        "trades": [TradeTick.to_dict(tick) for tick in catalog.trade_ticks()],
        "deltas": [OrderBookDelta.to_dict(delta) for delta in catalog.order_book_deltas()],
        "instruments": [type(each).to_dict(each) for each in catalog.instruments()],
        "intervals": {name: catalog.get_intervals(TradeTick, name) for name in ids},
    }


def replay(folder: str, nautilus_id: str) -> dict[str, Any]:
    """Replay an instrument, and read all there is."""
    venue = nautilus_id.rpartition(".")[2]
    data = [
        BacktestDataConfig(
            catalog_path=folder, data_cls=kind, instrument_id=InstrumentId.from_str(nautilus_id)
        )
        for kind in (OrderBookDelta, TradeTick)
    ]
    config = BacktestRunConfig(
        engine=BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)),
        venues=[
            BacktestVenueConfig(
                name=venue,
                oms_type="NETTING",
                account_type="MARGIN",
                starting_balances=["1_000_000 USDT"],
                book_type="L2_MBP",
            )
        ],
        data=data,
        raise_exception=True,
    )
    (result,) = BacktestNode([config]).run()
    return read(folder) | {"iterations": result.iterations}


def write(folder: str) -> dict[str, Any]:
    """Write a catalog as 1.x does, with what ours never writes (fees, all actions), and read it."""
    catalog = ParquetDataCatalog(folder)
    start = 1_723_161_480 * 10**9
    for name, symbol in (("BTCUSDT-PERP.BINANCE", "BTCUSDT"), ("BTC/USDT.KRAKEN", "BTC/USDT")):
        iid = InstrumentId.from_str(name)
        price, size = Price.from_str("60000.1"), Quantity.from_str("0.001")
        common = {
            "instrument_id": iid,
            "raw_symbol": Symbol(symbol),
            "base_currency": Currency.from_str("BTC"),
            "quote_currency": Currency.from_str("USDT"),
            "price_precision": 1,
            "size_precision": 3,
            "price_increment": Price.from_str("0.1"),
            "size_increment": Quantity.from_str("0.001"),
            "ts_event": start,
            "ts_init": start,
            "max_quantity": Quantity.from_str("100.000"),
        }
        if "PERP" in name:
            from decimal import Decimal

            instrument = CryptoPerpetual(
                **common,
                settlement_currency=Currency.from_str("USDT"),
                is_inverse=False,
                maker_fee=Decimal("0.0002"),
                taker_fee=Decimal("0.0005"),
                info={"note": "größer", "n": [1, 2]},
            )
        else:
            instrument = CurrencyPair(**common)
        catalog.write_data([instrument])
        for hour in range(2):
            at = start + hour * 3_600 * 10**9
            sides = (AggressorSide.BUYER, AggressorSide.SELLER, AggressorSide.NO_AGGRESSOR)
            catalog.write_data(
                [
                    TradeTick(iid, price, size, sides[n % 3], TradeId(str(n)), at + n // 2, at + n)
                    for n in range(5_000)
                ]
            )
            orders = [
                (action, BookOrder(side, price, size, n))
                for n, (action, side) in enumerate(
                    (action, side)
                    for action in (BookAction.ADD, BookAction.UPDATE, BookAction.DELETE)
                    for side in (OrderSide.BUY, OrderSide.SELL)
                )
            ]
            deltas = [OrderBookDelta.clear(iid, 7, at, at)]
            deltas += [OrderBookDelta(iid, action, order, 128, 8, at, at + 1) for action, order in orders]
            catalog.write_data(deltas)
    return read(folder)


if __name__ == "__main__":
    command, target, *arguments = sys.argv[1:]
    answer = {"read": read, "replay": replay, "write": write}[command](*arguments)
    Path(target).write_text(json.dumps(answer, default=str))
