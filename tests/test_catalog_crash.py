"""The catalog's changes of the disk, step by step: power loss, faults, and what a step does."""

from __future__ import annotations

import errno
import io
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog_support import SPEC, put
from crash_support import Disk, at_step, content, fetch_all, memory_folder, temporaries, write_lake
from ticklake.catalog import Catalog, Provenance, disk
from ticklake.catalog.disk import Action, Step
from ticklake.catalog.naming import parse_file_name
from ticklake.catalog.quarantine import write_quarantine
from ticklake.catalog.writer import AtomicFile
from ticklake.config import InstrumentConfig
from ticklake.errors import CatalogError
from ticklake.types import CatalogType, Window

WINDOW = Window.parse("2024-08-08", "2024-08-09")


# Power loss.


class Recorded:
    """A fetch of one version, as the steps that it took, and all that came of it."""

    def __init__(self, folder: Path, version: int, before: dict[str, bytes]) -> None:
        self.version = version
        self.before = before
        self.lake = write_lake(folder / f"lake{version}", version)
        self.catalog = folder / "catalog"
        self.steps: list[Step] = []
        with disk.observe(self.steps.append):
            fetch_all(self.lake, self.catalog, version)
        self.after = content(self.catalog)

    def states(self, leave_out: Action | None = None) -> Iterator[tuple[int, dict[str, bytes]]]:
        """Yield what is there after the power went before each step: all, what was synced, and between."""
        chance = random.Random(self.version)
        ways: list[Callable[[int, int], int]] = [max, min, chance.randint, chance.randint, chance.randint]
        there = {f"catalog/{name}": data for name, data in self.before.items()}
        model = Disk(self.catalog.parent, there)
        for done in range(len(self.steps) + 1):
            for way in ways:
                found = model.after_loss(way)
                yield done, {name.removeprefix("catalog/"): data for name, data in found.items()}
            if done < len(self.steps) and self.steps[done].action != leave_out:
                model.do(self.steps[done])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Recorded]]:
    with memory_folder(tmp_path_factory.getbasetemp()) as folder:
        first = Recorded(folder, 1, {})
        yield {1: first, 2: Recorded(folder, 2, first.after)}


def published(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.startswith(("data/", "quarantine/"))}


def quarantine_of(data: bytes) -> str:
    text = (pq.read_metadata(io.BytesIO(data)).metadata or {}).get(b"ticklake")
    return Provenance.from_json(text).quarantine if text else ""


def faults_of(record: Recorded, files: dict[str, bytes]) -> list[str]:
    """Return what is wrong with a state, whatever a later fetch makes of it."""
    allowed = {*record.before.items(), *record.after.items()}
    found = [f"{name} is not whole" for name, data in published(files).items() if (name, data) not in allowed]
    if found:
        return found
    names = {name.rpartition("/")[2] for name in files}
    for name, data in files.items():
        if name.startswith("data/") and (kept := quarantine_of(data)) and kept not in names:
            found.append(f"{kept}, the bad rows of {name}, is gone")
    ticks = [name for name in record.before if name.startswith(("data/trades/", "data/order_book"))]
    return found + [f"{name} is gone" for name in ticks if name not in files]


@pytest.mark.parametrize("version", [1, 2])
def test_after_power_loss_at_any_step_all_is_whole_and_the_rest_is_fetched(
    recorded: dict[int, Recorded], version: int
) -> None:
    record = recorded[version]
    states, tried = 0, set()
    for done, files in record.states():
        states += 1
        assert faults_of(record, files) == [], f"before step {done}"
        # What a fetch looks at: temporaries are there or not, whatever is in them.
        key = frozenset(published(files).items()), any(".tmp" in name for name in files)
        if key in tried:
            continue
        tried.add(key)
        with memory_folder(record.catalog.parent) as folder:
            for name, data in files.items():
                path = folder / "catalog" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            report = fetch_all(record.lake, folder / "catalog", version)
            assert content(folder / "catalog") == record.after, f"before step {done}"
            assert not report.files or temporaries(folder / "catalog") == []
    assert states >= 500
    assert len(tried) >= 10


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_fetch_reported_stays_whatever_the_power_does(
    recorded: dict[int, Recorded], version: int
) -> None:
    record = recorded[version]
    ends = [files for done, files in record.states() if done == len(record.steps)]
    assert [published(files) == record.after for files in ends] == [True] * 5


@pytest.mark.parametrize("left_out", [Action.SYNC, Action.SYNC_FOLDER])
def test_the_model_tells_a_writer_that_does_not_sync(recorded: dict[int, Recorded], left_out: Action) -> None:
    record = recorded[1]
    states = list(record.states(leave_out=left_out))
    if left_out is Action.SYNC:
        assert any(faults_of(record, files) for _, files in states)
    assert any(done == len(record.steps) and published(files) != record.after for done, files in states)


# Faults.

FAULTS = {
    errno.ENOSPC: "Free some space",
    errno.EROFS: "read-only",
    errno.EIO: "fault",
    errno.EMFILE: "ulimit",
}
BAD = pa.table({"row": [7], "price": [-1.0]})


