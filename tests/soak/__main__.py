"""The supervisor: serves the lake, overwrites it, kills workers, and tells what came of it."""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from crash_support import CONTEXT, temporaries
from lake_support import RangeServer
from soak.audit import audit, audit_place, disk_usage
from soak.faults import Faults
from soak.log import Log, read_logs
from soak.source import OBJECTS, PLACES
from soak.worker import EVERYTHING, OPERATIONS, WORKERS, Setting, asking, config_of, work
from ticklake import backtest
from ticklake.catalog import Catalog, verify
from ticklake.fetching import fetch

FAULTS = 0.05
KILL_EVERY = 10.0
OVERWRITE_EVERY = 0.5
HANG = 90.0
"""Seconds after which an operation hangs: several fetches may wait for one another, each ends within 20."""

MEMORY = 700_000_000
"""Bytes that no process may exceed; importing the engine and a first fetch take half of it."""

TEMPORARIES = 4 * WORKERS
"""Temporary files that may be there at once: a few of each worker, and those of one that was just killed."""

GROWTH = 3
"""How many times the size of the whole lake's catalog may be on disk at once: old, new and dead."""


@dataclass
class Soak:
    """A soak under way.

    Attributes:
        setting: Where it takes place.
        server: The lake.
        faults: What is wrong with its answers.
        kills: Workers that were killed.
        versions: The version of each object that is served now.
    """

    setting: Setting
    server: RangeServer
    faults: Faults
    log: Log
    kills: int = 0
    versions: Counter[str] = field(default_factory=lambda: Counter(item.path for item in OBJECTS))
    processes: list[BaseProcess] = field(default_factory=list)
    lives: list[int] = field(default_factory=lambda: [0] * WORKERS)

    def run(self, seconds: float) -> None:
        """Let everybody work for a time, then stop them."""
        choose = random.Random(f"{self.setting.seed} supervisor")
        auditor = CONTEXT.Process(target=audit, args=(self.setting,), daemon=True)
        auditor.start()
        self.processes = [self._start(number) for number in range(WORKERS)]
        end = time.monotonic() + seconds
        next_kill = time.monotonic() + KILL_EVERY
        next_version = time.monotonic()
        while time.monotonic() < end:
            time.sleep(0.1)
            if time.monotonic() >= next_version:
                self.overwrite(choose)
                next_version += OVERWRITE_EVERY
            if time.monotonic() >= next_kill:
                self._kill(choose.randrange(WORKERS))
                next_kill += KILL_EVERY
            self._restart(auditor)
        self.faults.share = 0.0
        self.setting.stop.touch()
        for process in [*self.processes, auditor]:
            process.join(HANG)
            if process.is_alive():
                self.log.problem(f"{process.name} does not stop")
                process.kill()

    def overwrite(self, choose: random.Random) -> None:
        item = choose.choice(OBJECTS)
        self.versions[item.path] += 1
        self.server.objects[item.path] = item.content(self.versions[item.path])

    def _start(self, number: int) -> BaseProcess:
        self.lives[number] += 1
        process = CONTEXT.Process(
            target=work, args=(self.setting, number, self.lives[number]), name=f"worker {number}", daemon=True
        )
        process.start()
        return process

    def _kill(self, number: int) -> None:
        process = self.processes[number]
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            self.kills += 1

    def _restart(self, auditor: BaseProcess) -> None:
        """Begin again whom we killed; nobody else may have ended, or do one thing for too long."""
        if not auditor.is_alive():
            raise SystemExit(f"the auditor ended with exit code {auditor.exitcode}")
        for number, process in enumerate(self.processes):
            if not process.is_alive():
                if process.exitcode != -signal.SIGKILL:
                    self.log.problem(f"worker {number} ended with exit code {process.exitcode}")
                self.processes[number] = self._start(number)
                continue
            log = self.setting.logs / f"worker-{number}-{self.lives[number]:03}.jsonl"
            with suppress(FileNotFoundError):
                if time.time() - log.stat().st_mtime > HANG and process.pid is not None:
                    os.kill(process.pid, signal.SIGUSR1)
                    time.sleep(1)
                    self.log.problem(f"worker {number} hangs, see {log.with_suffix('.stack')}")
                    self._kill(number)


