"""Damage to catalog files is found before the engine sees it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ticklake
from backtest_support import write_catalog
from catalog_support import PROVENANCE, SPEC, put, trades
from fetch_support import BTC_PERP, INSTRUMENTS, TICKS, local_lake, request
from ticklake.catalog import Catalog, CatalogFile, CatalogWriter, check_open, read_provenance, verify
from ticklake.catalog.integrity import check_file
from ticklake.catalog.records import (
    forget_record,
    read_record,
    record_published,
    write_record,
)
from ticklake.errors import CatalogCorruptError, CatalogError
from ticklake.fetching import FetchRequest, fetch
from ticklake.fetching.repair import repair
from ticklake.types import CatalogType, InstrumentSpec, Window

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
START, END = "2024-08-08T23:59:56Z", "2024-08-08T23:59:57Z"
BTC_PERP_ID = "BTCUSDT-PERP.BINANCE"
FLIPS, TRUNCATIONS = 1_002, 501


def wanted(start: str = START, end: str = END) -> list[FetchRequest]:
    return [
        request(BTC_PERP, "trades", start, end),
        request(BTC_PERP, "book_snapshot_5", start, end),
        request(BTC_PERP, "book_snapshot_5", start, end, book_as="depth"),
    ]


@pytest.fixture(scope="module")
def whole(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of real ticks: one small file of each type."""
    catalog = Catalog(tmp_path_factory.mktemp("whole") / "catalog")
    fetch(local_lake(real_lake), catalog, wanted())
    return catalog.path


@pytest.fixture
def catalog(whole: Path, tmp_path: Path) -> Catalog:
    # With the times kept: what was recorded of the originals is true of the copies.
    return Catalog(shutil.copytree(whole, tmp_path / "catalog"))


def files_of(catalog: Catalog) -> list[CatalogFile]:
    return [
        file
        for covered in catalog.coverage()
        for file in catalog.files(covered.catalog_type, covered.nautilus_id)
    ]


@contextmanager
def damaged(path: Path, content: bytes, *, silent: bool = True) -> Iterator[None]:
    """Replace the content of a file in place; silently, as a disk does, its time stays."""
    before, stat = path.read_bytes(), path.stat()
    path.write_bytes(content)
    if silent:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def values_of(path: Path) -> tuple[pa.Table, dict[bytes, bytes]]:
    table = pq.read_table(path, partitioning=None)
    return table.replace_schema_metadata(None), dict(table.schema.metadata)


def pages_of(path: Path) -> list[range]:
    """Return where the content of a Parquet file's pages lies: the bytes that hold values."""
    content, footer = path.read_bytes(), pq.read_metadata(path)
    found = []
    for group in (footer.row_group(index) for index in range(footer.num_row_groups)):
        for chunk in (group.column(index) for index in range(group.num_columns)):
            position = chunk.dictionary_page_offset or chunk.data_page_offset
            end = position + chunk.total_compressed_size
            while position < end:
                fields, position = thrift_struct(content, position)
                found.append(range(position, position + fields[3]))  # 3: compressed_page_size
                position += fields[3]
    return found


