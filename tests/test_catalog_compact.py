"""Joining the files of a day: what is joined and what is not, and what a kill or a power loss leaves."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog_support import PROVENANCE, SPEC, damage, files_below, put
from crash_support import (
    HOUR,
    KEY,
    NAUTILUS_ID,
    START,
    Disk,
    at_step,
    content,
    memory_folder,
    run_child,
    temporaries,
    write_lake,
)
from fetch_support import DAY, DEFINITION, ask, files_of, made_trades, minutes, put_trades
from ticklake.catalog import Catalog, Provenance, disk, read_provenance, verify
from ticklake.catalog.compaction import compact
from ticklake.catalog.disk import Step
from ticklake.catalog.integrity import check_file
from ticklake.catalog.maintenance import prune
from ticklake.catalog.quarantine import write_quarantine
from ticklake.catalog.records import read_record, record_published
from ticklake.errors import CatalogConflictError, CatalogError
from ticklake.fetching import FetchRequest, fetch
from ticklake.lake import Lake
from ticklake.types import CatalogType, InstrumentSpec, Window

TRADES = CatalogType.TRADES
PLACE = TRADES, SPEC.nautilus_id


def part(number: int, length: int = HOUR) -> Window:
    return Window(START + number * length, START + (number + 1) * length)


def put_parts(root: Path, count: int = 3, **options: object) -> list[Path]:
    """Write hours of a day that touch, with records, one row each."""
    paths = []
    for number in range(count):
        paths.append(put(root, part(number), **{"provenance": origin_of(number), **options}))
        record_published(root, paths[-1], 1)
    return paths


def origin_of(number: int) -> Provenance:
    return Provenance(
        PROVENANCE.lake_key,
        "trades",
        "gs://ticks",
        sources=PROVENANCE.sources[:1],
        counts={"rows": 1, "read": 5, "written": 1, "outside": 4, "note_empty_book": number},
        converter="1",
    )


# What it does.


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    times = minutes()
    prices = pa.array([-1.0 if i % 100 == 7 else 60_000 + i / 10 for i in range(len(times))])
    put_trades(tmp_path / "lake", made_trades(times, price=prices))
    return Lake(tmp_path / "lake")


def without_footer(data: bytes) -> bytes:
    return data[: -8 - int.from_bytes(data[-8:-4], "little")]


def test_a_day_in_many_windows_becomes_the_file_of_one(lake: Lake, tmp_path: Path) -> None:
    whole, parts = Catalog(tmp_path / "whole"), Catalog(tmp_path / "parts")
    fetch(lake, whole, [ask(0, DAY)])
    for start in range(0, 24, 2):
        fetch(lake, parts, [ask(start * HOUR, (start + 2) * HOUR)], keep="window")
    before = parts.content_digest()
    report = compact(parts)
    assert [len(one.files) for one in report.joined] == [12]
    assert report.left == ()
    assert parts.content_digest() == before == whole.content_digest()
    ((name, data),), ((expected, as_fetched),) = files_of(parts.path).items(), files_of(whole.path).items()
    assert name == expected
    # The footers differ in the counts of what was read: windows that share row groups count them twice.
    assert without_footer(data) == without_footer(as_fetched)
    joined, fetched = (read_provenance(catalog.path / name) for catalog in (parts, whole))
    assert joined is not None
    assert fetched is not None
    assert (joined.origin, joined.sources) == (fetched.origin, fetched.sources)
    assert joined.quarantined == fetched.quarantined
    assert joined.quarantined.total() == 15
    counts = joined.counts
    assert counts["read"] == counts["written"] + counts["outside"] + joined.quarantined.total()
    (bad,) = (parts.path / "quarantine").rglob("*.parquet")
    (as_fetched_bad,) = (whole.path / "quarantine").rglob("*.parquet")
    assert pq.read_table(bad, partitioning=None).equals(pq.read_table(as_fetched_bad, partitioning=None))
    assert bad.name == joined.quarantine
    assert verify(parts).bad == ()
    assert all(check.recorded for check in verify(parts).files)
    assert not compact(parts).joined
    assert fetch(lake, parts, [ask(0, DAY)]).files == 0


def test_rows_of_many_row_groups_stay_in_groups_of_the_same_size(tmp_path: Path) -> None:
    rows = 200_000
    for number in range(3):
        window = part(number)
        origin = Provenance(PROVENANCE.lake_key, "trades", counts={"rows": rows})
        put(tmp_path, window, [window.start + i for i in range(rows)], provenance=origin)
    tables = [pq.read_table(path) for path in sorted(tmp_path.rglob("data/trades/**/*.parquet"))]
    catalog = Catalog(tmp_path)
    compact(catalog)
    (file,) = catalog.files(*PLACE)
    groups = pq.read_metadata(file.path)
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [131_072] * 4 + [75_712]
    assert pq.read_table(file.path).equals(pa.concat_tables(tables))


def test_only_files_that_touch_within_a_day_are_joined(tmp_path: Path) -> None:
    hours = [0, 1, 3, 4, 5, 7, 22, 23, 24, 25, 26]
    for hour in hours:
        put(tmp_path, part(hour), provenance=origin_of(0))
    put(tmp_path, Window(START + 47 * HOUR, START + 49 * HOUR), provenance=origin_of(0))
    put(tmp_path, part(49), provenance=origin_of(0))
    report = compact(Catalog(tmp_path))
    files = [file.window for file in Catalog(tmp_path).files(*PLACE)]
    cuts = [(0, 2), (3, 6), (7, 8), (22, 24), (24, 27), (47, 49), (49, 50)]
    assert files == [Window(START + start * HOUR, START + end * HOUR) for start, end in cuts]
    assert [len(one.files) for one in report.joined] == [2, 3, 2, 3]
    assert report.left == ()


def test_a_dry_run_tells_what_would_be_done(tmp_path: Path) -> None:
    put_parts(tmp_path)
    before = files_below(tmp_path)
    dry = compact(Catalog(tmp_path), dry_run=True)
    assert files_below(tmp_path) == before
    done = compact(Catalog(tmp_path))
    assert (dry.joined, dry.left) == (done.joined, done.left)
    assert done.joined[0].rows == 3
    assert done.to_dict()["files"] == 3


def test_it_keeps_to_a_type_and_an_instrument(tmp_path: Path) -> None:
    put_parts(tmp_path)
    catalog = Catalog(tmp_path)
    assert not compact(catalog, CatalogType.DELTAS).joined
    assert not compact(catalog, nautilus_id="OTHER.BINANCE").joined
    assert len(compact(catalog, *PLACE).joined) == 1


def change(origin: Provenance, **changes: object) -> Provenance:
    from dataclasses import replace

    return replace(origin, **changes)


OTHERS = {
    "lake_key": change(origin_of(0), lake_key="BINANCE-FUTURES:PERPETUAL:BTC-USDT"),
    "lake": change(origin_of(0), lake="gs://others"),
    "dialect": change(origin_of(0), dialect='{"price": "px"}'),
    "converter": change(origin_of(0), converter="2"),
    "version": change(origin_of(0), sources=(change(PROVENANCE.sources[0], etag='"etag-2"'),)),
}


@pytest.mark.parametrize("differing", OTHERS)
def test_files_of_another_origin_are_not_joined(tmp_path: Path, differing: str) -> None:
    for number in range(5):
        put(tmp_path, part(number), provenance=OTHERS[differing] if number == 2 else origin_of(number))
    report = compact(Catalog(tmp_path))
    assert [len(one.files) for one in report.joined] == [2, 2]
    assert [left.file.window for left in report.left] == [part(2), part(3)]
    wanted = (
        "another version of gs://ticks/a.parquet" if differing == "version" else "is not that of the file"
    )
    assert all(wanted in left.reason for left in report.left)


def test_files_of_another_precision_are_not_joined(tmp_path: Path) -> None:
    put(tmp_path, part(0), provenance=origin_of(0))
    put(tmp_path, part(1), provenance=origin_of(0), spec=InstrumentSpec(SPEC.nautilus_id, 2, 3))
    (left,) = compact(Catalog(tmp_path)).left
    assert "precision" in left.reason


@pytest.mark.parametrize("recorded", [True, False])
def test_damaged_files_and_those_of_others_are_left_alone(tmp_path: Path, recorded: bool) -> None:
    paths = put_parts(tmp_path, 7)
    table = pq.read_table(paths[2])
    pq.write_table(table.replace_schema_metadata({"price_precision": "1", "size_precision": "3"}), paths[2])
    damage(paths[5])
    if not recorded:
        shutil.rmtree(tmp_path / ".ticklake" / "manifest")
    damaged = paths[5].read_bytes()
    report = compact(Catalog(tmp_path))
    assert [len(one.files) for one in report.joined] == [2, 2]
    assert [left.file.path for left in report.left] == [paths[2], paths[5]]
    assert report.left[0].reason == "ticklake did not write it"
    assert "damaged" in report.left[1].reason
    assert paths[5].read_bytes() == damaged


def test_files_whose_bad_rows_are_gone_are_left_alone(lake: Lake, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog")
    for start in range(0, 24, 8):
        fetch(lake, catalog, [ask(start * HOUR, (start + 8) * HOUR)], keep="window")
    first, *_ = sorted((catalog.path / "quarantine").rglob("*.parquet"))
    first.unlink()
    report = compact(catalog)
    assert [len(one.files) for one in report.joined] == [2]
    assert "bad rows are missing" in report.left[0].reason


def test_a_lack_of_space_is_told_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    put_parts(tmp_path)
    before = files_below(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
        with pytest.raises(CatalogError, match="has 0 B free"):
            compact(Catalog(tmp_path))
    assert files_below(tmp_path) == before


# The rule of superseded files.


@pytest.fixture
def halfway(tmp_path: Path) -> Catalog:
    """A catalog whose compaction was ended when the joined file had got its name."""
    put_parts(tmp_path)
    catalog = Catalog(tmp_path)

    def stop(step: Step) -> None:
        if step.action is disk.Action.REMOVE and "data" in step.path.parts:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with disk.observe(stop), pytest.raises(CatalogError):
        compact(catalog)
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 4
    return catalog


DAY_PART = Window(START, START + 3 * HOUR)


def test_superseded_files_are_read_by_nobody(halfway: Catalog) -> None:
    assert [file.window for file in halfway.files(*PLACE)] == [DAY_PART]
    (covered,) = halfway.coverage()
    assert (covered.windows, covered.files) == ((DAY_PART,), 1)
    assert [file.window for file in halfway.superseded(*PLACE)] == [part(number) for number in range(3)]
    assert [check.problems for check in verify(halfway).files] == [()]
    digest = halfway.content_digest()
    assert not prune(halfway, part(1), dry_run=True).removed
    with halfway.pinned([PLACE], part(1)) as pinned:
        assert [file.window for file in pinned.files(*PLACE)] == [DAY_PART]
    assert halfway.content_digest() == digest


def test_whoever_holds_the_lock_next_removes_them(halfway: Catalog) -> None:
    with halfway.lock(*PLACE):
        assert [path.name for path in halfway.path.rglob("data/trades/**/*.parquet")] == [
            halfway.files(*PLACE)[0].path.name
        ]
        assert halfway.superseded(*PLACE) == []
    assert len(list((halfway.path / ".ticklake" / "manifest").rglob("*.json"))) == 1


def test_what_lies_inside_a_file_of_another_writer_is_kept(tmp_path: Path) -> None:
    paths = put_parts(tmp_path)
    put(tmp_path, DAY_PART, replace=True, provenance=origin_of(0))
    wide = next(path for path in tmp_path.rglob("data/trades/**/*.parquet") if path not in paths)
    pq.write_table(pq.read_table(wide), wide)
    catalog = Catalog(tmp_path)
    with catalog.lock(*PLACE):
        assert all(path.exists() for path in paths)
    assert len(catalog.superseded(*PLACE)) == 3


def test_files_that_overlap_in_part_are_still_a_fault(tmp_path: Path) -> None:
    put(tmp_path, Window(0, 10), provenance=origin_of(0))
    other = put(tmp_path, Window(20, 30), [20], provenance=origin_of(0))
    shutil.copy(other, other.with_name(Catalog(tmp_path).files(*PLACE)[0].path.name.replace("009Z", "021Z")))
    assert any(check.overlaps for check in verify(Catalog(tmp_path)).files)
    with pytest.raises(CatalogConflictError):
        put(tmp_path, Window(5, 50), [], replace=True)


def test_definitions_supersede_nothing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    put_parts(tmp_path)
    folder = tmp_path / "data" / "crypto_perpetual" / SPEC.nautilus_id
    folder.mkdir(parents=True)
    names = [path.name for path in (tmp_path / "data" / "trades" / SPEC.nautilus_id).iterdir()]
    wide = f"{min(names).partition('_')[0]}_{max(names).partition('_')[2]}"
    for name in (wide, *names):
        (folder / name).write_bytes(b"")
    with catalog.lock("instruments", SPEC.nautilus_id):
        assert len(catalog.files("crypto_perpetual", SPEC.nautilus_id)) == 4


def test_bad_rows_that_no_file_names_go_with_the_next_lock(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    bad = pa.table({"row": [7], "price": [-1.0]})
    kept = write_quarantine(tmp_path, *PLACE, part(0), [bad])
    put(tmp_path, part(0), provenance=change(origin_of(0), quarantine=kept))
    write_quarantine(tmp_path, *PLACE, part(0), [made_trades([1])])
    write_quarantine(tmp_path, *PLACE, part(1), [bad])
    (tmp_path / "quarantine" / "trades" / SPEC.nautilus_id / "notes.txt").write_text("mine")
    (tmp_path / ".ticklake" / "tmp" / "0123.parquet.tmp").write_bytes(b"PAR1")
    with catalog.lock(*PLACE):
        left = {path.name for path in (tmp_path / "quarantine").rglob("*.*") if path.is_file()}
        assert left == {kept, "notes.txt"}
        assert temporaries(tmp_path) == []


# Kills, power loss and faults.

CUTS = (1, 8, 16, 24, 36, 47)


@dataclass
class Compacted:
    """A compaction that nobody interrupted: the catalog before it, its steps, the catalog after it."""

    before: Path
    steps: list[Step]
    after: Path
    digest: str

    @property
    def expected(self) -> dict[str, bytes]:
        return content(self.after)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compacted]:
    with memory_folder(tmp_path_factory.getbasetemp()) as folder:
        lake = Lake(write_lake(folder / "lake", 1))
        made = Compacted(folder / "before", [], folder / "after", "")
        for start, end in itertools.pairwise(CUTS):
            requests = [
                FetchRequest(
                    key=KEY,
                    data_type=kind,
                    window=(START + start * HOUR, START + end * HOUR),
                    definition=DEFINITION,
                    nautilus_id=NAUTILUS_ID,
                )
                for kind in ("trades", "book_snapshot_5")
            ]
            fetch(lake, Catalog(made.before), requests, keep="window")
        made.digest = Catalog(made.before).content_digest()
        shutil.copytree(made.before, made.after)
        with disk.observe(made.steps.append):
            report = compact(Catalog(made.after))
        assert sorted(len(one.files) for one in report.joined) == [2, 2, 3, 3]
        assert len(list((made.after / "quarantine").rglob("*.parquet"))) == 2
        yield made


def check_same(whole: Compacted, root: Path) -> None:
    """Check that all is there once, whole, with its bad rows; then compact again and compare."""
    catalog = Catalog(root)
    assert catalog.content_digest() == whole.digest
    assert verify(catalog).bad == ()
    bad = 0
    for covered in catalog.coverage():
        for file in catalog.files(covered.catalog_type, covered.nautilus_id):
            origin = read_provenance(file.path)
            assert origin is not None
            if origin.quarantine:
                kept = root / "quarantine" / covered.catalog_type / file.path.parent.name / origin.quarantine
                assert pq.read_metadata(kept).num_rows == origin.quarantined.total()
                bad += origin.quarantined.total()
    assert bad == 3
    compact(catalog)
    assert content(root) == whole.expected
    assert temporaries(root) == []
    assert verify(catalog).bad == ()


def killed(number: int, root: Path) -> None:
    with at_step(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        compact(Catalog(root))


@pytest.mark.parametrize("rest", range(4))
def test_after_a_kill_at_any_step_nothing_is_lost(whole: Compacted, rest: int) -> None:
    points = range(0, len(whole.steps), 5)
    assert len(points) >= 25
    for number in points[rest::4]:
        with memory_folder(whole.before.parent) as folder:
            shutil.copytree(whole.before, folder / "catalog")
            assert run_child(killed, number, folder / "catalog") == -signal.SIGKILL
            check_same(whole, folder / "catalog")


def states(whole: Compacted) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield what is there after the power went before each step."""
    chance = random.Random(1)
    ways: list[Callable[[int, int], int]] = [max, min, chance.randint, chance.randint, chance.randint]
    base = whole.after.parent
    there = {
        f"after/{path.relative_to(whole.before)}": path.read_bytes()
        for path in whole.before.rglob("*")
        if path.is_file()
    }
    model = Disk(base, there)
    for done in range(len(whole.steps) + 1):
        for way in ways:
            yield done, {name.removeprefix("after/"): data for name, data in model.after_loss(way).items()}
        if done < len(whole.steps):
            model.do(whole.steps[done])


