"""A synthetic lake: believable ticks, for the demo, the tests and the benchmarks.

The same arguments give the same rows, in any process and with any number of threads. A day is simulated by
itself, yet days join up: prices and trade ids go on over midnight.
"""

from __future__ import annotations

from ticklake.synth.lake import SyntheticFile, SyntheticLake, write_synthetic_lake
from ticklake.synth.market import BTC_PERPETUAL, BTC_SPOT, ETH_PERPETUAL, SyntheticInstrument
from ticklake.synth.tables import book_table, instruments_table, trades_table

__all__ = [
    "BTC_PERPETUAL",
    "BTC_SPOT",
    "ETH_PERPETUAL",
    "SyntheticFile",
    "SyntheticInstrument",
    "SyntheticLake",
    "book_table",
    "instruments_table",
    "trades_table",
    "write_synthetic_lake",
]
