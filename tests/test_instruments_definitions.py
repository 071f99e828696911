"""Definitions: from the lake's list or the config to the engine's instruments, and nothing guessed."""

from __future__ import annotations

import asyncio
import datetime as dt
import http.server
import json
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.adapters.tardis import TardisHttpClient
from nautilus_trader.model import CryptoPerpetual, CurrencyPair, CurrencyType
from pydantic import ValidationError

from ticklake.catalog import Source
from ticklake.config import InstrumentConfig
from ticklake.errors import ConfigError, SourceSchemaError
from ticklake.instruments import find, from_config, from_lake, spec_of
from ticklake.types import NANOS_PER_DAY, InstrumentKey, InstrumentSpec

DAY = dt.date(2024, 8, 8)
MIDNIGHT = 1_723_075_200_000_000_000
PERP = InstrumentKey("BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN")
SPOT = InstrumentKey("BINANCE:SPOT_PAIR:BTC-USDT")
COIN = InstrumentKey("BINANCE-DELIVERY:PERPETUAL:BTC-USD@INV")

ROW: dict[str, Any] = {
    "instrument_key": PERP.text,
    "instrument_type": "PERPETUAL",
    "base_asset": "BTC",
    "quote_asset": "USDT",
    "settle_asset": "USDT",
    "exchange_raw_symbol": "BTCUSDT",
    "tardis_symbol": "btcusdt",
    "tardis_exchange": "binance-futures",
    "inverse": False,
    "contract_size": 1.0,
    "tick_size": "0.1",
    "min_size": "0.001",
}


def listed(*changes: dict[str, Any]) -> pa.Table:
    """Return an instrument list with a row for each set of changes to `ROW`."""
    return pa.Table.from_pylist([ROW | change for change in changes or ({},)])


@pytest.fixture
def real(real_lake: Path) -> pa.Table:
    name = f"instruments-store-cefi/instrument_availability/by_date/day-{DAY}/instruments.parquet"
    return pq.read_table(real_lake / name, partitioning=None)


def test_the_real_list_linear_perpetual(real: pa.Table) -> None:
    found = from_lake(real, PERP, DAY, source=Source("gs://store/instruments.parquet", "etag", 1, 6))
    assert isinstance(found, CryptoPerpetual)
    assert spec_of(found) == InstrumentSpec("BTCUSDT-PERP.BINANCE", 1, 3)
    assert (str(found.price_increment), str(found.size_increment), str(found.min_quantity)) == (
        "0.1",
        "0.001",
        "0.001",
    )
    assert (found.base_currency.code, found.quote_currency.code, found.settlement_currency.code) == (
        "BTC",
        "USDT",
        "USDT",
    )
    assert (found.is_inverse, str(found.multiplier), found.raw_symbol.value) == (False, "1", "BTCUSDT")
    assert found.ts_event == found.ts_init == MIDNIGHT
    assert found.info["lake_key"] == PERP.text
    assert (found.info["source_url"], found.info["source_etag"]) == ("gs://store/instruments.parquet", "etag")


def test_the_real_list_inverse_perpetual(real: pa.Table) -> None:
    found = from_lake(real, COIN, DAY)
    assert isinstance(found, CryptoPerpetual)
    assert spec_of(found) == InstrumentSpec("BTCUSD_PERP.BINANCE", 1, 0)
    assert (found.is_inverse, str(found.multiplier), found.settlement_currency.code) == (True, "100", "BTC")


def test_the_real_list_spot(real: pa.Table) -> None:
    found = from_lake(real, SPOT, DAY)
    assert isinstance(found, CurrencyPair)
    assert spec_of(found) == InstrumentSpec("BTCUSDT.BINANCE", 2, 5)
    assert str(found.size_increment) == "0.00001"


@pytest.mark.parametrize(
    "key", ["DERIBIT:OPTION:BTC-USD-241227-60000-CALL", "DERIBIT:FUTURE:BTC-USD-241227@INV"]
)
def test_the_real_list_other_types(real: pa.Table, key: str) -> None:
    with pytest.raises(ConfigError, match="not supported yet") as caught:
        from_lake(real, InstrumentKey(key), DAY)
    assert key in str(caught.value)


def test_keys_are_found_with_and_without_their_suffix(real: pa.Table) -> None:
    for key in (PERP, SPOT, COIN):
        bare = InstrumentKey(key.bare)
        assert from_lake(real, bare, DAY).to_dict() == from_lake(real, key, DAY).to_dict()
    bare_list = listed({"instrument_key": PERP.bare})
    assert find(bare_list, PERP)["instrument_key"] == PERP.bare
    # The exact key goes first.
    both = listed({"instrument_key": PERP.bare, "tick_size": "5"}, {})
    assert find(both, PERP)["tick_size"] == "0.1"
    assert find(both, InstrumentKey(PERP.bare))["tick_size"] == "5"


