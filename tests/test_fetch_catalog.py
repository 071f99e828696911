"""Fetching into a catalog that holds something already: what counts, what conflicts, what is kept."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nautilus_trader.persistence import ParquetDataCatalog

import ticklake.fetching.pieces as pieces
from fetch_support import (
    BTC_PERP,
    BTC_SPOT,
    DAY,
    DEFINITION,
    ETH_PERP,
    HOUR,
    PERP_ID,
    SECOND,
    START,
    TICKS,
    ask,
    files_of,
    local_lake,
    made_trades,
    minutes,
    put_trades,
    request,
    rows_of,
)
from lake_support import RangeServer
from ticklake.catalog import Catalog, CatalogWriter, Provenance, read_provenance
from ticklake.catalog.writer import AtomicFile
from ticklake.config import DialectConfig, InstrumentDefinition
from ticklake.conversion import Orderer
from ticklake.errors import (
    CatalogConflictError,
    CatalogError,
    ConfigError,
    ConversionError,
    MissingDataError,
    NotCachedError,
)
from ticklake.fetching import FetchReport, FetchRequest, fetch, plan_fetch
from ticklake.lake import Lake
from ticklake.lake.footers import FOOTER_GUESS
from ticklake.types import BookAs, CatalogType, DataType, InstrumentKey, Window, parse_nanos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lake of one folder: a trade a minute on two days."""
    for day in range(2):
        put_trades(tmp_path / "lake", made_trades(minutes(day)), day)
    return tmp_path / "lake"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


def parts(report: FetchReport) -> list[tuple[float, float, str]]:
    """Return the parts of a report in hours since `START`, with their status."""
    return [
        ((one.window.start - START) / HOUR, (one.window.end - START) / HOUR, one.status.value)
        for one in report.windows
    ]


def provenances(catalog: Catalog, kind: CatalogType = CatalogType.TRADES, nautilus_id: str = PERP_ID):
    found = [read_provenance(file.path) for file in catalog.files(kind, nautilus_id)]
    return [one for one in found if one is not None]


def spoil(folder: Path, day: int, bad: int) -> None:
    prices = [60_000.0] * (1_440 - bad) + [-1.0] * bad
    put_trades(folder, made_trades(minutes(day), price=pa.array(prices)), day)


def quarantine_of(catalog: Catalog) -> list[str]:
    return sorted(path.name for path in (catalog.path / "quarantine").rglob("*.parquet"))


# Bad rows


def test_neither_a_retry_nor_the_cache_gets_past_the_limit_of_bad_rows(folder, catalog):
    spoil(folder, 0, 600)
    spoil(folder, 1, 600)
    asked = [ask(0, 2 * DAY)]
    for _ in range(2):
        with pytest.raises(ConversionError, match="more than 1,000 rows cannot be converted"):
            fetch(Lake(folder), catalog, asked)
        assert len(files_of(catalog.path)) == 1
    report = fetch(Lake(folder), catalog, asked, max_bad_rows=1_200)
    assert parts(report) == [(0, 24, "cached"), (24, 48, "fetched")]
    assert report.quarantined == {"negative_price": 1_200}
    values = report.to_dict()
    assert (values["quarantined"], values["source_rows_quarantined"]) == (1_200, 600)
    with pytest.raises(ConversionError, match=r"1,200 negative_price \(1,200 of them in files of the cat"):
        fetch(Lake(folder), catalog, asked, max_bad_rows=1_199)
    warm = fetch(Lake(folder), catalog, asked, max_bad_rows=1_200)
    assert (warm.quarantined, warm.source_rows, warm.requests) == ({"negative_price": 1_200}, 0, 0)
    # A file counts once, whatever asks for it.
    twice = fetch(Lake(folder), catalog, [ask(0, DAY), ask(HOUR, 2 * DAY)], max_bad_rows=1_200)
    assert twice.quarantined == {"negative_price": 1_200}


