"""Ids: those of the engine's live adapters."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.adapters.tardis import (
    tardis_exchange_to_venue_str,
    tardis_exchanges,
    tardis_normalize_symbol_str,
)
from nautilus_trader.model import InstrumentId

from ticklake.errors import ConfigError
from ticklake.instruments import nautilus_id, venue_of
from ticklake.instruments.symbology import VENUES
from ticklake.types import InstrumentKey


@pytest.mark.parametrize(
    ("key", "symbol", "exchange", "raw", "expected"),
    [
        (
            "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN",
            "btcusdt",
            "binance-futures",
            "BTCUSDT",
            "BTCUSDT-PERP.BINANCE",
        ),
        ("BINANCE:SPOT_PAIR:BTC-USDT", "btcusdt", "binance", "BTCUSDT", "BTCUSDT.BINANCE"),
        (
            "BINANCE-DELIVERY:PERPETUAL:BTC-USD@INV",
            "btcusd_perp",
            "binance-delivery",
            "BTCUSD_PERP",
            "BTCUSD_PERP.BINANCE",
        ),
        ("BYBIT:PERPETUAL:BTC-USDT@LIN", "btcusdt", "bybit", "BTCUSDT", "BTCUSDT-LINEAR.BYBIT"),
        ("BYBIT:PERPETUAL:BTC-USD@INV", "btcusd", "bybit", "BTCUSD", "BTCUSD-INVERSE.BYBIT"),
        ("BYBIT:SPOT_PAIR:BTC-USDT", "btcusdt", "bybit-spot", "BTCUSDT", "BTCUSDT-SPOT.BYBIT"),
        ("BYBIT-SPOT:SPOT:BTC-USDT", "BTCUSDT", "", "BTCUSDT", "BTCUSDT-SPOT.BYBIT"),
        ("OKX:PERPETUAL:BTC-USDT@LIN", "btc-usdt-swap", "okex-swap", "BTC-USDT-SWAP", "BTC-USDT-SWAP.OKX"),
        ("OKEX-SWAP:PERPETUAL:BTC-USD@INV", "BTC-USD-SWAP", "okex-swap", "", "BTC-USD-SWAP.OKX"),
        ("OKX:SPOT_PAIR:BTC-USDT", "BTC-USDT", "okex", "BTC-USDT", "BTC-USDT.OKX"),
        (
            "DERIBIT:PERPETUAL:BTC-USD@INV",
            "btc-perpetual",
            "deribit",
            "BTC-PERPETUAL",
            "BTC-PERPETUAL.DERIBIT",
        ),
        ("BITMEX:PERPETUAL:BTC-USD@INV", "xbtusd", "bitmex", "XBTUSD", "XBTUSD.BITMEX"),
        ("KRAKEN:SPOT_PAIR:BTC-USD", "xbt/usd", "kraken", "XBT/USD", "BTC/USD.KRAKEN"),
        (
            "KRAKEN-FUTURES:PERPETUAL:BTC-USD@INV",
            "pi_xbtusd",
            "cryptofacilities",
            "PI_XBTUSD",
            "PI_XBTUSD.KRAKEN",
        ),
        ("COINBASE:SPOT_PAIR:BTC-USD", "btc-usd", "coinbase", "BTC-USD", "BTC-USD.COINBASE"),
        ("HYPERLIQUID:PERPETUAL:BTC-USD@LIN", "btc", "hyperliquid", "BTC", "BTC-USD-PERP.HYPERLIQUID"),
        (
            "HYPERLIQUID:PERPETUAL:KPEPE-USD@LIN",
            "KPEPE",
            "hyperliquid",
            "kPEPE",
            "kPEPE-USD-PERP.HYPERLIQUID",
        ),
        (
            "HYPERLIQUID:SPOT_PAIR:PURR-USDC",
            "purr/usdc",
            "hyperliquid",
            "PURR/USDC",
            "PURR-USDC-SPOT.HYPERLIQUID",
        ),
        ("DYDX:PERPETUAL:BTC-USD@LIN", "btc-usd", "dydx-v4", "BTC-USD", "BTC-USD-PERP.DYDX"),
        ("LIGHTER:PERPETUAL:BTC-USD@LIN", "btc", "lighter", "BTC", "BTC-PERP.LIGHTER"),
        (
            "GATEIO-FUTURES:PERPETUAL:BTC-USDT@LIN",
            "btc_usdt",
            "gate-io-futures",
            "BTC_USDT",
            "BTC_USDT-PERP.GATE_IO",
        ),
    ],
)
def test_ids_are_spelled_as_the_live_adapters_spell_them(
    key: str, symbol: str, exchange: str, raw: str, expected: str
) -> None:
    parsed = InstrumentKey(key)
    inverse = parsed.margin == "INV"
    found = nautilus_id(
        parsed, tardis_symbol=symbol, tardis_exchange=exchange, exchange_raw_symbol=raw, inverse=inverse
    )
    assert found == expected
    assert InstrumentId.from_str(found).venue.value == venue_of(parsed)


def test_the_exchanges_symbol_is_enough() -> None:
    key = InstrumentKey("BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN")
    assert nautilus_id(key, exchange_raw_symbol="BTCUSDT") == "BTCUSDT-PERP.BINANCE"


@pytest.mark.parametrize(
    ("adapter", "constant"),
    [(venue.lower(), f"{venue}_VENUE") for venue in sorted(set(VENUES.values()))],
)
def test_venues_are_called_as_the_installed_adapters_call_them(adapter: str, constant: str) -> None:
    try:
        module = importlib.import_module(f"nautilus_trader.adapters.{adapter}")
    except ModuleNotFoundError:
        # No live adapter: the engine's own name of it is that of its Tardis adapter.
        exchanges = [exchange for exchange, venue in VENUES.items() if venue == adapter.upper()]
        assert {tardis_exchange_to_venue_str(exchange) for exchange in exchanges} == {adapter.upper()}
    else:
        assert str(getattr(module, constant)) == adapter.upper()


def test_every_exchange_is_one_that_the_engine_knows() -> None:
    assert set(VENUES) <= set(tardis_exchanges())


kinds = {"SPOT_PAIR": "spot", "PERPETUAL": "perpetual", "FUTURE": "future"}
live_spelling = {"DYDX", "HYPERLIQUID", "KRAKEN", "LIGHTER"}


@given(
    st.sampled_from([exchange for exchange, venue in VENUES.items() if venue not in live_spelling]),
    st.sampled_from(sorted(kinds)),
    st.from_regex(r"[A-Z0-9]{2,8}[-_]?[A-Z]{0,4}", fullmatch=True),
    st.booleans(),
)
def test_elsewhere_symbols_are_the_engines_tardis_spelling(
    exchange: str, kind: str, symbol: str, inverse: bool
) -> None:
    key = InstrumentKey(f"{exchange.upper()}:{kind}:A-B")
    found = nautilus_id(key, tardis_symbol=symbol.lower(), exchange_raw_symbol=symbol, inverse=inverse)
    assert (
        found == f"{tardis_normalize_symbol_str(symbol, exchange, kinds[kind], inverse)}.{VENUES[exchange]}"
    )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("NOWHERE:PERPETUAL:BTC-USDT", "NOWHERE"),
        ("BINANCE:BASKET:BTC-USDT", "BASKET"),
        ("BINANCE:SPOT:A-B", "symbol"),
    ],
)
def test_what_cannot_be_spelled_asks_for_an_id(key: str, message: str) -> None:
    symbol = "" if message == "symbol" else "BTCUSDT"
    with pytest.raises(ConfigError, match=message) as caught:
        nautilus_id(InstrumentKey(key), tardis_symbol=symbol)
    assert "nautilus_id" in str(caught.value)
    assert caught.value.instrument == key


def test_an_unknown_venue_is_said_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match=r"NOWHERE.*nautilus_id"):
        venue_of(InstrumentKey("NOWHERE:PERPETUAL:BTC-USDT"))
