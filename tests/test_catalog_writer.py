"""Writing: the engine reads what we wrote, and nothing appears that is not complete and right."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.model import (
    AggressorSide,
    BookAction,
    BookOrder,
    InstrumentId,
    NautilusDataType,
    OrderBookDelta,
    OrderBookDepth,
    OrderSide,
    Price,
    Quantity,
    TradeId,
    TradeTick,
)
from nautilus_trader.persistence import ParquetDataCatalog

from catalog_support import PROVENANCE, SPEC, engine_read, files_below, put, trades
from ticklake.catalog import CatalogWriter, Provenance, Source, read_provenance, schema
from ticklake.catalog.naming import file_name
from ticklake.catalog.quarantine import remove_other_quarantine, write_quarantine
from ticklake.catalog.writer import AtomicFile, data_folder, remove_stale_temporaries
from ticklake.errors import CatalogConflictError, CatalogCorruptError, CatalogError
from ticklake.types import CatalogType, InstrumentSpec, Window

WINDOW = Window.parse("2024-08-08T23:00:00Z", "2024-08-09T00:00:00Z")
ID = InstrumentId.from_str(SPEC.nautilus_id)
FOLDER = f"data/trades/{SPEC.nautilus_id}"


def px(units: int) -> Price:
    return Price.from_str(f"{units / 10:.1f}")


def qty(units: int) -> Quantity:
    return Quantity.from_str(f"{units / 1000:.3f}")


def ticks(rows: int) -> list[TradeTick]:
    sides = [AggressorSide.BUY, AggressorSide.SELL, AggressorSide.NO_AGGRESSOR]
    return [
        TradeTick(
            ID, px(600_000 + i), qty(1 + i % 7), sides[i % 3], TradeId(str(i)), i, WINDOW.start + i // 2
        )
        for i in range(rows)
    ]


def deltas(rows: int) -> list[OrderBookDelta]:
    found = []
    for i in range(rows):
        time = WINDOW.start + i
        order = BookOrder(OrderSide.BUY if i % 2 else OrderSide.SELL, px(600_000 + i), qty(1 + i), 0)
        found.append(OrderBookDelta.clear(ID, 0, time, time))
        found.append(OrderBookDelta(ID, BookAction.ADD, order, 160, 0, time, time))
    return found


def depths(rows: int) -> list[OrderBookDepth]:
    return [
        OrderBookDepth(
            ID,
            [BookOrder(OrderSide.BUY, px(600_000 - level), qty(1 + i), 0) for level in range(5)],
            [BookOrder(OrderSide.SELL, px(600_001 + level), qty(2 + i), 0) for level in range(i % 6)],
            [1] * 5,
            [1] * (i % 6),
            160,
            0,
            WINDOW.start + i,
            WINDOW.start + i,
        )
        for i in range(rows)
    ]


@pytest.mark.parametrize(
    ("catalog_type", "made", "write", "query"),
    [
        (CatalogType.TRADES, ticks(500), "write_trade_ticks", "query_trade_ticks"),
        (CatalogType.DELTAS, deltas(300), "write_order_book_deltas", "query_order_book_deltas"),
        (CatalogType.DEPTHS, depths(300), "write_order_book_depths", "query_order_book_depths"),
    ],
)
def test_the_engine_reads_the_same_from_our_files_as_from_its_own(
    tmp_path: Path, catalog_type: CatalogType, made: list[object], write: str, query: str
) -> None:
    theirs = ParquetDataCatalog(str(tmp_path))
    table = pq.read_table(tmp_path / getattr(theirs, write)(made), partitioning=None)
    ours = tmp_path / "ours"
    with CatalogWriter(ours, catalog_type, SPEC, WINDOW, row_group_rows=64) as writer:
        for batch in table.to_batches(max_chunksize=37):
            writer.write(batch)
        path = writer.commit(PROVENANCE)
    expected = engine_read(tmp_path, query, identifiers=[SPEC.nautilus_id])
    assert len(expected) == len(made)
    assert engine_read(ours, query, identifiers=[SPEC.nautilus_id]) == expected
    assert engine_read(ours, query, start=WINDOW.start + 10, end=WINDOW.start + 20) == engine_read(
        tmp_path, query, start=WINDOW.start + 10, end=WINDOW.start + 20
    )
    footer = pq.read_metadata(path)
    groups = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    assert groups[:-1] == [64] * (len(groups) - 1)
    assert sum(groups) == len(made)


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 50), st.integers(0, 3))
@settings(max_examples=60)
def test_rows_survive_any_batching(sizes: list[int], row_group_rows: int, encoders: int) -> None:
    table = trades([WINDOW.start + i for i in range(sum(sizes))])
    with tempfile.TemporaryDirectory() as root:
        with CatalogWriter(
            Path(root), CatalogType.TRADES, SPEC, WINDOW, row_group_rows=row_group_rows, encoders=encoders
        ) as writer:
            start = 0
            for size in sizes:
                writer.write(table.slice(start, size))
                start += size
            path = writer.commit(PROVENANCE)
        assert writer.rows == len(table)
        assert pq.read_table(path, partitioning=None).equals(table)
        footer = pq.read_metadata(path)
        assert all(footer.row_group(i).num_rows == row_group_rows for i in range(footer.num_row_groups - 1))


def test_a_window_without_rows_is_a_file_without_rows_and_counts_as_covered(tmp_path: Path) -> None:
    path = put(tmp_path, WINDOW, [])
    assert pq.read_metadata(path).num_rows == 0
    assert engine_read(tmp_path, "query_trade_ticks", identifiers=[SPEC.nautilus_id]) == []
    catalog = ParquetDataCatalog(str(tmp_path))
    first, last = WINDOW.closed
    assert (
        catalog.get_missing_intervals_for_request(first, last, NautilusDataType.TradeTick, SPEC.nautilus_id)
        == []
    )


def test_a_file_says_where_it_comes_from(tmp_path: Path) -> None:
    path = put(tmp_path, WINDOW)
    found = read_provenance(path)
    assert found is not None
    assert (found.lake_key, found.data_type) == (PROVENANCE.lake_key, PROVENANCE.data_type)
    assert replace(found, converter="") == PROVENANCE
    assert found.converter
    metadata = pq.read_schema(path).metadata
    assert metadata[b"instrument_id"] == SPEC.nautilus_id.encode()
    assert (metadata[b"price_precision"], metadata[b"size_precision"]) == (b"1", b"3")


def test_files_of_the_engine_have_no_provenance(tmp_path: Path) -> None:
    path = tmp_path / ParquetDataCatalog(str(tmp_path)).write_trade_ticks(ticks(3))
    assert read_provenance(path) is None


texts = st.text(max_size=10)
sources = st.builds(Source, texts, st.none() | texts, st.integers(0, 2**50), st.integers(0, 2**40))


@given(
    st.builds(
        Provenance,
        lake_key=texts,
        data_type=texts,
        lake=texts,
        dialect=texts,
        sources=st.lists(sources).map(tuple),
        counts=st.dictionaries(texts, st.integers()),
        quarantine=texts,
        converter=texts,
    )
)
def test_provenance_survives_json(provenance: Provenance) -> None:
    assert Provenance.from_json(provenance.to_json()) == provenance


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sources": 1}', "null", "\x00"])
def test_foreign_json_is_no_provenance(text: str) -> None:
    with pytest.raises(ValueError, match="provenance"):
        Provenance.from_json(text)


def test_what_is_no_parquet_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(CatalogCorruptError, match=r"x\.parquet"):
        read_provenance(tmp_path / "x.parquet")
    with pytest.raises(FileNotFoundError):
        read_provenance(tmp_path / "y.parquet")


def test_pages_are_checksummed(tmp_path: Path) -> None:
    path = put(tmp_path, WINDOW, [WINDOW.start + i for i in range(1000)])
    offset = pq.read_metadata(path).row_group(0).column(3).data_page_offset
    broken = bytearray(path.read_bytes())
    broken[offset + 200] ^= 1
    path.write_bytes(broken)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True, partitioning=None)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([WINDOW.start - 1], "outside"),
        ([WINDOW.end], "outside"),
        ([WINDOW.start, WINDOW.end], "outside"),
        ([WINDOW.start + 5, WINDOW.start + 4], "order"),
    ],
)
def test_rows_out_of_order_or_window_are_refused(tmp_path: Path, times: list[int], message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        put(tmp_path, WINDOW, times)
    assert caught.value.instrument == SPEC.nautilus_id
    assert files_below(tmp_path) == set()


def test_order_holds_across_batches(tmp_path: Path) -> None:
    with CatalogWriter(tmp_path, CatalogType.TRADES, SPEC, WINDOW) as writer:
        writer.write(trades([WINDOW.start + 5]))
        with pytest.raises(CatalogError, match="order"):
            writer.write(trades([WINDOW.start + 4]))
    assert files_below(tmp_path) == set()


def test_rows_of_another_schema_or_precision_are_refused(tmp_path: Path) -> None:
    good = trades([WINDOW.start])
    other = InstrumentSpec(SPEC.nautilus_id, price_precision=2, size_precision=3)
    nullable = good.schema.set(5, pa.field("ts_init", pa.timestamp("ns", "UTC")))
    for bad in (
        good.drop_columns(["trade_id"]),
        good.replace_schema_metadata(schema(CatalogType.TRADES, other).metadata),
        good.cast(nullable),
    ):
        with (
            CatalogWriter(tmp_path, CatalogType.TRADES, SPEC, WINDOW) as writer,
            pytest.raises(CatalogError, match="schema"),
        ):
            writer.write(bad)
    assert files_below(tmp_path) == set()


def test_a_file_is_the_same_however_many_encode_it(tmp_path: Path) -> None:
    table = trades([WINDOW.start + i for i in range(1_000)])
    found = set()
    for encoders in (0, 1, 2, 5):
        options = {"row_group_rows": 30, "encoders": encoders}
        with CatalogWriter(tmp_path / str(encoders), CatalogType.TRADES, SPEC, WINDOW, **options) as writer:
            for start in range(0, 1_000, 77):
                writer.write(table.slice(start, 77))
            found.add(writer.commit(PROVENANCE).read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("encoders", [0, 2])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException], encoders: int) -> None:
    def fail() -> None:
        options = {"row_group_rows": 1, "encoders": encoders}
        with CatalogWriter(tmp_path, CatalogType.TRADES, SPEC, WINDOW, **options) as writer:
            writer.write(trades([WINDOW.start, WINDOW.start + 1, WINDOW.start + 2]))
            raise error

    with pytest.raises(error):
        fail()
    assert files_below(tmp_path) == set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ticklake-encode")]


def test_leaving_without_a_commit_leaves_nothing(tmp_path: Path) -> None:
    with CatalogWriter(tmp_path, CatalogType.TRADES, SPEC, WINDOW) as writer:
        writer.write(trades([WINDOW.start]))
        assert len(files_below(tmp_path)) == 1
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1, 1), (0, 1), (1, 2), (1, 7_200_000_000_000), (3_599_999_999_999, 3_600_000_000_000)],
)
def test_a_second_answer_for_a_part_of_a_window_is_refused(tmp_path: Path, start: int, end: int) -> None:
    put(tmp_path, WINDOW)
    before = files_below(tmp_path)
    with pytest.raises(CatalogConflictError):
        put(tmp_path, Window(WINDOW.start + start, WINDOW.start + end), [], replace=True)
    assert files_below(tmp_path) == before
    put(tmp_path, Window(WINDOW.end, WINDOW.end + 1), [])
    put(tmp_path, Window(WINDOW.start - 1, WINDOW.start), [])


def test_a_file_around_others_is_written_only_when_it_may_replace_them(tmp_path: Path) -> None:
    inside = put(tmp_path, WINDOW)
    around = Window(WINDOW.start - 5, WINDOW.end + 5)
    with pytest.raises(CatalogConflictError):
        put(tmp_path, around, [])
    assert put(tmp_path, around, [], replace=True).exists()
    assert inside.exists()


def test_a_conflict_that_comes_up_while_writing_is_noticed(tmp_path: Path) -> None:
    with CatalogWriter(tmp_path, CatalogType.TRADES, SPEC, WINDOW) as writer:
        other = put(tmp_path, Window(WINDOW.start, WINDOW.start + 1))
        with pytest.raises(CatalogConflictError):
            writer.commit(PROVENANCE)
    assert files_below(tmp_path) == {str(other.relative_to(tmp_path))}


def test_a_file_is_replaced_only_when_asked_to(tmp_path: Path) -> None:
    path = put(tmp_path, WINDOW, [WINDOW.start])
    with pytest.raises(CatalogConflictError):
        put(tmp_path, WINDOW, [])
    assert pq.read_metadata(path).num_rows == 1
    assert put(tmp_path, WINDOW, [WINDOW.start, WINDOW.start + 1], replace=True) == path
    assert pq.read_metadata(path).num_rows == 2
    assert files_below(tmp_path) == {f"{FOLDER}/{file_name(WINDOW)}"}


def test_readers_see_a_whole_file_while_it_is_replaced(tmp_path: Path) -> None:
    first, second = [WINDOW.start] * 2_000, [WINDOW.start + 1] * 3_000
    path = put(tmp_path, WINDOW, first)
    done = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not done.is_set():
            # By path it would be opened twice, the second time perhaps as another file.
            with path.open("rb") as file:
                table = pq.read_table(file, page_checksum_verification=True)
            assert len(set(table["ts_init"].cast(pa.int64()).to_pylist())) == 1
            seen.add(len(table))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(30):
        put(tmp_path, WINDOW, second if i % 2 == 0 else first, replace=True)
    done.set()
    reader.join()
    assert seen
    assert seen <= {len(first), len(second)}


def test_the_root_is_private(tmp_path: Path) -> None:
    root = tmp_path / "new" / "catalog"
    put(root, WINDOW)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_the_engine_ignores_our_own_folder(tmp_path: Path) -> None:
    put(tmp_path, WINDOW)
    stray = tmp_path / ".ticklake" / "tmp" / "left.parquet"
    stray.write_text("junk")
    catalog = ParquetDataCatalog(str(tmp_path))
    assert [str(kind) for kind in catalog.list_data_types()] == [str(NautilusDataType.TradeTick)]
    assert len(engine_read(tmp_path, "query_trade_ticks")) == 1
    catalog.consolidate_catalog()
    catalog.reset_all_file_names()
    assert stray.read_text() == "junk"


KILLED = """
import os, signal, sys
from pathlib import Path
from catalog_support import SPEC, trades
from ticklake.catalog import CatalogWriter
from ticklake.types import CatalogType, Window
start = int(sys.argv[2])
window = Window(start, start + 100)
with CatalogWriter(Path(sys.argv[1]), CatalogType.TRADES, SPEC, window, row_group_rows=1) as w:
    w.write(trades([start, start + 1]))
    print("writing", flush=True)
    sys.stdin.readline()
