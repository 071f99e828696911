"""The plain values that go into an engine run and come out of it.

They cross a process boundary as JSON, so nothing here knows the engine, nor imports the models of configs:
these have checked everything before, and would take a third of the time in which the engine's process begins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ticklake.types import CatalogType, Window

if TYPE_CHECKING:
    from ticklake.config import EngineConfig, StrategyConfig, VenueConfig

__all__ = [
    "EngineJob",
    "EngineOutcome",
    "InstrumentData",
    "JobEngine",
    "JobFees",
    "JobStrategy",
    "JobVenue",
    "LogKind",
]


@dataclass(frozen=True, slots=True)
class InstrumentData:
    """What a run replays of one instrument.

    Attributes:
        nautilus_id: The Nautilus instrument id, for example `BTCUSDT-PERP.BINANCE`.
        types: The folders of the catalog to read.
    """

    nautilus_id: str
    types: tuple[CatalogType, ...]

    @property
    def venue(self) -> str:
        """The Nautilus venue, for example `BINANCE`."""
        return self.nautilus_id.rpartition(".")[2]

    @property
    def has_book(self) -> bool:
        """Whether book data are among the types."""
        return any(kind is not CatalogType.TRADES for kind in self.types)


@dataclass(frozen=True, slots=True)
class JobFees:
    """A `FeesConfig` in the engine's process."""

    maker: Decimal
    taker: Decimal


@dataclass(frozen=True, slots=True)
class JobVenue:
    """A `VenueConfig` in the engine's process."""

    account: str
    oms: str
    book: str
    balances: tuple[str, ...]
    fees: JobFees
    latency: int
    base_currency: str | None
    leverage: Decimal


@dataclass(frozen=True, slots=True)
class JobStrategy:
    """A `StrategyConfig` in the engine's process."""

    path: str
    config_path: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobEngine:
    """An `EngineConfig` in the engine's process."""

    chunk_size: int
    log_level: str
    equity_interval: int | None


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One engine run over a catalog that holds all it needs.

    Attributes:
        run_id: Name of the run; the engine sees it too.
        catalog: Root of the catalog, or of the links to the files of a window of it (`Catalog.pinned`).
        window: What is replayed, half-open, nanoseconds UTC on the `ts_init` axis.
        instruments: What is replayed of each instrument.
        venues: Simulated venues by Nautilus name.
        strategies: What trades.
        engine: Engine settings.
        search_path: Folders from which strategies are imported, before those of `sys.path`.
    """

    run_id: str
    catalog: Path
    window: Window
    instruments: tuple[InstrumentData, ...]
    venues: Mapping[str, VenueConfig | JobVenue]
    strategies: tuple[StrategyConfig | JobStrategy, ...]
    engine: EngineConfig | JobEngine
    search_path: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the job as JSON text that `from_json` takes."""
        return json.dumps(
            {
                "run_id": self.run_id,
                "catalog": str(self.catalog),
                "window": [self.window.start, self.window.end],
                "instruments": [[data.nautilus_id, list(data.types)] for data in self.instruments],
                "venues": {
                    name: _values(JobVenue, venue) | {"fees": _values(JobFees, venue.fees)}
                    for name, venue in self.venues.items()
                },
                "strategies": [_values(JobStrategy, strategy) for strategy in self.strategies],
                "engine": _values(JobEngine, self.engine),
                "search_path": list(self.search_path),
            },
            default=_jsonable,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the job that `to_json` wrote."""
        values = json.loads(text)
        return cls(
            run_id=values["run_id"],
            catalog=Path(values["catalog"]),
            window=Window(*values["window"]),
            instruments=tuple(
                InstrumentData(nautilus_id, tuple(CatalogType(kind) for kind in types))
                for nautilus_id, types in values["instruments"]
            ),
            venues={name: _venue(venue) for name, venue in values["venues"].items()},
            strategies=tuple(JobStrategy(**strategy) for strategy in values["strategies"]),
            engine=JobEngine(**values["engine"]),
            search_path=tuple(values["search_path"]),
        )


def _values(kind: type, value: object) -> dict[str, Any]:
    """Return the fields of a value by the names that a kind of values gives them."""
    return {field.name: getattr(value, field.name) for field in fields(kind)}


def _jsonable(value: object) -> Any:
    """Return what a config may hold and JSON has no form for (a decimal, a path, …) as pydantic writes it."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def _venue(values: Mapping[str, Any]) -> JobVenue:
    fees = JobFees(**{name: Decimal(rate) for name, rate in values["fees"].items()})
    changed = {"balances": tuple(values["balances"]), "fees": fees, "leverage": Decimal(values["leverage"])}
    return JobVenue(**{**values, **changed})


@dataclass(frozen=True, slots=True)
class LogKind:
    """A kind of record in the engine's log.

    Attributes:
        level: `WARN` or `ERROR`.
        message: The message with `#` for every id, time and number.
        count: How many records there are of it.
    """

    level: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class EngineOutcome:
    """What a run came to, besides the tables that lie in its folder.

    Attributes:
        events: Data points that the engine processed (a group of deltas up to its `F_LAST` is one).
        seconds: Wall time of the replay alone.
        pnl_statistics: The engine's statistics of PnL by currency; None where they are undefined.
        general_statistics: The engine's other statistics.
        notes: What the user should know about how the run was set up.
        log: What the engine warned of, the most frequent first.
        engine_version: Version of nautilus_trader.
    """

    events: int
    seconds: float
    pnl_statistics: dict[str, dict[str, float | None]]
    general_statistics: dict[str, float | None]
    notes: tuple[str, ...] = ()
    log: tuple[LogKind, ...] = ()
    engine_version: str = ""

    def to_json(self) -> str:
        """Return the outcome as JSON text that `from_json` takes."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the outcome that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        values["notes"] = tuple(values["notes"])
        values["log"] = tuple(LogKind(**kind) for kind in values["log"])
        return cls(**values)
