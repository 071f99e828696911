"""The plain values that go into an engine run and come out of it.

They cross a process boundary as JSON, so nothing here knows the engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ticklake.config import EngineConfig, StrategyConfig, VenueConfig
from ticklake.types import CatalogType, Window

__all__ = ["EngineJob", "EngineOutcome", "InstrumentData", "LogKind"]


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
    venues: Mapping[str, VenueConfig]
    strategies: tuple[StrategyConfig, ...]
    engine: EngineConfig = field(default_factory=EngineConfig)
    search_path: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the job as JSON text that `from_json` takes."""
        return json.dumps(
            {
                "run_id": self.run_id,
                "catalog": str(self.catalog),
                "window": [self.window.start, self.window.end],
                "instruments": [[data.nautilus_id, list(data.types)] for data in self.instruments],
                "venues": {name: venue.model_dump(mode="json") for name, venue in self.venues.items()},
                "strategies": [strategy.model_dump(mode="json") for strategy in self.strategies],
                "engine": self.engine.model_dump(mode="json"),
                "search_path": list(self.search_path),
            }
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
            venues={name: VenueConfig.model_validate(venue) for name, venue in values["venues"].items()},
            strategies=tuple(StrategyConfig.model_validate(item) for item in values["strategies"]),
            engine=EngineConfig.model_validate(values["engine"]),
            search_path=tuple(values["search_path"]),
        )


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
