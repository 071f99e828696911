"""Which runs there are in a folder of this machine or of an object store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ticklake.backtesting.places import MARKER, RUN_ID, RunFolder, place_of
from ticklake.config import StorageConfig
from ticklake.display import card, refused, table
from ticklake.errors import BacktestError, TicklakeError

__all__ = ["ListedRun", "RunList", "list_runs"]

# So much of a results digest tells runs apart.
_DIGEST = 12


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run in a list: what its summary says; nothing else of it was read.

    Attributes:
        location: Its folder or URL, for `Run.load`.
        summary: The content of `summary.json`.
    """

    location: str
    summary: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Name of the run."""
        return str(self.summary["id"])

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values, without the engine's log and statistics."""
        kept = {name: value for name, value in self.summary.items() if name not in ("log", "statistics")}
        return {"location": self.location, **kept}


@dataclass(frozen=True, slots=True)
class RunList:
    """The runs of a place.

    Attributes:
        location: The folder or URL.
        runs: The runs that were asked for, newest first.
        unfinished: What is being written, or was left by a process that was killed while it wrote.
        unreadable: Locations whose `summary.json` is not what a run writes, and why.
    """

    location: str
    runs: tuple[ListedRun, ...]
    unfinished: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return (
            f"RunList({self.location!r}: {len(self.runs)} runs, {len(self.unfinished)} unfinished, "
            f"{len(self.unreadable)} unreadable)"
        )

    def _repr_html_(self) -> str:
        facts = {
            "place": self.location,
            "runs": len(self.runs),
            "unfinished": ", ".join(self.unfinished) or None,
            "unreadable": "; ".join(f"{location}: {why}" for location, why in self.unreadable) or None,
        }
        columns = ("run", "strategies", "instruments", "from (UTC)", "to, exclusive", "net PnL", "digest")
        return card("RunList", facts, *([table(columns, map(_row, self.runs))] if self.runs else ()))


def _row(run: ListedRun) -> tuple[str, ...]:
    summary = run.summary
    return (
        run.id,
        ", ".join(str(path).rpartition(":")[2] for path in summary["strategies"]),
        ", ".join(map(str, summary["instruments"])),
        str(summary["window"].get("start", "")),
        str(summary["window"].get("end", "")),
        ", ".join(f"{value:,.2f} {code}" for code, value in summary["net_pnl"].items()),
        summary["results_digest"][:_DIGEST],
    )


def list_runs(
    runs: str | Path = "runs",
    *,
    strategy: str | None = None,
    instrument: str | None = None,
    storage: StorageConfig | None = None,
) -> RunList:
    """Return the runs of a folder of this machine or of an object store, newest first.

    Only summaries are read.

    Args:
        runs: The folder, or its URL as text.
        strategy: Only runs of strategies whose path (`package.module:Class`) has this text in it, in upper or
            lower case.
        instrument: Only runs of instruments whose Nautilus id has this text in it, in upper or lower case.
        storage: How to reach an object store; by default as the environment says.

    Raises:
        BacktestError: There is no such folder, or it cannot be read.
        ConfigError: The URL is not usable.
        LakeError: The store could not be asked.
    """
    place = place_of(runs, storage)
    if isinstance(place, RunFolder) and not place.path.is_dir():
        raise BacktestError(
            f"there is no folder of runs {place.location}", hint="Name one, or its URL, or a run config."
        )
    try:
        names = place.names()
    except PermissionError as exc:
        raise BacktestError(f"the folder of runs {place.location} cannot be read: {refused(exc)}") from exc
    found: list[ListedRun] = []
    unfinished, unreadable = [], []
    for name, content in zip(names, place.read_all([f"{name}/{MARKER}" for name in names]), strict=True):
        location = (place / name).location
        if isinstance(content, FileNotFoundError | NotADirectoryError):
            if _is_unfinished(name):
                unfinished.append(location)
        elif isinstance(content, TicklakeError):
            raise content
        elif isinstance(content, Exception):
            raise BacktestError(f"{location}/{MARKER} cannot be read: {content}") from content
        else:
            try:
                found.append(ListedRun(location, _summary(content)))
            except ValueError as exc:
                unreadable.append((location, str(exc)))
    kept = [
        each
        for each in found
        if _has(each.summary["strategies"], strategy) and _has(each.summary["instruments"], instrument)
    ]
    kept.sort(key=lambda each: (str(each.summary["started"]), each.id), reverse=True)
    return RunList(place.location, tuple(kept), tuple(unfinished), tuple(unreadable))


def _is_unfinished(name: str) -> bool:
    return RUN_ID.fullmatch(name.removeprefix(".").removesuffix(".tmp")) is not None


def _has(texts: list[str], wanted: str | None) -> bool:
    return wanted is None or any(wanted.casefold() in str(text).casefold() for text in texts)


_KINDS: dict[str, type] = {
    "id": str,
    "started": str,
    "window": dict,
    "strategies": list,
    "instruments": list,
    "net_pnl": dict,
    "results_digest": str,
}


def _summary(content: bytes) -> dict[str, Any]:
    """Return the values of a summary.

    Raises:
        ValueError: It is not what a run writes.
    """
    values = json.loads(content)
    if not isinstance(values, dict):
        raise ValueError("it holds no mapping")
    for name, kind in _KINDS.items():
        if not isinstance(values.get(name), kind):
            raise ValueError(f"it says no {name}")
    return values
