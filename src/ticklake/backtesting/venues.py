"""Checks of the simulated venues against what is replayed on them, before ticks move."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from nautilus_trader.model import Currency, Money

from ticklake.config import InstrumentConfig, VenueConfig
from ticklake.errors import ConfigError
from ticklake.instruments import venue_of
from ticklake.types import BookAs, DataType, InstrumentKey

if TYPE_CHECKING:
    from ticklake.instruments.definitions import Instrument

__all__ = ["check_balances", "check_venues"]

# The instrument types of lake keys and of definitions that are bought and sold for money at once.
_SPOT = frozenset({"SPOT", "SPOT_PAIR"})


def check_venues(venues: Mapping[str, VenueConfig], instruments: Sequence[InstrumentConfig]) -> None:
    """Check that every instrument has a venue that can simulate it, and that each venue is well formed.

    Args:
        venues: The venues of a run config.
        instruments: The instruments of a run config.

    Raises:
        ConfigError: An instrument's venue is missing or cannot hold it, its book needs data that is not
            replayed, or balances, base currency or leverage are not usable; the error names the key's path in
            the config.
    """
    for index, instrument in enumerate(instruments):
        name = _venue_of(instrument)
        if name not in venues:
            raise ConfigError(
                f"venues: there is no {name}, the venue of instruments[{index}] "
                f"({instrument.nautilus_id or instrument.key}){_near(name, venues)}"
            )
        _check_account(instrument, venues[name], f"venues.{name}.account")
        _check_book(instrument, venues[name], f"venues.{name}.book", f"instruments[{index}].data")
    for name, venue in venues.items():
        _check_money(venue, f"venues.{name}")
        if venue.account == "CASH" and venue.leverage != 1:
            raise ConfigError(f"venues.{name}.leverage: {venue.leverage} needs account: MARGIN, found CASH")
        if venue.account == "CASH" and venue.base_currency is not None:
            raise ConfigError(
                f"venues.{name}.base_currency: a CASH account holds each currency that it buys",
                hint="Leave base_currency out, or use MARGIN.",
            )


def check_balances(venues: Mapping[str, VenueConfig], definitions: Iterable[Instrument]) -> None:
    """Check that the accounts of instruments' venues have what trades of them are booked in.

    Of an account without it the engine leaves out commissions and losses, with nothing but an error in its
    log. One of a single currency takes all in that, by the quotes of the run: only the run can tell whether
    there are any.

    Args:
        venues: The venues of a run config, checked by `check_venues`.
        definitions: Instruments of these venues.

    Raises:
        ConfigError: An account cannot trade an instrument; the error names the key's path in the config.
    """
    for definition in definitions:
        name = definition.id.venue.value
        if venues[name].base_currency is None:
            _check_balances(venues[name], definition, f"venues.{name}.balances")


def _check_balances(venue: VenueConfig, definition: Instrument, where: str) -> None:
    base, quote = definition.base_currency.code, definition.quote_currency.code
    if venue.account == "CASH":
        traded, what = {base, quote}, f"is bought and sold for {quote}, so that every order would be denied"
        wanted = quote
    else:
        # Whatever a contract settles in: the engine (2.0.0rc7) books all but inverse ones in what they are
        # quoted in.
        wanted = base if getattr(definition, "is_inverse", False) else quote
        traded, what = {wanted}, f"is booked in {wanted}, so that commissions and losses would be left out"
    if not traded & {Money.from_str(text).currency.code for text in venue.balances}:
        raise ConfigError(
            f"{where}: has {', '.join(venue.balances)} alone, but {definition.id.value} {what}",
            hint=f"Add a balance like 1_000_000 {wanted}, or 0 {wanted} where the instrument is not traded.",
        )


def _venue_of(instrument: InstrumentConfig) -> str:
    if instrument.nautilus_id is not None:
        return instrument.nautilus_id.rpartition(".")[2]
    return venue_of(InstrumentKey(instrument.key))


def _near(name: str, venues: Mapping[str, VenueConfig]) -> str:
    near = difflib.get_close_matches(name, venues, n=1)
    return f"; did you mean it by {near[0]}?" if near else f"; found {', '.join(sorted(venues)) or 'none'}"


def _check_account(instrument: InstrumentConfig, venue: VenueConfig, where: str) -> None:
    kind = InstrumentKey(instrument.key).instrument_type
    if instrument.definition is not None:
        kind = instrument.definition.type
    if venue.account == "CASH" and kind.upper() not in _SPOT:
        raise ConfigError(
            f"{where}: a CASH account holds spot only, and {instrument.key} is a {kind.lower()}",
            hint="Use MARGIN.",
        )


def _check_book(instrument: InstrumentConfig, venue: VenueConfig, where: str, data: str) -> None:
    has_book = any(DataType(name).is_book for name in instrument.data)
    if venue.book == "L2_MBP" and not has_book:
        raise ConfigError(
            f"{where}: L2_MBP needs a book of every instrument of the venue, but {data} ({instrument.key}) "
            "names none",
            hint="Add book_snapshot_5 to it, or simulate the venue from trades alone with `book: L1_MBP`.",
        )
    if venue.book == "L1_MBP" and "trades" not in instrument.data and instrument.book_as is BookAs.DELTAS:
        raise ConfigError(
            f"{where}: L1_MBP does not look at book deltas, and {data} ({instrument.key}) names nothing "
            "else, so no order would ever fill",
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
