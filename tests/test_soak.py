"""The soak's audit finds what it is there to find; `make soak` runs the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fetch_support import BTC_PERP, HOUR, START
from lake_support import RangeServer
from soak.audit import audit_place, disk_usage
from soak.log import Log, read_logs
from soak.source import IDS, OBJECTS, SOURCES
from soak.worker import asking
from ticklake.catalog import Catalog
from ticklake.errors import CatalogError, LakeError
from ticklake.fetching import fetch
from ticklake.lake import Lake
from ticklake.types import CatalogType, Window

# Over midnight, where rows of two objects are in one hour.
WINDOW = Window(START + 20 * HOUR, START + 26 * HOUR)


def fetched(folder: Path, kind: CatalogType, version: int) -> tuple[Catalog, list[Path]]:
    """Fetch one version of the lake, and return the catalog's files."""
    catalog = Catalog(folder / f"catalog{version}")
    with RangeServer() as server:
        server.objects = {
            item.path: item.content(version)
            for item in OBJECTS
            if (item.key, item.data_type) == (BTC_PERP, SOURCES[kind][0])
        }
        fetch(Lake(server.url), catalog, [asking(kind, BTC_PERP, WINDOW)])
    return catalog, [file.path for file in catalog.files(kind, IDS[BTC_PERP])]


def middle(table: pa.Table, other: pa.Table) -> pa.Table:
    """Lose a row."""
    at = table.num_rows // 2
    return pa.concat_tables([table.slice(0, at), table.slice(at + 1)])


def twice(table: pa.Table, other: pa.Table) -> pa.Table:
    """Have a row twice."""
    at = table.num_rows // 2
    return pa.concat_tables([table.slice(0, at + 1), table.slice(at)])


def mixed(table: pa.Table, other: pa.Table) -> pa.Table:
    """Go on with another version in the middle of an hour."""
    time = START + 21 * HOUR + HOUR // 2
    first, second = (
        each["ts_init"].cast(pa.int64()).to_numpy().searchsorted(time) for each in (table, other)
    )
    return pa.concat_tables([table.slice(0, first), other.slice(second)])


def replaced(table: pa.Table, other: pa.Table) -> pa.Table:
    """Be of another version than the provenance says."""
    return other


@pytest.mark.parametrize("kind", CatalogType)
@pytest.mark.parametrize("harm", [middle, twice, mixed, replaced])
def test_rows_that_no_version_has_are_found(
    tmp_path: Path, kind: CatalogType, harm: Callable[[pa.Table, pa.Table], pa.Table]
) -> None:
    catalog, paths = fetched(tmp_path, kind, 1)
    assert audit_place(catalog, kind, BTC_PERP) == (2, [])
    _, others = fetched(tmp_path, kind, 2)
    table, other = (pq.read_table(files[0], partitioning=None) for files in (paths, others))
    metadata = pq.read_metadata(paths[0]).metadata
    pq.write_table(harm(table, other).replace_schema_metadata(metadata), paths[0])
    checked, problems = audit_place(catalog, kind, BTC_PERP)
    assert checked == 2
    assert problems


def test_bad_rows_that_are_lost_are_found(tmp_path: Path) -> None:
    catalog, _ = fetched(tmp_path, CatalogType.TRADES, 1)
    kept = list((catalog.path / "quarantine").rglob("*.parquet"))
    assert kept
    for path in kept:
        path.unlink()
    assert len(audit_place(catalog, CatalogType.TRADES, BTC_PERP)[1]) == len(kept)


def test_only_errors_of_an_expected_type_are_no_problem(tmp_path: Path) -> None:
    log = Log(tmp_path / "worker.jsonl")
    for error in (LakeError("expected"), CatalogError("not expected"), FileNotFoundError("nor is this")):
        with log.operation("fetch", {LakeError}):
            raise error
    problems = [line["problem"] for line in read_logs(tmp_path) if "problem" in line]
    assert len(problems) == 2
    assert "not expected" in problems[0]
    assert "nor is this" in problems[1]


def test_a_file_takes_its_bytes_once_whatever_names_it_has(tmp_path: Path) -> None:
    folder, pins = tmp_path / "data", tmp_path / ".ticklake" / "pins"
    folder.mkdir()
    pins.mkdir(parents=True)
    (folder / "one").write_bytes(b"12345")
    (folder / "two").write_bytes(b"12345")
    (pins / "one").hardlink_to(folder / "one")
    assert disk_usage(tmp_path) == {"bytes": 10, "data files": 2, ".ticklake/pins files": 1}
