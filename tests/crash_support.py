"""A small fetch that touches all that a catalog keeps, to be interrupted, and a disk that loses power."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.catalog import Catalog, disk, read_provenance
from ticklake.catalog.disk import Action, Step
from ticklake.catalog.naming import parse_file_name
from ticklake.fetching import FetchReport, FetchRequest, fetch
from ticklake.lake import Lake
from ticklake.types import Window

# A server that has imported all and forks a child for each trial, before any thread of ours is there.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["ticklake.fetching", "ticklake.instruments", "nautilus_trader.model", "nautilus_trader.persistence"]
)

KEY = "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN"
NAUTILUS_ID = "BTCUSDT-PERP.BINANCE"
START = Window.parse("2024-08-07", "2024-08-08").start
HOUR = 3_600 * 10**9
WINDOW = Window(START + HOUR, START + 47 * HOUR)


def write_lake(folder: Path, version: int) -> Path:
    """Write trades and books of two days, some rows of which are bad; of the second version others are."""
    for day in range(2):
        times = [START + day * 24 * HOUR + i * HOUR // 2 for i in range(48)]
        bad = range(3, 3 + (2, 1, 3, 0)[2 * version + day - 2])
        prices = [-1.0 if i in bad else 60_000 + i / 10 for i in range(48)]
        whens = {"ts_event": pa.array(times), "ts_init": pa.array(times)}
        trades = {
            "price": pa.array(prices),
            "size": pa.array([0.001 * version] * 48),
            "aggressor_side": pa.array([1] * 48, pa.int8()),
            "trade_id": pa.array([f"{version}-{day}-{i}" for i in range(48)]),
        }
        book = {}
        for level in range(5):
            for side, sign in (("bid", -1), ("ask", 1)):
                book[f"{side}_price_{level}"] = pa.array([60_000 + sign * (1 + level) / 10] * 48)
                book[f"{side}_size_{level}"] = pa.array([float(version)] * 48)
        for kind, columns in (("trades", trades), ("book_snapshot_5", book)):
            date = Window(times[0], times[0] + 1).days[0]
            path = folder / f"raw_tick_data/by_date/day-{date}/data_type-{kind}/{KEY}.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(pa.table(columns | whens), path, row_group_size=12)
    return folder


def fetch_all(lake: Path, catalog: Path, version: int) -> FetchReport:
    """Fetch all of the first version, or refresh it with the second, by which it is another instrument."""
    definition = {
        "type": "perpetual" if version == 1 else "spot",
        "base": "BTC",
        "quote": "USDT",
        "raw_symbol": "BTCUSDT",
        "tick_size": "0.1",
        "min_size": "0.001",
    }
    requests = [
        FetchRequest(key=KEY, data_type=kind, window=WINDOW, definition=definition, nautilus_id=NAUTILUS_ID)
        for kind in ("trades", "book_snapshot_5")
    ]
    # One after another, so that the n-th step is the same each time.
    return fetch(Lake(lake), Catalog(catalog), requests, refresh=version == 2, jobs=1)


def content(catalog: Path) -> dict[str, bytes]:
    """Return all published files by relative path: ticks, definitions and bad rows."""
    return {
        str(path.relative_to(catalog)): path.read_bytes()
        for folder in ("data", "quarantine")
        for path in sorted((catalog / folder).rglob("*"))
        if path.is_file()
    }


def temporaries(catalog: Path) -> list[Path]:
    """Return the temporary files that are there."""
    return list((catalog / ".ticklake" / "tmp").glob("*"))


def check_whole(catalog: Path) -> None:
    """Check that all that is covered can be read, by us and by the engine, and so the bad rows of it."""
    from nautilus_trader.persistence import ParquetDataCatalog

    rows = {"trades": 0, "order_book_deltas": 0}
    for kind in rows:
        for path in (catalog / "data" / kind).rglob("*.parquet"):
            assert parse_file_name(path.name) is not None
            table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
            origin = read_provenance(path)
            assert origin is not None
            assert table.num_rows == origin.counts["rows"]
            if origin.quarantine:
                kept = catalog / "quarantine" / kind / path.parent.name / origin.quarantine
                assert pq.read_table(kept, partitioning=None).num_rows == origin.quarantined.total()
            rows[kind] += table.num_rows
    if not catalog.exists():  # killed before anything was done
        return
    engine = ParquetDataCatalog(str(catalog))
    assert len(engine.query_trade_ticks()) == rows["trades"]
    assert len(engine.query_order_book_deltas()) == rows["order_book_deltas"]
    engine.instruments()


FOLDER = -1
"""Stands for a folder where an inode's number stands for a file."""