def test_a_key_that_may_mean_two_rows_is_refused() -> None:
    table = listed({}, {"instrument_key": f"{PERP.bare}@INV", "inverse": True})
    with pytest.raises(ConfigError, match=r"@INV.*@LIN.*differ"):
        find(table, InstrumentKey(PERP.bare))
    with pytest.raises(ConfigError, match="differ"):
        find(listed({}, {"tick_size": "0.2"}), PERP)
    assert find(listed({}, {}), PERP) == ROW


def test_a_bare_row_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="inverse True"):
        from_lake(listed({"instrument_key": PERP.bare, "inverse": True}), PERP, DAY)
    found = from_lake(listed({"instrument_key": PERP.bare, "inverse": None}), PERP, DAY)
    assert not found.is_inverse


def test_a_missing_key_names_what_is_near(real: pa.Table) -> None:
    with pytest.raises(ConfigError, match=r"near are .*BINANCE:SPOT_PAIR:BTC-USDT") as caught:
        from_lake(real, InstrumentKey("BINANCE:SPOT_PAIR:BTC-USDC"), DAY)
    assert caught.value.instrument == "BINANCE:SPOT_PAIR:BTC-USDC"
    with pytest.raises(ConfigError, match="0 rows"):
        find(real.slice(0, 0), PERP)


def test_a_list_without_columns_is_refused() -> None:
    with pytest.raises(SourceSchemaError, match=r"tick_size.*it has instrument_key"):
        find(listed().drop_columns(["tick_size"]), PERP)


@pytest.mark.parametrize(
    ("text", "increment", "precision"),
    [
        ("0.1", "0.1", 1),
        ("0.00001", "0.00001", 5),
        ("1", "1", 0),
        ("1.0", "1", 0),
        ("2.5", "2.5", 1),
        ("1e-05", "0.00001", 5),
        ("0.10", "0.1", 1),
        ("10", "10", 0),
        ("1E+1", "10", 0),
        (" 0.5 ", "0.5", 1),
        (0.1 + 0.2, "0.3", 1),
        (1e-08, "0.00000001", 8),
        ("0.0000000000000001", "0.0000000000000001", 16),
    ],
)
def test_increments_say_the_precision(text: object, increment: str, precision: int) -> None:
    for column in ("tick_size", "min_size"):
        found = from_lake(listed({column: text}), PERP, DAY)
        which = "price" if column == "tick_size" else "size"
        assert str(getattr(found, f"{which}_increment")) == increment
        assert getattr(found, f"{which}_precision") == precision


@given(st.decimals("0.0000000000000001", "1000000", places=16).filter(lambda d: d > 0))
def test_any_increment_is_kept_exactly(value: Decimal) -> None:
    found = from_lake(listed({"tick_size": str(value)}), PERP, DAY)
    assert found.price_increment.as_decimal() == value
    assert found.price_precision == max(0, -int(value.normalize().as_tuple().exponent))


