"""The report's statistics are those of the tearsheet that the engine itself draws of the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nautilus_trader.analysis import create_tearsheet
from nautilus_trader.backtest import BacktestNode, BacktestResult, BacktestRunConfig

from backtest_support import TESTS, WINDOW, job, write_catalog
from test_report_html import Page
from ticklake.backtesting import Run, engine, execute
from ticklake.report.model import number
from ticklake.types import CatalogType, Window

HOUR = 3_600 * 10**9


@pytest.fixture(scope="module")
def ran(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A run of two days, and the engine's tearsheet of its result."""
    folder, sheets = tmp_path_factory.mktemp("tearsheet"), []

    class Watched:
        def __init__(self, configs: list[BacktestRunConfig]) -> None:
            self.node = BacktestNode(configs)

        def run(self) -> list[BacktestResult]:
            results = self.node.run()
            sheets.append(create_tearsheet(results[0], output_path=None))
            return results

        def __getattr__(self, name: str) -> object:
            return getattr(self.node, name)

    # Positions are closed on the second day, well before its end; see `ticklake.backtesting.returns`.
    made = job(
        write_catalog(real_lake, folder),
        window=Window(WINDOW.start, WINDOW.end + HOUR),
        strategy="backtest_strategies:Holder",
        types=(CatalogType.TRADES,),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS)
        patch.setattr(engine, "BacktestNode", Watched)
        run = execute(made, folder / "runs", config={}, provenance={}, in_process=True)
    return run, sheets[0]


def tables_of(sheet: str) -> dict[str, dict[str, str]]:
    """Return the rows of a tearsheet's tables, by the section that they stand in."""
    begin = sheet.index("[", sheet.index("Plotly.newPlot("))
    traces: list[dict[str, Any]] = json.JSONDecoder().raw_decode(sheet[begin:])[0]
    found: dict[str, dict[str, str]] = {}
    for trace in traces:
        if trace["type"] == "table":
            section = ""
            for name, value in zip(*trace["cells"]["values"], strict=True):
                if name.startswith("<b>"):
                    section = name.removeprefix("<b>").removesuffix("</b>")
                else:
                    found.setdefault(section, {})[name] = value
    return found


def test_every_statistic_of_the_engines_tearsheet_is_in_the_report_and_equal(ran: tuple[Run, str]) -> None:
    run, sheet = ran
    theirs, ours = tables_of(sheet), run.summary["statistics"]
    for section, values in (
        ("PnL Statistics (USDT)", ours["pnl"]["USDT"]),
        ("Returns Statistics", ours["returns"]["USDT"]),
        ("General Statistics", ours["general"]),
    ):
        spelled = {name: "nan" if value is None else f"{value:.4f}" for name, value in values.items()}
        assert spelled == theirs[section]
    assert theirs["Returns Statistics"]["Sharpe Ratio (252 days)"] != "nan"

    shown = Page((run.path / "report.html").read_text(encoding="utf-8")).shown
    for values in (ours["pnl"]["USDT"], ours["returns"]["USDT"], ours["general"]):
        for name, value in values.items():
            assert f"{name}{number(value, digits=6)}" in shown


def test_the_key_figures_are_those_of_the_tearsheet(ran: tuple[Run, str]) -> None:
    run, sheet = ran
    theirs, summary = tables_of(sheet), run.summary
    told = theirs["PnL Statistics (USDT)"]
    assert f"{summary['net_pnl']['USDT']:.4f}" == told["PnL (total)"]
    assert f"{summary['return']['USDT'] * 100:.4f}" == told["PnL% (total)"]
    assert f"{summary['win_rate']['USDT']:.4f}" == told["Win Rate"]
    assert f"{summary['sharpe']['USDT']:.4f}" == theirs["Returns Statistics"]["Sharpe Ratio (252 days)"]
    information = theirs["Run Information"]
    for name, key in (("Iterations", "events"), ("Total orders", "orders"), ("Total positions", "positions")):
        assert int(information[name]) == summary[key]
