"""What a catalog holds and lacks, hour by hour, against a list of hours."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetch_support import BTC_PERP, DAY, HOUR, PERP_ID, START, ask, made_trades, minutes, put_trades
from ticklake.catalog import Catalog
from ticklake.catalog.naming import file_name
from ticklake.fetching import fetch
from ticklake.fetching.survey import Status, Survey, survey
from ticklake.lake import Lake
from ticklake.types import Window

HOURS = 72


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Path, Path]:
    """A lake that lacks the second of three days, and a catalog's files with and without rows."""
    folder = tmp_path_factory.mktemp("survey")
    put_trades(folder / "lake", made_trades(minutes(0)[60:]), rows=60)
    put_trades(folder / "lake", made_trades(minutes(2)), 2)
    lake, catalog = Lake(folder / "lake"), Catalog(folder / "made")
    fetch(lake, catalog, [ask(0, HOUR)])
    fetch(lake, catalog, [ask(HOUR, 24 * HOUR)])
    empty, full = catalog.files("trades", PERP_ID)
    return lake, full.path, empty.path


def hours_of(found: Survey) -> list[str]:
    """Return the status of each hour, having checked that the stretches are a partition of the window."""
    (row,) = found.rows
    assert found.window is not None
    edges = [
        found.window.start,
        *(edge for each in row.stretches for edge in (each.window.start, each.window.end)),
    ]
    edges.append(found.window.end)
    assert edges[::2] == edges[1::2]
    assert all(one.status is not other.status for one, other in itertools.pairwise(row.stretches))
    first = (found.window.start - START) // HOUR
    assert first >= 0
    told = [""] * first
    for each in row.stretches:
        told += [str(each.status)] * ((each.window.end - each.window.start) // HOUR)
    return told


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["", "full", "empty"]), min_size=HOURS, max_size=HOURS), st.booleans())
def test_every_hour_has_the_status_that_it_should(made, tmp_path_factory, held, with_lake) -> None:
    lake, full, empty = made
    catalog = Catalog(tmp_path_factory.mktemp("catalog"))
    folder = catalog.path / "data" / "trades" / PERP_ID
    folder.mkdir(parents=True)
    at = files = 0
    for kind, group in itertools.groupby(held):
        count = len(list(group))
        window = Window(START + at * HOUR, START + (at + count) * HOUR)
        if kind:
            shutil.copy(full if kind == "full" else empty, folder / file_name(window))
            files += 1
        at += count
    requests = [ask(0, 3 * DAY)] if with_lake else []
    found = survey(catalog, requests, lake if with_lake else None)
    if not found.rows:
        assert not files
        return
    names = {"full": Status.COVERED, "empty": Status.EMPTY, "": Status.NOT_FETCHED}
    wanted = [
        str(Status.HOLE if with_lake and not kind and 24 <= hour < 48 else names[kind])
        for hour, kind in enumerate(held)
    ]
    told = hours_of(found)
    days = [hour // 24 for hour, kind in enumerate(held) if kind]
    first, last = (0, HOURS) if with_lake else (min(days) * 24, (max(days) + 1) * 24)
    assert told[first:] == wanted[first:last]
    assert found.rows[0].files == files


def test_the_lake_of_another_catalog_is_not_asked(made, tmp_path) -> None:
    _, full, _ = made
    folder = tmp_path / "catalog" / "data" / "trades" / PERP_ID
    folder.mkdir(parents=True)
    for day in (0, 2):
        shutil.copy(full, folder / file_name(Window(START + day * DAY, START + (day + 1) * DAY)))
    (tmp_path / "other").mkdir()
    found = survey(Catalog(tmp_path / "catalog"), lake=Lake(tmp_path / "other"))
    assert [str(each.status) for each in found.rows[0].stretches] == ["covered", "not fetched", "covered"]
    assert (found.rows[0].lake_key, found.rows[0].data_type) == (BTC_PERP, "trades")


def test_nothing_is_nothing(tmp_path) -> None:
    assert survey(Catalog(tmp_path)) == Survey((), None)
