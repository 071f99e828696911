"""The catalog as a cache: its coverage is the engine's, its locks hold, and it knows whose rows it has."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.model import (
    AggressorSide,
    InstrumentId,
    NautilusDataType,
    Price,
    Quantity,
    TradeId,
    TradeTick,
)
from nautilus_trader.persistence import ParquetDataCatalog

from catalog_support import PROVENANCE, SPEC, put
from ticklake.catalog import Catalog, CatalogFile, Coverage, Provenance, read_provenance
from ticklake.catalog.naming import file_name
from ticklake.errors import CatalogConflictError, CatalogCorruptError, CatalogError
from ticklake.types import (
    NANOS_PER_DAY,
    CatalogType,
    InstrumentKey,
    InstrumentSpec,
    Window,
    merge_windows,
    subtract_windows,
)

DAY = Window.parse("2024-08-08", "2024-08-09")
KEY = InstrumentKey(PROVENANCE.lake_key)
ASKED = replace(PROVENANCE, sources=(), counts={})
ID = SPEC.nautilus_id


def touch(root: Path, window: Window, nautilus_id: str = ID, folder: str = "trades") -> None:
    path = root / "data" / folder / nautilus_id
    path.mkdir(parents=True, exist_ok=True)
    (path / file_name(window)).touch()


@st.composite
def layouts(draw: st.DrawFn) -> list[Window]:
    """Disjoint windows around two midnights, many of them adjacent, some a nanosecond long."""
    steps = draw(st.lists(st.sampled_from([1, 2, 10**9, NANOS_PER_DAY // 2, NANOS_PER_DAY]), max_size=12))
    kept = draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
    start, found = DAY.start - draw(st.sampled_from([0, 1, NANOS_PER_DAY])), []
    for step, keep in zip(steps, kept, strict=True):
        if keep:
            found.append(Window(start, start + step))
        start += step
    return draw(st.permutations(found))


requests = st.tuples(
    st.integers(-2 * NANOS_PER_DAY, 3 * NANOS_PER_DAY), st.integers(1, 3 * NANOS_PER_DAY) | st.integers(1, 3)
).map(lambda pair: Window(DAY.start + pair[0], DAY.start + pair[0] + pair[1]))


@given(layouts(), requests)
@settings(max_examples=150)
def test_coverage_and_gaps_are_the_engines(files: list[Window], request: Window) -> None:
    with tempfile.TemporaryDirectory() as root:
        for window in files:
            touch(Path(root), window)
        catalog, engine = Catalog(root), ParquetDataCatalog(root)
        intervals = engine.get_intervals(NautilusDataType.TradeTick, ID)
        assert [file.window.closed for file in catalog.files(CatalogType.TRADES, ID)] == intervals

        (coverage,) = catalog.coverage() or [Coverage(CatalogType.TRADES, ID, (), 0)]
        assert coverage == Coverage(CatalogType.TRADES, ID, merge_windows(files), len(files))

        missing = catalog.missing(CatalogType.TRADES, ID, request)
        assert [window.closed for window in merge_windows(missing)] == (
            engine.get_missing_intervals_for_request(*request.closed, NautilusDataType.TradeTick, ID)
        )
        assert all(len(part.days) == 1 for part in missing)
        assert list(missing) == sorted(missing)

        meeting = [file.window for file in catalog.files(CatalogType.TRADES, ID, request)]
        assert meeting == sorted(window for window in files if window.intersect(request))

        # What a refresh writes are whole files of the catalog or gaps, and together all that is asked for.
        refreshed = catalog.refreshed(CatalogType.TRADES, ID, request)
        assert set(refreshed) == {*meeting, *missing}
        assert subtract_windows(request, refreshed) == ()


def test_a_catalog_that_is_not_there_covers_nothing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "none")
    assert catalog.coverage() == []
    assert catalog.missing(CatalogType.TRADES, ID, DAY) == (DAY,)
    assert catalog.strays() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["s3://bucket/catalog", "gs://bucket/catalog", "file:///catalog"])
def test_a_catalog_is_no_url(url: str) -> None:
    with pytest.raises(CatalogError, match="folder of this machine"):
        Catalog(url)


def test_coverage_is_by_type_and_instrument(tmp_path: Path) -> None:
    touch(tmp_path, DAY, "B.X")
    touch(tmp_path, DAY, "A.X")
    touch(tmp_path, DAY, "A.X", "order_book_deltas")
    touch(tmp_path, DAY, "A.X", "quotes")
    touch(tmp_path, DAY, "A.X", "crypto_perpetual")
    catalog = Catalog(tmp_path)
    assert [(one.catalog_type, one.nautilus_id) for one in catalog.coverage()] == [
        ("order_book_deltas", "A.X"),
        ("trades", "A.X"),
        ("trades", "B.X"),
    ]
    assert catalog.coverage(CatalogType.TRADES, "B.X") == [Coverage(CatalogType.TRADES, "B.X", (DAY,), 1)]
    assert [one.nautilus_id for one in catalog.coverage(CatalogType.TRADES)] == ["A.X", "B.X"]
    assert [one.catalog_type for one in catalog.coverage(nautilus_id="A.X")] == [
        "order_book_deltas",
        "trades",
    ]


def test_ids_that_need_encoding_come_back(tmp_path: Path) -> None:
    spec = InstrumentSpec("Ä*B.X", 1, 3)
    put(tmp_path, DAY, spec=spec)
    assert [one.nautilus_id for one in Catalog(tmp_path).coverage()] == ["Ä*B.X"]


def test_coverage_is_read_from_names_alone(tmp_path: Path) -> None:
    minute = 60 * 10**9
    for number in range(10):
        folder = tmp_path / "data" / "trades" / f"S{number}.X"
        folder.mkdir(parents=True)
        for i in range(1_000):
            (folder / file_name(Window(DAY.start + i * minute, DAY.start + (i + 1) * minute))).touch()
    # The files are empty: names alone tell.
    assert [(one.files, len(one.windows)) for one in Catalog(tmp_path).coverage()] == [(1_000, 1)] * 10


def test_strays_are_listed_left_alone_and_not_counted(tmp_path: Path) -> None:
    put(tmp_path, DAY)
    folder = tmp_path / "data" / "trades" / ID
    next_day = file_name(Window(DAY.end, DAY.end + 1))
    (folder / "foo.parquet").write_text("foreign")
    (folder / f"{next_day}.tmp").write_text("half")
    (folder / next_day).mkdir()
    (folder / next_day / file_name(DAY)).write_text("inner")
    (folder.parent / "no-venue").mkdir()
    (folder.parent / "file.X").write_text("")
    catalog = Catalog(tmp_path)
    assert catalog.coverage() == [Coverage(CatalogType.TRADES, ID, (DAY,), 1)]
    assert set(catalog.strays()) == {
        folder / "foo.parquet",
        folder / f"{next_day}.tmp",
        folder / next_day,
        folder.parent / "no-venue",
        folder.parent / "file.X",
    }
    put(tmp_path, Window(DAY.start - 1, DAY.start), [])
    assert (folder / "foo.parquet").read_text() == "foreign"


HOLDER = """
import sys
from ticklake.catalog import Catalog
from ticklake.types import CatalogType
with Catalog(sys.argv[1]).lock(CatalogType.TRADES, sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


def holder(root: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), ID],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_lock_is_waited_for_and_said_so(tmp_path: Path) -> None:
    catalog, messages = Catalog(tmp_path), []
    with holder(tmp_path) as process:
        with (
            pytest.raises(CatalogError, match="another process") as caught,
            catalog.lock(CatalogType.TRADES, ID, timeout=0.2, on_wait=messages.append),
        ):
            pytest.fail("two processes hold one lock")
        assert caught.value.hint
        assert len(messages) == 1
        assert ID in messages[0]
        with (
            catalog.lock(CatalogType.TRADES, "OTHER.X", timeout=0),
            catalog.lock("currency_pair", ID, timeout=0),
        ):
            pass
        process.communicate(b"\n")
    with catalog.lock(CatalogType.TRADES, ID, timeout=0, on_wait=messages.append):
        pass
    assert len(messages) == 1