def test_after_power_loss_at_any_step_nothing_is_lost(whole: Compacted) -> None:
    seen, tried = 0, set()
    for done, files in states(whole):
        seen += 1
        # Temporaries are there or not, whatever is in them.
        key = frozenset(item for item in files.items() if ".tmp" not in item[0])
        if key in tried:
            continue
        tried.add(key)
        with memory_folder(whole.before.parent) as folder:
            for name, data in files.items():
                path = folder / "catalog" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            try:
                check_same(whole, folder / "catalog")
            except AssertionError as error:
                raise AssertionError(f"before step {done}: {whole.steps[done : done + 1]}") from error
    assert seen >= 500
    assert len(tried) >= 20


FAULTS = [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE]


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from_there_on"])
def test_after_a_fault_at_any_step_nothing_is_lost(whole: Compacted, lasting: bool) -> None:
    refused = 0
    for number in range(0, len(whole.steps), 9):
        fault = FAULTS[number % len(FAULTS)]

        def fail(fault: int = fault) -> None:
            raise OSError(fault, os.strerror(fault))

        with memory_folder(whole.before.parent) as folder:
            shutil.copytree(whole.before, folder / "catalog")
            try:
                with at_step(number, fail, lasting=lasting):
                    compact(Catalog(folder / "catalog"))
            except CatalogError as error:
                refused += os.strerror(fault) in str(error)
            check_same(whole, folder / "catalog")
    assert refused >= 8


def test_a_joined_file_that_is_damaged_is_found(whole: Compacted, tmp_path: Path) -> None:
    shutil.copytree(whole.after, tmp_path / "catalog")
    catalog = Catalog(tmp_path / "catalog")
    file = catalog.files(TRADES, NAUTILUS_ID)[0]
    assert read_record(catalog.path, file.path) is not None
    damage(file.path)
    check = check_file(catalog, file)
    assert check is not None
    assert check.problems
