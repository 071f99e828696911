"""The synthetic lake, looked at with DuckDB and Polars, which know nothing of how it was made."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticklake.errors import ConfigError
from ticklake.synth import (
    BTC_PERPETUAL,
    BTC_SPOT,
    ETH_PERPETUAL,
    SyntheticInstrument,
    SyntheticLake,
    book_table,
    instruments_table,
    trades_table,
    write_synthetic_lake,
)

INSTRUMENTS = (BTC_PERPETUAL, ETH_PERPETUAL, BTC_SPOT)
START = dt.date(2024, 8, 8)
DAY_NS = 86_400_000_000_000
TRADES, SNAPSHOTS = 60_000, 20_000
BY_KEY = {instrument.key: instrument for instrument in INSTRUMENTS}

each_instrument = pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.key)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> SyntheticLake:
    return write_synthetic_lake(
        tmp_path_factory.mktemp("synthetic"),
        start=START,
        instruments=INSTRUMENTS,
        trades_per_day=TRADES,
        snapshots_per_day=SNAPSHOTS,
        row_group_size=7_000,
    )


def trades_of(lake: SyntheticLake, instrument: SyntheticInstrument) -> pl.DataFrame:
    """All days' trades under the same names, with times in nanoseconds and the buyer's side as a flag."""
    frame = pl.concat([pl.read_parquet(path) for path in paths(lake, instrument, "trades")])
    if instrument.trades_dialect == "tardis":
        return frame.select(
            pl.col("id").cast(pl.Int64),
            "price",
            pl.col("amount").alias("size"),
            (pl.col("side") == "buy").alias("buy"),
            (pl.col("timestamp") * 1_000).alias("ts_event"),
            (pl.col("local_timestamp") * 1_000).alias("ts_init"),
        )
    return frame.select(
        pl.col("trade_id").cast(pl.Int64).alias("id"),
        "price",
        "size",
        (pl.col("aggressor_side") == 1).alias("buy"),
        "ts_event",
        "ts_init",
    )


def book_of(lake: SyntheticLake, instrument: SyntheticInstrument) -> pl.DataFrame:
    """All days' snapshots with columns ask0, ask_size0, bid0, bid_size0 and so on, times in nanoseconds."""
    frame = pl.concat([pl.read_parquet(path) for path in paths(lake, instrument, "book_snapshot_5")])
    templates, first = {
        "nautilus": (("ask_price_{}", "ask_size_{}", "bid_price_{}", "bid_size_{}"), 0),
        "tardis": (("asks[{}].price", "asks[{}].amount", "bids[{}].price", "bids[{}].amount"), 0),
        "volume": (("ask_price_{}", "ask_volume_{}", "bid_price_{}", "bid_volume_{}"), 1),
    }[instrument.book_dialect]
    targets = ("ask{}", "ask_size{}", "bid{}", "bid_size{}")
    renamed = {
        template.format(level + first): target.format(level)
        for level in range(5)
        for template, target in zip(templates, targets, strict=True)
    }
    frame = frame.rename(renamed)
    if instrument.book_dialect != "nautilus":
        frame = frame.with_columns(
            (pl.col("timestamp") * 1_000).alias("ts_event"),
            (pl.col("local_timestamp") * 1_000).alias("ts_init"),
        )
    return frame.select("ts_event", "ts_init", *renamed.values())


def paths(lake: SyntheticLake, instrument: SyntheticInstrument, data_type: str) -> list[Path]:
    return [file.path for file in lake.files if (file.key, file.data_type) == (instrument.key, data_type)]


def test_layout_is_the_default_one(lake: SyntheticLake) -> None:
    days = ["day-2024-08-08", "day-2024-08-09"]
    expected = {
        f"raw_tick_data/by_date/{day}/data_type-{data_type}/{key}.parquet"
        for day in days
        for data_type in ("trades", "book_snapshot_5")
        for key in BY_KEY
    }
    assert {str(path.relative_to(lake.ticks)) for path in lake.ticks.rglob("*") if path.is_file()} == expected
    assert {
        str(path.relative_to(lake.instruments)) for path in lake.instruments.rglob("*") if path.is_file()
    } == {f"instrument_availability/by_date/{day}/instruments.parquet" for day in days}
    assert lake.ticks.name == "market-data-tick-cefi"
    assert lake.instruments.name == "instruments-store-cefi"
    assert lake.ticks_url == f"file://{lake.ticks}"
    assert lake.instruments_url == f"file://{lake.instruments}"


def test_what_is_returned_is_what_was_written(lake: SyntheticLake) -> None:
    assert lake.keys == tuple(BY_KEY)
    assert lake.days == (START, START + dt.timedelta(days=1))
    assert lake.rows == 2 * len(INSTRUMENTS) * (TRADES + SNAPSHOTS)
    assert len(lake.files) == 12
    for file in lake.files:
        assert pq.read_metadata(file.path).num_rows == file.rows
        assert file.rows == (TRADES if file.data_type == "trades" else SNAPSHOTS)


