"""Runs, comparisons and coverage on the command line, at the widths of real terminals."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_support import Cli, cli
from fetch_support import BTC_PERP, DAY, DEFINITION, PERP_ID, START, ask, made_trades, minutes, put_trades
from runs_support import BUCKET, bucket, options, put_run, storage_of
from ticklake.catalog import Catalog
from ticklake.fetching import fetch
from ticklake.lake import Lake

__all__ = ["cli"]

FIRST, SECOND, THIRD, FOURTH = (f"2026010{day}T030405Z-TradeMomentum-abc12{day}" for day in (1, 2, 3, 4))
WIDTHS = (80, 160)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs: two of the same results, and another."""
    config = {"strategies": [{"config": {"size": "0.1"}}], "window": {"start": "2024-08-08"}}
    other = {"strategies": [{"config": {"size": "0.2", "fast": True}}], "window": {"start": "2024-08-08"}}
    put_run(tmp_path / "runs", FIRST, config=config)
    put_run(tmp_path / "runs", SECOND, config=config)
    put_run(
        tmp_path / "runs",
        THIRD,
        config=other,
        results_digest="f" * 64,
        net_pnl={"USDT": -1_234_567.891, "BTC": 0.0},
        strategies=["a.b:Breakout"],
        instruments=["BTCUSDT-PERP.BINANCE", "ETHUSDT-PERP.BINANCE"],
    )
    return tmp_path / "runs"


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """A config over three days: one is fetched, with an hour without rows; the lake lacks the next."""
    morning = [time for time in minutes(0) if not 3 <= (time - START) // (DAY // 24) < 4]
    put_trades(tmp_path / "lake", made_trades(morning), rows=60)
    put_trades(tmp_path / "lake", made_trades(minutes(2)), 2)
    hour = DAY // 24
    catalog, lake = Catalog(tmp_path / "catalog"), Lake(tmp_path / "lake")
    for start, end in ((3 * hour, 4 * hour), (0, 3 * hour), (4 * hour, DAY)):
        fetch(lake, catalog, [ask(start, end)])
    values = {
        "lake": {"ticks": str(tmp_path / "lake")},
        "catalog": str(tmp_path / "catalog"),
        "window": {"start": "2024-08-07", "end": "2024-08-10"},
        "instruments": [
            {"key": BTC_PERP, "data": ["trades"], "definition": DEFINITION},
            {"key": "BINANCE:SPOT_PAIR:ETH-USDT", "data": ["trades"]},
        ],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "run.yaml"


@pytest.mark.parametrize(
    ("arguments", "told", "next_"),
    [
        (["backtest", "none.yaml"], "there is no config none.yaml", "`ticklake init`"),
        (["migrate-config", "none.json"], "there is no config none.json", "`ticklake init`"),
        (["backtest", "folder"], "folder is a folder, not a config", "Name a YAML or JSON file"),
        (["coverage", "none"], "there is no catalog folder none, and no run config either", "Check the path"),
        (["verify", "none"], "there is no catalog folder none, and no run config either", "Check the path"),
        (["doctor", "none"], "there is no catalog folder none, and no run config either", "Check the path"),
        (["runs", "none"], "there is no folder of runs none", "Name one"),
        (["report", "none"], "none holds no run: there is no such folder", "`ticklake runs`"),
        (["compare", "none", "other"], "none holds no run: there is no such folder", "`ticklake runs`"),
        (["coverage", "folder", "--html", "none/x.html"], "there is no folder none", "Make it first"),
        (["coverage", "folder", "--html", "folder"], "--html folder is a folder", "folder/page.html"),
    ],
)
def test_what_is_not_there_is_told_in_one_paragraph_with_what_to_do(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str, next_: str
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    out, err = cli(1 if arguments[0] in ("runs", "report", "compare") else 2, *arguments)
    assert out == ""
    assert err.startswith(f"error: {told}")
    assert next_ in err
    assert "Errno" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["runs", "compare", "coverage"])
def test_every_command_has_help_with_an_example(cli: Cli, command: str) -> None:
    out, _ = cli(0, command, "--help")
    assert f"Example: ticklake {command}" in " ".join(out.split())


def fitting(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int, *arguments: object) -> list[str]:
    """Return the lines of a command, none of which may be wider than the terminal."""
    monkeypatch.setenv("COLUMNS", str(width))
    lines = cli(0, *arguments)[0].splitlines()
    # Paths are not broken, so that they can be copied.
    too_wide = [line for line in lines if len(line) > width and not re.match(r"[A-Z]  /|Runs in /", line)]
    assert too_wide == []
    return lines


@pytest.mark.parametrize("width", WIDTHS)
def test_runs_are_listed_newest_first_in_tables_that_fit(cli, monkeypatch, runs, width):
    lines = fitting(cli, monkeypatch, width, "runs", runs)
    listed = [line.split()[0] for line in lines if "TradeMomentum-" in line]
    assert listed == [THIRD, SECOND, FIRST]
    (line,) = (line for line in lines if THIRD in line)
    assert "-1,234,567.89 USDT" in line
    assert line.endswith("f" * 12)
    (left,) = (line for line in lines if "Too wide to show" in line)
    assert ("instruments" in left) == (width == 80)
    assert ("BTCUSDT-PERP.BINANCE +1" in line) == (width == 160)


def test_runs_for_machines_and_filtered(cli, runs):
    found = json.loads(cli(0, "runs", runs, "--strategy", "momentum", "--json")[0])
    assert [run["id"] for run in found] == [SECOND, FIRST]
    assert found[0]["location"] == str(runs / SECOND)
    assert found[0]["results_digest"] == found[1]["results_digest"]
    assert found[0]["net_pnl"] == {"USDT": 12.5, "BTC": 0.0}
    (only,) = json.loads(cli(0, "runs", runs, "--instrument", "btcusdt", "--json")[0])
    assert only["id"] == THIRD
    out, err = cli(0, "runs", runs, "--strategy", "none")
    assert ("There is no such run in" in out, err) == (True, "")


def test_what_is_left_of_a_killed_run_is_named(cli, runs):
    (runs / f".{FIRST[:-1]}9.tmp").mkdir()
    (runs / "torn").mkdir()
    (runs / "torn" / "summary.json").write_text("{")
    out, err = cli(0, "runs", runs, "--json")
    assert len(json.loads(out)) == 3
    assert "unfinished" in err
    assert "torn/summary.json is not what a run writes" in err


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_fits_and_tells_what_differs(cli, monkeypatch, runs, width, tmp_path):
    names = [runs / name for name in (FIRST, SECOND, THIRD)]
    lines = fitting(cli, monkeypatch, width, "compare", *names)
    text = "\n".join(lines)
    assert "The results are not the same" in text
    # Where not all fit beside each other there are several tables.
    pnl = [cell for line in lines if line.startswith("net PnL USDT") for cell in line.split()[3:]]
    assert pnl == ["12.50", "12.50", "-1,234,567.89"]
    (row,) = (line for line in lines if line.startswith("strategies[0].config.size"))
    assert row.split()[1:] == ["0.1", "0.1", "0.2"]
    (row,) = (line for line in lines if line.startswith("strategies[0].config.fast"))
    assert row.split()[1:] == ["–", "–", "true"]
    assert "window.start" not in text
    many = fitting(cli, monkeypatch, width, "compare", *names * 6)
    for label in "ABCDEFGHIJKLMNOPQR":
        assert any(label in line.split() for line in many), label


def test_a_comparison_says_what_is_annualised(cli, runs, tmp_path):
    page = tmp_path / "compare.html"
    put_run(runs, FOURTH, sortino={"USDT": 2.0}, volatility={"USDT": 0.0025})
    out, _ = cli(0, "compare", runs / FIRST, runs / FOURTH, "--html", page)
    for name in ("Sharpe", "Sortino", "volatility"):
        for shown in (out, page.read_text()):
            assert f"{name} (annualised) USDT" in shown
    assert "daily" not in out + page.read_text()


def test_percentages_differ_by_percentage_points(cli, runs, tmp_path):
    page = tmp_path / "compare.html"
    put_run(runs, FOURTH, **{"return": {"USDT": 0.012}, "max_drawdown": {"USDT": -0.021}})
    out, _ = cli(0, "compare", runs / FIRST, runs / FOURTH, "--html", page)
    rows = {line.split("  ")[0]: line.split()[2:] for line in out.splitlines()}
    assert rows["return USDT"] == ["1.25", "%", "1.2", "%", "-0.05", "pp"]
    assert rows["max drawdown USDT"][1:] == ["-0.1", "%", "-2.1", "%", "-2", "pp"]
    assert '<td class="n">1.2 %<br><small>−0.05 pp</small></td>' in page.read_text()
    assert "in percentage points (pp)" in page.read_text()


def test_equal_runs_are_told_to_be_equal(cli, runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    out, _ = cli(0, "compare", FIRST, SECOND)
    assert "The results are the same, by their digests." in out
    assert "The configs are the same." in out
    found = json.loads(cli(0, "compare", FIRST, THIRD, "--json")[0])
    assert [run["id"] for run in found["runs"]] == [FIRST, THIRD]
    assert found["same_results"] is False
    assert found["config"]["strategies[0].config.size"] == ["0.1", "0.2"]
    assert found["figures"]["net PnL USDT"] == [12.5, -1_234_567.891]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "one"], "two runs or more"),
        (["runs", "gs://user:secret@x/y"], "user info"),
        (["coverage", "nowhere"], "no catalog folder nowhere, and no run config either. Check the path"),
        (["verify", "nowhere"], "no catalog folder nowhere, and no run config either. Check the path"),
        (
            ["compare", FIRST, SECOND, "--html", "no/such/folder/x.html"],
            "there is no folder no/such/folder for --html",
        ),
        (["compare", FIRST, SECOND, "--html", "."], "is a folder. Name a file in it"),
    ],
)
def test_bad_usage_is_told(cli, runs, monkeypatch, arguments, words):
    monkeypatch.chdir(runs.parent)
    out, err = cli(2, *arguments)
    assert out == ""
    assert words in " ".join(err.split())
    assert "secret" not in err


