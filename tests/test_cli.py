"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from fetch_support import BTC_PERP, BTC_SPOT, INSTRUMENTS, TICKS, cloud_of
from lake_support import RangeServer

TICKLAKE = str(Path(sys.executable).parent / "ticklake")
COMMANDS = ("backtest", "coverage", "demo", "fetch", "ls", "synth")
START, END = "2024-08-08T23:55:00Z", "2024-08-09T00:00:00Z"


def ticklake(*arguments: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [TICKLAKE, *map(str, arguments)]
    wide = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=wide, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done


def flags(real_lake: Path, folder: Path, *more: object) -> list[object]:
    return [
        "fetch",
        *("--ticks", real_lake / TICKS, "--instruments", real_lake / INSTRUMENTS),
        *("--instrument", BTC_PERP, "--instrument", BTC_SPOT, "--data", "trades,book_snapshot_5"),
        *("--start", START, "--end", END, "--catalog", folder / "catalog"),
        *more,
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    text = " ".join(ticklake(command, "--help").stdout.split())
    assert f"Example: ticklake {command}" in text


def test_help_lists_the_commands():
    text = ticklake("--help").stdout
    assert all(command in text for command in COMMANDS)


def test_fetch_by_flags_reports_one_json_document(real_lake, tmp_path):
    done = ticklake(*flags(real_lake, tmp_path, "--json"))
    report = json.loads(done.stdout)
    assert {"rows", "files", "requests", "bytes_read", "seconds", "quarantined", "windows"} <= set(report)
    assert report["files"] == len(report["windows"]) == 4
    assert {window["status"] for window in report["windows"]} == {"fetched"}
    assert {"instrument", "data_type", "start", "end", "status"} <= set(report["windows"][0])

    again = json.loads(ticklake(*flags(real_lake, tmp_path, "--json", "--offline")).stdout)
    assert (again["rows"], again["bytes_read"], again["requests"]) == (0, 0, 0)

    coverage = json.loads(ticklake("coverage", tmp_path / "catalog", "--json").stdout)
    assert len(coverage) == 4
    assert coverage[0]["windows"] == [{"start": START, "end": END}]
    assert "BTCUSDT-PERP.BINANCE" in ticklake("coverage", tmp_path / "catalog").stdout


def test_flags_are_laid_over_a_config(real_lake, tmp_path):
    config = {
        "lake": {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)},
        "window": {"start": START, "end": END},
        "instruments": [{"key": BTC_PERP, "nautilus_id": "MYBTC.BINANCE"}, {"key": BTC_SPOT}],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    done = ticklake(
        *("fetch", "run.yaml", "--json", "--instrument", BTC_PERP, "--end", "2024-08-08T23:56:00Z"),
        cwd=tmp_path,
    )
    (window,) = json.loads(done.stdout)["windows"]
    assert (window["nautilus_id"], window["end"]) == ("MYBTC.BINANCE", "2024-08-08T23:56:00Z")
    assert (tmp_path / "catalog" / "data" / "trades" / "MYBTC.BINANCE").is_dir()


def test_a_dry_run_prints_the_plan_and_writes_nothing(real_lake, tmp_path):
    text = ticklake(*flags(real_lake, tmp_path, "--dry-run")).stdout
    assert f"{BTC_PERP}.parquet" in text
    assert "Would read" in text
    plan = json.loads(ticklake(*flags(real_lake, tmp_path, "--dry-run", "--json")).stdout)
    assert plan["bytes"] > 0
    assert not (tmp_path / "catalog").exists()


def test_fetch_from_a_bucket_with_storage_flags(real_lake, tmp_path):
    with cloud_of(real_lake) as server:
        done = ticklake(
            *("fetch", "--ticks", f"gs://{TICKS}", "--instruments", f"gs://{INSTRUMENTS}"),
            *("--storage", f"endpoint={server.url}", "--storage", "anonymous=true"),
            *(
                "--instrument",
                BTC_PERP,
                "--start",
                START,
                "--end",
                END,
                "--catalog",
                tmp_path / "c",
                "--json",
            ),
        )
        report = json.loads(done.stdout)
        assert report["requests"] == len(server.requests)
        listed = ticklake(
            "ls", f"gs://{TICKS}", "--storage", f"endpoint={server.url}", "--storage", "anonymous=true"
        ).stdout
        assert BTC_SPOT in listed


def test_ls_lists_types_instruments_days_and_sizes(real_lake):
    files = json.loads(ticklake("ls", real_lake / TICKS, "--json").stdout)
    assert len(files) == 11
    for file in files:
        assert (real_lake / TICKS / file["path"]).stat().st_size == file["size"]
    text = ticklake("ls", real_lake / TICKS).stdout
    assert "book_snapshot_5" in text
    assert "2024-08-09" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch"], ["--ticks", "--instrument", "--start", "--end"]),
        (["fetch", "none.yaml"], ["none.yaml", "cannot read"]),
        (
            ["fetch", "--ticks", "x", "--instrument", "BTC", "--start", START, "--end", END],
            ["instruments[0].key"],
        ),
        (
            ["fetch", "--ticks", "x", "--instrument", BTC_PERP, "--start", END, "--end", START],
            ["not after its start"],
        ),
        (["fetch", "--storage", "endpoint"], ["KEY=VALUE"]),
        (["ls", "ftp://host/x"], ["ftp"]),
        (["ls", "x", "--layout", "hiv"], ["hiv"]),
        (["coverage", "no-such-folder"], ["no-such-folder"]),
        (["backtest", "none.yaml"], ["none.yaml"]),
        (["synth", "x", "--start", "yesterday"], ["yesterday"]),
        (["fetch", "--no-such-flag"], ["--no-such-flag"]),
    ],
)
def test_bad_usage_exits_with_2_and_one_paragraph_without_a_traceback(tmp_path, arguments, words):
    done = ticklake(*arguments, code=2, cwd=tmp_path)
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_hole_exits_with_1_and_names_it(real_lake, tmp_path):
    done = ticklake(*flags(real_lake, tmp_path, "--end", "2024-08-09T00:01:00Z"), code=1)
    assert f"{BTC_PERP} trades 2024-08-09T00:00:00Z/2024-08-09T00:01:00Z" in done.stderr
    assert "--on-hole skip" in done.stderr
    done = ticklake(*flags(real_lake, tmp_path, "--end", "2024-08-09T00:01:00Z", "--on-hole", "skip"))
    assert "hole" in done.stdout