def test_files_are_snappy_with_statistics_and_the_row_groups_asked_for(lake: SyntheticLake) -> None:
    for file in lake.files:
        metadata = pq.read_metadata(file.path)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        assert [group.num_rows for group in groups[:-1]] == [7_000] * (len(groups) - 1)
        for group in groups:
            for index in range(group.num_columns):
                column = group.column(index)
                assert column.compression == "SNAPPY"
                assert column.statistics.has_min_max
                assert column.statistics.null_count == 0


@each_instrument
@pytest.mark.parametrize("data_type", ["trades", "book_snapshot_5"])
def test_schemas_are_those_of_the_real_lake(
    lake: SyntheticLake, real_lake: Path, instrument: SyntheticInstrument, data_type: str
) -> None:
    [ours, *_] = paths(lake, instrument, data_type)
    theirs = real_lake / lake.ticks.name / ours.relative_to(lake.ticks)
    assert pq.read_schema(ours).equals(pq.read_schema(theirs))


def test_instruments_are_those_of_the_real_lake(lake: SyntheticLake, real_lake: Path) -> None:
    [path, *_] = sorted(lake.instruments.rglob("*.parquet"))
    theirs = pq.read_table(real_lake / lake.instruments.name / path.relative_to(lake.instruments))
    ours = pq.read_table(path)
    assert ours.schema.equals(theirs.schema)
    real = {row.pop("instrument_key"): row for row in theirs.to_pylist()}
    for row in ours.to_pylist():
        key = row.pop("instrument_key")
        assert row == real[key] | {"data_provider": "synthetic"}


def test_instruments_name_the_depth_of_their_book() -> None:
    assert instruments_table([BTC_SPOT], levels=10)["data_types"].to_pylist() == ["trades,book_snapshot_10"]


@each_instrument
def test_prices_and_sizes_are_the_decimals_of_their_grid(
    lake: SyntheticLake, instrument: SyntheticInstrument
) -> None:
    """Each float is the one that reading its decimal text yields, not a neighbour of it."""
    trades, book = trades_of(lake, instrument), book_of(lake, instrument)
    levels = [f"{side}{{}}{level}" for side in ("bid", "ask") for level in range(5)]
    values = {
        instrument.tick: [trades["price"], *(book[name.format("")] for name in levels)],
        instrument.lot: [trades["size"], *(book[name.format("_size")] for name in levels)],
    }
    for increment, columns in values.items():
        places = -int(increment.as_tuple().exponent)
        for column in columns:
            assert column.min() > 0
            assert (column == column.round(places)).all()
            for value in column.unique().sample(50, seed=1):
                assert Decimal(repr(value)) % increment == 0


