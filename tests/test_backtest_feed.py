"""What the report draws of a feed is what the raw recordings hold: latency, spread and depth by stretch."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest_support import ETH, LAKE_FILE, LAKE_FOLDER, WINDOW, write_catalog
from ticklake.backtesting import feed
from ticklake.backtesting.exposure import exposure
from ticklake.backtesting.feed import BOOK_SCHEMA, LATENCY_SCHEMA, write_feed
from ticklake.backtesting.tables import SCHEMAS
from ticklake.types import CatalogType, Window

WIDTH = -(-(WINDOW.end - WINDOW.start) // 400)


@pytest.fixture(scope="module")
def catalog(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(real_lake, tmp_path_factory.mktemp("feed"))


def written(catalog: Path, kind: CatalogType, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    paths = tuple(sorted(catalog.glob(f"data/{kind}/*/*.parquet")))
    assert paths
    write_feed({(ETH, kind): paths}, WINDOW, folder / "latency.parquet", folder / "book.parquet")
    found = [pq.read_table(folder / f"{name}.parquet") for name in ("latency", "book")]
    assert [table.schema for table in found] == [LATENCY_SCHEMA, BOOK_SCHEMA]
    latency, book = (pl.from_arrow(table) for table in found)
    assert set(latency["data_type"]) == {str(kind)}
    return latency, book


def raw(real_lake: Path, data_type: str) -> pl.DataFrame:
    """The recordings of the window with their stretch, times in nanoseconds."""
    rows = pl.read_parquet(real_lake / LAKE_FOLDER / f"data_type-{data_type}" / LAKE_FILE)
    init = pl.col("local_timestamp").cast(pl.Int64) * 1_000
    return (
        rows.with_columns(init=init, late=init - pl.col("timestamp").cast(pl.Int64) * 1_000)
        .filter(pl.col("init").is_between(WINDOW.start, WINDOW.end, closed="left"))
        .with_columns(stretch=(pl.col("init") - WINDOW.start) // WIDTH)
        .sort("init", maintain_order=True)
    )


@pytest.mark.parametrize(
    ("kind", "data_type"),
    [
        (CatalogType.TRADES, "trades"),
        (CatalogType.DEPTHS, "book_snapshot_5"),
        (CatalogType.DELTAS, "book_snapshot_5"),
    ],
)
def test_latency_is_that_of_the_recordings(
    catalog: Path, real_lake: Path, tmp_path: Path, kind: CatalogType, data_type: str
) -> None:
    latency, _ = written(catalog, kind, tmp_path)
    expected = (
        raw(real_lake, data_type)
        .group_by("stretch")
        .agg(
            n=pl.len(),
            low=pl.col("late").min(),
            high=pl.col("late").max(),
            p50=pl.col("late").quantile(0.5, "lower"),
            p99=pl.col("late").quantile(0.99, "higher"),
        )
        .sort("stretch")
    )
    assert latency["updates"].to_list() == expected["n"].to_list()
    starts = latency["ts_start"].cast(pl.Int64)
    assert starts.to_list() == (WINDOW.start + expected["stretch"] * WIDTH).to_list()
    assert latency["min_ns"].to_list() == expected["low"].to_list()
    assert latency["max_ns"].to_list() == expected["high"].to_list()
    for name in ("p50", "p99"):
        # Between the quantiles of a few rows lies more than a bin's two per cent.
        near = np.abs(latency[f"{name}_ns"].to_numpy() / expected[name].to_numpy() - 1) < 0.021
        assert near.mean() > 0.9


@pytest.mark.parametrize("kind", [CatalogType.DEPTHS, CatalogType.DELTAS])
@pytest.mark.parametrize("batch", [1_000, 65_536])
def test_the_book_is_that_of_the_recordings(
    catalog: Path,
    real_lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: CatalogType,
    batch: int,
) -> None:
    monkeypatch.setattr(feed, "_BATCH_ROWS", batch)
    _, book = written(catalog, kind, tmp_path)
    sides = {side: [f"{side}s[{level}]" for level in range(5)] for side in ("bid", "ask")}
    sums = {
        f"{side}_size": pl.sum_horizontal(pl.col(f"{level}.amount") for level in levels)
        for side, levels in sides.items()
    }
    bid, ask = pl.col("bids[0].price"), pl.col("asks[0].price")
    values = raw(real_lake, "book_snapshot_5").with_columns(mid=(bid + ask) / 2, spread=ask - bid, **sums)
    expected = (
        values.group_by("stretch")
        .agg(
            getattr(pl.col(name), what)().alias(f"{name}_{what}")
            for name in ("mid", "spread", "bid_size", "ask_size")
            for what in ("min", "mean", "max")
        )
        .sort("stretch")
    )
    for name in expected.columns[1:]:
        np.testing.assert_allclose(book[name], expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_nothing_in_the_window_is_empty_tables(catalog: Path, tmp_path: Path) -> None:
    paths = tuple(catalog.glob("data/trades/*/*.parquet"))
    empty = Window(WINDOW.start - 10**9, WINDOW.start - 10**9 + 1)
    targets = tmp_path / "latency.parquet", tmp_path / "book.parquet"
    write_feed({(ETH, CatalogType.TRADES): paths}, empty, *targets)
    assert [pq.read_metadata(path).num_rows for path in targets] == [0, 0]


fill = st.tuples(
    st.integers(0, 1_100), st.sampled_from("AB"), st.integers(-3, 3).filter(bool), st.integers(1, 9)
)


@given(st.lists(fill, max_size=30))
def test_exposure_is_what_a_look_at_each_moment_finds(fills: list[tuple[int, str, int, int]]) -> None:
    """The window is 1,000 ns long; what comes after it counts for the size alone."""
    fills.sort(key=lambda row: row[0])
    rows = [
        {
            **{field.name: "x" for field in SCHEMAS["fills"] if pa.types.is_string(field.type)},
            **{field.name: Decimal(0) for field in SCHEMAS["fills"] if pa.types.is_decimal(field.type)},
            "ts_event": at,
            "instrument_id": name,
            "side": "BUY" if signed > 0 else "SELL",
            "quantity": Decimal(abs(signed)),
            "notional": Decimal(abs(signed) * price),
            "notional_currency": "USDT",
        }
        for at, name, signed, price in fills
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMAS["fills"])
    share, most = exposure(table, Window(0, 1_000))

    def position(name: str, until: int) -> int:
        return sum(signed for at, other, signed, _ in fills if other == name and at <= until)

    held = sum(any(position(name, moment) for name in "AB") for moment in range(1_000))
    assert share == pytest.approx(held / 1_000)
    gross = []
    for count in range(1, len(fills) + 1):
        last = {name: price for _, name, _, price in fills[:count]}
        net = {name: sum(s for _, n, s, _ in fills[:count] if n == name) for name in last}
        gross.append(sum(abs(net[name]) * last[name] for name in last))
    assert most == ({"USDT": pytest.approx(max(gross))} if fills else {})
