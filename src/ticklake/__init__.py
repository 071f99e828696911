"""Backtest NautilusTrader strategies straight from a tick-data lake in object storage."""