@each_instrument
def test_books_are_ordered_and_never_crossed(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    book = book_of(lake, instrument)
    for level in range(4):
        assert (book[f"ask{level}"] < book[f"ask{level + 1}"]).all()
        assert (book[f"bid{level}"] > book[f"bid{level + 1}"]).all()
    ticks = ((book["ask0"] - book["bid0"]) / float(instrument.tick)).round()
    assert ticks.min() == 1
    assert 0.95 < (ticks == 1).mean() < 1


@each_instrument
def test_book_moves_like_a_book(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    book = book_of(lake, instrument)
    imbalance = (book["bid_size0"] - book["ask_size0"]) / (book["bid_size0"] + book["ask_size0"])
    move = (book["bid0"].shift(-1) - book["bid0"]).sign()
    frame = pl.DataFrame({"imbalance": imbalance, "move": move})
    assert frame.drop_nulls().select(pl.corr("imbalance", "move")).item() > 0.2
    # Often the touch rests, and then the deeper levels mostly rest with it.
    rests = (book["bid0"] == book["bid0"].shift(1)) & (book["bid3"] == book["bid3"].shift(1))
    assert rests.mean() > 0.2
    assert (book.filter(rests)["bid_size3"].n_unique() / rests.sum()) < 0.7


@each_instrument
def test_trades_are_made_at_the_touch(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    connection = duckdb.connect()
    connection.register("trades", trades_of(lake, instrument).to_arrow())
    connection.register("book", book_of(lake, instrument).select("ts_event", "bid0", "ask0").to_arrow())
    counts = connection.sql(
        """
        SELECT count(*), count(*) FILTER (price <> CASE WHEN buy THEN ask0 ELSE bid0 END)
        FROM trades ASOF JOIN book ON trades.ts_event >= book.ts_event
        """
    ).fetchall()
    assert counts == [(2 * TRADES, 0)]


@each_instrument
def test_trade_ids_rise_by_one_all_along(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    ids = trades_of(lake, instrument)["id"]
    assert (ids.diff().drop_nulls() == 1).all()


@each_instrument
def test_prices_go_on_over_midnight(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    book = book_of(lake, instrument)
    last, first = book["bid0"][SNAPSHOTS - 1], book["bid0"][SNAPSHOTS]
    assert first == pytest.approx(last, abs=2 * float(instrument.tick))
    # A day's range is that of a lively day, not of a crash.
    for day in book.iter_slices(SNAPSHOTS):
        assert 0.005 < day["bid0"].max() / day["bid0"].min() - 1 < 0.15


@each_instrument
def test_days_are_split_by_exchange_time(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    midnight = (START - dt.date(1970, 1, 1)).days * DAY_NS
    for frame, rows in ((trades_of(lake, instrument), TRADES), (book_of(lake, instrument), SNAPSHOTS)):
        assert frame["ts_event"].is_sorted()
        for number, day in enumerate(frame.iter_slices(rows)):
            assert (day["ts_event"] // DAY_NS == midnight // DAY_NS + number).all()
        # Exchange times are whole milliseconds, the recorder's are finer.
        assert (frame["ts_event"] % 1_000_000 == 0).all()
        assert (frame["ts_init"] % 1_000_000 != 0).any()


@each_instrument
def test_the_recorder_is_late_by_varying_times(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    trades, book = trades_of(lake, instrument), book_of(lake, instrument)
    for frame, rows in ((trades, TRADES), (book, SNAPSHOTS)):
        latency = frame["ts_init"] - frame["ts_event"]
        assert latency.min() >= 2_000_000
        assert latency.max() < 1_000_000_000
        # The last rows of a day arrive on the next.
        for day in frame.iter_slices(rows):
            late = day["ts_init"] // DAY_NS > day["ts_event"] // DAY_NS
            assert 1 <= late.sum() < 100
            assert late[-1]
    assert 0 < (trades["ts_init"].diff() < 0).mean() < 0.1


@each_instrument
def test_arrivals_cluster(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    trades = trades_of(lake, instrument)
    several = (trades["ts_event"].diff() == 0).mean()
    assert 0.5 < several < 0.9
    # Orders rather than their fills, and one hour at a time: neither fills nor the time of day explain it.
    connection = duckdb.connect()
    connection.register("orders", trades.select(pl.col("ts_event").unique()).to_arrow())
    ratios = connection.sql(
        """
        WITH days AS (SELECT min(ts_event) // 86400000000000 * 86400 AS first FROM orders),
        seconds AS (SELECT unnest(range(first, first + 2 * 86400)) AS second FROM days),
        orders_by_second AS (SELECT ts_event // 1000000000 AS second FROM orders),
        counts AS (
            SELECT seconds.second, count(orders_by_second.second) AS n
            FROM seconds LEFT JOIN orders_by_second USING (second) GROUP BY seconds.second
        )
        SELECT var_samp(n) / avg(n) FROM counts GROUP BY second // 3600
        """
    ).fetchall()
    assert len(ratios) == 48
    # A Poisson process has 1, and of 48 hours of 3,600 seconds hardly one would lie above 1.1.
    assert min(ratio for (ratio,) in ratios) > 1.2
    hours = trades.group_by(pl.col("ts_event") // 3_600_000_000_000 % 24).len()["len"]
    assert hours.max() > 1.5 * hours.min()


@each_instrument
def test_sizes_are_skewed_and_sides_persist(lake: SyntheticLake, instrument: SyntheticInstrument) -> None:
    trades = trades_of(lake, instrument)
    assert trades["size"].median() == pytest.approx(instrument.trade_size, rel=0.1)
    assert trades["size"].mean() > 2 * trades["size"].median()
    assert 0.4 < trades["buy"].mean() < 0.6
    orders = trades.unique("ts_event", keep="first", maintain_order=True)["buy"]
    assert (orders == orders.shift(1)).mean() > 0.55


def digest(table: pa.Table) -> str:
    """A digest of schema and values, whatever the chunks."""
    sink = hashlib.sha256(str(table.schema).encode())
    for column in table.combine_chunks().columns:
        for chunk in column.chunks:
            for buffer in chunk.buffers():
                sink.update(buffer or b"")
    return sink.hexdigest()


DIGEST_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_synth import digest
from ticklake.synth import BTC_PERPETUAL, ETH_PERPETUAL, book_table, trades_table
for instrument in (BTC_PERPETUAL, ETH_PERPETUAL):
    print(digest(trades_table(instrument, trades=9_000, snapshots=3_000)))
    print(digest(book_table(instrument, trades=9_000, snapshots=3_000)))
"""


def test_the_same_seed_gives_the_same_ticks_in_every_process() -> None:
    here = [
        digest(make(instrument, trades=9_000, snapshots=3_000))
        for instrument in (BTC_PERPETUAL, ETH_PERPETUAL)
        for make in (trades_table, book_table)
    ]
    assert len(set(here)) == 4
    for threads in ("1", "4"):
        output = subprocess.run(
            [sys.executable, "-c", DIGEST_SCRIPT, str(Path(__file__).parent)],
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        )
        assert output.stdout.split() == here


def test_a_lake_written_twice_has_the_same_bytes(lake: SyntheticLake, tmp_path: Path) -> None:
    again = write_synthetic_lake(
        tmp_path,
        start=START,
        days=1,
        instruments=(ETH_PERPETUAL,),
        trades_per_day=TRADES,
        snapshots_per_day=SNAPSHOTS,
        row_group_size=7_000,
    )
    first = {file.path.relative_to(lake.ticks): file.path for file in lake.files}
    for file in again.files:
        assert file.path.read_bytes() == first[file.path.relative_to(again.ticks)].read_bytes()


def test_writing_over_a_lake_replaces_its_files(tmp_path: Path) -> None:
    sizes = {"start": START, "days": 1, "instruments": [BTC_PERPETUAL], "snapshots_per_day": 10}
    write_synthetic_lake(tmp_path, trades_per_day=500, **sizes)
    lake = write_synthetic_lake(tmp_path, trades_per_day=30, **sizes)
    assert [pq.read_metadata(file.path).num_rows for file in lake.files] == [30, 10]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("content", ["real ticks", "no Parquet"])
@pytest.mark.parametrize("file", ["data_type-trades/*.parquet", "instruments.parquet"])
def test_files_that_are_not_synthetic_are_never_replaced(tmp_path: Path, file: str, content: str) -> None:
    sizes = {"days": 2, "instruments": [BTC_PERPETUAL], "trades_per_day": 30, "snapshots_per_day": 10}
    made = tmp_path / "made"
    write_synthetic_lake(made, start=START, **sizes)
    second_day = f"day-{START + dt.timedelta(days=1)}"
    (last,) = made.rglob(f"{second_day}/{file}")
    theirs = tmp_path / "theirs" / last.relative_to(made)
    theirs.parent.mkdir(parents=True)
    if content == "real ticks":
        # The same rows, written by somebody else.
        pl.read_parquet(last).write_parquet(theirs)
    else:
        theirs.write_bytes(b"precious")
    before = theirs.read_bytes()
    with pytest.raises(ConfigError, match=f"{theirs.name}.*not marked as synthetic"):
        write_synthetic_lake(tmp_path / "theirs", start=START, **sizes)
    assert [path for path in (tmp_path / "theirs").rglob("*") if path.is_file()] == [theirs]
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    "other",
    [{"seed": 8}, {"day": START + dt.timedelta(days=1)}, {"instrument": BTC_SPOT}],
    ids=lambda other: next(iter(other)),
)
def test_seed_day_and_instrument_make_a_difference(other: dict[str, object]) -> None:
    size = {"trades": 500, "snapshots": 200}
    ours, theirs = trades_table(day=START, **size), trades_table(**({"day": START} | size | other))
    assert ours["price"] != theirs["price"]
    assert ours["size"] != theirs["size"]


@settings(max_examples=60)
@given(
    instrument=st.sampled_from(INSTRUMENTS),
    trades=st.integers(1, 300),
    snapshots=st.integers(1, 300),
    levels=st.integers(1, 25),
    seed=st.integers(0, 2**63),
    day=st.dates(dt.date(1980, 1, 1), dt.date(2100, 1, 1)),
)
def test_any_size_of_day_holds_together(
    instrument: SyntheticInstrument, trades: int, snapshots: int, levels: int, seed: int, day: dt.date
) -> None:
    size = {"trades": trades, "snapshots": snapshots, "seed": seed}
    assert trades_table(instrument, day, **size).num_rows == trades
    book = pl.from_arrow(book_table(instrument, day, levels=levels, **size))
    assert book.height == snapshots
    prices = book.select(name for name in book.columns if "price" in name)
    assert prices.width == 2 * levels
    asks, bids = prices[:, 0::2], prices[:, 1::2]
    if "bid" in prices.columns[0]:
        asks, bids = bids, asks
    ladder = [*reversed(bids.get_columns()), *asks.get_columns()]
    assert all((lower < higher).all() for lower, higher in itertools.pairwise(ladder))


@pytest.mark.parametrize("name", ["days", "trades_per_day", "snapshots_per_day", "levels", "row_group_size"])
def test_counts_must_be_positive(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name.removesuffix('_per_day')} is 0; it must be 1 or more"):
        write_synthetic_lake(tmp_path, start=START, **{name: 0})
