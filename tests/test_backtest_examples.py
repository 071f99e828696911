"""The example strategies trade on real ticks, on every kind of data that they say they can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from backtest_support import ETH, EXAMPLES, job, write_catalog
from ticklake.backtesting import check_strategies, execute
from ticklake.config import StrategyConfig
from ticklake.errors import ConfigError
from ticklake.types import CatalogType

MOMENTUM, IMBALANCE = "trade_momentum:TradeMomentum", "book_imbalance:BookImbalance"
TRADES, DELTAS, DEPTHS = CatalogType.TRADES, CatalogType.DELTAS, CatalogType.DEPTHS


@pytest.fixture(scope="module")
def catalog(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(real_lake, tmp_path_factory.mktemp("examples"))


@pytest.mark.parametrize(
    ("strategy", "types", "config"),
    [
        (MOMENTUM, (TRADES,), {"size": "1"}),
        (MOMENTUM, (TRADES, DELTAS), {"size": "0.250"}),
        (MOMENTUM, (TRADES, DEPTHS), {"size": "1", "order_id_tag": "007"}),
        (IMBALANCE, (TRADES, DELTAS), {"size": "0.5", "max_position": "2"}),
        (IMBALANCE, (TRADES, DEPTHS), {"size": "0.5", "max_position": "2", "book_as": "depth"}),
        (IMBALANCE, (DELTAS,), {"size": "0.5", "max_position": "1"}),
        (IMBALANCE, (DEPTHS,), {"size": "0.5", "max_position": "1", "book_as": "depth"}),
    ],
)
def test_it_trades_keeps_its_limit_and_ends_flat(
    catalog: Path, tmp_path: Path, strategy: str, types: tuple[CatalogType, ...], config: dict[str, Any]
) -> None:
    run = execute(
        job(catalog, strategy=strategy, types=types, config=config), tmp_path, config={}, provenance={}
    )
    fills = pl.from_arrow(run.fills)
    assert isinstance(fills, pl.DataFrame)
    assert len(fills) > 10
    signed = fills.select(
        pl.when(pl.col("side") == "BUY").then(pl.col("quantity")).otherwise(-pl.col("quantity"))
    ).to_series()
    held = [float(value) for value in signed.cum_sum()]
    assert max(map(abs, held)) <= float(config.get("max_position", config["size"]))
    assert held[-1] == 0
    if strategy == IMBALANCE:
        assert "MAKER" in fills["liquidity"].to_list()
    assert "ERROR" not in run.summary["log"]["counts"]
    if "order_id_tag" in config:
        assert set(fills["strategy_id"]) == {"TradeMomentum-007"}


@pytest.mark.parametrize(
    ("strategy", "config", "message"),
    [
        (MOMENTUM, {"size": "1", "fast": 60.0}, "below slow"),
        (MOMENTUM, {"size": "1", "enter": 0.1}, "below enter"),
        (MOMENTUM, {}, "size"),
        (IMBALANCE, {"size": "1", "max_position": "1", "book_as": "tape"}, "allowed are deltas and depth"),
        (IMBALANCE, {"size": "1", "max_positions": "1"}, "did you mean max_position"),
    ],
)
def test_bad_settings_are_refused_before_anything_moves(
    strategy: str, config: dict[str, Any], message: str
) -> None:
    given = StrategyConfig(
        path=strategy, config_path=f"{strategy}Config", config={"instrument_id": ETH, **config}
    )
    with pytest.raises(ConfigError, match=message):
        check_strategies([given], (EXAMPLES,))
