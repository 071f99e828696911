"""A fetch that is killed, or whose disk fails, at any step; and many fetches of one thing at once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from crash_support import (
    CONTEXT,
    at_step,
    check_whole,
    content,
    fetch_all,
    killed_at,
    memory_folder,
    recover,
    run_child,
    temporaries,
    write_lake,
)
from fetch_support import DAY, HOUR, SECOND, START, ask, files_of, made_trades, put_trades
from lake_support import RangeServer
from ticklake.catalog import Catalog, disk
from ticklake.catalog.disk import Step
from ticklake.display import format_bytes
from ticklake.errors import CatalogError
from ticklake.fetching import fetch, plan_fetch
from ticklake.fetching.execution import SPACE_FACTOR
from ticklake.lake import Lake


class Whole(NamedTuple):
    """What fetches that nobody interrupted made, by version: the lake, their steps, the catalog."""

    lakes: dict[int, Path]
    steps: dict[int, list[Step]]
    catalogs: dict[int, Path]

    def before(self, version: int, catalog: Path) -> None:
        """Make a catalog as it is before the version is fetched."""
        if version == 2:
            shutil.copytree(self.catalogs[1], catalog)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with memory_folder(tmp_path_factory.getbasetemp()) as folder:
        lakes = {version: write_lake(folder / f"lake{version}", version) for version in (1, 2)}
        steps: dict[int, list[Step]] = {1: [], 2: []}
        catalogs = {version: folder / f"catalog{version}" for version in (1, 2)}
        made = Whole(lakes, steps, catalogs)
        for version in (1, 2):
            made.before(version, catalogs[version])
            with disk.observe(steps[version].append):
                report = fetch_all(lakes[version], catalogs[version], version)
            assert sum(report.quarantined.values()) == 3
        yield made


@pytest.fixture
def catalog(whole: Whole) -> Iterator[Path]:
    with memory_folder(whole.lakes[1].parent) as folder:
        yield folder / "catalog"


# Of the 260 steps of both fetches every fifth has each kind of step of each kind of file.
STRIDE = 5


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("part", range(4))
def test_after_a_kill_at_any_step_the_rest_is_fetched(whole: Whole, version: int, part: int) -> None:
    expected = content(whole.catalogs[version])
    points = range(0, len(whole.steps[version]), STRIDE)
    assert len(points) >= 20
    for number in points[part::4]:
        with memory_folder(whole.lakes[1].parent) as folder:
            catalog = folder / "catalog"
            whole.before(version, catalog)
            assert killed_at(number, whole.lakes[version], catalog, version)
            recover(whole.lakes[version], catalog, version)
            assert content(catalog) == expected, f"killed at {whole.steps[version][number]}"


@pytest.mark.parametrize("version", [1, 2])
def test_after_kills_during_recovery_too(whole: Whole, catalog: Path, version: int) -> None:
    whole.before(version, catalog)
    kills = 0
    while killed_at(17 + 3 * kills, whole.lakes[version], catalog, version):
        check_whole(catalog)
        kills += 1
        assert kills < 40
    assert kills >= 5
    recover(whole.lakes[version], catalog, version)
    assert content(catalog) == content(whole.catalogs[version])


FAULTS = [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EMFILE]


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from_there_on"])
def test_after_a_fault_at_any_step_the_rest_is_fetched(whole: Whole, version: int, lasting: bool) -> None:
    expected, lake = content(whole.catalogs[version]), whole.lakes[version]
    allowed = {*expected.items(), *content(whole.catalogs[1]).items()}
    refused = 0
    # Nine has no divisor in common with the number of faults: each of them comes to each kind of step.
    for number in range(0, len(whole.steps[version]), 9):
        fault = FAULTS[number % len(FAULTS)]
        with memory_folder(whole.lakes[1].parent) as folder:
            catalog = folder / "catalog"
            whole.before(version, catalog)
            told = ""
            try:
                with at_step(number, lambda fault=fault: fail(fault), lasting=lasting):
                    fetch_all(lake, catalog, version)
            except CatalogError as error:
                told = str(error)
            assert os.strerror(fault) in told or content(catalog) == expected
            refused += bool(told)
            assert set(content(catalog).items()) <= allowed
            assert lasting or temporaries(catalog) == []
            fetch_all(lake, catalog, version)
            assert content(catalog) == expected
            assert temporaries(catalog) == []
    assert refused >= 8


def test_a_fetch_that_the_disk_has_no_room_for_does_not_begin(tmp_path: Path, monkeypatch) -> None:
    put_trades(tmp_path / "lake", made_trades([START + i * SECOND for i in range(80_000)]), rows=10_000)
    catalog, asked = Catalog(tmp_path / "new" / "catalog"), [ask(0, DAY)]
    planned = plan_fetch(Lake(tmp_path / "lake"), catalog, asked).bytes
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=planned))
        with pytest.raises(CatalogError, match=" free") as caught:
            fetch(Lake(tmp_path / "lake"), catalog, asked)
    assert f"needs about {format_bytes(round(planned * SPACE_FACTOR))}," in str(caught.value)
    assert f"has {format_bytes(planned)} free" in str(caught.value)
    assert content(catalog.path) == {}
    fetch(Lake(tmp_path / "lake"), catalog, asked)
    assert sum(map(len, content(catalog.path).values())) < planned * SPACE_FACTOR
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert fetch(Lake(tmp_path / "lake"), catalog, asked).rows == 0


def test_a_catalog_on_a_network_is_warned_about(
    whole: Whole, catalog: Path, monkeypatch, tmp_path: Path
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {catalog.parent} nfs4 rw 0 0\n")
    monkeypatch.setattr(disk, "_MOUNTS", mounts)
    report = fetch_all(whole.lakes[1], catalog, 1)
    assert [warning for warning in report.warnings if "nfs4" in warning]
    assert not [warning for warning in fetch_all(whole.lakes[1], catalog, 1).warnings if "nfs4" in warning]


# Many processes, one fetch.


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RangeServer]:
    for day in range(2):
        times = [START + day * DAY + i * 60 * SECOND for i in range(1_440)]
        put_trades(tmp_path / "lake", made_trades(times), day, rows=200)
    with RangeServer() as server:
        for path in (tmp_path / "lake").rglob("*.parquet"):
            server.objects[path.relative_to(tmp_path / "lake").as_posix()] = path.read_bytes()
        yield server


def fetch_served(url: str, catalog: Path, facts: Path) -> None:
    report = fetch(Lake(url), Catalog(catalog), [ask(HOUR, 2 * DAY - HOUR)])
    facts.write_text(json.dumps([report.rows, report.requests]))


@pytest.mark.parametrize("processes", [2, 8, 32])
def test_of_many_processes_one_reads(served: RangeServer, tmp_path: Path, processes: int) -> None:
    fetch_served(served.url, tmp_path / "alone", tmp_path / "alone.json")
    rows, requests = json.loads((tmp_path / "alone.json").read_text())
    assert requests == len(served.requests)
    served.requests.clear()
    facts = [tmp_path / f"{number}.json" for number in range(processes)]
    started = [
        CONTEXT.Process(target=fetch_served, args=(served.url, tmp_path / "catalog", each)) for each in facts
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0
    assert len(served.requests) == requests
    assert sorted(json.loads(each.read_text())[0] for each in facts) == [0] * (processes - 1) + [rows]
    assert files_of(tmp_path / "catalog") == files_of(tmp_path / "alone")


def stop_at_step(number: int, url: str, catalog: Path, facts: Path) -> None:
    def wait() -> None:
        facts.write_text("there")
        time.sleep(60)

    with at_step(number, wait):
        fetch_served(url, catalog, facts)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_dead_holder_hands_over_in_less_than_a_second(served: RangeServer, tmp_path: Path) -> None:
    """Killed before it publishes its second file; the first one stays."""
    alone: list[Step] = []
    with disk.observe(alone.append):
        fetch_served(served.url, tmp_path / "alone", tmp_path / "alone.json")
    last = max(number for number, step in enumerate(alone) if step.target and "data" in step.target.parts)
    catalog = tmp_path / "catalog"
    holder = CONTEXT.Process(target=stop_at_step, args=(last, served.url, catalog, tmp_path / "holding"))
    holder.start()
    wait_for(tmp_path / "holding")
    waiter = CONTEXT.Process(target=fetch_served, args=(served.url, catalog, tmp_path / "waited"))
    waiter.start()
    time.sleep(0.7)
    assert not (tmp_path / "waited").exists()
    asked: list[float] = []
    served.before = lambda _: asked.append(time.monotonic())
    killed = time.monotonic()
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    waiter.join(30)
    holder.join(30)
    assert (waiter.exitcode, holder.exitcode) == (0, -signal.SIGKILL)
    assert 0 <= asked[0] - killed < 1
    assert files_of(catalog) == files_of(tmp_path / "alone")
    assert temporaries(catalog) == []


def crowded(catalog: Path, lake: Path, facts: Path) -> None:
    """Fetch with one file descriptor left too few, then with all."""
    import resource

    fetch_all(lake, catalog.with_name("warm"), 1)  # what is opened once is open
    taken = [os.open(os.devnull, os.O_RDONLY)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    told = ""
    try:
        with Catalog(catalog).lock("trades", "A.B"):
            pass
    except CatalogError as error:
        told = str(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    facts.write_text(told)
    fetch_all(lake, catalog, 1)


def test_too_many_open_files_are_named(whole: Whole, catalog: Path, tmp_path: Path) -> None:
    assert run_child(crowded, catalog, whole.lakes[1], tmp_path / "facts") == 0
    assert "Too many open files" in (tmp_path / "facts").read_text()
    assert content(catalog) == content(whole.catalogs[1])
