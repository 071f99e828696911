"""Parquet files that are broken, forged or made to exhaust: an error, no crash, no hang, bounded memory.

Files are read in processes of their own, so that an abort is a failing assertion which names the file. To run
the tests on other files too, name a folder of them in TICKLAKE_PARQUET_CORPUS: Apache's collections of broken
files for example (arrow-testing's `data/parquet/fuzzing`, parquet-testing's `bad_data`). Without it the files
of that folder are mutants as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

import hostile_support as hostile
from hostile_support import SYNTHETIC, TABLE, Value, column, join, mutant, replace_chunk, split, written
from lake_support import DAY, DAY_START, PERP, SECOND, tick_path
from ticklake.errors import CorruptObjectError
from ticklake.lake import Lake, decoding
from ticklake.parquet.structure import MAX_PAGES, Structure

# 1,500 of them, or more where a hypothesis profile wants more examples.
MUTANTS = 15 * settings().max_examples
PROCESSES = 2


def outcomes(real_lake: Path, *arguments: object) -> list[list[str]]:
    """Return name, origin and outcome of all files that a process of its own has read."""
    command = [sys.executable, hostile.__file__, str(real_lake), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]} ended the process with {done.returncode}: {done.stderr}"
    return lines


class TestMutants:
    @pytest.mark.timeout(3_600)  # for the nightly profile; each file has its own
    def test_none_crashes_hangs_or_takes_all_memory(self, real_lake: Path) -> None:
        edges = [MUTANTS * n // PROCESSES for n in range(PROCESSES + 1)]
        with ThreadPoolExecutor(PROCESSES) as pool:
            parts = pool.map(
                lambda n: outcomes(real_lake, "--seeds", edges[n], edges[n + 1]), range(PROCESSES)
            )
            found = [line for part in parts for line in part]
        assert len(found) == MUTANTS
        errors = [
            line for line in found if re.match(r"(CorruptObject|SourceSchema|Conversion)Error", line[2])
        ]
        # Neither is all refused, nor are the mutants harmless.
        assert MUTANTS / 4 < len(errors) < MUTANTS * 3 / 4

    def test_nor_does_a_file_of_the_corpus(self, real_lake: Path, tmp_path: Path) -> None:
        corpus = os.environ.get("TICKLAKE_PARQUET_CORPUS")
        if corpus is None:
            print("TICKLAKE_PARQUET_CORPUS names no folder: generated mutants only")
            for seed in range(20):
                (tmp_path / f"{seed}.parquet").write_bytes(mutant(-seed, real_lake).data)
        files = sorted(path for path in Path(corpus or tmp_path).rglob("*") if path.is_file())
        assert files, "an empty corpus"
        found = outcomes(real_lake, "--files", *files)
        assert [line[0] for line in found] == [str(path) for path in files for _ in "ab"]
        print(f"{len(files)} files:", *(f"{Path(line[0]).name}: {line[2]}" for line in found), sep="\n")


# Files made to exhaust, each with what is said of it


def with_footer(change: object, **options: object) -> bytes:
    data, footer = split(written(**options))
    change(footer)
    return join(data, footer)


def schema_of(names: int, *, depth: int = 1) -> bytes:
    element = Value(12, [Value(5, 2, 1), Value(5, 0, 3), Value(8, b"x", 4)])
    parent = Value(12, [Value(8, b"p", 4), Value(5, 1, 5)])
    root = Value(12, [Value(8, b"r", 4), Value(5, names, 5)])
    data, footer = split(written())
    footer[2].content = [root, *[parent] * (depth - 1), *[element] * names]
    return join(data, footer)


def lying_rows(rows: int) -> bytes:
    def lie(footer: Value) -> None:
        footer[3].content = rows
        del footer[4].content[1:]
        group = footer[4].at(0)
        group[3].content = rows
        for chunk in group[1].content:
            chunk[3][5].content = rows

    return with_footer(lie)


def inflating(size: int, *, honest: bool, dictionary: bool = False) -> bytes:
    """A page of zstd that is 2 GiB of zeros, in 64 MB frames; its header says `size`."""
    page = pa.Codec("zstd").compress(bytes(64 * hostile.MEGABYTE), asbytes=True) * 32
    data, footer = split(written(compression="zstd", use_dictionary=False))
    meta = column(footer, 0, 5)
    chunk = page_header(2 if dictionary else 0, size, len(page), values=700) + page
    if dictionary:
        chunk += page_header(0, 2, 2, values=700, encoding=8) + bytes(2)
    data = replace_chunk(data, meta, chunk)
    if honest:
        meta[6].content = size
    return join(data, footer)


def page_header(kind: int, size: int, stored: int, *, values: int, encoding: int = 0) -> bytes:
    head = Value(12, [Value(5, kind, 1), Value(5, size, 2), Value(5, stored, 3)])
    if kind == 2:
        head.put(7, Value(12, [Value(5, values, 1), Value(5, encoding, 2)]))
    else:
        head.put(5, Value(12, [Value(5, n, i) for i, n in enumerate((values, encoding, 3, 3), 1)]))
    return hostile.encode(head)


def many_pages() -> bytes:
    data, footer = split(written())
    meta = column(footer, 0, 1)
    pages = page_header(0, 0, 0, values=0) * (MAX_PAGES + 1)
    return join(replace_chunk(data, meta, pages), footer)


def long_text(rows: int, length: int, **options: object) -> bytes:
    """The same long text in all rows, which is stored once."""
    times = pa.array(range(DAY_START, DAY_START + rows), pa.int64())
    prices = pa.array([1.0] * rows)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * length])
    columns = {"price": prices, "size": prices, "trade_id": text, "ts_event": times, "ts_init": times}
    table = pa.table({**columns, "aggressor_side": pa.array([1] * rows, pa.int8())})
    return written(table, row_group_size=rows, store_schema=False, write_statistics=False, **options)


BOMBS = {
    "rows": (lambda: lying_rows(2**31), "takes .* in memory"),
    "more rows": (lambda: lying_rows(2**62), "takes .* in memory"),
    "row groups": (
        lambda: with_footer(lambda footer: footer[4].content.extend([Value(12, [])] * 1_000_000)),
        "1000003 row groups, at most",
    ),
    "footer": (
        lambda: with_footer(lambda footer: footer.put(6, Value(8, bytes(100 * hostile.MEGABYTE)))),
        "the Parquet footer has .* at most",
    ),
    "lists": (
        lambda: with_footer(lambda footer: footer.put(10, Value(9, [Value(6, 0)] * 3_000_000, of=6))),
        "lists of .* at most",
    ),
    "columns": (lambda: schema_of(100_000), "100001 columns, at most"),
    "depth": (lambda: schema_of(1, depth=1_000), "nested more than"),
    "page, hidden": (lambda: inflating(2**31 - 1, honest=False), "the pages .* claim"),
    "page, told": (lambda: inflating(2**31 - 1, honest=True), "takes .* in memory"),
    "page, understated": (lambda: inflating(4_000, honest=False), "cannot be decoded"),
    "dictionary": (lambda: inflating(2**31 - 1, honest=False, dictionary=True), "the pages .* claim"),
    "pages": (many_pages, "more than .* pages"),
}


def test_what_is_made_to_exhaust_is_refused(real_lake: Path, tmp_path: Path) -> None:
    for name, (make, _) in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    found = outcomes(real_lake, "--files", *(tmp_path / name for name in BOMBS))
    # Each as an instrument list and as ticks.
    assert [line[1] for line in found] == [name for name in BOMBS for _ in "ab"]
    for _, name, outcome in found:
        assert re.match(f"CorruptObjectError: .*{BOMBS[name][1]}", outcome), (name, outcome)


class TestSoundFiles:
    def test_a_large_row_group_of_a_deep_book_is_read(self, tmp_path: Path) -> None:
        rows = 1_048_576
        same, times = pa.repeat(1.5, rows), pa.repeat(DAY_START, rows)
        sides = ("bid_price", "bid_size", "ask_price", "ask_size")
        columns = {f"{side}_{level}": same for side in sides for level in range(25)}
        path = tmp_path / tick_path(data_type="book_snapshot_25")
        path.parent.mkdir(parents=True)
        table = pa.table({**columns, "ts_event": times})
        pq.write_table(table, path, row_group_size=rows, use_dictionary=False, compression="zstd")
        dialect = {"unit": "ns", "ts_event": "ts_event", **{side: f"{side}_{{level}}" for side in sides}}
        scan = Lake(tmp_path).scan(PERP, "book_snapshot_25", hostile.DAY_WINDOW, dialect=dialect)
        (group,) = scan.plan().objects[0].row_groups
        assert group.rows == rows
        assert group.decoded_bytes >= rows * 101 * 8

    @pytest.mark.parametrize("name", SYNTHETIC)
    def test_row_groups_are_what_pyarrow_reads(self, name: str) -> None:
        file = SYNTHETIC[name]()
        metadata = pq.read_metadata(pa.BufferReader(file))
        structure = Structure.parse(file[-8 - metadata.serialized_size : -8])
        assert len(structure.row_groups) == metadata.num_row_groups == 3
        for index, group in enumerate(structure.row_groups):
            theirs = metadata.row_group(index)
            assert group.rows == theirs.num_rows
            for number in range(metadata.num_columns):
                chunk, their = group.chunk(number), theirs.column(number)
                assert chunk.physical_type == their.physical_type
                assert chunk.values == their.num_values
                assert chunk.uncompressed == their.total_uncompressed_size
                assert chunk.range.length == their.total_compressed_size
                starts = (their.data_page_offset, their.dictionary_page_offset or their.data_page_offset)
                assert chunk.range.start == min(starts)
                if their.physical_type == "INT64" and their.statistics.has_min_max:
                    assert int.from_bytes(chunk.least, "little") == their.statistics.min_raw
                    assert int.from_bytes(chunk.greatest, "little") == their.statistics.max_raw

    @pytest.mark.parametrize("name", SYNTHETIC)
    @pytest.mark.parametrize("limit", [2**31, 100_000])
    def test_rows_are_the_same_however_many_are_decoded_at_a_time(
        self, name: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(decoding, "MAX_ROW_GROUP_BYTES", limit)
        path = tmp_path / tick_path()
        path.parent.mkdir(parents=True)
        path.write_bytes(SYNTHETIC[name]())
        table = Lake(tmp_path).scan(PERP, "trades", hostile.DAY_WINDOW).to_table()
        assert table.equals(TABLE.select(table.column_names))


@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False, "column_encoding": {"trade_id": "DELTA_BYTE_ARRAY"}}]
)
def test_text_that_is_stored_once_is_counted_as_often_as_it_stands(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / tick_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(long_text(1_000, 30_000, **options))
    assert path.stat().st_size < 100_000
    scan = Lake(tmp_path).scan(PERP, "trades", hostile.DAY_WINDOW)
    assert scan.to_table().num_rows == 1_000
    monkeypatch.setattr(decoding, "MAX_ROW_GROUP_BYTES", 10_000_000)
    with pytest.raises(CorruptObjectError, match="in memory"):
        scan.to_table()


def test_text_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / tick_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(long_text(10, 20, compression="none").replace(b"x" * 20, b"\xff" * 20))
    with pytest.raises(CorruptObjectError, match="UTF8"):
        Lake(tmp_path).scan(PERP, "trades", (DAY, DAY_START + SECOND)).to_table()