def test_a_file_without_its_bad_rows_is_refused_where_they_are_errors(folder, catalog):
    spoil(folder, 0, 3)
    asked = [ask(0, 2 * DAY)]
    fetch(Lake(folder), catalog, asked)
    with pytest.raises(ConversionError, match=r"2024-08-07T.*parquet: 3 rows") as caught:
        fetch(Lake(folder), catalog, asked, on_bad_row="fail", max_bad_rows=0)
    assert "--refresh" in str(caught.value)
    assert "on_bad_row: quarantine" in str(caught.value)
    fetch(Lake(folder), catalog, [ask(DAY, 2 * DAY)], on_bad_row="fail")
    spoil(folder, 0, 0)
    assert fetch(Lake(folder), catalog, asked, on_bad_row="fail", refresh=True).quarantined == {}
    fetch(Lake(folder), catalog, asked, on_bad_row="fail")


def test_rows_read_are_those_written_outside_and_bad(folder, catalog):
    spoil(folder, 0, 30)
    asked = [ask(DAY - 90 * 60 * SECOND, DAY)]
    kept = fetch(Lake(folder), Catalog(catalog.path / "kept"), asked)
    assert (kept.source_rows, kept.outside, kept.source_rows_written) == (140, 0, 110)
    report = fetch(Lake(folder), catalog, asked, keep="window")
    values = report.to_dict()
    assert values["source_rows"] == 140
    assert (values["outside_window"], values["source_rows_written"]) == (50, 60)
    assert values["source_rows_quarantined"] == values["quarantined"] == 30
    assert set(values) >= {"rows", "files", "requests", "bytes_read", "seconds", "windows"}


