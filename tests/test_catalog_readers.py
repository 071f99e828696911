"""Readers, while others fetch, refresh, compact and prune: all rows, each once, and no waiting."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

import ticklake
from crash_support import CONTEXT, memory_folder, run_child
from fetch_support import (
    BTC_PERP,
    DAY,
    DEFINITION,
    ETH_PERP,
    HOUR,
    PERP_ID,
    START,
    ask,
    made_trades,
    minutes,
    put_trades,
)
from ticklake.catalog import Catalog, check_open, disk, verify
from ticklake.catalog.compaction import compact
from ticklake.catalog.disk import Action, Step
from ticklake.catalog.maintenance import prune
from ticklake.errors import CatalogError
from ticklake.fetching import execution, fetch
from ticklake.lake import Lake
from ticklake.types import CatalogType, Window

TRADES = CatalogType.TRADES
PLACE = TRADES, PERP_ID
ETH_ID = "ETHUSDT-PERP.BINANCE"
DAYS = 2
FIRST, LAST = 20, 32
"""Hours that are fetched one by one while others read: around a midnight."""
BEGIN, END = START + FIRST * HOUR, START + LAST * HOUR
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

type Row = tuple[int, str, float, float]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with memory_folder(tmp_path) as made:
        yield made


@pytest.fixture
def lake(folder: Path) -> Path:
    for key in (BTC_PERP, ETH_PERP):
        for day in range(DAYS):
            put_trades(folder / "lake", made_trades(minutes(day)), day, key)
    return folder / "lake"


def source_rows(lake: Path, windows: list[Window]) -> list[Row]:
    """Return the rows of one instrument in the lake, as DuckDB reads them."""
    inside = " or ".join(f"ts_init >= {window.start} and ts_init < {window.end}" for window in windows)
    found = duckdb.sql(
        "select ts_init, trade_id, round(price, 1), round(size, 3) "
        f"from read_parquet('{lake}/**/*{BTC_PERP}.parquet') where {inside} order by ts_init"
    )
    return [(int(time), str(name), float(price), float(size)) for time, name, price, size in found.fetchall()]


def catalog_rows(catalog: Catalog) -> list[Row]:
    """Return the rows of a catalog, file by file, as Arrow reads them."""
    rows: list[Row] = []
    for file in catalog.files(*PLACE):
        table = pq.read_table(file.path, partitioning=None)
        columns = [table["ts_init"].cast("int64"), table["trade_id"]]
        columns += [table[name].cast("float64") for name in ("price", "size")]
        rows += zip(*(column.to_pylist() for column in columns), strict=True)
    return rows


def engine_rows(catalog: Catalog, window: Window) -> list[Row]:
    """Return the rows of a catalog as the engine reads them."""
    from nautilus_trader.persistence import ParquetDataCatalog

    first, last = window.closed
    found = ParquetDataCatalog(str(catalog.path)).query_trade_ticks([PERP_ID], first, last)
    return [
        (t.ts_init, t.trade_id.value, float(t.price.as_decimal()), float(t.size.as_decimal())) for t in found
    ]


def config(folder: Path, start: int = 0, end: int = 6, **changes: Any) -> dict[str, Any]:
    return {
        "lake": {"ticks": str(folder / "lake")},
        "catalog": str(folder / "catalog"),
        "window": {"start": f"2024-08-07T{start:02}:00Z", "end": f"2024-08-07T{end:02}:00Z"},
        "instruments": [{"key": BTC_PERP, "data": ["trades"], "definition": DEFINITION}],
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "oms": "NETTING",
                "book": "L1_MBP",
                "balances": ["1_000_000 USDT"],
                "fees": {"maker": "0.0002", "taker": "0.0005"},
            }
        },
        "strategies": [
            {
                "path": "trade_momentum:TradeMomentum",
                "config_path": "trade_momentum:TradeMomentumConfig",
                "config": {"instrument_id": PERP_ID, "size": "0.1"},
            }
        ],
        "runs": str(folder / "runs"),
        **changes,
    }


def run(folder: Path, **options: Any) -> ticklake.Run:
    os.chdir(EXAMPLES)
    values = config(folder, **options.pop("values", {}))
    return ticklake.backtest(values, on_output=lambda _: None, **options)


@pytest.fixture(autouse=True)
def _examples_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)


# Everything at once.


def repeat(act: Callable[[], object], stop: Any, facts: Path) -> None:
    """Do something until told to stop, at least once, and leave behind how often."""
    done = 0
    while not done or not stop.is_set():
        act()
        done += 1
    facts.write_text(json.dumps(done))


def fetching(lake: Path, root: Path, frontier: Any, stop: Any, facts: Path) -> None:
    """Fetch hour after hour; all that is before `frontier` stays covered."""
    try:
        for hour in range(FIRST, LAST):
            fetch(Lake(lake), Catalog(root), [ask(hour * HOUR, (hour + 1) * HOUR)], keep="window")
            frontier.value = START + (hour + 1) * HOUR
    finally:
        stop.set()
    facts.write_text(json.dumps(LAST - FIRST))


def refreshing(lake: Path, root: Path, frontier: Any, stop: Any, facts: Path) -> None:
    chance = random.Random(1)

    def refresh() -> None:
        hours = (frontier.value - BEGIN) // HOUR
        hour = FIRST + chance.randrange(max(hours, 1))
        fetch(
            Lake(lake), Catalog(root), [ask(hour * HOUR, (hour + 1) * HOUR)], refresh=hours > 0, keep="window"
        )

    repeat(refresh, stop, facts)


def compacting(root: Path, stop: Any, facts: Path) -> None:
    joined = 0

    def join() -> None:
        nonlocal joined
        joined += len(compact(Catalog(root)).joined)

    repeat(join, stop, facts)
    while not joined:  # a busy machine may not have let it join anything by then
        join()
    facts.write_text(json.dumps(joined))


def pruning(lake: Path, root: Path, stop: Any, facts: Path) -> None:
    """Fetch another instrument, in parts, and prune it."""
    place = {"key": ETH_PERP, "definition": {**DEFINITION, "base": "ETH", "raw_symbol": "ETHUSDT"}}

    def prune_and_fetch() -> None:
        for hour in range(3):
            fetch(Lake(lake), Catalog(root), [ask(hour * HOUR, (hour + 1) * HOUR, **place)], keep="window")
        assert prune(Catalog(root), Window(0, START + DAY), nautilus_id=ETH_ID).removed

    repeat(prune_and_fetch, stop, facts)


def reading(lake: Path, root: Path, frontier: Any, stop: Any, facts: Path) -> None:
    """Pin and read, by ourselves and with the engine."""

    def read() -> None:
        end, catalog = frontier.value, Catalog(root)
        certain = Window(BEGIN, end) if end > BEGIN else None
        assert certain is None or catalog.missing(*PLACE, certain) == ()
        with catalog.pinned([PLACE, (TRADES, ETH_ID)]) as pinned:
            assert certain is None or pinned.missing(*PLACE, certain) == ()
            windows = [window for one in pinned.coverage(*PLACE) for window in one.windows]
            if not windows:
                return
            rows = source_rows(lake, windows)
            assert catalog_rows(pinned) == rows
            assert engine_rows(pinned, Window(BEGIN, END)) == rows
            check_open(catalog, pinned.files(*PLACE))
            for file in pinned.files(TRADES, ETH_ID):
                hours = (file.window.end - file.window.start) // HOUR
                assert pq.read_table(file.path, partitioning=None).num_rows == 60 * hours

    repeat(read, stop, facts)


def looking(root: Path, frontier: Any, stop: Any, facts: Path) -> None:
    """Ask for all that looks at many files."""
    digests = set()

    def look() -> None:
        end, catalog = frontier.value, Catalog(root)
        verified = verify(catalog)
        assert verified.bad == ()
        assert all(path.name != "" for path in verified.strays)
        if end > BEGIN:
            digests.add(catalog.content_digest(*PLACE, Window(BEGIN, BEGIN + HOUR)))
            assert len(digests) == 1
        compact(catalog, dry_run=True)
        prune(catalog, Window(0, START + DAY), dry_run=True)

    repeat(look, stop, facts)


EVENING = {"start": FIRST, "end": FIRST + 3}


def backtesting(folder: Path, frontier: Any, stop: Any, facts: Path) -> None:
    digests = set()

    def replay() -> None:
        while frontier.value < BEGIN + 3 * HOUR:
            time.sleep(0.01)
        made = run(folder, values=EVENING)
        digests.add(made.summary["results_digest"])
        assert len(digests) == 1
        assert made.summary["data"]["rows"] == {f"{PERP_ID} trades": 180}

    repeat(replay, stop, facts)
    facts.write_text(json.dumps(sorted(digests)))


def test_readers_see_all_rows_whatever_writers_do(lake: Path, folder: Path) -> None:
    root, stop = folder / "catalog", CONTEXT.Event()
    frontier = CONTEXT.Value("q", BEGIN)
    work: dict[str, Callable[..., None]] = {
        "fetching": partial(fetching, lake, root, frontier),
        "refreshing": partial(refreshing, lake, root, frontier),
        "compacting": partial(compacting, root),
        "pruning": partial(pruning, lake, root),
        "reading": partial(reading, lake, root, frontier),
        "looking": partial(looking, root, frontier),
        "backtesting": partial(backtesting, folder, frontier),
    }
    started = {
        name: CONTEXT.Process(target=one, args=(stop, folder / f"{name}.json"), name=name)
        for name, one in work.items()
    }
    for process in started.values():
        process.start()
    for process in started.values():
        process.join(300)
    assert {name: process.exitcode for name, process in started.items()} == dict.fromkeys(work, 0)
    done = {name: json.loads((folder / f"{name}.json").read_text()) for name in work}
    assert done.pop("backtesting") == [run(folder, values=EVENING).summary["results_digest"]]
    assert all(count > 0 for count in done.values()), done
    catalog = Catalog(root)
    assert catalog_rows(catalog) == source_rows(lake, [Window(BEGIN, END)])
    compact(catalog)
    assert len(catalog.files(*PLACE)) == 2
    assert list((root / ".ticklake" / "pins").iterdir()) == []


# Nobody waits.


def hold_the_lock(root: Path, held: Any, done: Any) -> None:
    with Catalog(root).lock(*PLACE):
        held.set()
        done.wait(300)


def read_everything(folder: Path) -> None:
    catalog = Catalog(folder / "catalog")
    window = Window(START, START + 6 * HOUR)
    assert catalog.coverage()
    assert verify(catalog).bad == ()
    assert catalog.content_digest()
    assert compact(catalog, dry_run=True).joined
    assert fetch(Lake(folder / "lake"), catalog, [ask(0, 6 * HOUR)]).files == 0
    with catalog.pinned([PLACE]) as pinned:
        assert pinned.path != catalog.path
        rows = source_rows(folder / "lake", [window])
        assert catalog_rows(pinned) == engine_rows(pinned, window) == rows
    assert run(folder).summary["data"]["rows"] == {f"{PERP_ID} trades": 360}


@pytest.mark.parametrize("recorded", [True, False])
def test_nobody_who_reads_waits_for_who_writes(lake: Path, folder: Path, recorded: bool) -> None:
    root, held, done = folder / "catalog", CONTEXT.Event(), CONTEXT.Event()
    for hour in (0, 3):
        fetch(Lake(lake), Catalog(root), [ask(hour * HOUR, (hour + 3) * HOUR)], keep="window")
    if not recorded:  # all is checked, and cannot be recorded
        for record in (root / ".ticklake" / "manifest").rglob("*.json"):
            record.unlink()
    holder = CONTEXT.Process(target=hold_the_lock, args=(root, held, done))
    holder.start()
    assert held.wait(60)
    try:
        assert run_child(read_everything, folder) == 0
    finally:
        done.set()
        holder.join(60)
    assert holder.exitcode == 0


def test_what_is_pruned_before_it_is_planned_is_locked_before_it_is_written(
    lake: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, pruned, waited = Catalog(folder / "catalog"), [], []
    fetch(Lake(lake), root, [ask(0, HOUR)])
    plain = execution.plan_resolved

    def plan(*args: Any, **options: Any) -> Any:
        if not pruned:
            pruned.append(prune(root, Window(0, START + DAY)))
        return plain(*args, **options)

    def locked(step: Step) -> None:
        if step.action is Action.RENAME and step.target is not None and "trades" in step.target.parts:
            with pytest.raises(CatalogError, match="another process"), root.lock(*PLACE, timeout=0):
                pass
            waited.append(step.target)

    monkeypatch.setattr(execution, "plan_resolved", plan)
    with disk.observe(locked):
        assert fetch(Lake(lake), root, [ask(0, HOUR)]).files == 1
    assert waited


# Runs.


def refuse_links(step: Step) -> None:
    if step.action is Action.LINK:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_run_keeps_its_files_whatever_happens_to_the_catalog(lake: Path, folder: Path) -> None:
    root, whole_day = Catalog(folder / "catalog"), Window(0, START + DAY)
    for hour in (0, 3):
        fetch(Lake(lake), root, [ask(hour * HOUR, (hour + 3) * HOUR)], keep="window")
    undisturbed = run(folder)
    shared: list[int] = []

    def tidy_up(step: Step) -> None:
        """Once all is pinned and before the engine begins: at the run folder's own links, that is."""
        if step.action is Action.LINK and not shared:
            shared.append(len(compact(root).joined))

    with disk.observe(tidy_up):
        compacted = run(folder)
    assert shared == [1]
    assert compacted.summary["results_digest"] == undisturbed.summary["results_digest"]
    assert len(undisturbed.provenance["files"]) == 2
    assert len(compacted.provenance["files"]) == 1
    for document in (undisturbed.provenance, compacted.provenance):
        assert all(file["path"].startswith(f"data/trades/{PERP_ID}/") for file in document["files"])

    pruned: list[int] = []

    def prune_all(_: float) -> None:
        if not pruned:
            pruned.append(len(prune(root, whole_day).removed))

    again = run(folder, on_simulated=prune_all, values={"engine": {"chunk_size": 1_000}})
    assert again.summary["results_digest"] == undisturbed.summary["results_digest"]
    assert list((root.path / ".ticklake" / "pins").iterdir()) == []


def test_what_was_removed_before_a_run_pinned_it_is_told(lake: Path, folder: Path) -> None:
    root = Catalog(folder / "catalog")

    def prune_all(_: object) -> None:
        prune(root, Window(0, START + DAY))

    with pytest.raises(CatalogError, match="removed from the catalog while the run began") as caught:
        run(folder, on_fetched=prune_all)
    assert "Run it again" in (caught.value.hint or "")
    assert run(folder).summary["data"]["rows"] == {f"{PERP_ID} trades": 360}


def test_a_run_on_a_catalog_without_links_says_so(lake: Path, folder: Path) -> None:
    with disk.observe(refuse_links):
        made = run(folder)
    assert any("no hard links" in text for text in made.summary["data"]["warnings"])
    assert made.summary["data"]["rows"] == {f"{PERP_ID} trades": 360}
    assert not any("no hard links" in text for text in run(folder).summary["data"]["warnings"])
