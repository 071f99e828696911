"""Which instrument a request means: its definition for every day of the window, and where that came from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ticklake.catalog import Catalog, Source
from ticklake.config import InstrumentConfig
from ticklake.errors import ConfigError, ObjectNotFoundError
from ticklake.fetching.model import FetchRequest
from ticklake.instruments import from_config, from_lake, load, save, spec_of
from ticklake.lake import Lake
from ticklake.types import InstrumentSpec

if TYPE_CHECKING:
    from nautilus_trader.model import CryptoPerpetual, CurrencyPair

    type Instrument = CryptoPerpetual | CurrencyPair

__all__ = ["Definitions", "resolve"]


@dataclass(frozen=True, slots=True)
class Definitions:
    """The definitions of one instrument over a window.

    Attributes:
        spec: Id and precisions, the same on all days.
        unsaved: Definitions that the catalog does not keep yet, by day.
        absent_days: Days without an instrument list; the definition of the day before serves them.
        unknown_days: Days whose definition only the lake could tell, which was not to be asked.
    """

    spec: InstrumentSpec
    unsaved: Mapping[dt.date, Instrument] = field(default_factory=dict)
    absent_days: tuple[dt.date, ...] = ()
    unknown_days: tuple[dt.date, ...] = ()

    def save(self, catalog: Catalog) -> None:
        """Keep the new definitions in the catalog."""
        for day, instrument in self.unsaved.items():
            save(catalog, [instrument], day)


def resolve(
    lake: Lake, catalog: Catalog, request: FetchRequest, *, refresh: bool, offline: bool
) -> Definitions | None:
    """Return the definitions of a request's instrument: from the config, else the catalog, else the lake.

    Args:
        lake: Asked for the days that nothing else defines.
        catalog: Where definitions are kept.
        request: What is asked.
        refresh: Do not take the catalog's definitions.
        offline: Do not ask the lake.

    Returns:
        None where `offline` and the catalog has no definition on any day.

    Raises:
        ConfigError: The definition cannot be used, the first day has none, or the precision changes within
            the window.
        LakeError: The lake could not be asked.
    """
    by_day: dict[dt.date, Instrument] = {}
    unsaved: dict[dt.date, Instrument] = {}
    absent: list[dt.date] = []
    unknown: list[dt.date] = []
    for day in request.window.days:
        if request.definition is None and not refresh:
            kept = load(catalog, request.key, day, nautilus_id=request.nautilus_id)
            if kept is not None:
                by_day[day] = kept
                continue
        if request.definition is None and offline:
            unknown.append(day)
            continue
        try:
            by_day[day] = unsaved[day] = _define(lake, request, day)
        except ObjectNotFoundError as exc:
            if not by_day:
                raise ConfigError(
                    f"the lake has no instrument list of {day}, the first day of the window",
                    instrument=str(request.key),
                    url=exc.url,
                    hint="Give the instrument a definition in the config, or start the window on another day",
                ) from exc
            absent.append(day)
    if not by_day:
        return None
    return Definitions(_single_spec(request, by_day), unsaved, tuple(absent), tuple(unknown))


def _define(lake: Lake, request: FetchRequest, day: dt.date) -> Instrument:
    if request.definition is not None:
        values = InstrumentConfig(
            key=str(request.key), nautilus_id=request.nautilus_id, definition=request.definition
        )
        return from_config(values, day)
    table, found = lake.instruments(day)
    source = Source(found.url, found.etag, found.size, found.rows)
    return from_lake(table, request.key, day, nautilus_id=request.nautilus_id, source=source)


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