def finish(setting: Setting, log: Log) -> None:
    """Complete the catalog, and compare it with one that nobody disturbed."""
    fresh = Catalog(setting.folder / "fresh")
    asks = [asking(kind, key, EVERYTHING) for kind, key in PLACES]
    with log.operation("finish") as told:
        fetch(setting.lake, fresh, asks)
        fetch(setting.lake, setting.catalog, asks)
        fetch(setting.lake, setting.catalog, asks, refresh=True)
        told["whole"] = disk_usage(fresh.path)["bytes"]
        if setting.catalog.content_digest() != fresh.content_digest():
            log.problem("the catalog's content is not that of a fetch which nobody disturbed")
        for place in PLACES:
            for problem in audit_place(setting.catalog, *place)[1]:
                log.problem(problem)
        found = verify(setting.catalog)
        if found.bad or found.strays:
            log.problem(f"verify found {found.to_dict()}")
        if left := temporaries(setting.catalog.path):
            log.problem(f"temporary files are left: {left}")
        if disk_usage(setting.catalog.path)[".ticklake/damaged files"]:
            log.problem("files were set aside as damaged")
        if replayed(setting, setting.catalog) != replayed(setting, fresh):
            log.problem("a run on the catalog has other results than one on a fresh catalog")


def replayed(setting: Setting, catalog: Catalog) -> tuple[str, bytes]:
    """Return the digest of a run over everything, and the trades that its strategy was shown."""
    folder = setting.folder / "runs" / f"last-{catalog.path.name}"
    folder.mkdir(parents=True)
    config = config_of(setting.url, catalog.path, folder, PLACES[0][1], EVERYTHING)
    run = backtest(config, on_output=lambda _: None)
    return run.summary["results_digest"], (folder / "told.json").read_bytes()


@dataclass
class Result:
    """What a soak came to.

    Attributes:
        counts: How many there were of everything, in the order of the table.
        problems: What was promised and not kept.
    """

    counts: dict[str, object]
    problems: list[str]


def result_of(soak: Soak, minutes: float) -> Result:
    """Count what the logs tell, and hold disk and memory against their bounds."""
    lines = list(read_logs(soak.setting.logs))
    problems = [line["problem"] for line in lines if "problem" in line]
    ended = [line for line in lines if "end" in line]
    usages = [line["disk"] for line in ended if "disk" in line]
    disk, memory = max(usage.get("bytes", 0) for usage in usages), max(line["memory"] for line in ended)
    whole = max(line.get("whole", 0) for line in ended)
    dead = max(usage.get(".ticklake/tmp files", 0) for usage in usages)
    for what, found, allowed in (
        ("bytes of disk", disk, GROWTH * whole),
        ("bytes of memory", memory, MEMORY),
        ("temporary files", dead, TEMPORARIES),
    ):
        if found > allowed:
            problems.append(f"{found:,} {what}, more than {allowed:,}")
    if idle := OPERATIONS.keys() - {line["begin"] for line in lines if "begin" in line}:
        problems.append(f"never begun: {', '.join(sorted(idle))}")
    done = Counter(line["end"] for line in ended if not line["error"])
    errors = Counter(f"{line['end']} {line['error']}" for line in ended if line["error"])

    def total(what: str) -> str:
        return f"{sum(line.get(what, 0) for line in ended):,}"

    counts: dict[str, object] = {
        "minutes": minutes,
        **{name: f"{done[name]:,}" for name in sorted(done)},
        "rows fetched or replayed": total("rows"),
        "files written, read or removed": total("files"),
        "requests": total("requests"),
        "bytes read": total("bytes"),
        "read again after a change": total("changed"),
        "objects overwritten": f"{soak.versions.total() - len(OBJECTS):,}",
        "kills": soak.kills,
        "faults served": f"{soak.faults.served.total():,}",
        **{f"  {name}": count for name, count in sorted(soak.faults.served.items())},
        "errors": errors.total(),
        **{f"  {name}": count for name, count in sorted(errors.items())},
        "slowest operation, s": f"{max(line['seconds'] for line in ended):.1f}",
        "most memory, bytes": f"{memory:,}",
        "most disk, bytes": f"{disk:,} (the whole lake takes {whole:,})",
        "most temporary files": dead,
        "broken promises": len(problems),
    }
    return Result(counts, problems)


def main() -> int:
    """Run a soak and return its exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default="", help="repeats the choices of a soak, though not its timing")
    options = parser.parse_args()
    seed = options.seed or secrets.token_hex(4)
    print(f"soaking for {options.minutes:g} minutes with seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ticklake-soak-"))
    with RangeServer() as server:
        setting = Setting(server.url, folder, seed)
        setting.logs.mkdir()
        server.objects = {item.path: item.content(1) for item in OBJECTS}
        server.meddle = faults = Faults(seed, FAULTS)
        soak = Soak(setting, server, faults, Log(setting.logs / "supervisor.jsonl"))
        soak.run(options.minutes * 60)
        finish(setting, soak.log)
        result = result_of(soak, options.minutes)
    for name, value in result.counts.items():
        print(f"{name:34} {value}")
    if not result.problems:
        shutil.rmtree(folder)
        return 0
    for text, count in Counter(result.problems).items():
        print(f"\nBROKEN ({count} times): {text}")
    print(f"\nWhat is left lies in {folder}. Repeat with: make soak MINUTES={options.minutes:g} SEED={seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
