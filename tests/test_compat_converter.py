"""`DataConverter`: the engine's loaders, its own objects and Polars are the oracles."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.model import InstrumentId
from nautilus_trader.persistence import ParquetDataCatalog

from backtest_support import ETH, write_catalog
from fetch_support import PERP_ID, START, ask, made_trades, put_trades
from lake_support import parquet
from ticklake.catalog import Catalog, read_provenance, verify
from ticklake.compat.converter import DataConverter, catalog_of
from ticklake.errors import CatalogConflictError, ConfigError, ConversionError, PrecisionError
from ticklake.fetching import fetch
from ticklake.lake import Lake
from ticklake.types import CatalogType, Window

LAKE = "market-data-tick-cefi/raw_tick_data/by_date/day-2024-08-08"
ETH_FILE = "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN.parquet"
BOOKS = [
    ("BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN", 1, 3),
    ("BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN", 2, 3),
    ("BINANCE:SPOT_PAIR:BTC-USDT", 2, 5),
]


def trades_of(catalog: Path, nautilus_id: str = PERP_ID) -> list[Any]:
    return ParquetDataCatalog(str(catalog)).query_trade_ticks([nautilus_id])


def frame(times: list[int]) -> pd.DataFrame:
    return made_trades([START + t for t in times]).to_pandas()


def put(catalog: Path, times: list[int], **how: Any) -> int:
    return DataConverter.convert_trades_dataframe_to_catalog(frame(times), PERP_ID, catalog, 1, 3, **how)


def test_real_files_and_frames_are_what_the_engines_loaders_read(real_lake: Path, tmp_path: Path) -> None:
    oracle = ParquetDataCatalog(str(write_catalog(real_lake, tmp_path)))
    trades, book = (
        real_lake / LAKE / f"data_type-{kind}" / ETH_FILE for kind in ("trades", "book_snapshot_5")
    )
    target = tmp_path / "ours"
    target.mkdir()
    engines = ParquetDataCatalog(str(target))
    rows = DataConverter.convert_trades_parquet_to_catalog(
        trades, InstrumentId.from_str(ETH), engines, price_precision=2, size_precision=3
    )
    deltas = DataConverter.convert_orderbook_parquet_to_catalog(
        str(book), ETH, engines, is_snapshot=True, price_precision=2, size_precision=3
    )
    wanted = oracle.query_trade_ticks([ETH])
    assert rows == len(wanted)
    assert engines.query_trade_ticks([ETH]) == wanted
    assert engines.query_order_book_deltas([ETH]) == oracle.query_order_book_deltas([ETH])
    assert deltas == len(oracle.query_order_book_deltas([ETH]))
    df = pd.read_parquet(trades)
    assert DataConverter.dataframe_to_trade_ticks(df, ETH, 2, 3) == wanted
    again = DataConverter.convert_trades_dataframe_to_catalog(df, ETH, tmp_path / "frames", 2, 3)
    assert again == rows
    assert Catalog(target).content_digest(CatalogType.TRADES) == Catalog(tmp_path / "frames").content_digest()
    assert not [check for check in verify(Catalog(target)).files if check.problems]


@pytest.mark.parametrize(("key", "price", "size"), BOOKS)
def test_books_of_every_dialect_have_the_depth_of_their_columns(
    real_lake: Path, tmp_path: Path, key: str, price: int, size: int
) -> None:
    file = real_lake / LAKE / "data_type-book_snapshot_5" / f"{key}.parquet"
    rows = DataConverter.convert_orderbook_dataframe_to_catalog(
        pd.read_parquet(file), "X.BINANCE", tmp_path, True, price, size
    )
    snapshots = pq.read_metadata(file).num_rows
    assert 10 * snapshots < rows <= 11 * snapshots
    assert len(ParquetDataCatalog(str(tmp_path)).query_order_book_deltas(["X.BINANCE"])) == rows


def test_what_is_covered_is_skipped_and_the_rest_written(tmp_path: Path) -> None:
    assert put(tmp_path, [10, 11, 12]) == 3
    assert put(tmp_path, [10, 11, 12]) == 0
    assert put(tmp_path, [8, 9, 10, 11, 12, 13]) == 3
    assert [t.ts_init - START for t in trades_of(tmp_path)] == [8, 9, 10, 11, 12, 13]
    assert len(Catalog(tmp_path).files(CatalogType.TRADES, PERP_ID)) == 3
    assert put(tmp_path, []) == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=5))
@settings(max_examples=25)
def test_any_overlapping_pieces_of_a_source_make_the_whole_of_it(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]]
) -> None:
    catalog = tmp_path_factory.mktemp("catalog")
    seen: set[int] = set()
    for start, count in pieces:
        times = list(range(start, start + count))
        assert put(catalog, times) == len(set(times) - seen)
        seen |= set(times)
    assert [t.ts_init - START for t in trades_of(catalog)] == sorted(seen)


def test_rows_that_skipping_would_lose_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, [1, 2])
    with pytest.raises(CatalogConflictError, match="covers 2 of the rows, but has 1 there"):
        put(tmp_path, [2, 2, 3])
    assert len(trades_of(tmp_path)) == 2


def test_without_skipping_what_is_there_is_replaced(tmp_path: Path) -> None:
    put(tmp_path, [5, 6])
    put(tmp_path, [8, 9])
    assert put(tmp_path, [4, 5, 6, 7, 8, 9], skip_if_exists=False) == 6
    assert put(tmp_path, [4, 5, 6, 7, 8, 9], skip_if_exists=False) == 6
    assert [t.ts_init - START for t in trades_of(tmp_path)] == [4, 5, 6, 7, 8, 9]
    put(tmp_path, [20, 30])
    with pytest.raises(CatalogConflictError, match="reaches beyond the rows given"):
        put(tmp_path, [25, 40], skip_if_exists=False)
    assert [t.ts_init - START for t in trades_of(tmp_path)] == [4, 5, 6, 7, 8, 9, 20, 30]


def test_files_tell_what_they_are_made_of_and_serve_a_later_fetch(tmp_path: Path) -> None:
    table = made_trades([START + n for n in range(5)])
    put_trades(tmp_path / "lake", table)
    catalog = Catalog(tmp_path / "catalog")
    assert put(catalog.path, [0, 1, 2]) == 3
    (file,) = catalog.files(CatalogType.TRADES, PERP_ID)
    origin = read_provenance(file.path)
    assert origin is not None
    assert dict(origin.counts) == {"rows": 3, "read": 3, "written": 3, "outside": 0}
    lake = Lake(tmp_path / "lake")
    assert fetch(lake, catalog, [ask(0, 3)], offline=True).rows == 0
    assert fetch(lake, catalog, [ask(0, 5)]).rows == 2
    assert not [check for check in verify(catalog).files if check.problems]


def test_precisions_are_those_given_and_have_to_agree(tmp_path: Path) -> None:
    df = pd.DataFrame({"price": [1.2, 0.1 + 0.2], "size": [5.0, 1.0], "ts_event": [START, START + 1]})
    ticks = DataConverter.dataframe_to_trade_ticks(df, PERP_ID, price_precision=1, size_precision=0)
    assert [str(tick.price) for tick in ticks] == ["1.2", "0.3"]
    assert [str(tick.size) for tick in ticks] == ["5", "1"]
    with pytest.raises(PrecisionError, match=r"is 0\.25, which is not a multiple"):
        DataConverter.dataframe_to_trade_ticks(df.assign(price=[0.25, 0.5]), PERP_ID, 1, 0)
    put(tmp_path, [1, 2])
    with pytest.raises(CatalogConflictError, match="has price_precision 1, and not 2"):
        DataConverter.convert_trades_dataframe_to_catalog(frame([2, 3]), PERP_ID, tmp_path)
    wide = pd.DataFrame({"price": [0.01, 1e12], "size": [1.0, 2.0], "ts_event": [START, START + 1]})
    prices = [tick.price.as_decimal() for tick in DataConverter.dataframe_to_trade_ticks(wide, PERP_ID)]
    assert prices == [Decimal("0.01"), Decimal(10**12)]


def test_an_engine_catalog_tells_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b" / "ü"
    folder.mkdir(parents=True)
    assert catalog_of(ParquetDataCatalog(str(folder))).path == folder
    assert list(folder.iterdir()) == []
    monkeypatch.chdir(tmp_path)
    relative = ParquetDataCatalog("a b")
    monkeypatch.chdir("/")
    assert catalog_of(relative).path == tmp_path / "a b"
    (tmp_path / "%20").mkdir()
    with pytest.raises(ConfigError, match="Give the folder instead"):
        catalog_of(ParquetDataCatalog(str(tmp_path / "%20")))
    with pytest.raises(ConfigError, match="is no catalog"):
        catalog_of(3)


def test_what_cannot_be_converted_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(parquet(pa.table({"a": [1]})))
    wrong = {
        "no known dialect": (ConversionError, {"a": [1]}),
        "null": (ConversionError, {"price": [1.0, None], "size": [1.0, 1.0], "ts_event": [START, START]}),
    }
    for match, (kind, columns) in wrong.items():
        with pytest.raises(kind, match=match):
            DataConverter.convert_trades_dataframe_to_catalog(pd.DataFrame(columns), PERP_ID, tmp_path / "c")
    with pytest.raises(ConversionError, match="no known dialect"):
        DataConverter.convert_orderbook_parquet_to_catalog(tmp_path / "x.parquet", PERP_ID, tmp_path / "c")
    with pytest.raises(ConfigError, match="do not say which levels went"):
        DataConverter.convert_orderbook_parquet_to_catalog(
            tmp_path / "x.parquet", PERP_ID, tmp_path / "c", is_snapshot=False
        )
    with pytest.raises(ConfigError, match="not a Nautilus instrument id"):
        DataConverter.convert_trades_dataframe_to_catalog(frame([1]), "BTC", tmp_path / "c")
    assert not (tmp_path / "c" / "data").exists()


def test_days_are_files_of_their_own(tmp_path: Path) -> None:
    day = 86_400 * 10**9
    assert put(tmp_path, [day - 1, day, 2 * day + 5]) == 3
    windows = [file.window for file in Catalog(tmp_path).files(CatalogType.TRADES, PERP_ID)]
    assert windows == [
        Window(START + day - 1, START + day),
        Window(START + day, START + 2 * day),
        Window(START + 2 * day, START + 2 * day + 6),
    ]
