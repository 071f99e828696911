"""`docs/migrating.md`: its code before and after runs, over a bucket, and comes to the same."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from backtest_support import EXAMPLES
from cli_support import Cli, cli
from compat_support import client_of, s3_of
from fetch_support import TICKS, cloud_of
from lake_support import MotoServer
from ticklake.compat import converter, engine, ucs
from ticklake.config import parse_config

__all__ = ["cli"]

TEXT = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text(encoding="utf-8")
CODE = {
    (when, what): code
    for when, what, code in re.findall(r"```python\n# (before|after): (\w+)\n(.*?)```", TEXT, re.DOTALL)
}
PIECES = ("downloads", "conversion", "backtest")
OLD_MODULES = {
    "unified_cloud_services": ucs,
    "backend.data_converter": converter,
    "backend.backtest_engine": engine,
}


@pytest.fixture
def server(real_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    """A bucket, the config beside the code, and the examples' strategies at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    (tmp_path / "catalog").mkdir()
    (old,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "old.json").write_text(old)
    with cloud_of(real_lake) as server:
        monkeypatch.setenv("TICKLAKE_BUCKETS", json.dumps(s3_of(server)))
        yield server


def with_new_imports(before: str, after: str) -> str:
    """Return code with the line changed that the docs say is all there is to change."""
    name = after.strip().rpartition(" import ")[2]
    changed, count = re.subn(rf"^from \S+ import {name}$", after.strip(), before, flags=re.MULTILINE)
    assert count == 1
    return changed


def test_every_piece_has_a_before_and_an_after() -> None:
    assert set(CODE) == {(when, what) for when in ("before", "after") for what in PIECES}


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_code_runs_and_its_second_run_of_a_backtest_moves_nothing(
    server: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, when: str
) -> None:
    """The code before runs with our modules under the old names; then with the line changed."""
    if when == "before":
        monkeypatch.setitem(sys.modules, "backend", ModuleType("backend"))
        for name, module in OLD_MODULES.items():
            monkeypatch.setitem(sys.modules, name, module)
    known: dict[str, Any] = {}
    for what in PIECES:
        code = CODE["before", what]
        exec(
            compile(code if when == "before" else with_new_imports(code, CODE["after", what]), what, "exec"),
            known,
        )
    trades = known["trades"]
    assert trades["ts_event"].between(1_723_161_480 * 10**9, 1_723_161_600 * 10**9).all()
    assert known["rows"] == len(trades) == len(known["objects"]) > 100
    assert known["again"] == 0
    assert len(known["catalog"].query_trade_ticks(["BTCUSDT-PERP.BINANCE"])) == len(trades)
    assert known["there"] == {known["path"]: True}
    assert len(known["instruments"]) == 6
    body = client_of(server).get_object(Bucket=TICKS, Key="results/summary.json")["Body"].read()
    assert json.loads(body) == {"trades": len(trades)}
    result = known["result"]
    assert result["summary"]["orders"] > 0
    assert result["metadata"]["without_equivalent"] == ["risk.throttling_per_sec"]
    if when == "before":
        return
    server.requests.clear()
    exec(
        compile(with_new_imports(CODE["before", "backtest"], CODE["after", "backtest"]), "again", "exec"),
        known,
    )
    assert len(server.requests) == 0
    assert known["result"]["summary"] == result["summary"]


def test_the_command_prints_what_the_docs_show(server: MotoServer, cli: Cli, tmp_path: Path) -> None:
    out, err = cli(0, "migrate-config", "old.json")
    (shown,) = re.findall(r"\$ ticklake migrate-config old\.json > run\.yaml\n(.*?)\$", TEXT, re.DOTALL)
    assert err.split() == shown.split()
    assert parse_config(yaml.safe_load(out)).instruments[0].data == ("trades",)


def test_every_key_of_the_table_is_understood() -> None:
    """The table names sections and keys; none of them may end as having no equivalent."""
    from ticklake.compat.configs import translate

    (table,) = re.findall(r"\| old key \| becomes \|\n\|[-|]+\n(.*?)\n\n", TEXT, re.DOTALL)
    old: dict[str, dict[str, Any]] = {}
    for row in table.splitlines():
        section = ""
        for name in re.findall(r"`([\w.*]+)`", row.split("|")[1]):
            if "*" in name:
                continue
            section, key = name.split(".") if "." in name else (section, name)
            old.setdefault(section, {})[key] = None
    old["instrument"]["key"] = "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN"
    old["data_catalog"]["gcs_bucket"] = "b"
    assert sum(map(len, old.values())) > 35
    assert translate(old, buckets={}).without_equivalent == ()
