"""The auditor: reads the catalog again and again while others write, and tells what ought not to be."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from soak.log import Log
from soak.source import DAYS, IDS, PLACES, SOURCES, SourceObject, problems_of, read_marks
from ticklake.catalog import Catalog, CatalogFile
from ticklake.catalog.provenance import provenance_of
from ticklake.types import CatalogType

if TYPE_CHECKING:
    from soak.worker import Setting

__all__ = ["audit", "audit_place", "disk_usage"]


def audit(setting: Setting) -> None:
    """Audit all places in turn until the end."""
    log = Log(setting.logs / "auditor.jsonl")
    while not setting.stop.exists():
        for place in PLACES:
            with log.operation("audit") as told:
                told["files"], problems = audit_place(setting.catalog, *place)
                for problem in problems:
                    log.problem(problem)
                told["disk"] = disk_usage(setting.catalog.path)
        # What was just found sound is looked at again when others had their turn.
        time.sleep(0.2)


def audit_place(catalog: Catalog, kind: CatalogType, key: str) -> tuple[int, list[str]]:
    """Check all files of a place, each as it is when it is opened; return how many, and what is wrong."""
    problems: list[str] = []
    checked = 0
    for file in catalog.files(kind, IDS[key]):
        try:
            stream = file.path.open("rb")
        except FileNotFoundError:  # pruned, or joined with others
            continue
        with stream:
            problems += [f"{file.path}: {text}" for text in _problems(catalog, file, stream, kind, key)]
        checked += 1
    return checked, problems


def _problems(
    catalog: Catalog, file: CatalogFile, stream: BinaryIO, kind: CatalogType, key: str
) -> list[str]:
    try:
        marks = read_marks(kind, stream)
        stream.seek(0)
        origin = provenance_of(pq.read_metadata(stream).metadata, file.path)
    except (ValueError, pa.ArrowException) as exc:
        return [str(exc)]
    problems, seen = problems_of(kind, key, file.window, marks)
    if origin is None:
        return [*problems, "it has no provenance"]
    named = {(source.url.partition("/raw_")[2], source.etag) for source in origin.sources}
    for day, version in seen:
        if 0 <= day < DAYS:
            item = SourceObject(key, SOURCES[kind][0], day)
            if (item.path.removeprefix("raw_"), item.etag(version)) not in named:
                problems.append(f"its provenance does not name version {version} of day {day}: {named}")
    # Files that were joined may have versions of several fetches; a file of one fetch has one of each object.
    urls = Counter(source.url for source in origin.sources)
    if len(seen) > sum(urls.values()):
        problems.append(f"it has more versions than sources: {seen}")
    problems += _bad_rows_problems(catalog, file, stream, origin.quarantine, origin.quarantined.total())
    return problems


def _bad_rows_problems(
    catalog: Catalog, file: CatalogFile, stream: BinaryIO, name: str, count: int
) -> list[str]:
    """Check that the bad rows of a file are kept as long as it is there."""
    if not name:
        return []
    folder = catalog.path / "quarantine" / file.path.parent.relative_to(catalog.path / "data")
    try:
        kept = pq.read_metadata(folder / name).num_rows
    except FileNotFoundError:
        kept = -1
    if kept == count or not _is_there(file.path, stream):
        return []
    return [f"{count} bad rows of it are not kept in {name}, which has {kept}"]


def _is_there(path: Path, stream: BinaryIO) -> bool:
    try:
        return path.stat().st_ino == os.fstat(stream.fileno()).st_ino
    except FileNotFoundError:
        return False


def disk_usage(folder: Path) -> Counter[str]:
    """Return the bytes of a catalog, and the number of files in each of its folders.

    Runs hold what they replay by hard links: a file takes its bytes once, whatever the number of its names.
    """
    found: Counter[str] = Counter()
    counted: set[int] = set()
    for parent, _, names in os.walk(folder):
        part = Path(parent).relative_to(folder).parts
        for name in names:
            with suppress(FileNotFoundError):
                status = (Path(parent) / name).stat()
                found[f"{'/'.join(part[: 1 + part[0].startswith('.')])} files"] += 1
                if status.st_ino not in counted:
                    counted.add(status.st_ino)
                    found["bytes"] += status.st_size
    return found
