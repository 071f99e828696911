"""What a command shows on a terminal: progress, tables, errors; and what Ctrl-C leaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fetch_support import BTC_PERP, BTC_SPOT, INSTRUMENTS, TICKS, files_of
from lake_support import RangeServer, Request
from runs_support import put_run
from terminal_support import TICKLAKE, on_terminal
from test_cli import END, START, readme_config, ticklake
from ticklake import Run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def server(real_lake: Path) -> Iterator[RangeServer]:
    """The real ticks on a server that takes its time with all that is not a footer."""
    with RangeServer() as server:
        for bucket in (TICKS, INSTRUMENTS):
            for path in (real_lake / bucket).rglob("*.parquet"):
                server.objects[path.relative_to(real_lake).as_posix()] = path.read_bytes()

        def take_time(request: Request) -> None:
            if request.range and "bytes=-" not in request.range:
                time.sleep(0.15)

        server.before = take_time
        yield server


def fetch(server: RangeServer, catalog: Path) -> list[object]:
    return [
        *("fetch", "--ticks", f"{server.url}/{TICKS}", "--instruments", f"{server.url}/{INSTRUMENTS}"),
        *("--instrument", BTC_PERP, "--instrument", BTC_SPOT, "--data", "trades,book_snapshot_5"),
        *("--start", START, "--end", END, "--catalog", catalog),
    ]


@pytest.mark.parametrize("columns", [80, 160])
def test_progress_of_a_fetch_fits_and_is_gone_when_it_is_done(server, tmp_path, columns):
    screen = on_terminal(*fetch(server, tmp_path / "c"), columns=columns)
    assert screen.code == 0, screen.raw
    assert max(map(len, screen.lines)) <= columns
    total = [line for line in screen.lines if re.match(r"\d of \d files", line)]
    assert re.search(r"[1-9]\d* of \d+ files .*\d/\d+\.\d [kM]B +[\d,.]+M? rows", total[-1])
    assert screen.cursor_is_shown
    # Nothing of it is left on the screen, and the results are.
    assert "Windows (UTC)" in screen.left
    assert screen.left[0].startswith("warning: BINANCE:SPOT_PAIR:BTC-USDT book_snapshot_5: 2,282 rows have")
    assert not [line for line in screen.left if "of 4 files" in line or "planning" in line]
    assert any(line.endswith("s") and "read in" in line for line in screen.left)


def test_no_progress_is_shown_where_it_is_not_wanted(server, tmp_path):
    screen = on_terminal(*fetch(server, tmp_path / "c"), "--quiet", columns=80)
    assert screen.code == 0
    assert "planning" not in screen.raw
    assert "\x1b[?25l" not in screen.raw


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_other_work_shows_that_it_goes_on_unless_it_is_not_wanted(real_lake, tmp_path, quiet):
    screen = on_terminal("ls", real_lake / TICKS, *quiet, columns=80)
    assert screen.code == 0
    assert ("listing" in screen.raw) == (not quiet)
    assert screen.left[0] == "Lake"
    assert screen.cursor_is_shown
    for command, text in (("runs", "listing"), ("coverage", "looking at")):
        screen = on_terminal(command, tmp_path, *quiet, columns=80)
        assert screen.code == 0
        assert (text in screen.raw) == (not quiet)
        assert screen.cursor_is_shown


def test_nothing_but_text_goes_where_there_is_no_terminal(server, tmp_path):
    done = ticklake(*fetch(server, tmp_path / "c"))
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stderr.splitlines() == [
        line for line in done.stderr.splitlines() if line.startswith("warning: ")
    ]


def test_ctrl_c_says_what_is_kept(server, tmp_path):
    catalog, sent = tmp_path / "c", []

    def stop(process: subprocess.Popen[bytes], shown: str) -> None:
        if not sent and files_of(catalog):
            sent.append(process.send_signal(signal.SIGINT))

    def before(request: Request) -> None:
        # Footers come at once, and so do trades; books are late.
        if "book" in request.path and not request.headers["range"].startswith("bytes=-"):
            time.sleep(2)

    server.before = before
    screen = on_terminal(*fetch(server, catalog), columns=80, meanwhile=stop)
    assert screen.code == 130, screen.raw
    kept = len(files_of(catalog))
    assert 0 < kept < 4
    *_, note, error = screen.left
    assert note == f"{kept} of 4 missing windows are in the catalog now, and are kept."
    assert error == "error: Interrupted; nothing is half-written."
    assert "Traceback" not in screen.raw
    assert screen.cursor_is_shown
    assert list(catalog.rglob("*.tmp")) == []
    # What is kept is not fetched again.
    server.before = lambda request: None
    again = ticklake(*fetch(server, catalog)).stdout
    assert again.count("cached") == kept


@pytest.mark.parametrize("module", ["rich.console", "typer.main", "ticklake.cli.upkeep"])
def test_ctrl_c_while_the_command_is_being_imported_is_told_in_the_same_words(tmp_path, module):
    # The command, which gets the signal while it imports a module that it needs.
    (tmp_path / "interrupted.py").write_text(
        "import os, signal, sys\n"
        "from ticklake.cli import program\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "program()\n"
    )
    done = subprocess.run(
        [sys.executable, "interrupted.py", "fetch", "none.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130
    assert (done.stdout, done.stderr) == ("", "error: Interrupted; nothing is half-written.\n")


def test_a_backtest_leaves_its_notes_and_figures_on_the_screen_and_nothing_else(server, tmp_path):
    config = readme_config()
    config["lake"] = {"ticks": f"{server.url}/{TICKS}", "instruments": f"{server.url}/{INSTRUMENTS}"}
    config["instruments"][0]["data"] = ["trades"]
    config["venues"]["BINANCE"]["book"] = "L1_MBP"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "examples" / "trade_momentum.py", tmp_path)
    screen = on_terminal("backtest", "run.yaml", columns=80, cwd=tmp_path)
    assert screen.code == 0, screen.raw
    assert "running the engine" in screen.raw
    assert screen.left[0].startswith("strategy trade_momentum:TradeMomentum from")
    assert screen.left[-1].startswith("  report ")
    text = "\n".join(screen.left)
    assert "data ready: " in text
    assert not re.search("planning|running|━|\\d of \\d files", text)


def unread(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command whose output goes to a pipe that nobody reads any more."""
    closed, out = os.pipe()
    os.close(closed)
    try:
        return subprocess.run(
            [TICKLAKE, *command], cwd=cwd, stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(out)


@pytest.mark.parametrize("command", [("runs",), ("runs", "--json"), ("runs", "--help"), ("--version",)])
def test_a_reader_who_has_seen_enough_is_no_failure(tmp_path, command):
    put_run(tmp_path / "runs", "20260101T030405Z-TradeMomentum-abc123")
    done = unread(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_run_is_complete_though_nobody_reads_what_came_of_it(real_lake, tmp_path):
    config = readme_config()
    config["lake"] = {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "examples" / "trade_momentum.py", tmp_path)
    done = unread("backtest", "run.yaml", cwd=tmp_path)
    assert done.returncode == 141
    assert "error" not in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert Run.load(run).summary["fills"] > 0


def test_an_error_says_what_is_kept(server, tmp_path):
    def refuse_books(request: Request) -> None:
        if "book" in request.path and request.range and "bytes=-" not in request.range:
            server.status[request.path] = 403

    server.before = refuse_books
    # One after another: the trades are there before books are asked for.
    done = ticklake(*fetch(server, tmp_path / "c"), "--jobs", 1, code=1)
    note, error = done.stderr.splitlines()
    kept = len(files_of(tmp_path / "c"))
    assert kept >= 1
    assert note == f"{kept} of 4 missing windows are in the catalog now, and are kept."
    assert error.startswith("error: access denied")
    assert "book_snapshot_5" in error


def test_ctrl_c_during_the_engine_leaves_no_run_and_no_process(real_lake, tmp_path):
    config = readme_config()
    config["lake"] = {"ticks": str(real_lake / TICKS), "instruments": str(real_lake / INSTRUMENTS)}
    config["strategies"] = [{"path": "slow:Slow", "config_path": "slow:SlowConfig", "config": {}}]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "slow.py").write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from nautilus_trader.trading import Strategy, StrategyConfig\n"
        "class SlowConfig(StrategyConfig):\n"
        "    pass\n"
        "class Slow(Strategy):\n"
        "    def on_start(self):\n"
        "        Path('began').write_text(str(os.getpid()))\n"
        "        time.sleep(60)\n"
    )
    sent: list[object] = []

    def stop(process: subprocess.Popen[bytes], shown: str) -> None:
        if not sent and (tmp_path / "began").is_file() and "running the engine" in shown:
            sent.append(process.send_signal(signal.SIGINT))

    screen = on_terminal("backtest", "run.yaml", columns=80, cwd=tmp_path, meanwhile=stop)
    assert screen.code == 130, screen.raw
    assert screen.left[-2:] == [
        "The ticks of the window are in the catalog catalog, and are kept.",
        "error: Interrupted; nothing is half-written.",
    ]
    assert list((tmp_path / "runs").iterdir()) == []
    engine = int((tmp_path / "began").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{engine}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{engine}").exists()


@pytest.mark.parametrize("columns", [80, 160])
def test_an_error_is_one_paragraph_that_breaks_between_words(tmp_path, columns):
    missing = tmp_path / "a-rather-long-name-of-a-folder" / "and-a-config-that-is-not-there.yaml"
    screen = on_terminal("fetch", missing, columns=columns)
    assert screen.code == 2
    assert " ".join(screen.left).startswith(f"error: there is no config {missing}. Check the path")
    # What is longer than a line is the terminal's to break, so that it is copied whole.
    assert all(len(line) <= columns or " " not in line for line in screen.left)


def test_tracebacks_are_shown_for_debug_only_wherever_it_stands(tmp_path):
    plain = ticklake("fetch", "none.yaml", code=2, cwd=tmp_path).stderr
    assert plain.count("\n") == 1
    for arguments in (["--debug", "fetch", "none.yaml"], ["fetch", "none.yaml", "--debug"]):
        told = ticklake(*arguments, code=2, cwd=tmp_path).stderr
        assert "Traceback (most recent call last)" in told
        assert "FileNotFoundError" in told
        assert told.endswith(plain)


def test_a_mistake_of_ours_is_told_in_one_paragraph_too(tmp_path, monkeypatch, capsys):
    from ticklake import cli
    from ticklake.catalog import Catalog

    def fail(_: Catalog) -> None:
        raise KeyError("[bold]nonsense[/]")

    monkeypatch.setattr(Catalog, "coverage", fail)
    for arguments, traceback in (([], False), (["--debug"], True)):
        monkeypatch.setattr(sys, "argv", ["ticklake", "coverage", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        told = capsys.readouterr().err
        assert "error: unexpected KeyError in test_cli_terminal.py, line " in told
        assert "[bold]nonsense[/]" in told
        assert ("Traceback" in told) == traceback
        assert traceback or told.count("\n") == 1


def test_what_the_operating_system_refuses_is_no_mistake_of_ours(tmp_path):
    (tmp_path / "file").touch()
    told = ticklake("synth", tmp_path / "file" / "lake", "--days", 1, "--trades-per-day", 10, code=1).stderr
    assert f"error: the operating system refused: not a directory ({tmp_path / 'file'}/" in told
    assert "Errno" not in told
    assert "mistake" not in told
    assert told.count("\n") == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ticklake", "co"], {"compact", "coverage", "convert-catalog"}),
        (["ticklake", "fetch", "--ref"], {"--refresh"}),
        (["ticklake", "fetch", "--on-hole", "s"], {"skip", "stop"}),
        (["ticklake", "ls", "gs://x", "--layout", ""], {"default", "hive"}),
    ],
)
def test_bash_completes_what_is_typed(words, found):
    # The script that --install-completion installs, asked as bash asks it.
    script = (
        f'source <(_TICKLAKE_COMPLETE=source_bash "{TICKLAKE}")\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        "IFS=$'\\n'\n"
        "_ticklake_completion ticklake\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{Path(TICKLAKE).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}, check=True
    )
    assert found <= set(done.stdout.split()), done