def test_no_network_exits_with_1_and_says_what_was_asked(tmp_path):
    done = ticklake(
        *("fetch", "--ticks", "http://127.0.0.1:9/lake", "--instruments", "http://127.0.0.1:9/lists"),
        *("--storage", "max_retries=0", "--instrument", BTC_PERP, "--start", START, "--end", END),
        *("--catalog", tmp_path / "c"),
        code=1,
    )
    assert "http://127.0.0.1:9/lists" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_during_a_fetch_exits_with_130_and_leaves_nothing_half_written(real_lake, tmp_path):
    with RangeServer() as server:
        for bucket in (TICKS, INSTRUMENTS):
            for path in (real_lake / bucket).rglob("*.parquet"):
                server.objects[path.relative_to(real_lake).as_posix()] = path.read_bytes()

        def stall(request):
            if request.range and "bytes=-" not in request.range:
                time.sleep(20)

        server.before = stall
        process = subprocess.Popen(
            [
                *(TICKLAKE, "fetch", "--ticks", f"{server.url}/{TICKS}"),
                *("--instruments", f"{server.url}/{INSTRUMENTS}", "--instrument", BTC_PERP),
                *("--start", START, "--end", END, "--catalog", str(tmp_path / "c")),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(server.requests) < 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = process.communicate(timeout=10)
        assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "Interrupted" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "c" / "data").rglob("trades/**/*.parquet")) == []
    assert list((tmp_path / "c").rglob("*.tmp")) == []


def test_backtest_prints_a_table_or_the_summary(real_lake, tmp_path):
    examples = Path(__file__).resolve().parents[1] / "examples"
    config = {
        "lake": {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)},
        "window": {"start": START, "end": END},
        "instruments": [{"key": BTC_PERP, "data": ["trades", "book_snapshot_5"]}],
        "venues": {
            "BINANCE": {
                "account": "MARGIN",
                "balances": ["100_000 USDT"],
                "fees": {"maker": "0.0002", "taker": "0.0005"},
            }
        },
        "strategies": [
            {
                "path": "trade_momentum:TradeMomentum",
                "config_path": "trade_momentum:TradeMomentumConfig",
                "config": {"instrument_id": "BTCUSDT-PERP.BINANCE", "size": "0.1"},
            }
        ],
    }
    # The strategy lies beside the config, the command runs somewhere else.
    home = tmp_path / "home"
    home.mkdir()
    (home / "run.yaml").write_text(yaml.safe_dump(config))
    (home / "trade_momentum.py").write_text((examples / "trade_momentum.py").read_text())
    done = ticklake("backtest", home / "run.yaml", cwd=tmp_path)
    assert "net PnL" in done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert str(run.relative_to(tmp_path)) in done.stdout
    summary = json.loads(ticklake("backtest", home / "run.yaml", "--json", "--offline", cwd=tmp_path).stdout)
    assert summary["fills"] > 0
    assert summary["bytes_read"] == 0


def test_the_demo_shows_that_the_second_time_moves_nothing(tmp_path):
    done = ticklake("demo", "demo", cwd=tmp_path)
    assert "moved 0 B" in done.stdout
    runs = sorted((tmp_path / "demo" / "runs").iterdir())
    assert len(runs) == 3
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    assert all(summary["fills"] > 0 for summary in summaries)
    assert [summary["bytes_read"] > 0 for summary in summaries] == [True, True, False]
    assert summaries[0]["results_digest"] == summaries[2]["results_digest"]
    assert all((run / "report.html").stat().st_size > 0 for run in runs)


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


@pytest.mark.parametrize("columns", [80, 160])
def test_tables_fit_the_terminal(real_lake, columns):
    environment = {**os.environ, "COLUMNS": str(columns)}
    done = subprocess.run(
        [TICKLAKE, "ls", str(real_lake / TICKS)], capture_output=True, text=True, env=environment, check=True
    )
    assert max(len(line) for line in done.stdout.splitlines()) <= columns
