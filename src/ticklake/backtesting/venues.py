"""Checks of the simulated venues against what is replayed on them, before anything moves."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from decimal import Decimal

from nautilus_trader.model import Currency, Money

from ticklake.backtesting.job import InstrumentData
from ticklake.config import VenueConfig
from ticklake.errors import ConfigError
from ticklake.types import CatalogType

__all__ = ["check_venues"]


def check_venues(venues: Mapping[str, VenueConfig], instruments: Sequence[InstrumentData]) -> None:
    """Check that every instrument has a venue that can simulate it, and that each venue is well formed.

    Args:
        venues: The venues of a run config.
        instruments: What is replayed.

    Raises:
        ConfigError: An instrument's venue is missing, its book needs data that is not replayed, or balances,
            base currency or leverage are not usable; the error names the key's path in the config.
    """
    for index, data in enumerate(instruments):
        if data.venue not in venues:
            raise ConfigError(
                f"venues: there is no {data.venue}, the venue of {data.nautilus_id}{_near(data, venues)}"
            )
        _check_book(data, venues[data.venue], index)
    for name, venue in venues.items():
        _check_money(venue, f"venues.{name}")
        if venue.account == "CASH" and venue.leverage != 1:
            raise ConfigError(f"venues.{name}.leverage: {venue.leverage} needs account: MARGIN, found CASH")


def _near(data: InstrumentData, venues: Mapping[str, VenueConfig]) -> str:
    near = difflib.get_close_matches(data.venue, venues, n=1)
    return f"; did you mean it by {near[0]}?" if near else f"; found {', '.join(sorted(venues)) or 'none'}"


def _check_book(data: InstrumentData, venue: VenueConfig, index: int) -> None:
    where = f"venues.{data.venue}.book"
    if venue.book == "L3_MBO":
        raise ConfigError(
            f"{where}: L3_MBO needs single orders, the lake has books by price", hint="Use L2_MBP."
        )
    if venue.book == "L2_MBP" and not data.has_book:
        raise ConfigError(
            f"{where}: L2_MBP needs a book of every instrument of the venue, but instruments[{index}].data "
            f"({data.nautilus_id}) names none",
            hint="Add book_snapshot_5 to it, or simulate the venue from trades alone with `book: L1_MBP`.",
        )
    if venue.book == "L1_MBP" and CatalogType.TRADES not in data.types and CatalogType.DELTAS in data.types:
        raise ConfigError(
            f"{where}: L1_MBP does not look at book deltas, and instruments[{index}].data "
            f"({data.nautilus_id}) names nothing else, so no order would ever fill",
            hint="Use L2_MBP, or add trades.",
        )


def _check_money(venue: VenueConfig, where: str) -> None:
    currencies = [
        _balance(text, f"{where}.balances[{index}]").currency.code
        for index, text in enumerate(venue.balances)
    ]
    if len(set(currencies)) != len(currencies):
        raise ConfigError(f"{where}.balances: names a currency twice: {', '.join(venue.balances)}")
    if venue.base_currency is None:
        return
    try:
        Currency.from_str(venue.base_currency, strict=True)
    except ValueError as exc:
        raise ConfigError(f"{where}.base_currency: {exc}") from exc
    if currencies != [venue.base_currency]:
        raise ConfigError(
            f"{where}.base_currency: a single-currency account starts with one balance in "
            f"{venue.base_currency}, found {', '.join(venue.balances)}"
        )


def _balance(text: str, where: str) -> Money:
    try:
        money = Money.from_str(text)
    except ValueError as exc:
        raise ConfigError(
            f"{where}: {text!r} is not an amount: {exc}", hint="Write it like 1_000_000 USDT."
        ) from exc
    if money.as_decimal() < 0:
        raise ConfigError(f"{where}: {text} is negative")
    if money.as_decimal() != Decimal(text.split(maxsplit=1)[0].replace("_", "")):
        raise ConfigError(
            f"{where}: {text} has more decimals than {money.currency.code} ({money.currency.precision})"
        )
    return money
