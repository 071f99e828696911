"""Taking files out of a catalog."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from catalog_support import PROVENANCE, SPEC, files_below, put
from fetch_support import DAY, PERP_ID, START, Lake, ask, made_trades, minutes, put_trades, rows_of
from ticklake.catalog import Catalog, verify
from ticklake.catalog.doctor import examine
from ticklake.catalog.integrity import check_file
from ticklake.catalog.maintenance import prune, set_aside
from ticklake.catalog.quarantine import write_quarantine
from ticklake.catalog.records import read_record, record_published
from ticklake.fetching import fetch
from ticklake.types import CatalogType, Window


def days(root: Path, count: int) -> list[Path]:
    paths = []
    for day in range(count):
        paths.append(put(root, Window(day * DAY, (day + 1) * DAY)))
        record_published(root, paths[-1], 1)
    return paths


def test_prune_removes_whole_files_only(tmp_path):
    paths, catalog = days(tmp_path, 4), Catalog(tmp_path)
    report = prune(catalog, Window(DAY // 2, 3 * DAY))
    assert [one.file.path for one in report.removed] == paths[1:3]
    assert [file.path for file in report.kept] == paths[:1]
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert [read_record(tmp_path, path) is None for path in paths] == [False, True, True, False]
    (covered,) = catalog.coverage()
    assert covered.windows == (Window(0, DAY), Window(3 * DAY, 4 * DAY))
    assert not verify(catalog).bad


def test_a_dry_run_of_prune_changes_nothing(tmp_path):
    days(tmp_path, 3)
    before = files_below(tmp_path)
    dry = prune(Catalog(tmp_path), Window(0, 2 * DAY), dry_run=True)
    assert files_below(tmp_path) == before
    done = prune(Catalog(tmp_path), Window(0, 2 * DAY))
    assert (dry.removed, dry.bytes) == (done.removed, done.bytes)
    assert done.bytes > 0


def test_prune_keeps_to_a_type_and_an_instrument(tmp_path):
    days(tmp_path, 1)
    catalog, all_time = Catalog(tmp_path), Window(0, DAY)
    assert not prune(catalog, all_time, CatalogType.DELTAS).removed
    assert not prune(catalog, all_time, nautilus_id="OTHER.BINANCE").removed
    assert len(prune(catalog, all_time, CatalogType.TRADES, SPEC.nautilus_id).removed) == 1


def test_prune_takes_the_bad_rows_of_its_files_along(tmp_path):
    window = Window(0, DAY)
    place = (tmp_path, CatalogType.TRADES, SPEC.nautilus_id)
    for each in (window, Window(DAY, 2 * DAY)):
        kept = write_quarantine(*place, each, [made_trades([1])])
        put(tmp_path, each, provenance=replace(PROVENANCE, quarantine=kept))
    prune(Catalog(tmp_path), window)
    assert len(list((tmp_path / "quarantine").rglob("*.parquet"))) == 1


def test_what_was_pruned_is_fetched_again(tmp_path):
    for day in range(2):
        put_trades(tmp_path / "lake", made_trades(minutes(day)), day)
    lake, catalog = Lake(tmp_path / "lake"), Catalog(tmp_path / "catalog")
    fetch(lake, catalog, [ask(0, 2 * DAY)])
    before, rows = catalog.content_digest(), rows_of(catalog.path)
    prune(catalog, Window(START, START + DAY))
    assert len(rows_of(catalog.path)) < len(rows)
    assert catalog.content_digest() != before
    report = fetch(lake, catalog, [ask(0, 2 * DAY)])
    assert report.files == 1
    assert catalog.content_digest() == before
    assert rows_of(catalog.path) == rows


def test_what_was_mended_meanwhile_is_not_set_aside(tmp_path):
    catalog, (path,) = Catalog(tmp_path), days(tmp_path, 1)
    (file,) = catalog.files(CatalogType.TRADES, SPEC.nautilus_id)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    check = check_file(catalog, file)
    path.write_bytes(good)
    assert set_aside(catalog, check) is None
    path.write_bytes(good[:-1])
    kept = set_aside(catalog, check)
    assert kept is not None
    assert kept.read_bytes() == good[:-1]
    assert not path.exists()
    assert set_aside(catalog, check) is None


def findings(catalog: Catalog) -> dict[str, list[bool]]:
    """Return whether what was found is wrong, by what was looked at; the disk's free space aside."""
    found: dict[str, list[bool]] = {}
    for finding in examine(catalog):
        if "B are free" not in finding.text:
            found.setdefault(finding.check, []).append(finding.wrong)
    return found


