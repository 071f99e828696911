"""What is checked of strategies and venues before anything moves."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from backtest_support import ETH, TESTS
from ticklake.backtesting import check_strategies, check_venues
from ticklake.backtesting.venues import check_balances
from ticklake.config import FeesConfig, InstrumentConfig, StrategyConfig, VenueConfig
from ticklake.errors import ConfigError
from ticklake.instruments import from_config


def strategy(path: str = "Busy", config_path: str = "BusyConfig", **config: object) -> StrategyConfig:
    module = "backtest_strategies:"
    return StrategyConfig(
        path=path if ":" in path else module + path,
        config_path=config_path if ":" in config_path else module + config_path,
        config={"instrument_id": ETH, **config},
    )


def check(*strategies: StrategyConfig) -> None:
    check_strategies(strategies, (TESTS,))


def test_a_good_strategy_passes_and_leaves_no_trace() -> None:
    sys.modules.pop("backtest_strategies", None)
    path = sys.path[:]
    check(strategy(), strategy(seed=4, order_id_tag="7"))
    assert sys.path == path
    assert "backtest_strategies" not in sys.modules


def test_what_a_module_prints_while_it_is_checked_does_not_reach_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chatty.py").write_text("print('hello')\nfrom backtest_strategies import *\n")
    check_strategies([strategy("chatty:Busy", "chatty:BusyConfig")], (str(tmp_path), TESTS))
    assert capsys.readouterr() == ("", "hello\n")


def test_an_edited_module_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "edited.py").write_text("from backtest_strategies import Busy, BusyConfig\n")
    check_strategies([strategy("edited:Busy", "edited:BusyConfig")], (str(tmp_path), TESTS))
    (tmp_path / "edited.py").write_text(
        "from backtest_strategies import Busy  # and no config any more, really\n"
    )
    with pytest.raises(ConfigError, match="edited has no 'BusyConfig'"):
        check_strategies([strategy("edited:Busy", "edited:BusyConfig")], (str(tmp_path), TESTS))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "strategies is empty"),
        (
            (strategy("nowhere:Busy"),),
            rf"\.path: there is no module 'nowhere'\. It is looked up in {TESTS}, PYTHONPATH and the",
        ),
        ((strategy("no.where:Busy"),), r"strategies\[0\]\.path: there is no module 'no.where'"),
        ((strategy(), strategy("Bussy")), r"strategies\[1\]\.path: .* no 'Bussy'; did you mean Busy"),
        (
            (strategy("Zzz"),),
            r"\.path: .* no 'Zzz'; allowed are (?!.*(OrderSide|TradeTick|Config)).*\bBusy, ",
        ),
        (
            (strategy(config_path="Zzz"),),
            r"\.config_path: .* no 'Zzz'; allowed are (?!.*\bBusy\b).*\bBusyConfig, ",
        ),
        ((strategy("NOT_A_CLASS"),), r"'NOT_A_CLASS' is no class"),
        ((strategy("BusyConfig"),), r"not a subclass of .*Strategy.*belongs under config_path"),
        ((strategy(config_path="BusyConf"),), r"strategies\[0\]\.config_path: .*did you mean BusyConfig"),
        ((strategy(sed=1),), r"strategies\[0\]\.config\.sed: unknown key .*did you mean seed"),
        (
            (strategy(config_path="StrictConfig", order_id="7"),),
            r"config\.order_id: unknown key.*allowed are|mean",
        ),
        (
            (strategy(config_path="StrictConfig", period=0),),
            r"period must be positive.*instrument_id, period",
        ),
        ((strategy("__main__:Busy"),), "running script"),
    ],
)
def test_a_bad_strategy_is_named_with_its_key(given: tuple[StrategyConfig, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(*given)


def test_a_module_that_fails_on_import_shows_where(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import os\n\nprice = 1 / 0\n")
    with pytest.raises(ConfigError) as caught:
        check_strategies([strategy("broken:Busy")], (str(tmp_path),))
    assert "broken.py" in str(caught.value)
    assert "ZeroDivisionError" in str(caught.value)
    assert "importlib" not in str(caught.value)


def test_a_module_that_misses_another_one_says_which_and_where(tmp_path: Path) -> None:
    (tmp_path / "needy.py").write_text("import os\nimport not_installed_here\n")
    with pytest.raises(ConfigError, match=r"importing needy failed") as caught:
        check_strategies([strategy("needy:Busy")], (str(tmp_path),))
    assert "No module named 'not_installed_here'" in str(caught.value)
    assert f'File "{tmp_path / "needy.py"}", line 2' in str(caught.value)


def test_a_module_that_cannot_be_parsed_shows_its_line_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "unfinished.py").write_text("import os\n\ndef on_trade(:\n    pass\n")
    with pytest.raises(ConfigError) as caught:
        check_strategies([strategy("unfinished:Busy")], (str(tmp_path),))
    text = str(caught.value)
    assert f'File "{tmp_path / "unfinished.py"}", line 3' in text
    assert "SyntaxError" in text
    assert "importlib" not in text
    assert text.count("File ") == 1


def venue(**changes: object) -> VenueConfig:
    values = {
        "account": "MARGIN",
        "balances": ("1_000_000 USDT",),
        "fees": FeesConfig(maker=Decimal(0), taker=Decimal(0)),
        **changes,
    }
    return VenueConfig.model_validate(values)


PERPETUAL = "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN"


def instrument(*data: str, key: str = PERPETUAL, **changes: object) -> InstrumentConfig:
    return InstrumentConfig.model_validate({"key": key, "data": data, **changes})


BOTH = instrument("trades", "book_snapshot_5")
TRADES = instrument("trades")
DELTAS = instrument("book_snapshot_5")
DEPTHS = instrument("book_snapshot_5", book_as="depth")
SPOT = instrument("trades", "book_snapshot_5", key="BINANCE:SPOT_PAIR:ETH-USDT")
DEFINED = {
    "type": "perpetual",
    "base": "ETH",
    "quote": "USDT",
    "raw_symbol": "X",
    "tick_size": "1",
    "min_size": "1",
}


@pytest.mark.parametrize(
    ("venues", "data"),
    [
        ({"BINANCE": venue()}, BOTH),
        ({"BINANCE": venue(book="L1_MBP")}, TRADES),
        ({"BINANCE": venue(balances=("1000 USDT", "0.5 BTC"))}, BOTH),
        ({"BINANCE": venue(book="L1_MBP")}, DEPTHS),
        ({"BINANCE": venue(base_currency="USDT", leverage=20)}, BOTH),
        ({"BINANCE": venue(account="CASH")}, SPOT),
        ({"SIM": venue()}, instrument("book_snapshot_5", nautilus_id="ETH.USDT.SIM")),
    ],
)
def test_good_venues_pass(venues: dict[str, VenueConfig], data: InstrumentConfig) -> None:
    check_venues(venues, [data])


@pytest.mark.parametrize(
    ("venues", "data", "message"),
    [
        (
            {},
            BOTH,
            rf"venues: there is no BINANCE, the venue of instruments\[0\] \({PERPETUAL}\); found none",
        ),
        (
            {"BINANCE": venue()},
            instrument("trades", nautilus_id="ETH.SIM"),
            r"there is no SIM, the venue of instruments\[0\] \(ETH\.SIM\)",
        ),
        (
            {"BINANCE": venue(account="CASH")},
            BOTH,
            rf"venues\.BINANCE\.account: a CASH account holds spot only, and {PERPETUAL} is a perpetual",
        ),
        (
            {"BINANCE": venue(account="CASH")},
            instrument("trades", key="BINANCE:SPOT_PAIR:ETH-USDT", definition=DEFINED),
            "spot only",
        ),
        ({"BINANC": venue()}, BOTH, "did you mean it by BINANC"),
        (
            {"BINANCE": venue()},
            TRADES,
            r"venues\.BINANCE\.book: L2_MBP needs a book .*instruments\[0\]\.data",
        ),
        ({"BINANCE": venue(book="L1_MBP")}, DELTAS, "L1_MBP does not look at book deltas"),
        ({"BINANCE": venue(balances=("a lot",))}, BOTH, r"venues\.BINANCE\.balances\[0\]: 'a lot'"),
        ({"BINANCE": venue(balances=("5 DUCATS",))}, BOTH, "DUCATS"),
        ({"BINANCE": venue(balances=("-5 USDT",))}, BOTH, "negative"),
        ({"BINANCE": venue(balances=("0.123456789 USDT",))}, BOTH, "more decimals than USDT"),
        ({"BINANCE": venue(balances=("5 USDT", "6 USDT"))}, BOTH, "a currency twice"),
        ({"BINANCE": venue(base_currency="DUCATS")}, BOTH, r"base_currency: .*DUCATS"),
        ({"BINANCE": venue(base_currency="BTC")}, BOTH, r"one balance in BTC, found 1_000_000 USDT"),
        ({"BINANCE": venue(account="CASH", leverage=2)}, SPOT, "needs account: MARGIN"),
        ({"BINANCE": venue(account="CASH", base_currency="USDT")}, SPOT, r"base_currency: a CASH account"),
    ],
)
def test_a_bad_venue_is_named_with_its_key(
    venues: dict[str, VenueConfig], data: InstrumentConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_venues(venues, [data])


LINEAR = DEFINED
INVERSE = DEFINED | {"quote": "USD", "inverse": True}
QUANTO = DEFINED | {"quote": "USD", "settle": "USDC"}
PAIR = DEFINED | {"type": "spot"}


def balances_are_checked(
    definition: dict[str, object], account: str, *balances: str, **changes: object
) -> None:
    defined = from_config(instrument("trades", definition=definition), dt.date(2024, 8, 8))
    check_balances({"BINANCE": venue(account=account, balances=balances, **changes)}, [defined])


@pytest.mark.parametrize(
    ("definition", "account", "balances"),
    [
        (LINEAR, "MARGIN", ("1 BTC", "0 USDT")),
        (INVERSE, "MARGIN", ("1 ETH",)),
        (QUANTO, "MARGIN", ("1 USD",)),
        (PAIR, "MARGIN", ("1 USDT",)),
        (PAIR, "CASH", ("1 USDT",)),
        (PAIR, "CASH", ("1 ETH",)),
    ],
)
def test_an_account_with_what_an_instrument_is_traded_in_passes(
    definition: dict[str, object], account: str, balances: tuple[str, ...]
) -> None:
    balances_are_checked(definition, account, *balances)


def test_an_account_of_a_single_currency_may_have_quotes() -> None:
    balances_are_checked(LINEAR, "MARGIN", "1 BTC", base_currency="BTC")


@pytest.mark.parametrize(
    ("definition", "account", "balance", "message"),
    [
        (
            LINEAR,
            "MARGIN",
            "1 BTC",
            r"has 1 BTC alone, .* is booked in USDT, .*Add a balance like 1_000_000 USDT",
        ),
        (INVERSE, "MARGIN", "1 USD", "is booked in ETH"),
        (QUANTO, "MARGIN", "1 USDC", "is booked in USD,"),
        (PAIR, "MARGIN", "1 ETH", "is booked in USDT"),
        (PAIR, "CASH", "1 BTC", "bought and sold for USDT, so that every order would be denied"),
    ],
)
def test_an_account_without_it_is_refused(
    definition: dict[str, object], account: str, balance: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"venues\.BINANCE\.balances: .*{message}"):
        balances_are_checked(definition, account, balance)
