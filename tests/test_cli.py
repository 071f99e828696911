"""The command line, run as a user runs it."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from rich.console import Console

from fetch_support import BTC_PERP, BTC_SPOT, INSTRUMENTS, TICKS, cloud_of
from lake_support import RangeServer, tick_path
from ticklake.cli.bars import FetchBars
from ticklake.cli.starting import app
from ticklake.fetching import FetchProgress, ObjectProgress
from ticklake.types import Window

TICKLAKE = str(Path(sys.executable).parent / "ticklake")
ROOT = Path(__file__).resolve().parents[1]
COMMANDS = typer.main.get_command(app).commands

START, END = "2024-08-08T23:55:00Z", "2024-08-09T00:00:00Z"


def ticklake(
    *arguments: object, code: int = 0, cwd: Path | None = None, columns: int = 200
) -> subprocess.CompletedProcess[str]:
    command = [TICKLAKE, *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": str(columns)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False
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
def test_every_command_has_help_with_an_example_that_it_takes(command, capsys):
    parser = COMMANDS[command]
    with pytest.raises(typer.Exit), parser.make_context(f"ticklake {command}", ["--help"]):
        pass
    text = " ".join(capsys.readouterr().out.split())
    (example,) = re.findall(rf"Example: ticklake {command}((?: [^│╭ ]+)*)", text)
    arguments = shlex.split(example.partition(" > ")[0])
    with parser.make_context(f"ticklake {command}", arguments):
        pass


def test_help_lists_the_commands_in_the_order_of_the_readme():
    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n\n`--json`")[0]
    documented = re.findall(r"^\| `ticklake ([a-z][a-z-]*)", table, re.MULTILINE)
    listed = re.findall(r"^│ ([a-z][a-z-]*)  ", ticklake("--help").stdout, re.MULTILINE)
    assert listed == [*COMMANDS] == [*dict.fromkeys(documented)]


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["coverage"], ["verify"], ["doctor"]])
def test_help_gives_switches_no_value(arguments):
    text = ticklake(*arguments, "--help").stdout
    assert "--help" in text
    assert "<bool>" not in text


def test_the_version_is_that_of_the_installed_package():
    assert ticklake("--version").stdout == f"ticklake {version('ticklake')}\n"


def test_fetch_by_flags_reports_one_json_document(real_lake, tmp_path):
    done = ticklake(*flags(real_lake, tmp_path, "--json", "--keep", "window"))
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


def test_what_is_kept_around_a_window_is_told_before_and_after(real_lake, tmp_path):
    dry = json.loads(ticklake(*flags(real_lake, tmp_path, "--data", "trades", "--json", "--dry-run")).stdout)
    text = ticklake(*flags(real_lake, tmp_path, "--data", "trades", "--dry-run")).stdout
    assert "kept with what is read along, from" in " ".join(text.split())
    done = json.loads(ticklake(*flags(real_lake, tmp_path, "--data", "trades", "--json")).stdout)
    for planned, fetched in zip(dry["windows"], done["windows"], strict=True):
        assert fetched["kept"].pop("rows") >= fetched["rows"]
        assert planned["kept"].pop("rows") is None
        assert planned["kept"] == fetched["kept"]
    assert any(part["kept"]["start"] < part["start"] for part in done["windows"])


def _ts_init(ticks: pl.DataFrame) -> pl.Series:
    recorded = "local_timestamp" in ticks.columns
    return (ticks["local_timestamp"] * 1_000).rename("ts_init") if recorded else ticks["ts_init"]


def test_the_rows_of_a_fetch_add_up_for_all_to_see(real_lake, tmp_path):
    done = ticklake(*flags(real_lake, tmp_path, "--data", "trades", "--keep", "window"))
    (line,) = (line for line in done.stdout.splitlines() if "rows read =" in line)
    read, written, made, outside, bad = (int(text.replace(",", "")) for text in re.findall(r"[\d,]+", line))
    # Some rows are filed under the day after.
    files = [
        file for key in (BTC_PERP, BTC_SPOT) for file in real_lake.glob(f"{TICKS}/**/*-trades/{key}.parquet")
    ]
    window = Window.parse(START, END)
    times = pl.concat([_ts_init(pl.read_parquet(file)) for file in files])
    total = times.is_between(window.start, window.end, closed="left").sum()
    assert read == written + outside + bad
    assert (written, made, bad) == (total, total, 0)
    again = ticklake(*flags(real_lake, tmp_path, "--data", "trades")).stdout
    assert "rows read" not in again


def test_one_of_something_is_told_as_one(real_lake, tmp_path):
    one = ("--data", "book_snapshot_5", "--keep", "window")
    config = {
        "lake": {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)},
        "window": {"start": START, "end": "2024-08-08T23:56:00Z"},
        "instruments": [{"key": BTC_PERP}],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    dry = ticklake("fetch", "run.yaml", *one, "--dry-run", cwd=tmp_path).stdout
    assert re.search(r"Would read [\d.]+ [kM]B more in 1 request\.", dry)
    assert "1 file written; " in ticklake("fetch", "run.yaml", *one, cwd=tmp_path).stdout


def test_names_of_data_types_may_be_spaced(real_lake, tmp_path):
    report = json.loads(
        ticklake(
            *flags(real_lake, tmp_path, "--data", "trades, book_snapshot_5", "--dry-run", "--json")
        ).stdout
    )
    assert {window["data_type"] for window in report["windows"]} == {"trades", "book_snapshot_5"}


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
    assert text.count(str(real_lake)) == 1
    assert re.search(r"Read [\d.]+ kB in \d+ requests to find out", text)
    assert re.search(r"Would read [\d.]+ [kM]B more in \d+ requests", text)
    plan = json.loads(ticklake(*flags(real_lake, tmp_path, "--dry-run", "--json")).stdout)
    assert plan["bytes"] > 0
    assert not (tmp_path / "catalog").exists()
    ticklake(*flags(real_lake, tmp_path))
    assert "Would read nothing." in ticklake(*flags(real_lake, tmp_path, "--dry-run")).stdout


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
    assert files == sorted(
        files, key=lambda file: [file[name] for name in ("data_type", "instrument", "day")]
    )
    text = ticklake("ls", real_lake / TICKS).stdout
    assert "book_snapshot_5" in text
    assert "2024-08-09" in text


def test_a_folder_one_level_off_is_told_with_what_was_looked_for(real_lake, tmp_path):
    done = ticklake("ls", real_lake / TICKS / "raw_tick_data", code=1)
    assert done.stdout == ""
    assert "raw_tick_data/by_date/day-{date}/data_type-{data_type}/{instrument}.parquet" in done.stderr
    assert "too high or too deep" in done.stderr
    assert "day={date}" in ticklake("ls", real_lake / TICKS, "--layout", "hive", "--json", code=1).stderr
    for command in (("ls", real_lake), ("init", real_lake, tmp_path / "run.yaml")):
        assert f"Name the folder {real_lake / TICKS}, which has ticks." in ticklake(*command, code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch"], ["--ticks", "--instrument", "--start", "--end"]),
        (["fetch", "none.yaml"], ["there is no config none.yaml", "ticklake init"]),
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


def test_a_dry_run_fails_at_a_hole_where_the_fetch_would(real_lake, tmp_path):
    asked = flags(real_lake, tmp_path, "--end", "2024-08-09T00:01:00Z")
    failed = ticklake(*asked, code=1)
    dry = ticklake(*asked, "--dry-run", code=1)
    assert dry.stderr.splitlines()[-len(failed.stderr.splitlines()) :] == failed.stderr.splitlines()
    assert dry.stdout.splitlines()[-1] == "The fetch would fail at a hole before it reads more."
    plan = json.loads(ticklake(*asked, "--dry-run", "--json", code=1).stdout)
    assert "hole" in {window["status"] for window in plan["windows"]}
    skipped = ticklake(*asked, "--dry-run", "--on-hole", "skip")
    assert re.search(r"Would read [\d.]+ [kM]B more", skipped.stdout)
    assert "error" not in skipped.stderr


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


def readme_config() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return yaml.safe_load(text)


def run_folder_as_in_readme() -> tuple[set[str], set[str]]:
    """The files that the README says are in a run folder: always, and sometimes."""
    section = (ROOT / "README.md").read_text().partition("The run folder in")[2].partition("\n\nThe same")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    always, sometimes = set(), set()
    for row in rows:
        (sometimes if "where there are any" in row else always).update(re.findall(r"`([\w-]+\.\w+)`", row))
    return always, sometimes


def test_the_run_of_the_readme_works_as_written(real_lake, tmp_path):
    config = readme_config()
    config["lake"] = {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)}
    # The strategy lies beside the config, the command runs somewhere else.
    home = tmp_path / "home"
    home.mkdir()
    (home / "run.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "examples" / "trade_momentum.py", home)
    done = ticklake("backtest", "home/run.yaml", cwd=tmp_path, columns=80)
    assert "net PnL" in done.stdout
    assert re.search(r"start +2024-08-08 23:55:00\nend +2024-08-09 00:00:00\n", done.stdout)
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    (run,) = (tmp_path / "runs").iterdir()
    assert str(run.relative_to(tmp_path)) in done.stdout
    always, sometimes = run_folder_as_in_readme()
    assert always <= {path.name for path in run.iterdir()} <= always | sometimes
    summary = json.loads(ticklake("backtest", home / "run.yaml", "--json", "--offline", cwd=tmp_path).stdout)
    assert summary["fills"] > 0
    assert summary["bytes_read"] == 0
    refused = ticklake("backtest", home / "run.yaml", "--offline", "--refresh", code=2, cwd=tmp_path)
    assert "refresh" in refused.stderr


@pytest.mark.parametrize("more", [[], ["--quiet"], ["--json"]])
def test_a_backtest_tells_of_holes_and_bad_rows_in_any_case(real_lake, tmp_path, more):
    source = pq.read_table(
        real_lake / TICKS / "raw_tick_data/by_date/day-2024-08-08/data_type-trades" / f"{BTC_PERP}.parquet"
    )
    prices = source["price"].to_pylist()
    prices[-1] = float("nan")
    spoilt = tmp_path / tick_path(BTC_PERP)
    spoilt.parent.mkdir(parents=True)
    pq.write_table(source.set_column(source.column_names.index("price"), "price", pa.array(prices)), spoilt)
    config = readme_config()
    config["lake"] = {"ticks": str(tmp_path), "instruments": str(real_lake / INSTRUMENTS)}
    config["window"]["end"] = "2024-08-09T00:01:00Z"
    config["instruments"][0]["data"] = ["trades"]
    config["venues"]["BINANCE"]["book"] = "L1_MBP"
    config["on_hole"] = "skip"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "examples" / "trade_momentum.py", tmp_path)
    # The second time the catalog holds all there is.
    for _ in range(2):
        done = ticklake("backtest", "run.yaml", *more, cwd=tmp_path)
        assert f"hole: {BTC_PERP} trades 2024-08-09T00:00:00Z/2024-08-09T00:01:00Z" in done.stderr
        assert re.search(r"quarantined: 1 row, \S+", done.stderr)


@pytest.mark.parametrize("columns", [50, 80, 160])
def test_tables_fit_the_terminal(real_lake, tmp_path, columns):
    for arguments in (
        flags(real_lake, tmp_path, "--dry-run"),
        flags(real_lake, tmp_path, "--end", "2024-08-09T00:01:00Z", "--on-hole", "skip"),
        ["coverage", tmp_path / "catalog"],
        ["ls", real_lake / TICKS],
    ):
        head = {"fetch": "status +rows", "coverage": "status +files", "ls": "first +last +size"}[arguments[0]]
        lines = ticklake(*arguments, columns=columns).stdout.splitlines()
        assert max(map(len, lines)) <= columns
        assert sum(re.search(f"{head} *$", line) is not None for line in lines) == 1
        # No key is broken in two: where a table is too wide, there is one for each key.
        if arguments[0] != "fetch" or "--dry-run" not in arguments:
            text = "\n".join(lines)
            assert BTC_PERP in text or "BTCUSDT-PERP.BINANCE" in text


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_progress_is_a_line_for_all_and_one_for_each_file(columns):
    console = Console(file=io.StringIO(), force_terminal=True, width=columns, color_system=None)
    bars = FetchBars(console)
    for day in (8, 9):
        file = ObjectProgress(
            f"gs://lake/{day}", dt.date(2024, 8, day), 12_345_678, 23_456_789, 400_000_000, 999_000_000
        )
        bars.show(
            FetchProgress(BTC_PERP, "book_snapshot_25", 123_456_789, 1_234_567_890, 9_876_543_210, 8, file)
        )
    lines = console.render_lines(bars.progress.get_renderable(), pad=False)
    texts = ["".join(segment.text for segment in line) for line in lines]
    assert len(texts) == 3
    assert max(map(len, texts)) <= columns
    assert "0 of 8 files" in texts[0]
    if columns >= 80:
        assert "08-09 BTC-USDT@LIN book_snap" in texts[2]
        assert "400.0/999.0 MB" in texts[2]
        assert ("123,456,789 rows" if columns == 160 else "123.5M rows") in texts[0]
        assert texts[0].endswith(":--")


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("instruments:", ["--data", "trades"], "instruments: must be a list, found nothing"),
        ("instruments: 5", ["--book-as", "depth"], "instruments: must be a list"),
        ("instruments: [5]", ["--instrument", BTC_PERP, "--data", "quotes"], "instruments[0].data[0]"),
        ("lake: gs://x", ["--storage", "region=eu"], "lake: must be a mapping"),
        ("lake: gs://x", ["--ticks", "y"], "lake: must be a mapping"),
        ("lake: {ticks: x, storage: 5}", ["--storage", "region=eu"], "lake.storage: must be a mapping"),
        ("window: 5", ["--start", START], "window: must be a mapping"),
        ("windw: {start: 2024-08-08}", [], "\n  window: is required\n"),
        ("? [a]\n: b", [], "a key must be text"),
    ],
)
def test_flags_over_a_config_that_is_not_valid_are_bad_usage(tmp_path, text, arguments, words):
    (tmp_path / "run.yaml").write_text(text)
    done = ticklake("fetch", "run.yaml", *arguments, code=2, cwd=tmp_path)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_offline_and_refresh_exclude_each_other(tmp_path):
    done = ticklake(*flags(tmp_path, tmp_path, "--offline", "--refresh"), code=2, cwd=tmp_path)
    assert "refresh" in done.stderr


def test_the_number_of_jobs_changes_nothing_and_is_checked(real_lake, tmp_path):
    reports = []
    for jobs in (1, 3):
        done = ticklake(*flags(real_lake, tmp_path / f"{jobs}", "--json", "--jobs", jobs))
        reports.append(json.loads(done.stdout))
        # How much is asked for with a footer goes by those that were there first.
        del reports[-1]["seconds"], reports[-1]["bytes_read"]
    assert reports[0] == reports[1]
    assert "--jobs" in ticklake(*flags(tmp_path, tmp_path, "--jobs", 0), code=2, cwd=tmp_path).stderr


def test_the_dialect_of_the_docs_is_read_as_declared_there(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "dialects.md").read_text(), re.DOTALL)
    (tmp_path / "run.yaml").write_text(text)
    noon = 1_723_118_400_000_000
    times = [noon + step * 1_000_000 for step in range(10)]
    levels = {
        f"{side}{level}_{kind}": [600.0 + sign * level / 10 if kind == "px" else 0.5] * 10
        for side, sign in (("b", -1), ("a", 1))
        for level in range(1, 11)
        for kind in ("px", "qty")
    }
    trades = {
        "time": times,
        "received": [time + 250 for time in times],
        "px": [600.1] * 10,
        "qty": [0.25] * 10,
        "taker": ["B", "S", "?"] * 3 + ["B"],
        "seq": list(map(str, range(10))),
    }
    for data_type, columns in (("trades", trades), ("book_snapshot_10", {"time": times, **levels})):
        path = tmp_path / "acme-lake" / tick_path("ACME:PERPETUAL:BTC-USDT", data_type=data_type)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), path)
    report = json.loads(ticklake("fetch", "run.yaml", "--json", cwd=tmp_path).stdout)
    assert report["quarantined"] == 0
    assert {window["data_type"]: window["rows"] for window in report["windows"]} == {
        "trades": 10,
        "book_snapshot_10": 10 * 21,
    }
    (file,) = (tmp_path / "catalog/data/trades/BTCUSDT-PERP.ACME").glob("*.parquet")
    catalog = pq.read_table(file, partitioning=None)
    assert catalog["ts_init"].cast(pa.int64()).to_pylist() == [(time + 250) * 1_000 for time in times]
    assert catalog["trade_id"].to_pylist() == trades["seq"]


def test_the_program_ends_with_all_that_is_registered_for_the_end() -> None:
    code = (
        "import atexit, sys\n"
        "from ticklake.cli import program\n"
        "atexit.register(print, 'the end')\n"
        "sys.argv = ['ticklake', *sys.argv[1:]]\n"
        "program()\n"
    )
    for arguments, expected in ((["--help"], 0), (["no-such-command"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == expected
        assert "Usage" in done.stdout + done.stderr
        assert done.stdout.endswith("the end\n")
