"""How much is measured: everything (`FULL`), a glance (`QUICK`), or whether it works at all (`SMOKE`)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "SMOKE", "Scale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes of a run.

    Attributes:
        rounds: Runs of each route; medians count.
        trades: Trades of the day that is ingested, of which windows are read, and that is replayed cold.
        growth: How many times as large the file is that tells whether memory is bounded.
        growth_rounds: Runs that tell that.
        snapshots: Book snapshots of 5 levels of the day that is ingested.
        unit_trades: Trades of each of the eight units that are fetched side by side.
        large_group: Rows of a large row group.
        latencies: Milliseconds that the server adds to each answer of the window reads.
        adjacent: Adjacent windows of five minutes.
        replay_trades: Trades of the days that are replayed from catalogs of several shapes.
        replay_snapshots: Book snapshots of them.
        replay_shapes: How many shapes.
        many_files: Files of the catalog whose coverage is asked.
    """

    rounds: int
    trades: int
    growth: int
    growth_rounds: int
    snapshots: int
    unit_trades: int
    large_group: int
    latencies: tuple[int, ...]
    adjacent: int
    replay_trades: int
    replay_snapshots: int
    replay_shapes: int
    many_files: int


FULL = Scale(
    rounds=5,
    trades=3_000_000,
    growth=10,
    growth_rounds=2,
    snapshots=1_000_000,
    unit_trades=500_000,
    large_group=1_048_576,
    latencies=(0, 20, 50),
    adjacent=12,
    replay_trades=500_000,
    replay_snapshots=100_000,
    replay_shapes=8,
    many_files=10_000,
)
QUICK = Scale(
    rounds=3,
    trades=500_000,
    growth=4,
    growth_rounds=1,
    snapshots=80_000,
    unit_trades=100_000,
    large_group=262_144,
    latencies=(20,),
    adjacent=4,
    replay_trades=200_000,
    replay_snapshots=20_000,
    replay_shapes=3,
    many_files=10_000,
)
SMOKE = Scale(
    rounds=1,
    trades=3_000,
    growth=2,
    growth_rounds=1,
    snapshots=500,
    unit_trades=500,
    large_group=1_000,
    latencies=(1,),
    adjacent=2,
    replay_trades=1_000,
    replay_snapshots=100,
    replay_shapes=2,
    many_files=50,
)
