"""Which instrument a request means: its definition for every day of the window, and where that came from."""

from __future__ import annotations

import datetime as dt
import importlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ticklake.catalog import Catalog, Source
from ticklake.config import InstrumentConfig
from ticklake.errors import ConfigError, LakeError, NotListedError, ObjectNotFoundError
from ticklake.fetching.jobs import Crew
from ticklake.fetching.model import FetchRequest
from ticklake.instruments import carried_from, carry, from_config, from_lake, load, save, spec_of
from ticklake.lake.lazy import AnyLake, opened
from ticklake.types import InstrumentKey, InstrumentSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from nautilus_trader.model import CryptoPerpetual, CurrencyPair

    from ticklake.lake import SourceObject

    type Instrument = CryptoPerpetual | CurrencyPair

__all__ = ["ASKED_AT_ONCE", "Definitions", "resolve"]

ASKED_AT_ONCE = 16
"""Threads that ask the lake before data move; the store's `max_concurrency` bounds their requests."""


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


type _Lists = Mapping[dt.date, tuple[pa.Table, SourceObject] | ObjectNotFoundError]
"""Instrument lists of the lake; an error stands where it has none."""


def resolve(
    lake: AnyLake,
    catalog: Catalog,
    requests: Sequence[FetchRequest],
    *,
    refresh: bool,
    offline: bool,
    on_unknown: Callable[[FetchRequest], None],
) -> list[Definitions | None]:
    """Return the definitions of each request's instrument: from the config, else the catalog, else the lake.

    A day on which the lake does not define it gets the definition of the nearest day of the window that has
    one, an earlier one if there is any.

    Args:
        lake: Asked for the days that nothing else defines, for all of them at once.
        catalog: Where definitions are kept.
        requests: What is asked.
        refresh: Ask the lake also for what the catalog has.
        offline: Do not ask the lake.
        on_unknown: Called with each request whose instrument the catalog knows on no day, so that it has no
            ticks of it either, before the lake is asked.

    Returns:
        None where `offline` and the catalog has no definition on any day.

    Raises:
        ConfigError: The definition cannot be used, no day has one, or the precision changes within the
            window.
        LakeError: The lake could not be asked.
    """
    kept = [{} if refresh else _all_kept(catalog, request) for request in requests]
    lists: _Lists = {}
    if not offline:
        for request, known in zip(requests, kept, strict=True):
            if request.definition is None and not known:
                on_unknown(request)
        lists = _read_lists(
            lake,
            {
                day
                for request, known in zip(requests, kept, strict=True)
                if request.definition is None
                for day in request.window.days
                if day not in known
            },
        )
    return [
        _resolve(lake, lists, catalog, request, known, offline=offline)
        for request, known in zip(requests, kept, strict=True)
    ]


def _read_lists(lake: AnyLake, days: Collection[dt.date]) -> _Lists:
    def read(day: dt.date) -> tuple[pa.Table, SourceObject] | ObjectNotFoundError:
        try:
            return lake.instruments(day)
        except ObjectNotFoundError as exc:
            return exc

    todo: deque[tuple[dt.date, Callable[[], tuple[pa.Table, SourceObject] | ObjectNotFoundError]]]
    todo = deque((day, partial(read, day)) for day in sorted(days))
    if not todo:
        return {}
    crew = Crew(max(2, min(ASKED_AT_ONCE, len(todo))))
    crew.tell(_import_what_comes)
    with closing(crew.do(todo)) as found:
        return dict(found)


def _import_what_comes() -> None:
    """Import the engine, by which instruments are defined, and what reads ticks, while lists are on the way.

    Not in a thread of its own: the engine (2.0.0rc7) takes the process down some time after the thread that
    first imported it has ended.
    """
    for name in ("nautilus_trader.model", "ticklake.fetching.reading"):
        importlib.import_module(name)


def _resolve(
    lake: AnyLake,
    lists: _Lists,
    catalog: Catalog,
    request: FetchRequest,
    kept: Mapping[dt.date, Instrument],
    *,
    offline: bool,
) -> Definitions | None:
    by_day = dict(kept)
    unsaved: set[dt.date] = set()
    unknown: list[dt.date] = []
    lacking: dict[dt.date, ObjectNotFoundError | NotListedError] = {}
    for day in (day for day in request.window.days if day not in kept):
        if offline and request.definition is None:
            unknown.append(day)
        else:
            try:
                by_day[day] = _define(lists, request, day)
                unsaved.add(day)
            except (ObjectNotFoundError, NotListedError) as exc:
                lacking[day] = exc
    if not by_day:  # a refresh of days whose lists are gone
        by_day = {day: found for day in lacking if (found := _kept(catalog, request, day)) is not None}
    if not by_day and lacking:
        raise _undefined(lake, request, lacking)
    if not by_day:
        return None
    defined = frozenset(by_day)
    for day in lacking.keys() - defined:
        by_day[day] = carry(by_day[_nearest(day, defined)], day)
        unsaved.add(day)
    by_day = dict(sorted(by_day.items()))
    return Definitions(_single_spec(request, by_day), by_day, frozenset(unsaved), tuple(unknown))


def _all_kept(catalog: Catalog, request: FetchRequest) -> dict[dt.date, Instrument]:
    found = ((day, _kept(catalog, request, day)) for day in request.window.days)
    return {day: kept for day, kept in found if kept is not None}


def _kept(catalog: Catalog, request: FetchRequest, day: dt.date) -> Instrument | None:
    """Return what the catalog keeps of the lake's definition; a config's own always counts more."""
    if request.definition is not None:
        return None
    return load(catalog, request.key, day, nautilus_id=request.nautilus_id)


def _define(lists: _Lists, request: FetchRequest, day: dt.date) -> Instrument:
    if request.definition is not None:
        values = InstrumentConfig(
            key=str(request.key), nautilus_id=request.nautilus_id, definition=request.definition
        )
        return from_config(values, day)
    listed = lists[day]
    if isinstance(listed, ObjectNotFoundError):
        raise listed
    table, found = listed
    source = Source(found.url, found.etag, found.size, found.rows)
    return from_lake(table, request.key, day, nautilus_id=request.nautilus_id, source=source)


def _undefined(
    lake: AnyLake,
    request: FetchRequest,
    lacking: Mapping[dt.date, ObjectNotFoundError | NotListedError],
) -> ConfigError:
    for error in lacking.values():
        if isinstance(error, NotListedError):  # it names the nearest keys
            return error
    first, *others = lacking
    after = f"{len(others)} days" if len(others) > 1 else "day"
    hint = "Give the instrument a definition in the config, or ask for another window."
    held = _days_of(lake)
    if held and not any(held[0] <= day <= held[-1] for day in lacking):
        hint = f"It has ticks of {held[0]} to {held[-1]}: ask for a window within those days."
    return ConfigError(
        f"the lake has no instrument list of {first}{f' nor of the {after} after it' if others else ''}",
        instrument=str(request.key),
        url=lacking[first].url,
        hint=hint,
    )


def _days_of(lake: AnyLake) -> tuple[dt.date, ...]:
    """Return the days of which the lake has ticks; none where one listing does not tell."""
    lake = opened(lake)
    if lake.layout.days_folder is None:
        return ()
    try:
        return lake.all_days()
    except LakeError:  # of what may not be listed, like a web server
        return ()


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