def test_a_dead_holders_lock_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.communicate()
    start = time.perf_counter()
    with Catalog(tmp_path).lock(CatalogType.TRADES, ID, timeout=5):
        assert time.perf_counter() - start < 1


def test_a_lock_is_released_by_an_error(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    with pytest.raises(RuntimeError), catalog.lock(CatalogType.TRADES, ID):
        raise RuntimeError
    with catalog.lock(CatalogType.TRADES, ID, timeout=0):
        pass


def test_a_lock_where_none_can_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(CatalogError, match="cannot lock"),
        Catalog(tmp_path / "file").lock(CatalogType.TRADES, ID),
    ):
        pass


def check(
    catalog: Catalog, window: Window = DAY, spec: InstrumentSpec = SPEC, **changes: str
) -> list[CatalogFile]:
    found = catalog.check_source(CatalogType.TRADES, spec, window, replace(ASKED, **changes))
    assert [read_provenance(file.path) for file in found] == list(found.values())
    return list(found)


def test_what_was_fetched_before_is_accepted(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    assert check(catalog) == []
    path = put(tmp_path, DAY)
    assert check(catalog) == [CatalogFile(DAY, path)]
    check(catalog, lake_key=KEY.bare)


def test_a_file_that_does_not_know_its_lake_is_accepted(tmp_path: Path) -> None:
    put(tmp_path, DAY, provenance=replace(PROVENANCE, lake=""))
    check(Catalog(tmp_path), lake="s3://other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": InstrumentSpec(ID, 2, 3)}, "price_precision 1 there, 2 asked for"),
        ({"spec": InstrumentSpec(ID, 1, 4)}, "size_precision 3 there, 4 asked for"),
        ({"data_type": "book_snapshot_5"}, "data_type trades there, book_snapshot_5 asked for"),
        ({"lake": "s3://other"}, "lake gs://ticks there, s3://other asked for"),
        ({"dialect": '{"unit": "us"}'}, r"dialect \(recognised\) there, .*us.* asked for"),
        ({"lake_key": "BINANCE-FUTURES:PERPETUAL:BTC-USDT@INV"}, "lake_key .*@LIN there"),
        ({"lake_key": "BINANCE:SPOT_PAIR:BTC-USDT"}, "lake_key .* there"),
    ],
)
def test_what_contradicts_the_request_is_a_conflict(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    put(tmp_path, DAY)
    with pytest.raises(CatalogConflictError, match=message) as caught:
        check(Catalog(tmp_path), **changes)
    assert file_name(DAY) in str(caught.value)
    check(Catalog(tmp_path), Window(DAY.end, DAY.end + 1), **changes)


def test_a_refresh_may_change_all_but_the_instrument(tmp_path: Path) -> None:
    catalog, other = Catalog(tmp_path), InstrumentSpec(ID, 2, 3)
    put(tmp_path, DAY)
    changed = replace(ASKED, data_type="book_snapshot_5", lake="s3://other", dialect="{}")
    catalog.check_replaceable(CatalogType.TRADES, other, DAY, changed)
    with pytest.raises(CatalogConflictError, match=r"lake_key .* there"):
        catalog.check_replaceable(CatalogType.TRADES, SPEC, DAY, replace(ASKED, lake_key="A:B:C"))
    catalog.files(CatalogType.TRADES, ID)[0].path.write_bytes(b"junk")
    catalog.check_replaceable(CatalogType.TRADES, SPEC, DAY, ASKED)


def test_another_depth_is_a_conflict(tmp_path: Path) -> None:
    provenance = Provenance(lake_key=KEY.text, data_type="book_snapshot_25")
    put(tmp_path, DAY, provenance=provenance)
    with pytest.raises(CatalogConflictError, match="book_snapshot_25 there, book_snapshot_5 asked"):
        check(Catalog(tmp_path), data_type="book_snapshot_5")


def engine_file(root: Path, price: str) -> None:
    root.mkdir()
    ParquetDataCatalog(str(root)).write_trade_ticks(
        [
            TradeTick(
                InstrumentId.from_str(ID),
                Price.from_str(price),
                Quantity.from_str("0.001"),
                AggressorSide.BUY,
                TradeId("1"),
                DAY.start,
                DAY.start,
            )
        ]
    )


def test_the_engines_own_files_are_accepted_where_precisions_agree(tmp_path: Path) -> None:
    engine_file(tmp_path / "same", "1.1")
    check(Catalog(tmp_path / "same"))
    engine_file(tmp_path / "other", "1.12")
    with pytest.raises(CatalogConflictError, match="price_precision 2 there, 1 asked"):
        check(Catalog(tmp_path / "other"))


def test_a_file_that_is_none_is_corrupt(tmp_path: Path) -> None:
    touch(tmp_path, DAY)
    with pytest.raises(CatalogCorruptError, match="Remove it"):
        check(Catalog(tmp_path))