@pytest.fixture(scope="module")
def config_of_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run config whose runs lie in a bucket, and two of them."""
    path = tmp_path_factory.mktemp("bucket") / "run.yaml"
    with bucket() as server:
        url = f"gs://{BUCKET}/listed"
        for name in (FIRST, SECOND):
            put_run(url, name, storage_of(server, "gs"))
        values = {
            "lake": {"ticks": "gs://ticks"},
            "window": {"start": "2024-08-07", "end": "2024-08-10"},
            "instruments": [{"key": BTC_PERP}],
            "runs": url,
            "runs_storage": options(server, "gs"),
        }
        path.write_text(yaml.safe_dump(values))
        yield path


def test_runs_of_a_bucket_are_listed_and_compared(cli, config_of_bucket):
    found = json.loads(cli(0, "runs", config_of_bucket, "--json")[0])
    assert [run["location"] for run in found] == [f"gs://{BUCKET}/listed/{name}" for name in (SECOND, FIRST)]
    values: dict[str, Any] = yaml.safe_load(config_of_bucket.read_text())["runs_storage"]
    flags = [flag for key, value in values.items() for flag in ("--storage", f"{key}={value}")]
    assert json.loads(cli(0, "runs", f"gs://{BUCKET}/listed", *flags, "--json")[0]) == found
    by_id = json.loads(cli(0, "compare", FIRST, SECOND, "--runs", config_of_bucket, "--json")[0])
    by_url = json.loads(cli(0, "compare", *(run["location"] for run in reversed(found)), *flags, "--json")[0])
    assert by_id == by_url
    assert by_id["same_results"] is True


def test_coverage_tells_rows_from_none_holes_from_what_is_not_fetched(cli, run_yaml):
    folder = run_yaml.parent / "catalog"
    (alone,) = json.loads(cli(0, "coverage", folder, "--json")[0])
    assert alone["windows"] == [{"start": "2024-08-07T00:00:00Z", "end": "2024-08-08T00:00:00Z"}]
    assert alone["known_empty"] == [{"start": "2024-08-07T03:00:00Z", "end": "2024-08-07T04:00:00Z"}]
    assert (alone["holes"], alone["not_fetched"], alone["files"]) == ([], [], 3)

    spot, perp = json.loads(cli(0, "coverage", run_yaml, "--json")[0])
    assert (perp["instrument"], perp["lake_key"], perp["data_type"]) == (PERP_ID, BTC_PERP, "trades")
    assert perp["holes"] == [{"start": "2024-08-08T00:00:00Z", "end": "2024-08-09T00:00:00Z"}]
    assert perp["not_fetched"] == [{"start": "2024-08-09T00:00:00Z", "end": "2024-08-10T00:00:00Z"}]
    assert (spot["instrument"], spot["files"], spot["windows"]) == ("BINANCE:SPOT_PAIR:ETH-USDT", 0, [])
    assert spot["holes"] == [{"start": "2024-08-07T00:00:00Z", "end": "2024-08-10T00:00:00Z"}]

    _, offline = json.loads(cli(0, "coverage", run_yaml, "--offline", "--json")[0])
    assert offline["holes"] == []
    assert offline["not_fetched"] == [{"start": "2024-08-08T00:00:00Z", "end": "2024-08-10T00:00:00Z"}]


@pytest.mark.parametrize("width", WIDTHS)
def test_coverage_and_ls_fit(cli, monkeypatch, run_yaml, width):
    lines = fitting(cli, monkeypatch, width, "coverage", run_yaml)
    text = "\n".join(lines)
    for status in ("covered", "known-empty", "hole", "not fetched"):
        assert status in text
    assert PERP_ID in text
    lines = fitting(cli, monkeypatch, width, "ls", run_yaml.parent / "lake")
    text = " ".join(" ".join(lines).split())
    assert BTC_PERP in text
    assert "2 1 2024-08-07 2024-08-09" in text  # two days, one hole between them
