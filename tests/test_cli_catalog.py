"""The commands that look after a catalog, run as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_support import cli
from fetch_support import (
    BTC_PERP,
    DAY,
    DEFINITION,
    PERP_ID,
    START,
    Lake,
    ask,
    made_trades,
    minutes,
    put_trades,
)
from test_cli import ticklake
from ticklake.catalog import Catalog
from ticklake.catalog.maintenance import prune as prune_catalog
from ticklake.fetching import fetch

__all__ = ["cli"]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A catalog of two days, and the config that it was fetched with."""
    for day in range(2):
        put_trades(tmp_path / "lake", made_trades(minutes(day)), day)
    catalog = Catalog(tmp_path / "catalog")
    fetch(Lake(tmp_path / "lake"), catalog, [ask(0, 2 * DAY)])
    config = {
        "lake": {"ticks": str(tmp_path / "lake")},
        "catalog": str(tmp_path / "catalog"),
        "window": {"start": "2024-08-07", "end": "2024-08-09"},
        "instruments": [{"key": BTC_PERP, "data": ["trades"], "definition": DEFINITION}],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    return catalog


def spoil(catalog: Catalog) -> Path:
    path = min((catalog.path / "data" / "trades").rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    return path


def document(*arguments: object, code: int = 0) -> dict[str, Any]:
    return json.loads(ticklake(*arguments, "--json", code=code).stdout)


def test_verify_finds_and_repairs(catalog, tmp_path):
    before = catalog.content_digest()
    report = document("verify", catalog.path)
    assert (report["files"], report["rows"], report["bad"]) == (4, 2_880, [])
    assert "4 files whole (2,880 rows), 0 bad." in ticklake("verify", catalog.path).stdout

    path = spoil(catalog)
    (bad,) = document("verify", tmp_path / "run.yaml", code=1)["bad"]
    assert (bad["path"], bad["start"]) == (str(path), "2024-08-07T00:00:00Z")
    assert str(path) in ticklake("verify", catalog.path, code=1).stdout
    refused = ticklake("verify", catalog.path, "--repair", code=2).stderr
    assert "--repair wants a run config" in refused

    mended = document("verify", tmp_path / "run.yaml", "--repair")
    assert mended["bad"] == []
    assert [each["path"] for each in mended["set_aside"]] == [str(path)]
    assert mended["fetched"]["rows"] == 1_440
    assert catalog.content_digest() == before


def test_a_repair_tells_of_definitions_too(catalog, tmp_path):
    files = [file.path for file in catalog.definitions(PERP_ID)]
    files[0].write_bytes(files[0].read_bytes()[:100])
    done = ticklake("verify", tmp_path / "run.yaml", "--repair").stdout.splitlines()
    assert [line for line in done if str(files[0]) in line] == [
        f"set aside {files[0]}",
        f"defined again {files[0]}",
    ]
    assert done[-1].endswith("0 bad.")
    assert [file.path for file in catalog.definitions(PERP_ID)] == files
    files[1].write_bytes(b"")
    mended = document("verify", tmp_path / "run.yaml", "--repair")
    assert (mended["defined"], mended["bad"]) == ([str(files[1])], [])


def test_compact_joins_what_was_fetched_in_parts(tmp_path):
    put_trades(tmp_path / "lake", made_trades(minutes()))
    catalog = Catalog(tmp_path / "catalog")
    for start in range(4):
        fetch(Lake(tmp_path / "lake"), catalog, [ask(start * DAY // 4, (start + 1) * DAY // 4)])
    assert document("compact", catalog.path, "--type", "order_book_deltas")["files"] == 0
    dry = document("compact", catalog.path, "--dry-run")
    assert (dry["files"], dry["dry_run"]) == (4, True)
    assert catalog.coverage()[0].files == 4
    assert "4 files would be joined into 1." in ticklake("compact", catalog.path, "--dry-run").stdout
    text = ticklake("compact", catalog.path).stdout
    assert "4 files joined into 1." in text
    assert "1,440" in text
    assert catalog.coverage()[0].files == 1
    assert document("compact", catalog.path)["joined"] == []


def test_compact_says_what_it_leaves_alone(catalog):
    (first, *_), root = catalog.files("trades", PERP_ID), catalog.path
    prune_catalog(catalog, first.window)
    hour = DAY // 24
    for start in range(2):
        fetch(Lake(root.parent / "lake"), catalog, [ask(start * hour, (start + 1) * hour)])
    path = spoil(catalog)
    (left,) = document("compact", root)["left"]
    assert left["path"] == str(path)
    assert "damaged" in left["reason"]
    assert str(path) in "".join(ticklake("compact", root).stderr.split())


def test_prune_by_age_and_by_window(catalog):
    dry = document("prune", catalog.path, "--before", "2024-08-08", "--dry-run")
    assert (dry["files"], dry["dry_run"]) == (1, True)
    assert len(catalog.coverage()[0].windows) == 1
    text = ticklake("prune", catalog.path, "--before", "2024-08-08").stdout
    assert "1 file, " in text
    assert catalog.coverage()[0].windows[0].start == START + DAY
    window = ("--start", "2024-08-08", "--end", "2024-08-09")
    assert document("prune", catalog.path, *window, "--type", "order_book_deltas")["files"] == 0
    assert document("prune", catalog.path, *window)["files"] == 1
    assert catalog.coverage() == []


@pytest.mark.parametrize(
    "arguments",
    [(), ("--start", "2024-08-08"), ("--before", "noon"), ("--before", "2024-08-08", "--type", "x")],
)
def test_prune_wants_to_know_exactly_what(catalog, arguments):
    ticklake("prune", catalog.path, *arguments, code=2)
    assert sum(each.files for each in catalog.coverage()) == 2


def test_doctor_tells_what_is_to_be_done(catalog, tmp_path):
    catalog.path.chmod(0o700)
    assert document("doctor", tmp_path / "run.yaml")["healthy"]
    assert re.search(r"disk: [\d.]+ [kMGT]B are free at ", ticklake("doctor", catalog.path).stdout)
    stray = next((catalog.path / "data" / "trades").iterdir()) / "mine.parquet"
    stray.write_bytes(b"PAR1")
    (finding,) = (one for one in document("doctor", catalog.path, code=1)["findings"] if one["wrong"])
    assert finding["check"] == "strays"
    assert str(stray) in ticklake("doctor", catalog.path, code=1).stdout


@pytest.mark.parametrize(
    "command", [("verify",), ("compact",), ("coverage",), ("doctor",), ("prune", "--before", "2024-08-08")]
)
def test_a_folder_of_something_else_is_no_catalog(cli, tmp_path, command):
    name, *flags = command
    (tmp_path / ".DS_Store").touch()
    cli(0, name, tmp_path, *flags)  # one that is empty is a new catalog
    (tmp_path / "raw_tick_data").mkdir()
    _, told = cli(2, name, tmp_path, *flags)
    assert f"{tmp_path} is no catalog: it has no folder data, but raw_tick_data. Name the folder" in told


def test_a_folder_that_is_not_there_is_no_catalog(tmp_path):
    assert "no" in ticklake("verify", tmp_path / "nothing", code=2).stderr


@pytest.mark.parametrize("inside", ["", "/catalog"])
@pytest.mark.parametrize("command", [["fetch"], ["fetch", "--dry-run"], ["coverage"]])
def test_a_catalog_that_is_a_file_is_called_one(catalog, tmp_path, command, inside):
    values = yaml.safe_load((tmp_path / "run.yaml").read_text())
    (tmp_path / "mine.py").touch()
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**values, "catalog": f"mine.py{inside}"}))
    name, *flags = command
    told = ticklake(name, "run.yaml", *flags, code=1, cwd=tmp_path).stderr
    assert told == (
        "error: mine.py is a file, where a catalog has a folder. "
        "Name another catalog, or move the file away.\n"
    )
