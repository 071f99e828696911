"""Pins and listings: one consistent set of files, whatever changes while it is taken or held."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from catalog_support import SPEC, damage, put
from crash_support import memory_folder, run_child
from fetch_support import DAY, HOUR, START
from ticklake.catalog import Catalog, Provenance, cache, check_open, digest, disk, listing, verify
from ticklake.catalog.compaction import compact
from ticklake.catalog.disk import Action, Step
from ticklake.catalog.maintenance import prune
from ticklake.catalog.records import forget_record
from ticklake.errors import CatalogCorruptError, CatalogError
from ticklake.types import CatalogType, Window

TRADES = CatalogType.TRADES


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with memory_folder(tmp_path) as made:
        yield made


# Pins.

HOURS = [Window(START + hour * HOUR, START + (hour + 1) * HOUR) for hour in range(4)]
HERE = TRADES, SPEC.nautilus_id


@pytest.fixture
def catalog(folder: Path) -> Catalog:
    for window in HOURS:
        put(folder / "c", window, provenance=origin(1))
    return Catalog(folder / "c")


def origin(version: int) -> Provenance:
    return Provenance("A:B:C", "trades", converter=str(version))


def windows(catalog: Catalog) -> list[Window]:
    return [file.window for file in catalog.files(*HERE)]


def refresh(catalog: Catalog) -> None:
    with catalog.lock(*HERE):
        for file in catalog.files(*HERE):
            forget_record(catalog.path, file.path)
            start = file.window.start
            put(catalog, file.window, [start, start + 1], provenance=origin(2), replace=True)


CHANGES: dict[str, Callable[[Catalog], object]] = {
    "compact": compact,
    "refresh": refresh,
    "prune": partial(prune, window=Window(HOURS[1].start, HOURS[2].end)),
    "extend": lambda catalog: put(catalog, Window(HOURS[3].end, HOURS[3].end + HOUR)),
}


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_it_is_pinned_is_pinned_as_it_is_then(
    catalog: Catalog, change: str, after: int
) -> None:
    """Some files are linked already; in the end either state is pinned and no mixture."""
    count = 0

    def interfere(step: Step) -> None:
        nonlocal count
        if step.action is Action.LINK:
            count += 1
            if count == after + 1:
                CHANGES[change](catalog)

    with disk.observe(interfere), catalog.pinned([HERE]) as pinned:
        assert windows(pinned) == windows(catalog)
        assert pinned.content_digest() == catalog.content_digest()
        linked = set((pinned.path / "data" / "trades" / SPEC.nautilus_id).iterdir())
        assert linked == {file.path for file in pinned.files(*HERE)}
    assert count > after


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_pinned_stays(catalog: Catalog, change: str) -> None:
    before = catalog.content_digest()
    with catalog.pinned([HERE]) as pinned:
        CHANGES[change](catalog)
        prune(catalog, Window(0, START + DAY))
        assert windows(pinned) == HOURS
        assert pinned.content_digest() == before
        check_open(catalog, pinned.files(*HERE))
    assert catalog.coverage() == []
    assert list((catalog.path / ".ticklake" / "pins").iterdir()) == []


def test_damage_of_a_pinned_file_is_found_by_its_record_and_named_by_its_place(catalog: Catalog) -> None:
    assert verify(catalog).bad == ()  # records them
    with catalog.pinned([HERE]) as pinned:
        file = catalog.files(*HERE)[1]
        damage(file.path)
        with pytest.raises(CatalogCorruptError, match=str(file.path)):
            check_open(catalog, pinned.files(*HERE))
        refresh(catalog)
        with pytest.raises(CatalogCorruptError, match=file.path.name):  # the pinned one still is
            check_open(catalog, pinned.files(*HERE))
    check_open(catalog, catalog.files(*HERE))


def test_a_pinned_file_is_not_held_against_the_record_of_its_successor(catalog: Catalog) -> None:
    assert verify(catalog).bad == ()
    with catalog.pinned([HERE]) as pinned:
        refresh(catalog)
        assert verify(catalog).bad == ()
        check_open(catalog, pinned.files(*HERE))


def test_what_symbolic_links_lead_to_is_pinned(catalog: Catalog) -> None:
    file = catalog.files(*HERE)[1].path
    elsewhere = file.rename(catalog.path / "elsewhere")
    file.symlink_to(os.path.relpath(elsewhere, file.parent))
    before = catalog.content_digest()
    with catalog.pinned([HERE]) as pinned:
        file.unlink()
        elsewhere.unlink()
        assert pinned.path != catalog.path
        assert pinned.content_digest() == before


def test_nothing_is_made_where_nothing_is_covered(tmp_path: Path) -> None:
    with Catalog(tmp_path / "none").pinned([HERE]) as pinned:
        assert pinned.files(*HERE) == []
    assert Catalog(tmp_path / "none").content_digest()
    assert list(tmp_path.iterdir()) == []


def die_reading(root: Path) -> None:
    with Catalog(root).pinned([HERE]):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_next_writer_removes_the_pins_of_the_dead_and_no_others(catalog: Catalog) -> None:
    pins = catalog.path / ".ticklake" / "pins"
    with catalog.pinned([HERE]) as pinned:
        assert run_child(die_reading, catalog.path) == -signal.SIGKILL
        (pins / "nobodys" / "data").mkdir(parents=True)
        assert len(list(pins.iterdir())) == 5
        with catalog.lock(*HERE):
            assert {path.stem for path in pins.iterdir()} == {pinned.path.name}
        assert windows(pinned) == HOURS


def refuse_links(step: Step) -> None:
    if step.action is Action.LINK:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_catalog_that_takes_no_links_is_read_as_it_is(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = catalog.content_digest()
    plain, joined = digest._add_file, []

    def add(rows: Any, file: Any, window: Any) -> None:
        if not joined:
            joined.append(compact(catalog).joined)
        plain(rows, file, window)

    monkeypatch.setattr(digest, "_add_file", add)
    with disk.observe(refuse_links):
        with catalog.pinned([HERE]) as pinned:
            assert pinned is catalog
        assert catalog.content_digest() == expected
    assert joined[0]
    assert list((catalog.path / ".ticklake" / "pins").iterdir()) == []


def test_other_errors_of_the_disk_are_told(catalog: Catalog) -> None:
    def fail(step: Step) -> None:
        if step.action is Action.LINK:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with disk.observe(fail), pytest.raises(CatalogError, match="No space left"), catalog.pinned([HERE]):
        pass
    assert list((catalog.path / ".ticklake" / "pins").iterdir()) == []


# Listings.


def test_a_listing_that_misses_files_is_made_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder may be listed while files are joined: without old ones, and not yet with the new one."""
    plain, torn = listing.scan, []

    def scan(folder: Path) -> list[os.DirEntry[str]]:
        entries = plain(folder)
        if not torn:
            torn.append(folder)
            compact(catalog)
            return entries[:1]
        return entries

    monkeypatch.setattr(listing, "scan", scan)
    assert catalog.missing(*HERE, Window(HOURS[0].start, HOURS[-1].end)) == ()


def test_a_file_that_goes_between_listing_and_opening_is_listed_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, joined = cache._metadata, []

    def metadata(path: Path) -> Any:
        if not joined:
            joined.append(compact(catalog).joined)
        return plain(path)

    monkeypatch.setattr(cache, "_metadata", metadata)
    found = catalog.check_source(TRADES, SPEC, HOURS[1], origin(1))
    assert [file.window for file in found] == [Window(HOURS[0].start, HOURS[-1].end)]
    assert joined[0]