def test_bad_rows_are_never_lost_while_their_file_is_replaced(folder, catalog, monkeypatch):
    spoil(folder, 0, 3)
    asked = [ask(0, DAY)]
    fetch(Lake(folder), catalog, asked)
    before = provenances(catalog)[0].quarantine
    assert quarantine_of(catalog) == [before]
    spoil(folder, 0, 5)
    commit = AtomicFile.commit

    def fail(file: AtomicFile) -> Path:
        if "data" in file.target.parts:
            raise CatalogError("disk full")
        return commit(file)

    with monkeypatch.context() as patched:
        patched.setattr(AtomicFile, "commit", fail)
        with pytest.raises(CatalogError, match="disk full"):
            fetch(Lake(folder), catalog, asked, refresh=True)
    assert provenances(catalog)[0].quarantine == before
    assert before in quarantine_of(catalog)
    # Killed between the file and what it replaces: both are there, and the file names its own.
    with monkeypatch.context() as patched:
        patched.setattr(pieces, "remove_other_quarantine", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(Lake(folder), catalog, asked, refresh=True)
    after = provenances(catalog)[0].quarantine
    assert after != before
    assert quarantine_of(catalog) == sorted([before, after])
    fetch(Lake(folder), catalog, asked, refresh=True)
    assert quarantine_of(catalog) == [after]
    spoil(folder, 0, 0)
    fetch(Lake(folder), catalog, asked, refresh=True)
    assert (provenances(catalog)[0].quarantine, quarantine_of(catalog)) == ("", [])


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_bad_rows_of_days_with_other_column_types_are_kept(folder, catalog):
    times = [START + DAY + (i - 5) * SECOND for i in range(10)]
    bad = pa.array([-1.0] * 5)
    put_trades(folder, made_trades(times[:5], price=bad, trade_id=pa.array(range(5))), 0)
    put_trades(folder, made_trades([time - 3 * SECOND for time in times[5:]], price=bad), 1)
    report = fetch(Lake(folder), catalog, [ask(DAY - 10 * SECOND, DAY)])
    assert report.quarantined == {"negative_price": 8}
    (path,) = (catalog.path / "quarantine").rglob("*.parquet")
    kept = pq.read_table(path, partitioning=None)["trade_id"].to_pylist()
    assert sorted(kept) == sorted(["0", "1", "2", "3", "4", "0", "1", "2"])


@pytest.mark.parametrize("keep", ["row_groups", "window"])
def test_a_row_without_a_time_counts_to_one_window_only(folder, catalog, keep):
    times: list[int | None] = list(minutes())
    times[700] = None
    put_trades(folder, made_trades(times), 0)
    total: Counter[str] = Counter()
    bad = 0
    for hour in range(24):
        asked = [ask(hour * HOUR, (hour + 1) * HOUR)]
        report = fetch(Lake(folder), catalog, asked, keep=keep)
        total += Counter(report.quarantined)
        bad += report.source_rows_quarantined
    assert bad == 1
    if keep == "window":  # otherwise several windows are answered for by one file, which counts whole
        assert total == {"null_time": 1}
    assert len(quarantine_of(catalog)) == 1


# Which source


def test_two_instruments_cannot_have_one_id(folder, catalog):
    put_trades(folder, made_trades(minutes()), 0, ETH_PERP)
    asked = [ask(0, HOUR, nautilus_id="X.SIM"), ask(HOUR, DAY, key=ETH_PERP, nautilus_id="X.SIM")]
    for refresh in (False, True):
        with pytest.raises(ConfigError, match=rf"{BTC_PERP} and {ETH_PERP} would both be X\.SIM"):
            fetch(Lake(folder), catalog, asked, refresh=refresh)
    assert not catalog.path.exists()
    # With and without its suffix it is one instrument.
    both = [asked[0], ask(HOUR, DAY, key=BTC_PERP.removesuffix("@LIN"), nautilus_id="X.SIM")]
    put_trades(folder, made_trades(minutes()), 0, BTC_PERP.removesuffix("@LIN"))
    fetch(Lake(folder), catalog, both)
    assert len(rows_of(catalog.path, "X.SIM")) == 1_440


def test_a_refresh_does_not_replace_another_instrument(folder, catalog):
    put_trades(folder, made_trades(minutes()), 0, ETH_PERP)
    fetch(Lake(folder), catalog, [ask(0, DAY, nautilus_id="X.SIM")])
    with pytest.raises(CatalogConflictError, match=f"lake_key {BTC_PERP} there, {ETH_PERP} asked for"):
        fetch(Lake(folder), catalog, [ask(0, DAY, key=ETH_PERP, nautilus_id="X.SIM")], refresh=True)


def test_one_catalog_does_not_mix_two_lakes_within_a_window(folder, catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = [ask(0, DAY)]
    fetch(Lake(folder), catalog, asked)
    assert provenances(catalog)[0].lake == folder.as_uri()
    for spelling in (f"{folder}/", folder.as_uri(), f"{folder.as_uri()}/", "lake", "./catalog/../lake"):
        assert fetch(Lake(spelling), catalog, asked, offline=True).files == 0
    shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(
        CatalogConflictError, match=r"lake file:.*/lake there, file:.*/other asked for.*--refresh"
    ):
        fetch(Lake(tmp_path / "other"), catalog, asked)
    fetch(Lake(tmp_path / "other"), catalog, [ask(DAY, 2 * DAY)])
    fetch(Lake(tmp_path / "other"), catalog, asked, refresh=True)
    assert fetch(Lake(tmp_path / "other"), catalog, [ask(0, 2 * DAY)]).files == 0


def test_a_lake_that_is_not_there_is_told_before_what_the_catalog_is_of(folder, catalog, tmp_path):
    fetch(Lake(folder), catalog, [ask(0, DAY)])
    with pytest.raises(ConfigError, match=f"the folder {tmp_path / 'lakee'} does not exist"):
        fetch(Lake(tmp_path / "lakee"), catalog, [ask(0, DAY)])
    # Where the catalog holds all, the lake need not be there.
    folder.rename(tmp_path / "away")
    assert fetch(Lake(folder), catalog, [ask(0, DAY)]).requests == 0


def test_rows_of_another_declared_dialect_are_not_taken_for_those_asked_for(folder, catalog):
    dialect = {"unit": "ns", "ts_event": "ts_event", "ts_init": "ts_init", "price": "price", "size": "size"}
    fetch(Lake(folder), catalog, [ask(0, DAY, dialect=dialect)])
    # What is said beyond the defaults counts, in any order.
    same = dict(reversed(dialect.items())) | {"buy": "buy"}
    assert fetch(Lake(folder), catalog, [ask(0, DAY, dialect=same)]).files == 0
    for other in (None, dialect | {"price": "size", "size": "price"}):
        with pytest.raises(CatalogConflictError, match=r"dialect .* asked for"):
            fetch(Lake(folder), catalog, [ask(0, DAY, dialect=other)])
    assert fetch(Lake(folder), catalog, [ask(0, DAY)], refresh=True).files == 1


def test_offline_and_refresh_contradict_each_other(folder, catalog):
    for call in (fetch, plan_fetch):
        with pytest.raises(ConfigError, match="contradict"):
            call(Lake(folder), catalog, [ask(0, DAY)], refresh=True, offline=True)


# Reports and plans


def test_what_is_covered_needs_no_right_to_write(folder, catalog):
    fetch(Lake(folder), catalog, [ask(0, DAY)])
    shutil.rmtree(catalog.path / ".ticklake")
    assert parts(fetch(Lake(folder), catalog, [ask(HOUR, 2 * HOUR)])) == [(1, 2, "cached")]
    assert not (catalog.path / ".ticklake").exists()


def test_windows_are_reported_by_request_and_time(folder, catalog):
    fetch(Lake(folder), catalog, [ask(2 * HOUR, 3 * HOUR)], keep="window")
    asked = [ask(DAY, 3 * DAY), ask(0, 5 * HOUR)]
    expected = [
        (24, 48, "fetched"),
        (48, 72, "hole"),
        (0, 2, "fetched"),
        (2, 3, "cached"),
        (3, 5, "fetched"),
    ]
    planned = plan_fetch(Lake(folder), catalog, asked)
    assert parts(planned) == [(*part[:2], part[2].replace("fetched", "planned")) for part in expected]
    assert parts(fetch(Lake(folder), catalog, asked, on_hole="skip")) == expected


def test_overlapping_requests_are_reported_as_they_came_about(folder, catalog):
    asked = [ask(0, HOUR), ask(HOUR // 2, 2 * HOUR), ask(0, HOUR)]
    planned = plan_fetch(Lake(folder), catalog, asked, keep="window")
    report = fetch(Lake(folder), catalog, asked, keep="window")
    assert parts(planned) == [(*part[:2], part[2].replace("fetched", "planned")) for part in parts(report)]
    assert parts(report) == [
        (0, 1, "fetched"),
        (0.5, 1, "cached"),
        (1, 2, "fetched"),
        (0, 1, "cached"),
    ]
    assert rows_of(catalog.path) == [str(i) for i in range(120)]


def test_a_file_that_vanishes_under_way_is_a_hole_and_not_covered(folder, catalog):
    asked = [ask(0, HOUR), ask(HOUR // 2, 2 * HOUR)]

    def vanishing() -> dict[str, object]:
        put_trades(folder, made_trades(minutes()))
        shutil.rmtree(catalog.path, ignore_errors=True)
        lake = Lake(folder)

        def vanish(_: object) -> None:
            lake.forget()
            for path in folder.rglob("day-2024-08-07/*/*.parquet"):
                path.unlink()

        return {"lake": lake, "on_progress": vanish}

    with pytest.raises(MissingDataError) as caught:
        fetch(catalog=catalog, requests=asked, keep="window", **vanishing())
    assert len(caught.value.holes) == 1
    report = fetch(catalog=catalog, requests=asked, keep="window", on_hole="skip", **vanishing())
    assert parts(report) == [(0, 1, "fetched"), (0.5, 1, "cached"), (1, 2, "hole")]
    assert [str(one.windows[0]) for one in catalog.coverage()] == [
        "2024-08-07T00:00:00Z/2024-08-07T01:00:00Z"
    ]


def served(server: RangeServer, folder: Path) -> None:
    for path in folder.rglob("*.parquet"):
        server.objects[path.relative_to(folder).as_posix()] = path.read_bytes()


def test_a_dry_run_tells_what_it_took_itself(folder, catalog, tmp_path):
    times = [START + i * SECOND for i in range(80_000)]
    with RangeServer() as server:
        put_trades(folder, made_trades(times), 0, rows=10_000)
        whole = put_trades(folder, made_trades(minutes(1)), 1, rows=1_440)
        assert whole.stat().st_size < FOOTER_GUESS
        served(server, folder)
        small, large = ask(DAY, 2 * DAY - HOUR), ask(HOUR, 2 * HOUR)
        plan = plan_fetch(Lake(server.url), catalog, [small, large]).to_dict()
        planning = len(server.requests)
        assert plan["planning_requests"] == planning > 0
        assert plan["planning_bytes"] == sum(one.sent for one in server.requests.log if one.status < 400)
        assert [entry["with_footer"] for entry in plan["objects"]] == [True, False]
        assert [entry["requests"] for entry in plan["objects"]] == [0, plan["requests"]]
        server.requests.clear()
        report = fetch(Lake(server.url), catalog, [small, large])
        assert report.requests == plan["requests"] + planning
        assert report.bytes_read == plan["bytes"] + plan["planning_bytes"]


def test_what_is_remarkable_is_told_of_cached_files_too(real_lake, catalog):
    asked = [request(BTC_SPOT, "book_snapshot_5", end="2024-08-09T00:10:00Z")]
    cold = fetch(local_lake(real_lake), catalog, asked)
    warm = fetch(local_lake(real_lake), catalog, asked, offline=True)
    assert cold.warnings == warm.warnings != ()
    # Each file knows of its own.
    source = real_lake / TICKS / f"raw_tick_data/by_date/*/data_type-book_snapshot_5/{BTC_SPOT}.parquet"
    midnight = parse_nanos("2024-08-09") // 1_000
    crossed = duckdb.sql(
        f"select sum((local_timestamp < {midnight})::int), sum((local_timestamp >= {midnight})::int) "
        f"from '{source}' where bid_price_1 >= ask_price_1"
    ).fetchall()[0]
    found = provenances(catalog, CatalogType.DELTAS, "BTCUSDT.BINANCE")
    assert tuple(one.notes["crossed_book"] for one in found) == tuple(int(count or 0) for count in crossed)


# What files say, and that they are whole


@pytest.mark.parametrize("book_as", ["deltas", "depth"])
def test_counts_of_files_are_those_of_their_windows(real_lake, catalog, facts, book_as):
    end = "2024-08-09T00:10:00Z"
    asked = request(BTC_SPOT, "book_snapshot_5", end=end, book_as=book_as)
    report = fetch(local_lake(real_lake), catalog, [asked])
    found = provenances(catalog, asked.catalog_type, "BTCUSDT.BINANCE")
    rows = sum(facts[f"{BTC_SPOT} {day} book_snapshot_5"]["rows"] for day in ("2024-08-08", "2024-08-09"))
    assert sum(one.counts["written"] for one in found) == rows == report.source_rows_written
    assert sum(one.counts["rows"] for one in found) == report.rows
    for one in found:
        assert one.counts["read"] == one.counts["written"] + one.counts["outside"]
        assert one.counts["outside"] >= 0
    # They do not depend on what else is fetched with them.
    alone = Catalog(catalog.path / "alone")
    for day in asked.window.split_days():
        fetch(local_lake(real_lake), alone, [request(BTC_SPOT, "book_snapshot_5", *ends(day), book_as)])
    assert files_of(alone.path) == files_of(catalog.path)


def ends(window: Window) -> tuple[str, str]:
    start, end = str(window).split("/")
    return start, end


def test_an_empty_file_names_what_proves_it(folder, catalog):
    path = put_trades(folder, made_trades([*minutes(0, 10), START + DAY - SECOND]), 0, rows=10)
    report = fetch(Lake(folder), catalog, [ask(5 * HOUR, 6 * HOUR)])
    assert [window.status.value for window in report.windows] == ["empty"]
    (found,) = provenances(catalog)
    assert [Path(source.url).parts[-3:] for source in found.sources] == [path.parts[-3:]]
    assert found.sources[0].rows == 11
    assert found.counts == {"rows": 0, "read": 0, "written": 0, "outside": 0}


def test_equal_sources_make_equal_bytes(real_lake, tmp_path):
    asked = [
        request(BTC_SPOT, "trades", end="2024-08-09T00:10:00Z"),
        request(BTC_SPOT, "book_snapshot_5", end="2024-08-09T00:10:00Z"),
        request(BTC_PERP, "book_snapshot_5", book_as="depth"),
    ]
    made = []
    for name in ("a", "b"):
        fetch(local_lake(real_lake), Catalog(tmp_path / name), asked)
        root = tmp_path / name / "data"
        made.append({str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")})
        time.sleep(1.1)  # whatever told the second would differ
    assert made[0] == made[1]
    assert len(made[0]) > 5


@pytest.mark.parametrize("loser", ["writer", "order"])
def test_a_file_that_lost_rows_is_not_published(folder, catalog, monkeypatch, loser):
    if loser == "writer":
        write = CatalogWriter.write
        monkeypatch.setattr(CatalogWriter, "write", lambda self, rows: write(self, rows.slice(1)))
    else:
        push = Orderer.push
        monkeypatch.setattr(Orderer, "push", lambda self, rows, mark: push(self, rows, mark).slice(1))
    with pytest.raises(ConversionError, match="rows were lost"):
        fetch(Lake(folder), catalog, [ask(0, DAY)])
    assert files_of(catalog.path) == {}


def test_what_waits_for_the_encoder_is_bounded_in_bytes(folder, catalog, monkeypatch):
    encoded, waiting = [], []
    write, encode = CatalogWriter.write, pieces.PieceWriter._encode

    def slow(self, rows):
        time.sleep(0.01)
        write(self, rows)
        encoded.append(rows.nbytes)

    def counting(self, rows):
        encode(self, rows)
        waiting.append(rows.nbytes)
        assert sum(waiting) - sum(encoded) <= 20_000

    monkeypatch.setattr(pieces, "_QUEUED_BYTES", 20_000)
    monkeypatch.setattr(CatalogWriter, "write", slow)
    monkeypatch.setattr(pieces.PieceWriter, "_encode", counting)
    assert fetch(Lake(folder), catalog, [ask(0, 2 * DAY)]).rows == 2_880
    assert sum(waiting) > 100_000


# Refresh of what the lake does not have any more


@pytest.fixture
def wide(folder, catalog, tmp_path) -> Catalog:
    """A catalog with one file of the engine's own writer, across midnight."""
    fetch(Lake(folder), catalog, [ask(0, 2 * DAY)])
    ticks = ParquetDataCatalog(str(catalog.path)).query_trade_ticks([PERP_ID])
    (tmp_path / "wide").mkdir()
    engine = ParquetDataCatalog(str(tmp_path / "wide"))
    engine.write_trade_ticks(
        [tick for tick in ticks if START + 6 * HOUR <= tick.ts_init <= START + 30 * HOUR]
    )
    return Catalog(tmp_path / "wide")


def test_a_wide_file_is_refreshed_under_its_own_name(folder, wide):
    (file,) = wide.files(CatalogType.TRADES, PERP_ID)
    report = fetch(Lake(folder), wide, [ask(12 * HOUR, 23 * HOUR)], refresh=True)
    assert [window.status.value for window in report.windows] == ["fetched"]
    assert [one.window for one in wide.files(CatalogType.TRADES, PERP_ID)] == [file.window]
    assert read_provenance(file.path) is not None


@pytest.mark.parametrize("on_hole", ["stop", "skip"])
def test_a_wide_file_that_reaches_into_an_absent_day_stays(folder, wide, on_hole):
    for path in folder.rglob("day-2024-08-08/*/*.parquet"):
        path.unlink()
    before = files_of(wide.path)
    asked = [ask(5 * HOUR, 23 * HOUR)]
    report = fetch(Lake(folder), wide, asked, refresh=True, on_hole=on_hole)
    assert parts(report) == [(5, 6, "fetched"), (6, 23, "cached")]
    assert any("not refreshed" in text and "2024-08-08" in text for text in report.warnings)
    assert before.items() <= files_of(wide.path).items()
    # The absent day is a hole where it is asked for.
    report = fetch(Lake(folder), wide, [ask(20 * HOUR, 26 * HOUR)], refresh=True, on_hole="skip")
    assert parts(report) == [(20, 24, "cached"), (24, 26, "hole")]


# Requests from plain values


def test_a_request_takes_plain_values():
    dialect = {"unit": "us", "ts_event": "time"}
    made = FetchRequest(
        BTC_PERP,
        "book_snapshot_5",
        ("2024-08-08", "2024-08-09"),
        book_as="depth",
        definition=DEFINITION,
        dialect=dialect,
    )
    assert made == FetchRequest(
        InstrumentKey(BTC_PERP),
        DataType("book_snapshot_5"),
        Window.parse("2024-08-08", "2024-08-09"),
        BookAs.DEPTH,
        definition=InstrumentDefinition.model_validate(DEFINITION),
        dialect=DialectConfig.model_validate(dialect),
    )
    assert made.catalog_type is CatalogType.DEPTHS


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"key": 5}, TypeError, "not an instrument key"),
        ({"data_type": None}, TypeError, "not a data type"),
        ({"window": "2024-08-08"}, TypeError, "start and end"),
        ({"window": ("2024-08-09", "2024-08-08")}, ValueError, "not after"),
        ({"nautilus_id": 5}, TypeError, r"SYMBOL\.VENUE"),
        ({"definition": "spot"}, TypeError, "InstrumentDefinition"),
        ({"definition": DEFINITION | {"tick": 1}}, ConfigError, "tick: unknown key"),
        ({"dialect": 5}, TypeError, "DialectConfig"),
        ({"dialect": {"unit": "us"}}, ConfigError, "ts_event: is required"),
        ({"book_as": "delta"}, ValueError, "delta"),
    ],
)
def test_a_request_of_other_values_says_what_is_wanted(changes, error, words):
    with pytest.raises(error, match=words):
        ask(0, DAY, **changes)


def test_files_know_the_lake_and_the_dialect_that_they_come_from(folder, catalog):
    dialect = {"unit": "ns", "ts_event": "ts_event", "price": "price", "size": "size"}
    fetch(Lake(folder), catalog, [ask(0, HOUR, dialect=dialect)])
    (found,) = provenances(catalog)
    assert isinstance(found, Provenance)
    assert (found.lake, found.lake_key) == (folder.as_uri(), BTC_PERP)
    assert DialectConfig.model_validate_json(found.dialect) == DialectConfig.model_validate(dialect)


def test_offline_needs_the_definition_of_each_day(folder, catalog):
    fetch(Lake(folder), catalog, [ask(0, DAY)])
    with pytest.raises(NotCachedError, match="instrument's definition"):
        fetch(Lake(folder), catalog, [ask(0, DAY, definition=None)], offline=True)
