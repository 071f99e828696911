"""The figures of a run, computed from its result tables."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pyarrow as pa

from ticklake.backtesting.exposure import exposure
from ticklake.backtesting.job import EngineJob, EngineOutcome
from ticklake.backtesting.returns import return_statistics
from ticklake.report.curves import total_equity
from ticklake.types import Window

__all__ = ["figures", "remarks", "results_digest"]

# How the keys of a strategy's configuration end that name instruments by their ids.
_NAMES_INSTRUMENTS = ("instrument_id", "instrument_ids")
# How the engine's log begins where it leaves an amount out of an account.
_UNBOOKED = ("Cannot calculate account state", "Cannot complete transaction")


def figures(tables: Mapping[str, pa.Table], outcome: EngineOutcome, window: Window) -> dict[str, Any]:
    """Return the key figures of a run as JSON-able values.

    Everything that is money, or made of it, is by currency code. `net_pnl` is ending less starting balance,
    both with what is open valued at the last price; `return` is `net_pnl` over the starting balance;
    `max_drawdown` is the deepest fall of the equity below its highest value so far, as a fraction of that
    value (0 or negative), `max_drawdown_amount` the same as money; `turnover` is the sum of the fills'
    notional values; `fees` of their commissions (negative: rebates). `funding` is null: the engine settles
    it only where it is given funding rates, of which the catalog has none. `time_in_market` and
    `max_exposure`: see `exposure`.
    `win_rate` is the engine's, of positions; `sharpe`, `sortino`, `profit_factor` and `volatility` are the
    engine's formulas over the daily returns of the equity (see `returns`). What is undefined is null.

    Args:
        tables: `orders`, `fills`, `positions`, `account` and `equity`.
        outcome: What the engine says.
        window: What was replayed.
    """
    orders, fills, curves = tables["orders"], tables["fills"], total_equity(tables["equity"])
    starting = {code: curve[0][1] for code, curve in curves.items()}
    ending = {code: curve[-1][1] for code, curve in curves.items()}
    drawdowns = {code: _drawdown(value for _, value in curve) for code, curve in curves.items()}
    returns = {code: return_statistics(curve, window) for code, curve in curves.items()}

    time_in_market, max_exposure = exposure(fills, window)

    def of_returns(name: str) -> dict[str, float | None]:
        return {code: values[name] for code, values in returns.items()}

    return {
        "events": outcome.events,
        "orders": len(orders),
        "orders_by_status": dict(sorted(Counter(orders["status"].to_pylist()).items())),
        "fills": len(fills),
        "positions": len(tables["positions"]),
        "net_pnl": {code: float(ending[code] - starting[code]) for code in curves},
        "starting_balance": {code: float(value) for code, value in starting.items()},
        "ending_balance": {code: float(value) for code, value in ending.items()},
        "return": {
            code: float((ending[code] - starting[code]) / starting[code]) if starting[code] else None
            for code in curves
        },
        "max_drawdown": {code: fraction for code, (fraction, _) in drawdowns.items()},
        "max_drawdown_amount": {code: float(amount) for code, (_, amount) in drawdowns.items()},
        "fees": _sums(fills, "commission_currency", "commission"),
        "funding": None,
        "turnover": _sums(fills, "notional_currency", "notional"),
        "time_in_market": time_in_market,
        "max_exposure": max_exposure,
        "win_rate": {code: values.get("Win Rate") for code, values in outcome.pnl_statistics.items()},
        "sharpe": of_returns("Sharpe Ratio (252 days)"),
        "sortino": of_returns("Sortino Ratio (252 days)"),
        "profit_factor": of_returns("Profit Factor"),
        "volatility": of_returns("Returns Volatility (252 days)"),
        "statistics": {
            "pnl": outcome.pnl_statistics,
            "returns": returns,
            "general": outcome.general_statistics,
        },
    }


def remarks(tables: Mapping[str, pa.Table], outcome: EngineOutcome, job: EngineJob) -> list[str]:
    """Return what a user should know of a run before believing its figures, as sentences.

    Args:
        tables: As `figures`.
        outcome: As `figures`.
        job: What was run.
    """
    cash = {name for name, venue in job.venues.items() if venue.account == "CASH"}
    return [
        *outcome.notes,
        *_not_replayed(job),
        *(() if len(tables["orders"]) else ("no strategy sent an order",)),
        *_refused(tables["orders"]),
        *_overdrawn(tables["account"]),
        *_exchanged(tables["account"], cash),
        *_unbooked(outcome),
        *_stale(outcome),
    ]


def _not_replayed(job: EngineJob) -> Iterator[str]:
    """Say of instruments that strategies are configured with that the run has none of their data."""
    replayed = [data.nautilus_id for data in job.instruments]
    for index, strategy in enumerate(job.strategies):
        for key, value in strategy.config.items():
            if not key.endswith(_NAMES_INSTRUMENTS):
                continue
            for name in map(str, value if isinstance(value, list | tuple) else [value]):
                if name not in replayed:
                    yield (
                        f"strategies[{index}].config.{key}: {name} is not among the instruments of the run, "
                        f"which are {', '.join(replayed)}: the strategy got no data of it"
                    )


def _refused(orders: pa.Table) -> Iterator[str]:
    for status, by_whom in (("DENIED", "the engine's risk checks"), ("REJECTED", "the venue")):
        both = zip(orders["status"].to_pylist(), orders["reason"].to_pylist(), strict=True)
        reasons = [reason for found, reason in both if found == status]
        if reasons:
            yield f"{len(reasons):,} orders were {status.lower()} by {by_whom}, the first: {reasons[0]}"


def _overdrawn(account: pa.Table) -> Iterator[str]:
    least: dict[tuple[str, str], Decimal] = {}
    columns = (account[name].to_pylist() for name in ("account_id", "currency", "total"))
    for name, code, total in zip(*columns, strict=True):
        if total < 0:
            least[name, code] = min(total, least.get((name, code), total))
    for (name, code), total in least.items():
        yield (
            f"the balance of {name} fell below zero, to {total.normalize():f} "
            f"{code}: it traded with money that it did not have. Where an instrument has no "
            "margin requirement, nothing but a negative balance keeps orders back, whatever the leverage"
        )


def _exchanged(account: pa.Table, cash: set[str]) -> Iterator[str]:
    """Say of accounts that hold what they buy that no currency alone tells what was made."""
    totals: dict[str, dict[str, set[Decimal]]] = {}
    columns = (account[name].to_pylist() for name in ("account_id", "currency", "total"))
    for name, code, total in zip(*columns, strict=True):
        totals.setdefault(name, {}).setdefault(code, set()).add(total)
    for name, by_code in totals.items():
        changed = sorted(code for code, values in by_code.items() if len(values) > 1)
        if name.rpartition("-")[0] in cash and len(changed) > 1:
            yield (
                f"{name} is a CASH account that exchanged {' and '.join(changed)}: while something is held, "
                "what was paid for it is missing from the equity in the other currency, so that drawdown and "
                "Sharpe of one currency do not tell how the strategy did"
            )


def _unbooked(outcome: EngineOutcome) -> Iterator[str]:
    kinds = [kind for kind in outcome.log if kind.message.startswith(_UNBOOKED)]
    if kinds:
        count = sum(kind.count for kind in kinds)
        yield (
            f"{count:,} times the engine could not book a commission, gain or loss ('{kinds[0].message}' in "
            "the log): the balances and the equity lack them, and net PnL contradicts fees and positions. An "
            "account with a base_currency needs quotes between it and what is traded, another one a balance "
            "of that"
        )


def _stale(outcome: EngineOutcome) -> Iterator[str]:
    count = sum(kind.count for kind in outcome.log if kind.message.startswith("Skipping stale trade"))
    if count:
        yield (
            f"{count:,} trades did not move the simulated market ('Skipping stale trade' in the log): by "
            "exchange time they are older than what its book was last updated with. Strategies got them"
        )


def _drawdown(curve: Iterable[Decimal]) -> tuple[float | None, Decimal]:
    peak, amount, fraction = Decimal("-Infinity"), Decimal(0), Decimal(0)
    for value in curve:
        peak = max(peak, value)
        amount = min(amount, value - peak)
        if peak > 0:
            fraction = min(fraction, (value - peak) / peak)
    return (float(fraction) if peak > 0 else None), amount


def _sums(table: pa.Table, by: str, what: str) -> dict[str, float]:
    # Not `group_by`, for which pyarrow imports its dataset module, and that pandas.
    sums: dict[str, Decimal] = {}
    for code, value in zip(table[by].to_pylist(), table[what].to_pylist(), strict=True):
        if code is not None:
            sums[code] = sums.get(code, Decimal(0)) + value
    return {code: float(sums[code]) for code in sorted(sums)}


def results_digest(tables: Mapping[str, pa.Table], events: int) -> str:
    """Return the SHA-256 of what a run came to: equal config and data give equal digests.

    Nothing random and no wall time goes into it, so it is the same for every chunk size, process and machine.

    Args:
        tables: The result tables by name.
        events: Data points processed.
    """
    digest = hashlib.sha256(f"events {events}\n".encode())
    for name in sorted(tables):
        table = tables[name]
        digest.update(f"{name} {','.join(table.column_names)}\n".encode())
        columns = [_texts(table[column]) for column in table.column_names]
        for row in zip(*columns, strict=True):
            digest.update(("\t".join(row) + "\n").encode())
    return digest.hexdigest()


def _texts(column: pa.ChunkedArray) -> list[str]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_decimal(column.type):
        return ["" if value is None else str(value.normalize()) for value in column.to_pylist()]
    return ["" if value is None else repr(value) for value in column.to_pylist()]