def write_all(root: Path) -> None:
    """Write one file of each kind."""
    from ticklake.instruments import from_config, save

    write_quarantine(root, CatalogType.TRADES, SPEC.nautilus_id, WINDOW, [BAD])
    put(root, WINDOW, replace=True)
    definition = {"type": "spot", "base": "BTC", "quote": "USDT", "tick_size": "0.1", "min_size": "0.001"}
    (day,) = WINDOW.days
    values = InstrumentConfig.model_validate(
        {"key": "BINANCE:SPOT_PAIR:BTC-USDT", "definition": definition | {"raw_symbol": "BTCUSDT"}}
    )
    save(Catalog(root), [from_config(values, day)], day)


def steps_of_publishing(steps: list[Step]) -> int:
    """Return how many steps it takes until all is published; those after it record that, which may fail."""
    last = max(
        number for number, step in enumerate(steps) if step.target and "/data/" in step.target.as_posix()
    )
    return next(n for n in range(last + 1, len(steps)) if steps[n].action is not Action.SYNC_FOLDER)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from_there_on"])
@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.get)
def test_a_fault_at_any_step_is_a_clear_error_and_publishes_nothing(
    tmp_path: Path, fault: int, lasting: bool
) -> None:
    def fail() -> None:
        raise OSError(fault, os.strerror(fault))

    with memory_folder(tmp_path) as folder:
        steps: list[Step] = []
        with disk.observe(steps.append):
            write_all(folder / "whole")
        expected = content(folder / "whole")
        assert len(expected) == 3
        for number in range(steps_of_publishing(steps)):
            root = folder / str(number)
            with (
                pytest.raises(CatalogError, match=os.strerror(fault)) as caught,
                at_step(number, fail, lasting=lasting),
            ):
                write_all(root)
            assert str(root) in str(caught.value)
            assert FAULTS[fault] in (caught.value.hint or "")
            named = [str(step.target.relative_to(folder / "whole")) for step in steps[:number] if step.target]
            assert list(content(root)) == sorted(named)
            assert lasting or temporaries(root) == []
            write_all(root)
            assert content(root) == expected
            assert temporaries(root) == []


# What the steps do.


def test_steps_are_seen_before_they_are_done_and_no_longer_than_asked(tmp_path: Path) -> None:
    seen: list[tuple[Action, bool]] = []
    with disk.observe(lambda step: seen.append((step.action, (step.target or step.path).exists()))):
        put(tmp_path / "catalog", WINDOW)
    before = dict(reversed(seen))
    assert before[Action.CREATE] is before[Action.MAKE_FOLDER] is before[Action.RENAME] is False
    assert before[Action.SYNC] is before[Action.SYNC_FOLDER] is True
    count = len(seen)
    put(tmp_path / "catalog", WINDOW, replace=True)
    assert len(seen) == count


def test_whoever_makes_a_catalog_makes_it_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Catalog(tmp_path / "by" / "lock").lock("trades", SPEC.nautilus_id):
            pass
        put(tmp_path / "by" / "writer", WINDOW)
    finally:
        os.umask(before)
    for maker in ("lock", "writer"):
        assert stat.S_IMODE((tmp_path / "by" / maker).stat().st_mode) == 0o700


def test_a_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    root = tmp_path / "catalog"
    with Catalog(root).lock("trades", SPEC.nautilus_id):
        pass
    (lock,) = (root / ".ticklake" / "locks").rglob("*.lock")
    lock.unlink()
    lock.symlink_to(precious)
    with pytest.raises(CatalogError, match="cannot lock"), Catalog(root).lock("trades", SPEC.nautilus_id):
        pass
    assert precious.read_text() == "keep"


def test_a_temporary_whose_removal_fails_does_not_hide_why_it_is_removed(tmp_path: Path) -> None:
    def fail(step: Step) -> None:
        if step.action is Action.REMOVE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = tmp_path / "data" / "trades" / "A.B" / "x.parquet"
    with (
        disk.observe(fail),
        pytest.raises(ValueError, match="the cause"),
        AtomicFile(tmp_path, file),
    ):
        raise ValueError("the cause")
    assert len(temporaries(tmp_path)) == 1
    put(tmp_path, WINDOW)
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("/dev/sda / ext4 rw 0 0", ""),
        ("/dev/sda / ext4 rw 0 0\nhost:/x {parent} nfs4 rw 0 0", "nfs4"),
        ("host:/x / nfs rw 0 0\n/dev/sda {parent} ext4 rw 0 0", ""),
        ("/dev/sda / ext4 rw 0 0\nhost:/x {parent}x nfs4 rw 0 0", ""),
        ("host:/x / nfs rw 0 0\n/dev/sda / ext4 rw 0 0", ""),
        ("", ""),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, kind: str
) -> None:
    parent = tmp_path / "a b"
    parent.mkdir()
    table = tmp_path / "mounts"
    table.write_text(mounts.format(parent=str(parent).replace(" ", "\\040")))
    monkeypatch.setattr(disk, "_MOUNTS", table)
    assert disk.network_file_system(parent / "not" / "there") == kind
    monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "none")
    assert disk.network_file_system(parent) == ""


def test_names_of_the_test_are_those_of_the_catalog(recorded: dict[int, Recorded]) -> None:
    names = [name for name in recorded[2].after if name.startswith("data/")]
    assert all(parse_file_name(name.rpartition("/")[2]) for name in names)
    assert len(names) == 6