def thrift_struct(content: bytes, position: int) -> tuple[dict[int, Any], int]:
    """Read a struct of Thrift's compact protocol, as page headers are, and where it ends."""

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = content[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    fields: dict[int, Any] = {}
    last = 0
    while content[position]:
        delta, kind = content[position] >> 4, content[position] & 15
        assert delta, "page headers have no far fields"
        position += 1
        last += delta
        if kind in (4, 5, 6):  # integers
            value = varint()
            fields[last] = value >> 1 ^ -(value & 1)
        elif kind == 8:  # bytes
            length = varint()
            position += length
        elif kind == 12:
            fields[last], position = thrift_struct(content, position)
        else:
            assert kind in (1, 2), "page headers have no lists"
    return fields, position + 1


def test_files_of_all_types_are_recorded_and_whole(catalog):
    report = verify(catalog)
    assert [check.folder for check in report.files] == [*sorted(CatalogType), "crypto_perpetual"]
    assert all(check.recorded and not check.problems and check.rows for check in report.files)
    check_open(catalog, files_of(catalog))


def test_verify_tells_how_far_it_is(catalog):
    told: list[tuple[int, int]] = []
    count = len(verify(catalog, on_file=lambda done, total: told.append((done, total))).files)
    assert told == [(done, count) for done in range(1, count + 1)]


@pytest.mark.parametrize("kind", list(CatalogType))
def test_no_bit_flip_is_silent(catalog, kind):
    """By its record, each of them is found; without one, each that changes any value is."""
    (file,) = (file for file in files_of(catalog) if kind in file.path.parts)
    content = file.path.read_bytes()
    values, metadata = values_of(file.path)
    rng = random.Random(f"flips of {kind}")
    pages = pages_of(file.path)
    # Half of them anywhere, half in the bytes that hold values, which are the fewer in so small a file.
    bits = rng.sample(range(len(content) * 8), FLIPS // 6)
    content_bits = [bit for page in pages for bit in range(page.start * 8, page.stop * 8)]
    bits += rng.sample(content_bits, FLIPS // 6)
    harmless = 0
    for bit in bits:
        with damaged(file.path, flipped(content, bit)):
            (problem,) = check_file(catalog, file).problems
            assert "not those written" in problem
    forget_record(catalog.path, file.path)
    for bit in bits:
        with damaged(file.path, flipped(content, bit)):
            if check_file(catalog, file).problems:
                continue
            forget_record(catalog.path, file.path)
            found, said = values_of(file.path)
            assert found.equals(values), f"bit {bit} is silent"
            assert {key: said.get(key) for key in metadata if key != b"ticklake"} == {
                key: value for key, value in metadata.items() if key != b"ticklake"
            }
            assert not any(bit // 8 in page for page in pages)
            harmless += 1
    # No page content among them: what is left are texts of the footer (who wrote it, provenance) and fields
    # of it and of page headers that say what is known already.
    assert 0 < harmless < len(bits) / 4


@pytest.mark.parametrize("kind", list(CatalogType))
def test_no_truncation_is_silent(catalog, kind):
    (file,) = (file for file in files_of(catalog) if kind in file.path.parts)
    content = file.path.read_bytes()
    rng = random.Random(f"truncations of {kind}")
    lengths = [0, len(content) - 1, *(rng.randrange(len(content)) for _ in range(TRUNCATIONS // 3 - 2))]
    for length in lengths:
        with damaged(file.path, content[:length]), pytest.raises(CatalogCorruptError, match="were written"):
            check_open(catalog, [file])
    forget_record(catalog.path, file.path)
    for length in lengths:
        with damaged(file.path, content[:length]), pytest.raises(CatalogCorruptError, match=str(file.path)):
            check_open(catalog, [file])


CHECK = """
import sys
from ticklake.catalog import Catalog
from ticklake.catalog.integrity import verify

(check,) = verify(Catalog(sys.argv[1])).files
content = check.file.path.read_bytes()
length = int.from_bytes(content[-8:-4], "little")
for position in range(len(content) - 8 - length, len(content) - 8, 9):
    for value in (0, 15, 127):
        changed = bytearray(content)
        changed[position] = value
        check.file.path.write_bytes(changed)
        for record in (check.file.path.parents[3] / ".ticklake/manifest").rglob("*.json"):
            record.unlink()
        print(position, value, flush=True)
        verify(Catalog(sys.argv[1]), deep=False)
print("survived")
"""


def test_no_damaged_footer_ends_the_process(catalog):
    """Where nothing tells that it is damaged; pyarrow's column metadata would end it over some of these."""
    for other in (CatalogType.DELTAS, CatalogType.DEPTHS, "crypto_perpetual"):
        shutil.rmtree(catalog.path / "data" / other)
    command = [sys.executable, "-c", CHECK, str(catalog.path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("survived\n"), done.stdout[-200:] + done.stderr[-2_000:]


def test_a_change_by_way_of_the_file_system_is_found_when_a_run_opens_it(catalog):
    for file in files_of(catalog):
        content = file.path.read_bytes()
        for bit in random.Random("touched").sample(range(len(content) * 8), 20):
            changed = damaged(file.path, flipped(content, bit), silent=False)
            with changed, pytest.raises(CatalogCorruptError):
                check_open(catalog, [file])
    check_open(catalog, files_of(catalog))


def test_the_first_use_after_a_fetch_by_another_process_reads_everything(catalog):
    file = files_of(catalog)[0]
    content = file.path.read_bytes()
    record = read_record(catalog.path, file.path)
    write_record(catalog.path, file.path, replace(record, writer="another"))
    with damaged(file.path, flipped(content, 8 * 200)), pytest.raises(CatalogCorruptError):
        check_open(catalog, [file])
    assert read_record(catalog.path, file.path).writer == "another"
    check_open(catalog, [file])
    assert read_record(catalog.path, file.path).writer == ""
    # From then on a run checks size, times and footer; a disk that loses bits is for `verify` to find.
    with damaged(file.path, flipped(content, 8 * 200)):
        check_open(catalog, [file])
        assert verify(catalog).bad


def test_a_file_without_a_record_is_checked_and_recorded(catalog):
    shutil.rmtree(catalog.path / ".ticklake" / "manifest")
    assert [check.recorded for check in verify(catalog).files] == [False] * 4
    assert [check.recorded for check in verify(catalog).files] == [True] * 4


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"size": 1}', b"\xff", b"null"])
def test_a_torn_record_is_none(catalog, text):
    file = files_of(catalog)[0]
    (path,) = (catalog.path / ".ticklake" / "manifest" / file.path.parent.parent.name).rglob("*.json")
    path.write_bytes(text)
    check_open(catalog, [file])
    assert json.loads(path.read_bytes())["rows"] > 0


def test_the_record_of_a_file_that_was_replaced_accuses_nobody(tmp_path):
    catalog, window = Catalog(tmp_path), Window(0, 1_000)
    path = put(catalog, window, [1, 2, 3])
    record_published(tmp_path, path, 3)
    with catalog.writer(CatalogType.TRADES, SPEC, window, replace=True) as writer:
        writer.write(trades([4, 5]))
        writer.commit(PROVENANCE)
    assert not verify(catalog).bad
    assert read_record(tmp_path, path).rows == 2


def test_verify_sees_no_mixture_while_files_are_replaced(tmp_path):
    catalog, window = Catalog(tmp_path), Window(0, 10_000)
    path = put(catalog, window, [1, 2, 3])
    record_published(tmp_path, path, 3)
    done = threading.Event()

    def refresh() -> None:
        for count in range(1, 50):
            with catalog.lock(CatalogType.TRADES, SPEC.nautilus_id):
                forget_record(tmp_path, path)
                put(catalog, window, list(range(count)), replace=True)
                record_published(tmp_path, path, count)
        done.set()

    thread = threading.Thread(target=refresh)
    thread.start()
    looked = 0
    while not done.is_set():
        assert verify(catalog).bad == ()
        check_open(catalog, files_of(catalog))
        looked += 1
    thread.join()
    assert looked > 3


def test_a_file_that_goes_away_is_no_damage(tmp_path):
    catalog = Catalog(tmp_path)
    put(catalog, Window(0, 10))
    files = files_of(catalog)
    files[0].path.unlink()
    assert check_file(catalog, files[0]) is None
    with pytest.raises(CatalogError, match="removed while the run began"):
        check_open(catalog, files)


def _foreign(root: Path, window: Window, table: pa.Table, **options: Any) -> CatalogFile:
    """Put a Parquet file into the place of a catalog file."""
    path = put(root, window, [])
    pq.write_table(table, path, **options)
    return CatalogFile(window, path)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (trades([5, 3]), "order of ts_init"),
        (trades([5, 200]), "times outside"),
        (trades([5], replace(SPEC, nautilus_id="ETHUSDT-PERP.BINANCE")), "instrument_id"),
        (trades([5]).replace_schema_metadata(None), "no precision"),
        (trades([5]).drop_columns("price"), "columns are not those"),
        (
            trades([5]).replace_schema_metadata(
                {**trades([5]).schema.metadata, "ticklake": replace(PROVENANCE, counts={"rows": 9}).to_json()}
            ),
            "its provenance says 9",
        ),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_found(tmp_path, table, problem):
    file = _foreign(tmp_path, Window(0, 100), table)
    assert any(problem in found for found in check_file(Catalog(tmp_path), file).problems)
    without = _foreign(tmp_path / "2", Window(0, 100), table, write_statistics=False)
    check = check_file(Catalog(tmp_path / "2"), without)
    assert check.problems


def test_overlapping_files_are_found(tmp_path):
    catalog = Catalog(tmp_path)
    put(tmp_path, Window(0, 100))
    other = put(tmp_path / "other", Window(50, 150))
    shutil.copy2(other, next((tmp_path / "data").rglob("*.parquet")).parent)
    (bad,) = verify(catalog).bad
    assert bad.overlaps
    assert bad.file.window == Window(50, 150)


def test_a_damaged_catalog_stops_a_run_before_the_engine(real_lake, tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    values = {
        "lake": {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)},
        "catalog": str(tmp_path / "catalog"),
        "window": {"start": START, "end": END},
        "instruments": [{"key": BTC_PERP, "data": ["trades", "book_snapshot_5"]}],
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "oms": "NETTING",
                "book": "L2_MBP",
                "balances": ["1_000_000 USDT"],
                "fees": {"maker": "0.0002", "taker": "0.0005"},
            }
        },
        "strategies": [
            {
                "path": "trade_momentum:TradeMomentum",
                "config_path": "trade_momentum:TradeMomentumConfig",
                "config": {"instrument_id": "BTCUSDT-PERP.BINANCE", "size": "0.1"},
            }
        ],
        "runs": str(tmp_path / "runs"),
    }
    catalog = Catalog(tmp_path / "catalog")
    fetch(local_lake(real_lake), catalog, wanted()[:2])
    (file,) = catalog.files(CatalogType.TRADES, "BTCUSDT-PERP.BINANCE")
    with (
        damaged(file.path, flipped(file.path.read_bytes(), 8 * 300), silent=False),
        pytest.raises(CatalogCorruptError, match=str(file.path)) as caught,
    ):
        ticklake.backtest(values, offline=True)
    assert "--repair" in str(caught.value)
    assert not list(tmp_path.glob("runs/*"))


def test_repair_sets_aside_what_is_bad_and_fetches_it_again(real_lake, catalog):
    before = catalog.content_digest()
    first, second, third = files_of(catalog)
    bad = [first.path.read_bytes()[:-5], flipped(second.path.read_bytes(), 8 * 500)]
    for file, content in zip((first, second), bad, strict=True):
        file.path.write_bytes(content)
    untouched = third.path.stat().st_ino
    report = repair(local_lake(real_lake), catalog, wanted("2024-08-08T23:50:00Z"))
    assert len(report.before.bad) == 2
    assert not report.after.bad
    assert catalog.content_digest() == before
    assert third.path.stat().st_ino == untouched
    kept = (catalog.path / ".ticklake" / "damaged").rglob("*.parquet.*")
    assert sorted(path.read_bytes() for path in kept) == sorted(bad)
    assert repair(local_lake(real_lake), catalog, wanted()).fetched is None


def test_a_damaged_definition_is_found_and_defined_again(real_lake, catalog):
    """Whatever bit it is, even where it still reads well: with another tick size, for example."""
    (file,) = catalog.definitions(BTC_PERP_ID)
    content, before = file.path.read_bytes(), catalog.content_digest()
    for bit in random.Random(7).sample(range(len(content) * 8), 200):
        with damaged(file.path, flipped(content, bit), silent=False):
            assert [check.file for check in verify(catalog).bad] == [file]
            with pytest.raises(CatalogCorruptError, match="not those written"):
                check_open(catalog, [file])
    damaged_content = flipped(content, 8 * 500)
    file.path.write_bytes(damaged_content)
    with pytest.raises(CatalogCorruptError, match="--repair"):
        fetch(local_lake(real_lake), catalog, wanted())
    report = repair(local_lake(real_lake), catalog, wanted())
    assert report.after.bad == ()
    assert [check.file for check in report.before.bad] == [file]
    assert file.path.read_bytes() == content
    (aside,) = (catalog.path / ".ticklake" / "damaged" / "crypto_perpetual").rglob("*.parquet.*")
    assert aside.read_bytes() == damaged_content
    assert catalog.content_digest() == before


def test_repair_moves_nothing_that_it_cannot_fetch(real_lake, catalog):
    file = next(file for file in files_of(catalog) if CatalogType.DEPTHS in file.path.parts)
    file.path.write_bytes(b"")
    with pytest.raises(ticklake.errors.ConfigError, match=str(file.path)):
        repair(local_lake(real_lake), catalog, wanted()[:2])
    assert file.path.exists()


def _split(source: Catalog, target: Path, cuts: list[int], row_group_rows: int) -> Catalog:
    """Write the rows of a catalog again into files that end at these thousandths of its windows."""
    for covered in source.coverage():
        for file in source.files(covered.catalog_type, covered.nautilus_id):
            table, metadata = values_of(file.path)
            spec = InstrumentSpec(
                covered.nautilus_id, int(metadata[b"price_precision"]), int(metadata[b"size_precision"])
            )
            times = table["ts_init"].cast(pa.int64()).to_numpy()
            length = file.window.end - file.window.start
            ends = [*sorted({file.window.start + length * cut // 1_000 for cut in cuts}), file.window.end]
            start = file.window.start
            for end in ends:
                part = table.slice(
                    np.searchsorted(times, start), np.searchsorted(times, end) - np.searchsorted(times, start)
                )
                window = Window(start, end)
                writer = CatalogWriter(
                    target, covered.catalog_type, spec, window, row_group_rows=row_group_rows
                )
                with writer:
                    writer.write(part)
                    writer.commit(replace(read_provenance(file.path), counts={}))
                start = end
    return Catalog(target)


@settings(max_examples=6)
@given(
    cuts=st.lists(st.integers(1, 999), max_size=5),
    row_group_rows=st.integers(1, 400),
)
def test_the_content_digest_knows_no_files(whole, tmp_path_factory, cuts, row_group_rows):
    source = Catalog(whole)
    again = _split(source, tmp_path_factory.mktemp("again"), cuts, row_group_rows)
    assert again.content_digest() == source.content_digest()
    (file, *_) = files_of(source)
    middle = (file.window.start + file.window.end) // 2
    for part in (Window(file.window.start, middle), Window(middle, file.window.end)):
        assert again.content_digest(window=part) == source.content_digest(window=part)
    assert verify(again).bad == ()


@settings(max_examples=30)
@given(
    row=st.integers(0, 9),
    column=st.sampled_from(["price", "size", "trade_id", "ts_event", "coverage", "row"]),
)
def test_the_content_digest_sees_every_change(tmp_path_factory, row, column):
    root = tmp_path_factory.mktemp("digest")
    times = list(range(10))
    put(root / "a", Window(0, 100), times)
    table = trades(times)
    if column == "row":
        changed = pa.concat_tables([table.slice(0, row), table.slice(row + 1)])
    elif column == "coverage":
        changed = table
    else:
        index = table.schema.get_field_index(column)
        values = table[column].to_pylist()
        values[row] = f"{values[row]}0" if column == "trade_id" else values[row + 1 if row < 9 else 0]
        same = pa.array(values, table.schema.field(column).type).equals(table[column].combine_chunks())
        if same:  # all sizes are equal
            values[row] = values[row] * 2
        changed = table.set_column(
            index, table.schema.field(column), pa.array(values, table.schema.field(column).type)
        )
    window = Window(0, 101) if column == "coverage" else Window(0, 100)
    with CatalogWriter(root / "b", CatalogType.TRADES, SPEC, window) as writer:
        writer.write(changed)
        writer.commit(PROVENANCE)
    assert Catalog(root / "a").content_digest() != Catalog(root / "b").content_digest()


def test_text_that_moves_between_rows_changes_the_content_digest(tmp_path):
    for name, ids in {"a": ["1", "23"], "b": ["12", "3"]}.items():
        table = trades([1, 2])
        index = table.schema.get_field_index("trade_id")
        table = table.set_column(index, table.schema.field(index), pa.array(ids))
        with CatalogWriter(tmp_path / name, CatalogType.TRADES, SPEC, Window(0, 10)) as writer:
            writer.write(table)
            writer.commit(PROVENANCE)
    assert Catalog(tmp_path / "a").content_digest() != Catalog(tmp_path / "b").content_digest()


def test_the_files_of_the_engines_own_writer_are_whole(real_lake, tmp_path):
    catalog = Catalog(write_catalog(real_lake, tmp_path))
    report = verify(catalog)
    assert {check.folder for check in report.files} == {*CatalogType, "crypto_perpetual"}
    assert report.bad == ()
    check_open(catalog, files_of(catalog))
