"""The schemas are those that the installed engine writes."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from nautilus_trader.model import (
    AggressorSide,
    BookAction,
    BookOrder,
    InstrumentId,
    OrderBookDelta,
    OrderBookDepth,
    OrderSide,
    Price,
    Quantity,
    TradeId,
    TradeTick,
)
from nautilus_trader.persistence import ParquetDataCatalog

from convert_support import BTC, T0
from ticklake.catalog.schema import DECIMAL_SCALE, PRICE_MAX, SIZE_MAX, schema
from ticklake.types import CatalogType

ID = InstrumentId.from_str(BTC.nautilus_id)
PRICE, SIZE = Price.from_str("61800.1"), Quantity.from_str("0.001")


def _order(side: OrderSide) -> BookOrder:
    return BookOrder(side, PRICE, SIZE, 0)


def _written(root: Path, catalog_type: CatalogType) -> Path:
    catalog = ParquetDataCatalog(str(root))
    if catalog_type is CatalogType.TRADES:
        catalog.write_trade_ticks([TradeTick(ID, PRICE, SIZE, AggressorSide.BUY, TradeId("1"), T0, T0)])
    elif catalog_type is CatalogType.DELTAS:
        catalog.write_order_book_deltas(
            [
                OrderBookDelta.clear(ID, 0, T0, T0),
                OrderBookDelta(ID, BookAction.ADD, _order(OrderSide.BUY), 160, 0, T0, T0),
            ]
        )
    else:
        bids, asks = [_order(OrderSide.BUY)], [_order(OrderSide.SELL)]
        catalog.write_order_book_depths([OrderBookDepth(ID, bids, asks, [1], [1], 160, 0, T0, T0)])
    (path,) = (root / "data" / catalog_type).rglob("*.parquet")
    return path


@pytest.mark.parametrize("catalog_type", CatalogType)
def test_schema_is_the_one_that_the_engine_writes(tmp_path: Path, catalog_type: CatalogType) -> None:
    theirs = pq.read_schema(_written(tmp_path, catalog_type))
    ours = schema(catalog_type, BTC)

    assert ours.names == theirs.names
    for mine, engines in zip(ours, theirs, strict=True):
        assert mine.type == engines.type, mine.name
        assert mine.nullable == engines.nullable, mine.name
    assert ours.metadata == theirs.metadata
    assert ours.equals(theirs, check_metadata=True)


def test_limits_are_those_of_the_engine() -> None:
    assert Price(PRICE_MAX, 0).as_decimal() == PRICE_MAX
    assert Quantity(SIZE_MAX, 0).as_decimal() == SIZE_MAX
    with pytest.raises(ValueError, match="not in range"):
        Price(PRICE_MAX + 1, 0)
    with pytest.raises(ValueError, match="not in range"):
        Quantity(SIZE_MAX + 1, 0)
    assert Price.from_str("1." + "0" * DECIMAL_SCALE).precision == DECIMAL_SCALE
