"""The result tables of a run: from the engine's cache to Arrow, one row a thing, nothing random in them.

Prices, quantities and money are `decimal128(38, 16)`, as in the engine's catalog: exact, and usable as
numbers in Polars, DuckDB and Arrow (pandas: `.astype(float)`, or `types_mapper=pd.ArrowDtype`). Averages
that the engine itself computes in floating point are float64. Times are `timestamp[ns, UTC]`. The engine's
random event ids are left out, so that equal runs have equal tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa
from nautilus_trader.model import OrderFilled, OrderStatus

__all__ = ["SCHEMAS", "account_table", "equity_table", "fills_table", "orders_table", "positions_table"]

_NUMBER = pa.decimal128(38, 16)
_TIME = pa.timestamp("ns", tz="UTC")
# What the engine puts behind a netting position's id when it keeps a closed one.
_SNAPSHOT_SUFFIX = re.compile(r"-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def _schema(**fields: pa.DataType | str) -> pa.Schema:
    """Return a schema; a name that ends in `_` is nullable, without the underscore."""
    return pa.schema(
        [
            pa.field(name.removesuffix("_"), _ALIASES.get(kind, kind), nullable=name.endswith("_"))
            for name, kind in fields.items()
        ]
    )


_ALIASES: dict[Any, pa.DataType] = {
    "text": pa.string(),
    "number": _NUMBER,
    "float": pa.float64(),
    "time": _TIME,
    "flag": pa.bool_(),
    "count": pa.int64(),
}

SCHEMAS: dict[str, pa.Schema] = {
    # ts_init: when the strategy created the order; ts_last: its latest event; avg_price: mean fill price;
    # reason: why it was denied (by the engine's risk checks) or rejected (by the venue).
    "orders": _schema(
        ts_init="time",
        ts_last="time",
        strategy_id="text",
        instrument_id="text",
        client_order_id="text",
        venue_order_id_="text",
        position_id_="text",
        side="text",
        type="text",
        time_in_force="text",
        status="text",
        quantity="number",
        filled_quantity="number",
        price_="number",
        trigger_price_="number",
        avg_price_="float",
        slippage_="float",
        post_only="flag",
        reduce_only="flag",
        reason_="text",
        tags_="text",
    ),
    # notional: price x quantity x multiplier in notional_currency; commission: negative for a rebate.
    "fills": _schema(
        ts_event="time",
        strategy_id="text",
        instrument_id="text",
        client_order_id="text",
        venue_order_id="text",
        trade_id="text",
        position_id_="text",
        side="text",
        order_type="text",
        liquidity="text",
        quantity="number",
        price="number",
        notional="number",
        notional_currency="text",
        commission_="number",
        commission_currency_="text",
    ),
    # One row for each time that a position was opened; cycle counts how often its id was opened before.
    "positions": _schema(
        ts_opened="time",
        ts_closed_="time",
        duration_ns_="count",
        strategy_id="text",
        instrument_id="text",
        position_id="text",
        cycle="count",
        entry="text",
        side="text",
        quantity="number",
        peak_quantity="number",
        avg_price_open="float",
        avg_price_close_="float",
        realized_pnl_="number",
        currency="text",
        realized_return="float",
        opening_order_id="text",
        closing_order_id_="text",
    ),
    # One row for each account event and currency.
    "account": _schema(
        ts_event="time",
        account_id="text",
        type="text",
        currency="text",
        total="number",
        locked="number",
        free="number",
    ),
    # On a grid over the window, and after each fill. stale: some price in it is old.
    "equity": _schema(
        ts_event="time",
        account_id="text",
        currency="text",
        equity="number",
        realized_pnl="number",
        unrealized_pnl="number",
        stale="flag",
    ),
}


def orders_table(orders: Iterable[Any]) -> pa.Table:
    """Return all orders, in the order of their creation."""
    rows = []
    for order in orders:
        value = order.to_dict()
        rows.append(
            {
                "ts_init": value["ts_init"],
                "ts_last": value["ts_last"],
                "strategy_id": value["strategy_id"],
                "instrument_id": value["instrument_id"],
                "client_order_id": value["client_order_id"],
                "venue_order_id": value["venue_order_id"],
                "position_id": value["position_id"],
                "side": value["side"],
                "type": value["type"],
                "time_in_force": value["time_in_force"],
                "status": value["status"],
                "quantity": _number(value["quantity"]),
                "filled_quantity": _number(value["filled_qty"]),
                "price": _number(value.get("price")),
                "trigger_price": _number(value.get("trigger_price")),
                "avg_price": _float(value["avg_px"]),
                "slippage": _float(value["slippage"]),
                "post_only": value.get("is_post_only", False),
                "reduce_only": value["is_reduce_only"],
                "reason": _reason(order),
                "tags": ",".join(value["tags"]) if value["tags"] else None,
            }
        )
    return _table("orders", rows, by=("ts_init", "client_order_id"))


def _reason(order: Any) -> str | None:
    if order.status not in (OrderStatus.DENIED, OrderStatus.REJECTED):
        return None
    return str(order.last_event.reason)


def fills_table(orders: Iterable[Any], instruments: dict[str, Any]) -> pa.Table:
    """Return all fills of the orders in time order.

    Args:
        orders: The orders.
        instruments: Their instruments by id, for the notional values.
    """
    rows = [
        _fill(event, instruments[str(event.instrument_id)])
        for order in orders
        for event in order.events()
        if isinstance(event, OrderFilled)
    ]
    return _table("fills", rows, by=("ts_event", "_number"))


def _fill(event: Any, instrument: Any) -> dict[str, Any]:
    value = event.to_dict()
    notional = instrument.notional_value(event.last_qty, event.last_px)
    commission = event.commission
    return {
        "ts_event": value["ts_event"],
        "strategy_id": value["strategy_id"],
        "instrument_id": value["instrument_id"],
        "client_order_id": value["client_order_id"],
        "venue_order_id": value["venue_order_id"],
        "trade_id": value["trade_id"],
        "position_id": value["position_id"],
        "side": value["order_side"],
        "order_type": value["order_type"],
        "liquidity": value["liquidity_side"],
        "quantity": _number(value["last_qty"]),
        "price": _number(value["last_px"]),
        "notional": notional.as_decimal(),
        "notional_currency": notional.currency.code,
        "commission": None if commission is None else commission.as_decimal(),
        "commission_currency": None if commission is None else commission.currency.code,
        # The venue numbers its trades; the number orders fills of one instant.
        "_number": (value["instrument_id"], int(value["trade_id"].rpartition("-")[2])),
    }


def positions_table(closed: Iterable[Any], current: Iterable[Any]) -> pa.Table:
    """Return all positions in the order of their opening.

    Args:
        closed: Snapshots of netting positions that were closed and opened again.
        current: Positions as they are at the end.
    """
    rows = []
    for position in (*closed, *current):
        value = position.to_dict()
        pnl, _, currency = (value["realized_pnl"] or "").partition(" ")
        is_closed = value["ts_closed"] is not None
        rows.append(
            {
                "ts_opened": value["ts_opened"],
                "ts_closed": value["ts_closed"],
                "duration_ns": value["duration_ns"] if is_closed else None,
                "strategy_id": value["strategy_id"],
                "instrument_id": value["instrument_id"],
                "position_id": _SNAPSHOT_SUFFIX.sub("", value["position_id"]),
                "entry": value["entry"],
                "side": value["side"],
                "quantity": _number(value["quantity"]),
                "peak_quantity": _number(value["peak_qty"]),
                "avg_price_open": value["avg_px_open"],
                "avg_price_close": value["avg_px_close"],
                "realized_pnl": _number(pnl or None),
                "currency": currency or value["settlement_currency"],
                "realized_return": value["realized_return"],
                "opening_order_id": value["opening_order_id"],
                "closing_order_id": value["closing_order_id"],
            }
        )
    rows.sort(key=lambda row: (row["ts_opened"], row["opening_order_id"]))
    cycles: dict[str, int] = {}
    for row in rows:
        row["cycle"] = cycles.get(row["position_id"], 0)
        cycles[row["position_id"]] = row["cycle"] + 1
    return _table("positions", rows, by=())


def account_table(accounts: Iterable[Any]) -> pa.Table:
    """Return the balances of the accounts after each of their events."""
    rows = []
    for account in accounts:
        for number, event in enumerate(account.events):
            value = event.to_dict()
            rows += [
                {
                    "ts_event": value["ts_event"],
                    "account_id": value["account_id"],
                    "type": value["account_type"],
                    "currency": balance["currency"],
                    "total": _number(balance["total"]),
                    "locked": _number(balance["locked"]),
                    "free": _number(balance["free"]),
                    "_number": number,
                }
                for balance in value["balances"]
            ]
    return _table("account", rows, by=("ts_event", "account_id", "_number", "currency"))


def equity_table(points: Iterable[dict[str, Any]]) -> pa.Table:
    """Return the equity of the accounts over time, by currency."""
    return _table("equity", list(points), by=("ts_event", "account_id", "currency"))


def _table(name: str, rows: list[dict[str, Any]], *, by: tuple[str, ...]) -> pa.Table:
    if by:
        rows.sort(key=lambda row: tuple(row[key] for key in by))
    schema = SCHEMAS[name]
    # Of its type at once: for a cast Arrow imports all of its compute module.
    return pa.table(
        [pa.array([row[field.name] for row in rows], field.type) for field in schema], schema=schema
    )


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _float(value: str | float | None) -> float | None:
    return None if value is None else float(value)
