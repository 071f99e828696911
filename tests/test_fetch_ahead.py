"""What a cold fetch asks for at once: the instrument lists, and the footers of what nobody fetched yet."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetch_support import BTC_PERP, ETH_PERP, INSTRUMENTS, TICKS, request
from lake_support import RangeServer, Request
from ticklake.catalog import Catalog
from ticklake.errors import ConfigError, CorruptObjectError, NotListedError
from ticklake.fetching import FetchRequest, fetch, plan_fetch
from ticklake.lake import Lake
from ticklake.synth import write_synthetic_lake

DAY = dt.date(2024, 8, 8)
HOURS = ("2024-08-08T10:00:00Z", "2024-08-08T12:00:00Z")
WAIT = 20.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    folder = tmp_path / "lake"
    write_synthetic_lake(folder, start=DAY, days=1, trades_per_day=2_000, snapshots_per_day=5)
    with RangeServer() as server:
        server.objects = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")
        }
        yield server


@pytest.fixture
def lake(server: RangeServer) -> Lake:
    return Lake(f"{server.url}/{TICKS}", f"{server.url}/{INSTRUMENTS}")


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


def asked() -> list[FetchRequest]:
    return [request(key, "trades", *HOURS) for key in (BTC_PERP, ETH_PERP)]


def ticks_of(key: str, server: RangeServer) -> str:
    name = key.split("@", maxsplit=1)[0]
    (path,) = (path for path in server.objects if "data_type-trades" in path and name in path)
    return path


def test_footers_are_asked_for_while_lists_are_on_their_way(
    server: RangeServer, lake: Lake, catalog: Catalog
) -> None:
    footers = {ticks_of(key, server): threading.Event() for key in (BTC_PERP, ETH_PERP)}
    met = []

    def before(request: Request) -> None:
        if request.path in footers:
            footers[request.path].set()
        elif request.path.startswith(INSTRUMENTS):
            met.append(all(event.wait(WAIT) for event in footers.values()))

    server.before = before
    assert fetch(lake, catalog, asked()).rows > 100
    assert met
    assert all(met)
    asked_for = [(one.path, one.headers.get("range")) for one in server.requests.log]
    assert len(asked_for) == len(set(asked_for)), "nothing twice"


def test_what_the_catalog_knows_is_not_asked_for_ahead(
    server: RangeServer, lake: Lake, catalog: Catalog
) -> None:
    fetch(lake, catalog, asked())
    server.requests.clear()
    again = Lake(f"{server.url}/{TICKS}", f"{server.url}/{INSTRUMENTS}")
    assert fetch(again, catalog, asked()).requests == 0
    assert server.requests.log == []


@pytest.mark.parametrize("do", [fetch, plan_fetch])
def test_what_nobody_took_is_forgotten(server: RangeServer, lake: Lake, catalog: Catalog, do) -> None:
    path = ticks_of(BTC_PERP, server)
    gone = server.objects[path]
    (listed,) = (path for path in server.objects if path.startswith(INSTRUMENTS))
    lists = server.objects.pop(listed)
    with pytest.raises((ConfigError, NotListedError)):
        do(lake, catalog, asked())
    server.objects[path] = server.objects[ticks_of(ETH_PERP, server)]
    server.objects[listed] = lists
    (found,) = lake.scan(BTC_PERP, "trades", request(BTC_PERP, "trades", *HOURS).window).plan().objects
    assert found.source.size == len(server.objects[path]) != len(gone)


def test_a_bad_footer_is_told_after_what_is_wrong_with_the_instrument(
    server: RangeServer, lake: Lake, catalog: Catalog
) -> None:
    server.objects[ticks_of(BTC_PERP, server)] = b"junk" * 100
    with pytest.raises(CorruptObjectError, match="Parquet"):
        fetch(lake, catalog, asked())
    (listed,) = (path for path in server.objects if path.startswith(INSTRUMENTS))
    del server.objects[listed]
    with pytest.raises(ConfigError, match="instrument list"):
        fetch(Lake(f"{server.url}/{TICKS}", f"{server.url}/{INSTRUMENTS}"), catalog, asked())