def test_a_healthy_catalog_has_no_findings(tmp_path):
    days(tmp_path / "catalog", 2)
    before = files_below(tmp_path)
    catalog = Catalog(tmp_path / "catalog")
    catalog.path.chmod(0o700)
    assert findings(catalog) == {}
    assert files_below(tmp_path) == before


def test_strays_are_left_alone_and_told(tmp_path):
    (path, *_), catalog = days(tmp_path, 2), Catalog(tmp_path)
    digest = catalog.content_digest()
    names = ["notes.txt", "2024.parquet", f"{path.name}.tmp", f"copy of {path.name}", ".hidden.parquet"]
    for name in names:
        path.with_name(name).write_bytes(path.read_bytes())
    (path.parent.parent / "no-venue").mkdir()
    assert findings(catalog)["strays"] == [True] * (len(names) + 1)
    assert catalog.content_digest() == digest
    assert [check.file.path.name for check in verify(catalog).files].count(path.name) == 1
    assert len(verify(catalog).files) == 2
    prune(catalog, Window(0, 2 * DAY))
    assert all(path.with_name(name).exists() for name in names)


def test_leftovers_locks_permissions_and_times_are_told(tmp_path):
    (path, _), catalog = days(tmp_path, 2), Catalog(tmp_path)
    path.write_bytes(b"")
    set_aside(catalog, verify(catalog).bad[0])
    tmp_path.chmod(0o777)
    later = path.with_name(next(path.parent.glob("*.parquet")).name)
    os.utime(later, (time.time() + 3_600,) * 2)
    with (
        catalog.lock(CatalogType.TRADES, SPEC.nautilus_id),
        catalog.lock(CatalogType.DELTAS, "A.B"),
        catalog.writer(CatalogType.DELTAS, SPEC, Window(0, 1)),  # a temporary that is in use
    ):
        (tmp_path / ".ticklake" / "tmp" / "0123.parquet.tmp").write_bytes(b"PAR1")
        found = findings(catalog)
    assert found == {
        "temporaries": [False],
        "damaged": [False],
        "locks": [False, False],
        "permissions": [True],
        "clock": [True],
    }


def test_superseded_files_and_pins_of_the_dead_are_told(tmp_path):
    days(tmp_path, 2)
    put(tmp_path, Window(0, 2 * DAY), replace=True)
    pins = tmp_path / ".ticklake" / "pins"
    pins.mkdir()
    (pins / "0123.lock").touch()
    with Catalog(tmp_path).pinned([(CatalogType.TRADES, SPEC.nautilus_id)]):  # a pin that is in use
        assert findings(Catalog(tmp_path)) == {"superseded": [True, True], "pins": [False]}
    with Catalog(tmp_path).lock(CatalogType.TRADES, SPEC.nautilus_id):
        pass
    assert findings(Catalog(tmp_path)) == {}


def test_what_is_set_aside_takes_its_bad_rows_along(tmp_path):
    place, window = (CatalogType.TRADES, SPEC.nautilus_id), Window(0, DAY)
    kept = write_quarantine(tmp_path, *place, window, [made_trades([1])])
    path = put(tmp_path, window, provenance=replace(PROVENANCE, quarantine=kept))
    bad_rows = (tmp_path / "quarantine" / "trades" / SPEC.nautilus_id / kept).read_bytes()
    path.write_bytes(b"")
    catalog = Catalog(tmp_path)
    set_aside(catalog, verify(catalog).bad[0])
    with catalog.lock(*place):
        pass
    aside = [file.read_bytes() for file in (tmp_path / ".ticklake" / "damaged").rglob("*.parquet*")]
    assert sorted(aside) == sorted([b"", bad_rows])
    assert not list((tmp_path / "quarantine").rglob("*.parquet"))


@pytest.mark.parametrize("cuts", [[], [1], [7, 360, 1_000], list(range(60, 1_440, 60))])
def test_a_fetch_in_any_pieces_has_one_content(tmp_path, cuts):
    put_trades(tmp_path / "lake", made_trades(minutes()))
    lake = Lake(tmp_path / "lake")
    whole, parts = Catalog(tmp_path / "whole"), Catalog(tmp_path / "parts")
    fetch(lake, whole, [ask(0, DAY)])
    minute = DAY // 1_440
    for start, end in zip([0, *cuts], [*cuts, 1_440], strict=True):
        fetch(lake, parts, [ask(start * minute, end * minute)], keep="window")
    assert parts.content_digest() == whole.content_digest()
    assert parts.content_digest(CatalogType.TRADES, PERP_ID) == whole.content_digest()
