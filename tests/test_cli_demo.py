"""The demo and the synthetic lake, made as a user makes them, and beside files that are not theirs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from fetch_support import BTC_PERP, TICKS
from lake_support import tick_path
from test_cli import TICKLAKE, ticklake
from ticklake.cli import demo


def files_under(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_demo_shows_that_the_second_time_moves_nothing_and_keeps_what_is_not_its_own(
    tmp_path, monkeypatch
):
    # Whoever runs the tests may have activated the environment; then the demo would say `ticklake` alone.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    mine = {
        "catalog/precious.parquet": "mine",
        "one-hour.yaml": "window: mine",
        "runs/old/summary.json": "{}",
    }
    for name, text in mine.items():
        (tmp_path / "demo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "demo" / name).write_text(text)
    done = ticklake("demo", "demo", cwd=tmp_path, columns=80)
    assert {name: (tmp_path / "demo" / name).read_text() for name in mine} == mine
    assert "one-hour.yaml was changed" in done.stderr
    assert max(len(line) for line in done.stdout.splitlines() if TICKLAKE not in line) <= 80

    assert "moved 0 B" in done.stdout
    runs = sorted((tmp_path / "demo" / "runs").glob("2*"))
    assert len(runs) == 3
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    assert all(summary["fills"] > 0 for summary in summaries)
    assert [summary["bytes_read"] > 0 for summary in summaries] == [True, True, False]
    assert summaries[0]["results_digest"] == summaries[2]["results_digest"]
    assert all((run / "report.html").stat().st_size > 0 for run in runs)

    *_, command = done.stdout.splitlines()
    # As typed, in a shell that does not have ticklake on its path.
    subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
    )
    assert len(list((tmp_path / "demo" / "runs").glob("2*"))) == 4


@pytest.mark.parametrize("theirs", ["demo-catalog/data/trades/X.parquet", tick_path(BTC_PERP)])
def test_the_demo_refuses_to_replace_what_it_did_not_make(tmp_path, theirs):
    folder = tmp_path / "demo" / ("lake/market-data-tick-cefi" if theirs.startswith("raw") else "")
    (folder / theirs).parent.mkdir(parents=True)
    (folder / theirs).write_text("precious")
    done = ticklake("demo", "demo", cwd=tmp_path, code=2)
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "demo").rglob("*.parquet")) == [folder / theirs]
    assert (folder / theirs).read_text() == "precious"


def test_an_emptied_demo_catalog_keeps_its_marker(tmp_path):
    catalog = tmp_path / "demo-catalog"
    demo._empty(catalog)
    (catalog / "data" / "trades").mkdir(parents=True)
    (catalog / "file").touch()
    (tmp_path / "mine").mkdir()
    (catalog / "link").symlink_to(tmp_path / "mine")
    demo._empty(catalog)
    assert [path.name for path in catalog.iterdir()] == [demo._MARKER]
    assert (tmp_path / "mine").is_dir()


def test_synth_replaces_its_own_files_only(tmp_path):
    arguments = ("synth", tmp_path, "--days", 1, "--trades-per-day", 200, "--snapshots-per-day", 50)
    ticklake(*arguments)
    ticklake(*arguments, "--seed", 8)
    theirs = tmp_path / TICKS / tick_path(BTC_PERP)
    theirs.write_bytes(b"precious")
    before = files_under(tmp_path)
    done = ticklake(*arguments, code=2)
    assert str(theirs) in done.stderr
    assert files_under(tmp_path) == before


def test_synth_says_how_to_go_on(tmp_path):
    arguments = ("synth", "a lake", "--days", 1, "--trades-per-day", 2_000, "--snapshots-per-day", 500)
    *_, last = ticklake(*arguments, cwd=tmp_path).stdout.splitlines()
    _, _, command = last.partition(": ticklake ")
    ticklake(*shlex.split(command), cwd=tmp_path)
    assert (tmp_path / "run.yaml").is_file()


def test_synth_writes_a_lake_that_ls_lists(tmp_path):
    made = json.loads(
        ticklake(
            *("synth", tmp_path / "lake", "--days", 1, "--trades-per-day", 2_000, "--snapshots-per-day", 500),
            "--json",
        ).stdout
    )
    assert made["files"] == 4
    listed = json.loads(ticklake("ls", made["ticks"], "--json").stdout)
    assert {file["instrument"] for file in listed} == set(made["keys"])