"""


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(WINDOW.start)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        assert remove_stale_temporaries(tmp_path) == []
        (temporary,) = (tmp_path / ".ticklake" / "tmp").iterdir()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.communicate()
    assert temporary.exists()
    path = put(tmp_path, WINDOW)
    assert files_below(tmp_path) == {str(path.relative_to(tmp_path))}


def test_links_among_the_temporaries_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    put(tmp_path / "catalog", WINDOW)
    (tmp_path / "catalog" / ".ticklake" / "tmp" / "x.parquet.tmp").symlink_to(precious)
    assert remove_stale_temporaries(tmp_path / "catalog") == []
    assert precious.read_text() == "keep"


LIMITED = """
import resource, sys
from pathlib import Path
from catalog_support import SPEC, put
from ticklake.errors import CatalogError
from ticklake.types import Window
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
window = Window(int(sys.argv[2]), int(sys.argv[2]) + 10_000)
options = {"row_group_rows": 1_000, "encoders": int(sys.argv[3])}
try:
    put(Path(sys.argv[1]), window, list(range(*window.closed)), **options)
except CatalogError as error:
    print(error)
"""


@pytest.mark.parametrize("encoders", [0, 2])
def test_a_file_system_that_refuses_is_an_error_that_leaves_nothing(tmp_path: Path, encoders: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITED, str(tmp_path), str(WINDOW.start), str(encoders)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot write" in done.stdout
    assert "File too large" in done.stdout
    assert files_below(tmp_path) == set()


def test_a_root_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="cannot write"):
        put(tmp_path / "file", WINDOW)


def test_a_guard_can_refuse_a_file_until_it_is_there(tmp_path: Path) -> None:
    answers: list[str] = []

    def guard() -> None:
        answers.append("asked")
        if len(answers) > 1:
            raise CatalogConflictError("taken")

    with (
        AtomicFile(tmp_path, data_folder(tmp_path, "trades", "A.B") / "x.parquet", guard=guard) as file,
        pytest.raises(CatalogConflictError, match="taken"),
    ):
        file.commit()
    assert files_below(tmp_path) == set()


BAD = pa.table({"row": [7], "price": [-1.0]})


def kept_of(root: Path) -> set[str]:
    return {path.name for path in (root / "quarantine").rglob("*.parquet")}


def test_bad_rows_are_added_before_and_removed_after(tmp_path: Path) -> None:
    place = (tmp_path, CatalogType.TRADES, SPEC.nautilus_id, WINDOW)
    first = write_quarantine(*place, [BAD])
    assert write_quarantine(*place, [BAD]) == first
    second = write_quarantine(*place, [BAD, BAD])
    other = write_quarantine(*place[:3], Window(WINDOW.end, WINDOW.end + 1), [BAD])
    assert kept_of(tmp_path) == {first, second, other}
    remove_other_quarantine(*place, keep=second)
    assert kept_of(tmp_path) == {second, other}
    assert write_quarantine(*place, []) == ""
    remove_other_quarantine(*place, keep="")
    assert kept_of(tmp_path) == {other}


def test_bad_rows_of_files_with_other_types_are_kept_as_text(tmp_path: Path) -> None:
    tables = [
        pa.table({"row": [1], "id": pa.array([5]), "side": ["buy"], "only": [True]}),
        pa.table({"row": [2], "id": pa.array(["x"]), "side": pa.array(["sell"]).dictionary_encode()}),
        pa.table({"row": [3], "id": pa.array([None], pa.int64()), "side": pa.nulls(1)}),
    ]
    name = write_quarantine(tmp_path, CatalogType.TRADES, SPEC.nautilus_id, WINDOW, tables)
    (path,) = (tmp_path / "quarantine").rglob(name)
    rows = pq.read_table(path, partitioning=None).to_pylist()
    assert [list(row.values()) for row in rows] == [
        [1, "5", "buy", True],
        [2, "x", "sell", None],
        [3, None, None, None],
    ]


def test_bad_rows_that_cannot_be_kept_are_an_error_of_ours(tmp_path: Path) -> None:
    tables = [pa.table({"id": [b"\xff"]}), pa.table({"id": [5]})]
    with pytest.raises(CatalogError, match="cannot be kept"):
        write_quarantine(tmp_path, CatalogType.TRADES, SPEC.nautilus_id, WINDOW, tables)
    assert kept_of(tmp_path) == set()
