"""Whose code runs, and when; and what may never stand in the source."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_support import Cli, cli
from fetch_support import BTC_PERP, DEFINITION, made_trades, minutes, put_trades
from test_cli import ROOT, ticklake
from ticklake.backtesting import backtest
from ticklake.backtesting.strategies import source_of
from ticklake.errors import ConfigError

__all__ = ["cli"]

SPY = """
import pathlib, sys
from nautilus_trader.trading import Strategy, StrategyConfig
with open({log!r}, "a") as log:
    log.write(__name__ + "\\n")
class SpyConfig(StrategyConfig): pass
class Spy(Strategy): pass
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Strategies that write into this file when they are imported, a package among them, and a run config."""
    log = tmp_path / "imported.log"
    for path in ("spy.py", "spies/__init__.py", "spies/own.py", "spies/settings.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(SPY.format(log=str(log)))
    put_trades(tmp_path / "lake", made_trades(minutes()))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config(tmp_path)))
    return log


def config(folder: Path) -> dict[str, Any]:
    venue = {"account": "MARGIN", "book": "L1_MBP", "balances": ["1 USDT"], "fees": {"maker": 0, "taker": 0}}
    return {
        "lake": {"ticks": str(folder / "lake")},
        "catalog": str(folder / "catalog"),
        "runs": str(folder / "runs"),
        "window": {"start": "2024-08-07", "end": "2024-08-08"},
        "instruments": [{"key": BTC_PERP, "definition": DEFINITION}],
        "venues": {"BINANCE": venue},
        "strategies": [
            {"path": "spy:Spy", "config_path": "spy:SpyConfig"},
            {"path": "spies.own:Spy", "config_path": "spies.settings:SpyConfig"},
        ],
    }


def test_only_a_backtest_imports_strategies_and_says_so_first(log: Path, tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run.yaml"
    for command in (
        ["fetch", run, "--dry-run"],
        ["fetch", run],
        ["fetch", run, "--refresh"],
        ["verify", run],
        ["verify", run, "--repair"],
        ["doctor", run],
        ["ls", tmp_path / "lake"],
        ["coverage", tmp_path / "catalog"],
        ["prune", tmp_path / "catalog", "--before", "2024-01-01"],
        ["compact", tmp_path / "catalog"],
    ):
        cli(0, *command)
        assert not log.exists(), command

    (tmp_path / "spies" / "own.py").write_text("raise RuntimeError('imported')")
    refused = ticklake("backtest", run, "--quiet", "--json", cwd=tmp_path, code=2)
    assert not refused.stdout
    told, _, failure = refused.stderr.partition("error: ")
    assert told.splitlines() == [
        f"strategy spy:Spy from {tmp_path / 'spy.py'}",
        f"strategy spies.own:Spy from {tmp_path / 'spies' / 'own.py'}",
        f"strategy spies.settings:SpyConfig from {tmp_path / 'spies' / 'settings.py'}",
    ]
    assert "RuntimeError: imported" in failure
    assert log.read_text().splitlines() == ["spy", "spies"]


def test_the_api_is_quiet_and_tells_who_asks(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = []

    def stop(path: str, file: str) -> None:
        assert not log.exists()
        told.append((path, file))
        if len(told) == 3:
            raise ConfigError("not this one")

    with pytest.raises(ConfigError, match="not this one"):
        backtest(config(tmp_path), on_import=stop)
    assert [path for path, _ in told] == ["spy:Spy", "spies.own:Spy", "spies.settings:SpyConfig"]
    assert not log.exists()
    assert not (tmp_path / "catalog").exists()
    backtest(config(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_the_file_is_told_without_importing_the_packages_around_it(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "space").mkdir()
    assert source_of("spies.own") == str(tmp_path / "spies" / "own.py")
    assert source_of("spies") == str(tmp_path / "spies" / "__init__.py")
    assert source_of("space") == "a namespace package"
    assert source_of("nowhere") == source_of("spies.nowhere") == source_of("spy.py")
    assert source_of("nowhere") == "a module that is not found"
    assert source_of("json") == json.__file__
    assert source_of("sys") == "a built-in module"
    assert not log.exists()
    assert not {"spies", "space"} & set(sys.modules)


RUNS_DATA = {"cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE = {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all", "full_load_all"}
SOURCES = sorted((ROOT / "src").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "ticklake")))
def test_nothing_that_stands_in_data_is_run(path: Path) -> None:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                assert not RUNS_DATA & {name.name.split(".")[0] for name in names}
            case ast.ImportFrom(module=str(module)):
                assert module.split(".")[0] not in RUNS_DATA
            case ast.Call(func=ast.Name(id=name)):
                assert name not in CALLS
            case ast.Attribute(value=ast.Name(id="yaml"), attr=name):
                assert name not in UNSAFE
            case ast.keyword(arg="allow_pickle" | "shell"):
                pytest.fail(f"{path}: {node.arg}")
    # Nor is the rule of the linter that says so switched off.
    assert not re.findall(r"noqa:[^\n(]*\b(S102|S301|S302|S307|S506|S602|S604|TID251)\b", text)


def test_the_linter_knows_the_rule() -> None:
    import tomllib

    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert {"S", "TID251"} <= set(lint["select"])
    assert not [rule for rule in lint["ignore"] if rule.startswith(("S", "TID")) and rule != "SLF"]
    banned = set(lint["flake8-tidy-imports"]["banned-api"])
    assert {"pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle"} <= banned
