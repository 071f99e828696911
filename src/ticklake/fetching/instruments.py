"""Which instrument a request means: its definition for every day of the window, and where that came from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ticklake.catalog import Catalog, Source
from ticklake.config import InstrumentConfig
from ticklake.errors import ConfigError, NotListedError, ObjectNotFoundError
from ticklake.fetching.model import FetchRequest
from ticklake.instruments import carried_from, carry, from_config, from_lake, load, save, spec_of
from ticklake.lake import Lake
from ticklake.types import InstrumentKey, InstrumentSpec

if TYPE_CHECKING:
    from nautilus_trader.model import CryptoPerpetual, CurrencyPair

    type Instrument = CryptoPerpetual | CurrencyPair

__all__ = ["Definitions", "resolve"]


@dataclass(frozen=True, slots=True)
class Definitions:
    """The definitions of one instrument over a window.

    Attributes:
        spec: Id and precisions, the same on all days.
        by_day: The definition of each day that has one, its own or carried from another day.
        unsaved: Days whose definition the catalog does not keep yet.
        unknown_days: Days whose definition only the lake could tell, which was not to be asked.
    """

    spec: InstrumentSpec
    by_day: Mapping[dt.date, Instrument]
    unsaved: frozenset[dt.date]
    unknown_days: tuple[dt.date, ...] = ()

    def save(self, catalog: Catalog) -> None:
        """Keep the new definitions in the catalog."""
        for day in sorted(self.unsaved):
            save(catalog, [self.by_day[day]], day)

    def needed_on(self, days: Collection[dt.date]) -> Definitions:
        """Return the same without the definitions carried to other days than these."""
        by_day = {
            day: instrument
            for day, instrument in self.by_day.items()
            if day in days or carried_from(instrument) is None
        }
        return replace(self, by_day=by_day, unsaved=self.unsaved & by_day.keys())

    def warnings(self, key: InstrumentKey) -> Iterable[str]:
        """Tell which definitions are of another day."""
        for day, instrument in self.by_day.items():
            if (other := carried_from(instrument)) is not None:
                yield f"{key}: no instrument list of {day} has it; the definition of {other} is used"


def resolve(
    lake: Lake, catalog: Catalog, request: FetchRequest, *, refresh: bool, offline: bool
) -> Definitions | None:
    """Return the definitions of a request's instrument: from the config, else the catalog, else the lake.

    A day on which the lake does not define it gets the definition of the nearest day of the window that has
    one, an earlier one if there is any.

    Args:
        lake: Asked for the days that nothing else defines.
        catalog: Where definitions are kept.
        request: What is asked.
        refresh: Ask the lake also for what the catalog has.
        offline: Do not ask the lake.

    Returns:
        None where `offline` and the catalog has no definition on any day.

    Raises:
        ConfigError: The definition cannot be used, no day has one, or the precision changes within the
            window.
        LakeError: The lake could not be asked.
    """
    by_day: dict[dt.date, Instrument] = {}
    unsaved: set[dt.date] = set()
    unknown: list[dt.date] = []
    lacking: dict[dt.date, ObjectNotFoundError | NotListedError] = {}
    for day in request.window.days:
        if not refresh and (kept := _kept(catalog, request, day)) is not None:
            by_day[day] = kept
        elif offline and request.definition is None:
            unknown.append(day)
        else:
            try:
                by_day[day] = _define(lake, request, day)
                unsaved.add(day)
            except (ObjectNotFoundError, NotListedError) as exc:
                lacking[day] = exc
    if not by_day:  # a refresh of days whose lists are gone
        found = ((day, _kept(catalog, request, day)) for day in lacking)
        by_day = {day: kept for day, kept in found if kept is not None}
    if not by_day and lacking:
        raise _undefined(request, lacking)
    if not by_day:
        return None
    defined = frozenset(by_day)
    for day in lacking.keys() - defined:
        by_day[day] = carry(by_day[_nearest(day, defined)], day)
        unsaved.add(day)
    by_day = dict(sorted(by_day.items()))
    return Definitions(_single_spec(request, by_day), by_day, frozenset(unsaved), tuple(unknown))


def _kept(catalog: Catalog, request: FetchRequest, day: dt.date) -> Instrument | None:
    """Return what the catalog keeps of the lake's definition; a config's own always counts more."""
    if request.definition is not None:
        return None
    return load(catalog, request.key, day, nautilus_id=request.nautilus_id)


def _define(lake: Lake, request: FetchRequest, day: dt.date) -> Instrument:
    if request.definition is not None:
        values = InstrumentConfig(
            key=str(request.key), nautilus_id=request.nautilus_id, definition=request.definition
        )
        return from_config(values, day)
    table, found = lake.instruments(day)
    source = Source(found.url, found.etag, found.size, found.rows)
    return from_lake(table, request.key, day, nautilus_id=request.nautilus_id, source=source)


def _undefined(
    request: FetchRequest, lacking: Mapping[dt.date, ObjectNotFoundError | NotListedError]
) -> ConfigError:
    for error in lacking.values():
        if isinstance(error, NotListedError):  # it names the nearest keys
            return error
    first, *others = lacking
    more = f" nor of the {len(others)} days after it" if others else ""
    return ConfigError(
        f"the lake has no instrument list of {first}{more}",
        instrument=str(request.key),
        url=lacking[first].url,
        hint="Give the instrument a definition in the config, or ask for another window",
    )


def _nearest(day: dt.date, defined: Collection[dt.date]) -> dt.date:
    return max((other for other in defined if other < day), default=min(defined))


def _single_spec(request: FetchRequest, by_day: Mapping[dt.date, Instrument]) -> InstrumentSpec:
    (first, spec), *others = ((day, spec_of(instrument)) for day, instrument in by_day.items())
    for day, other in others:
        if other != spec:
            raise ConfigError(
                f"the instrument changes within the window: {spec} on {first}, {other} on {day}",
                instrument=str(request.key),
                hint=f"Run the windows before and after {day} by themselves",
            )
    return spec