class Disk:
    """What is on a disk, and what is only on its way there: a model of a file system that loses power.

    What was synced stays. Of what was not, anything may be there: of a file any number of its writes, of each
    name any of the things that it stood for since its folder was synced last.
    """

    def __init__(self, base: Path, there: dict[str, bytes]) -> None:
        self._base = base
        self._writes: list[list[bytes]] = []
        self._synced: list[int] = []
        self._names: dict[Path, list[int | None]] = {}
        for name, data in there.items():
            path = base / name
            for folder in reversed(path.relative_to(base).parents[:-1]):
                self._names[base / folder] = [FOLDER]
            self._names[path] = [len(self._writes)]
            self._writes.append([data])
            self._synced.append(1)

    def _now(self, path: Path) -> int | None:
        return self._names.get(path, [None])[-1]

    def _set(self, path: Path, value: int | None) -> None:
        if self._now(path) != value:
            self._names.setdefault(path, [None]).append(value)

    def do(self, step: Step) -> None:
        """Carry out a step that was recorded before it was done."""
        path = step.path
        match step.action:
            case Action.MAKE_FOLDER:
                self._set(path, FOLDER)
            case Action.CREATE:
                self._set(path, len(self._writes))
                self._writes.append([])
                self._synced.append(0)
            case Action.WRITE | Action.SYNC as action:
                node = self._now(path)
                assert node is not None
                if action is Action.WRITE:
                    self._writes[node].append(step.data)
                else:
                    self._synced[node] = len(self._writes[node])
            case _:
                self._change_names(step)

    def _change_names(self, step: Step) -> None:
        path = step.path
        inside = [each for each in self._names if each.parent == path]
        match step.action:
            case Action.RENAME:
                assert step.target is not None
                self._set(step.target, self._now(path))
                self._set(path, None)
            case Action.REMOVE:
                self._set(path, None)
            case Action.REMOVE_FOLDER:
                if all(self._now(each) is None for each in inside):
                    self._set(path, None)
            case Action.SYNC_FOLDER:
                self._names |= {each: [self._now(each)] for each in inside}

    def after_loss(self, choose: Callable[[int, int], int]) -> dict[str, bytes]:
        """Return the files, by relative path, that are there when power is back.

        Args:
            choose: Returns what there is of what was not synced, from the first (nothing) to the last (all).
        """
        nodes = {path: values[choose(0, len(values) - 1)] for path, values in self._names.items()}
        found = {}
        for path, node in nodes.items():
            folders = path.relative_to(self._base).parents[:-1]
            if node in (None, FOLDER) or any(nodes.get(self._base / each) != FOLDER for each in folders):
                continue
            assert node is not None
            kept = choose(self._synced[node], len(self._writes[node]))
            found[str(path.relative_to(self._base))] = b"".join(self._writes[node][:kept])
        return found


def at_step(number: int, act: Callable[[], object], *, lasting: bool = False) -> AbstractContextManager[None]:
    """Do something before the n-th change of the disk, counted from 0, or before all from there on."""
    seen = 0

    def count(_: Step) -> None:
        nonlocal seen
        seen += 1
        if seen == number + 1 or (lasting and seen > number):
            act()

    return disk.observe(count)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _killed(number: int, lake: Path, catalog: Path, version: int) -> None:
    with at_step(number, die):
        fetch_all(lake, catalog, version)


@contextmanager
def memory_folder(fallback: Path) -> Iterator[Path]:
    """Return a new folder in memory, where syncing costs nothing, or elsewhere if there is no such place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else fallback) as folder:
        yield Path(folder)


def _recovering(lake: Path, catalog: Path, version: int, facts: Path) -> None:
    check_whole(catalog)
    report = fetch_all(lake, catalog, version)
    check_whole(catalog)
    # Where nothing was left to write, nothing was cleared either.
    facts.write_text(json.dumps(len(temporaries(catalog)) if report.files else 0))


def run_child(target: Callable[..., None], *arguments: object) -> int | None:
    """Run a function in a process of its own and return its exit code."""
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def killed_at(number: int, lake: Path, catalog: Path, version: int) -> bool:
    """Fetch in a process that is killed at a step; tell whether it came that far."""
    code = run_child(_killed, number, lake, catalog, version)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def recover(lake: Path, catalog: Path, version: int) -> None:
    """Check what is there, and fetch again, in a fresh process."""
    facts = catalog.with_name(f"{catalog.name}.json")
    assert run_child(_recovering, lake, catalog, version, facts) == 0
    assert json.loads(facts.read_text()) == 0
