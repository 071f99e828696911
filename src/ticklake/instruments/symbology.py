"""How instruments are called: from the lake's keys to Nautilus ids as the engine's live adapters spell them.

A strategy that names its instruments runs live unchanged. Where the engine has no live adapter for an
exchange, its own Tardis spelling is used. Pure; the engine is imported only when a symbol is spelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ticklake.errors import ConfigError
from ticklake.types import InstrumentKey

__all__ = ["VENUES", "nautilus_id", "venue_of"]

_LIVE = {
    "BINANCE": (
        "binance",
        "binance-futures",
        "binance-delivery",
        "binance-options",
        "binance-european-options",
    ),
    "BYBIT": ("bybit", "bybit-spot", "bybit-options"),
    "COINBASE": ("coinbase",),
    "DERIBIT": ("deribit",),
    "DYDX": ("dydx", "dydx-v4"),
    "HYPERLIQUID": ("hyperliquid",),
    "KRAKEN": ("kraken", "cryptofacilities"),
    "LIGHTER": ("lighter",),
    "OKX": ("okex", "okex-swap", "okex-futures", "okex-options", "okex-spreads"),
}
_TARDIS = {
    "ASCENDEX": ("ascendex",),
    "BINANCE_US": ("binance-us",),
    "BITFINEX": ("bitfinex", "bitfinex-derivatives"),
    "BITFLYER": ("bitflyer",),
    "BITGET": ("bitget", "bitget-futures"),
    "BITMEX": ("bitmex",),
    "BITSTAMP": ("bitstamp",),
    "COINBASE_INTX": ("coinbase-international",),
    "CRYPTO_COM": ("crypto-com",),
    "GATE_IO": ("gate-io", "gate-io-futures"),
    "GEMINI": ("gemini",),
    "HUOBI": ("huobi", "huobi-dm", "huobi-dm-linear-swap"),
    "HUOBI_DELIVERY": ("huobi-dm-swap",),
    "KUCOIN": ("kucoin", "kucoin-futures"),
    "MEXC": ("mexc", "mexc-futures"),
    "PHEMEX": ("phemex",),
    "POLONIEX": ("poloniex",),
    "UPBIT": ("upbit",),
    "WOO_X": ("woo-x",),
}

VENUES: Mapping[str, str] = MappingProxyType(
    {exchange: venue for venues in (_LIVE, _TARDIS) for venue, all_ in venues.items() for exchange in all_}
)
"""Nautilus venue by exchange, as Tardis calls those."""

# Lakes that do not name their venues after Tardis' exchanges.
_OTHER_NAMES = MappingProxyType(
    {
        "binance-coinm": "binance-delivery",
        "binance-spot": "binance",
        "binance-usdm": "binance-futures",
        "coinbase-intx": "coinbase-international",
        "gateio": "gate-io",
        "gateio-futures": "gate-io-futures",
        "kraken-futures": "cryptofacilities",
        "okx": "okex",
        "okx-futures": "okex-futures",
        "okx-spot": "okex",
        "okx-swap": "okex-swap",
    }
)

_KINDS = MappingProxyType(
    {"PERPETUAL": "perpetual", "SPOT_PAIR": "spot", "SPOT": "spot", "FUTURE": "future", "OPTION": "option"}
)

# What the live Kraken adapter calls the assets that the exchange has names of its own for.
_KRAKEN_ASSETS = MappingProxyType({"XBT": "BTC", "XDG": "DOGE"})


def venue_of(key: InstrumentKey) -> str:
    """Return the Nautilus venue of a lake key, from the key alone.

    Raises:
        ConfigError: The key's venue is not known.
    """
    return VENUES[_exchange_of(key)]


def _exchange_of(key: InstrumentKey) -> str:
    name = key.venue.lower().replace("_", "-")
    exchange = _OTHER_NAMES.get(name, name)
    if exchange not in VENUES:
        raise ConfigError(
            f"{key}: no Nautilus venue is known for {key.venue}",
            instrument=key.text,
            hint="Set nautilus_id (SYMBOL.VENUE) for this instrument in the config.",
        )
    return exchange


def nautilus_id(
    key: InstrumentKey,
    *,
    tardis_symbol: str = "",
    tardis_exchange: str = "",
    exchange_raw_symbol: str = "",
    inverse: bool = False,
) -> str:
    """Return the Nautilus id of an instrument, as the live adapter of its venue spells it.

    Args:
        key: The lake's key; it says the venue and the type.
        tardis_symbol: Tardis' symbol, in any case.
        tardis_exchange: Tardis' exchange, where it is not the key's venue.
        exchange_raw_symbol: The exchange's own symbol; it decides on upper and lower case, and stands in for
            a missing Tardis symbol.
        inverse: Whether the contract is inverse.

    Raises:
        ConfigError: The venue or the type is not known, or there is no symbol.
    """
    venue = venue_of(key)
    kind = _KINDS.get(key.instrument_type)
    if kind is None:
        raise ConfigError(
            f"{key}: instruments of type {key.instrument_type} have no known spelling",
            instrument=key.text,
            hint="Set nautilus_id (SYMBOL.VENUE) for this instrument in the config.",
        )
    symbol = tardis_symbol.upper()
    if not symbol or symbol == exchange_raw_symbol.upper():
        symbol = exchange_raw_symbol
    if not symbol:
        raise ConfigError(
            f"{key}: neither tardis_symbol nor exchange_raw_symbol says what the exchange calls it",
            instrument=key.text,
            hint="Set nautilus_id (SYMBOL.VENUE) for this instrument in the config.",
        )
    exchange = tardis_exchange if VENUES.get(tardis_exchange) == venue else _exchange_of(key)
    return f"{_spelled(symbol, exchange, venue, kind, inverse=inverse)}.{venue}"


def _spelled(symbol: str, exchange: str, venue: str, kind: str, *, inverse: bool) -> str:
    # Where the engine's Tardis spelling differs from that of its live adapter, the live one counts.
    match venue, kind:
        case "HYPERLIQUID", "perpetual":
            return f"{symbol}-USD-PERP"
        case "HYPERLIQUID", "spot":
            return f"{symbol.replace('/', '-')}-SPOT"
        case "LIGHTER", "perpetual" | "spot":
            return f"{symbol}-{'PERP' if kind == 'perpetual' else 'SPOT'}"
        case "KRAKEN", "spot":
            return "/".join(_KRAKEN_ASSETS.get(asset, asset) for asset in symbol.split("/"))
        case "DYDX", _:
            exchange = "dydx"
        case _:
            pass
    from nautilus_trader.adapters.tardis import tardis_normalize_symbol_str

    return tardis_normalize_symbol_str(symbol, exchange, kind, inverse)