@pytest.mark.parametrize("column", ["tick_size", "min_size", "contract_size"])
@pytest.mark.parametrize("value", ["", None, "abc", "0", "-1", "NaN", "inf", "0,1"])
def test_an_unusable_number_is_named_with_key_column_and_value(column: str, value: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        from_lake(listed({column: value}), PERP, DAY)
    message = str(caught.value)
    assert PERP.text in message
    assert f"{column} {value!r}" in message
    assert "definition" in message


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tick_size", "0.00000000000000001"),
        ("tick_size", "17014118346047"),
        ("min_size", "34028236692094"),
        ("contract_size", 1e-17),
    ],
)
def test_numbers_beyond_the_engines_range_are_refused(column: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{column} .* beyond"):
        from_lake(listed({column: value}), PERP, DAY)


def test_missing_currencies_are_refused() -> None:
    with pytest.raises(ConfigError, match="base_asset ''"):
        from_lake(listed({"base_asset": ""}), PERP, DAY)


def test_currencies_unknown_to_the_engine_are_crypto() -> None:
    found = from_lake(listed({"base_asset": "brandnew", "exchange_raw_symbol": "BRANDNEWUSDT"}), PERP, DAY)
    assert found.base_currency.code == "BRANDNEW"
    assert found.base_currency.currency_type == CurrencyType.CRYPTO


@pytest.mark.parametrize(
    ("settle", "key", "inverse", "expected"),
    [("", PERP, False, "USDT"), (None, COIN, True, "BTC"), ("usdc", PERP, False, "USDC")],
)
def test_the_settlement_currency_defaults_to_what_the_contract_says(
    settle: str | None, key: InstrumentKey, inverse: bool, expected: str
) -> None:
    table = listed({"instrument_key": key.text, "settle_asset": settle, "inverse": inverse})
    found = from_lake(table, key, DAY)
    assert isinstance(found, CryptoPerpetual)
    assert found.settlement_currency.code == expected


def test_the_config_may_give_the_id() -> None:
    found = from_lake(listed(), PERP, DAY, nautilus_id="X.SIM")
    assert spec_of(found).nautilus_id == "X.SIM"
    unknown = InstrumentKey("NOWHERE:PERPETUAL:BTC-USDT@LIN")
    assert (
        from_lake(listed({"instrument_key": unknown.text}), unknown, DAY, nautilus_id="X.Y").id.value == "X.Y"
    )
    with pytest.raises(ConfigError, match="nautilus_id"):
        from_lake(listed({"instrument_key": unknown.text}), unknown, DAY)


def test_spot_needs_no_contract_size() -> None:
    for size in (None, float("nan"), 1.0):
        found = from_lake(listed({"instrument_key": SPOT.text, "contract_size": size}), SPOT, DAY)
        assert str(found.multiplier) == "1"


def test_sizes_in_amounts_have_no_multiplier() -> None:
    # The live Deribit adapter: "the adapter does not apply it again as the Nautilus multiplier".
    key = InstrumentKey("DERIBIT:PERPETUAL:BTC-USD@INV")
    table = listed({"instrument_key": key.text, "inverse": True, "contract_size": 10.0, "min_size": "10"})
    found = from_lake(table, key, DAY)
    assert (str(found.multiplier), str(found.lot_size)) == ("1", "10")


DEFINITION = {"type": "perpetual", "base": "ETH", "quote": "USDT", "raw_symbol": "ETHUSDT"} | {
    "tick_size": "0.01",
    "min_size": 0.001,
}


def configured(**changes: Any) -> InstrumentConfig:
    values = {"key": "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN", "definition": DEFINITION} | changes
    return InstrumentConfig.model_validate(values)


def test_the_config_may_define_an_instrument() -> None:
    found = from_config(configured(), DAY)
    assert isinstance(found, CryptoPerpetual)
    assert spec_of(found) == InstrumentSpec("ETHUSDT-PERP.BINANCE", 2, 3)
    assert (found.ts_init, found.settlement_currency.code, str(found.multiplier)) == (MIDNIGHT, "USDT", "1")
    assert from_config(configured(), DAY + dt.timedelta(1)).ts_init == MIDNIGHT + NANOS_PER_DAY
    spot = from_config(configured(key="BINANCE:SPOT:ETH-USDT", definition=DEFINITION | {"type": "spot"}), DAY)
    assert isinstance(spot, CurrencyPair)
    assert spot.id.value == "ETHUSDT.BINANCE"
    assert from_config(configured(nautilus_id="E.SIM"), DAY).id.value == "E.SIM"


def test_margins_come_from_the_config_and_are_0_without() -> None:
    for kind in ("perpetual", "spot"):
        plain = from_config(configured(definition=DEFINITION | {"type": kind}), DAY)
        assert (plain.margin_init, plain.margin_maint) == (Decimal(0), Decimal(0))
        margins = {"type": kind, "margin_init": 0.05, "margin_maint": "0.025"}
        found = from_config(configured(definition=DEFINITION | margins), DAY)
        assert (found.margin_init, found.margin_maint) == (Decimal("0.05"), Decimal("0.025"))
    with pytest.raises(ValidationError, match="margin_init"):
        configured(definition=DEFINITION | {"margin_init": "-0.1"})


def test_a_definition_that_cannot_be_named_or_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="nautilus_id"):
        from_config(configured(key="NOWHERE:PERPETUAL:ETH-USDT"), DAY)
    with pytest.raises(ConfigError, match="no definition"):
        from_config(configured(definition=None), DAY)
    with pytest.raises(ConfigError, match="engine does not take"):
        from_config(configured(definition=DEFINITION | {"base": " "}), DAY)
    with pytest.raises(ConfigError, match="engine does not take"):
        from_config(configured(nautilus_id="A.É"), DAY)


@pytest.mark.parametrize("key", [PERP, SPOT, COIN])
def test_definitions_equal_those_of_the_engines_tardis_client(real: pa.Table, key: InstrumentKey) -> None:
    """The engine builds instruments from Tardis' metadata; the same facts must give the same instrument."""
    row = find(real, key)
    kind = "spot" if key == SPOT else "perpetual"
    answer = {
        "id": row["tardis_symbol"],
        "exchange": row["tardis_exchange"],
        "baseCurrency": row["base_asset"],
        "quoteCurrency": row["quote_asset"],
        "type": kind,
        "active": True,
        "availableSince": row["available_from_datetime"],
        "priceIncrement": float(row["tick_size"]),
        "amountIncrement": float(row["min_size"]),
        "minTradeAmount": float(row["min_size"]),
        "makerFee": 0,
        "takerFee": 0,
        "inverse": row["inverse"],
        "contractMultiplier": row["contract_size"],
    }
    theirs = tardis_instrument([answer], row["tardis_exchange"]).to_dict()
    ours = from_lake(real, key, DAY).to_dict()
    # The live adapter's venue is ours; Tardis' metadata and times are theirs.
    expected = theirs | {name: ours[name] for name in ("info", "ts_event", "ts_init")}
    expected["id"] = expected["id"].replace("BINANCE_DELIVERY", "BINANCE")
    assert ours == expected


def tardis_instrument(answer: list[dict[str, Any]], exchange: str) -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    async def ask(url: str) -> Any:
        return await TardisHttpClient(api_key="none", base_url=url).instruments(exchange)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            (found,) = asyncio.run(ask(f"http://127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()
            thread.join()
    return found
