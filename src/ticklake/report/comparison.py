"""What a comparison of runs tells: their figures side by side, and where their configs differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import pyarrow as pa

from ticklake.report.model import money, number, percent, percentage_points

__all__ = ["Compared", "Comparison", "Difference", "Figure"]

type Value = float | str | None


class Compared(Protocol):
    """What a comparison needs of a run; `ticklake.Run` is one."""

    @property
    def id(self) -> str:
        """Name of the run."""

    @property
    def summary(self) -> dict[str, Any]:
        """Key figures."""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, without secrets."""

    @property
    def equity(self) -> pa.Table:
        """Equity over time."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of all runs.

    Attributes:
        name: What it is, with the currency where it has one.
        values: The value of each run; None where it has none.
        texts: The same as they are shown.
        changes: How each differs from the first run's, as it is shown; empty where it does not or has none.
    """

    name: str
    values: tuple[Value, ...]
    texts: tuple[str, ...]
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A key of the config whose value is not the same in all runs.

    Attributes:
        key: Its path, like `strategies[0].config.size`.
        values: The value of each run; None where the config does not have the key.
    """

    key: str
    values: tuple[Any, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as they are shown."""
        return tuple(
            "–" if value is None else value if isinstance(value, str) else json.dumps(value)
            for value in self.values
        )


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other; the first is what the others are measured by.

    Attributes:
        runs: The runs, in the order in which they were given.
    """

    runs: tuple[Compared, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """A short name of each run: `A`, `B`, …, `Z`, `AA` and so on."""
        return tuple(_label(index) for index in range(len(self.runs)))

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The results digest of each run; empty where its summary has none."""
        return tuple(str(run.summary.get("results_digest", "")) for run in self.runs)

    @property
    def same_results(self) -> bool:
        """Whether all runs came to the same: orders, fills, positions, balances, equity."""
        return len(set(self.digests)) == 1 and "" not in self.digests

    @property
    def verdict(self) -> str:
        """Which runs came to the same, as a sentence."""
        if self.same_results:
            return "The results are the same, by their digests."
        by_digest: dict[str, list[str]] = {}
        for label, digest in zip(self.labels, self.digests, strict=True):
            by_digest.setdefault(digest, []).append(label)
        equal = [labels for digest, labels in by_digest.items() if digest and len(labels) > 1]
        but = "; ".join(f"{', '.join(labels[:-1])} and {labels[-1]}" for labels in equal)
        return f"The results are not the same{but and f', but those of {but} are'}, by their digests."

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """The figures, in the order in which they are shown; those that no run has are left out."""
        summaries = [run.summary for run in self.runs]
        return tuple(
            _figure(name, [read(summary) for summary in summaries], form)
            for name, read, form in _rows(summaries)
            if any(read(summary) is not None for summary in summaries)
        )

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """The keys of the configs whose values differ, in the order in which they stand there."""
        flat = [dict(_flat(run.config)) for run in self.runs]
        keys = dict.fromkeys(key for values in flat for key in values)
        rows = (Difference(key, tuple(values.get(key) for values in flat)) for key in keys)
        return tuple(row for row in rows if any(not _same(value, row.values[0]) for value in row.values))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "runs": [
                {"label": label, "id": run.id} for label, run in zip(self.labels, self.runs, strict=True)
            ],
            "same_results": self.same_results,
            "results_digests": list(self.digests),
            "figures": {figure.name: list(figure.values) for figure in self.figures},
            "config": {each.key: list(each.values) for each in self.differences},
        }


def _label(index: int) -> str:
    text = ""
    while index >= 0:
        text = chr(ord("A") + index % 26) + text
        index = index // 26 - 1
    return text


type _Read = Callable[[Mapping[str, Any]], Value]
type _Form = Callable[[float], str]


def _rows(summaries: Sequence[Mapping[str, Any]]) -> list[tuple[str, _Read, _Form]]:
    rows: list[tuple[str, _Read, _Form]] = [
        ("start", lambda s: s["window"]["start"], _count),
        ("end", lambda s: s["window"]["end"], _count),
        ("strategies", lambda s: ", ".join(path.rpartition(":")[2] for path in s["strategies"]), _count),
        ("instruments", lambda s: ", ".join(s["instruments"]), _count),
    ]
    for key, title, form in _BY_CURRENCY:
        codes = dict.fromkeys(code for summary in summaries for code in summary.get(key) or {})
        rows += [(f"{title} {code}", _of_currency(key, code), form) for code in codes]
    rows += [(title, _of(key), _count) for key, title in _COUNTS.items()]
    rows += [
        ("time in market", _of("time_in_market"), percent),
        ("holes", lambda s: _length(s, "holes"), _count),
        ("quarantined rows", lambda s: (s.get("data") or {}).get("quarantined"), _count),
        ("engine seconds", _of("engine_seconds"), _decimals),
        ("nautilus_trader", _of("engine_version"), _count),
        ("results digest", lambda s: str(s.get("results_digest", ""))[:12] or None, _count),
    ]
    return rows


def _of(key: str) -> _Read:
    return lambda summary: summary.get(key)


def _of_currency(key: str, code: str) -> _Read:
    return lambda summary: (summary.get(key) or {}).get(code)


def _length(summary: Mapping[str, Any], key: str) -> int | None:
    values = (summary.get("data") or {}).get(key)
    return None if values is None else len(values)


def _count(value: float) -> str:
    return number(value, digits=0)


def _decimals(value: float) -> str:
    return number(value, digits=2)


_BY_CURRENCY: tuple[tuple[str, str, _Form], ...] = (
    ("net_pnl", "net PnL", money),
    ("return", "return", percent),
    ("max_drawdown", "max drawdown", percent),
    ("max_drawdown_amount", "max drawdown amount", money),
    ("sharpe", "Sharpe (annualised)", _decimals),
    ("sortino", "Sortino (annualised)", _decimals),
    ("volatility", "volatility (annualised)", percent),
    ("profit_factor", "profit factor", _decimals),
    ("win_rate", "win rate", percent),
    ("max_exposure", "max exposure", money),
    ("turnover", "turnover", money),
    ("fees", "fees", money),
)
_COUNTS = {"events": "events", "orders": "orders", "fills": "fills", "positions": "positions"}


def _figure(name: str, values: Sequence[Value], form: _Form) -> Figure:
    first = values[0]
    form_of_change = percentage_points if form is percent else form

    def text(value: Value) -> str:
        return "–" if value is None else value if isinstance(value, str) else form(value)

    def change(value: Value) -> str:
        if isinstance(first, str) or isinstance(value, str) or first is None or value is None:
            return ""
        difference = value - first
        return f"{'+' if difference > 0 else ''}{form_of_change(difference)}" if difference else ""

    return Figure(name, tuple(values), tuple(map(text, values)), tuple(map(change, values)))


def _flat(value: object, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a nested mapping by their paths; what is empty is a leaf."""
    if isinstance(value, Mapping) and value:
        return [
            leaf
            for key, inner in value.items()
            for leaf in _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, list) and value:
        return [leaf for index, inner in enumerate(value) for leaf in _flat(inner, f"{prefix}[{index}]")]
    return [(prefix, value)]


def _same(one: object, other: object) -> bool:
    # True and 1 are equal, but not the same in a config.
    return one == other and isinstance(one, bool) == isinstance(other, bool)
