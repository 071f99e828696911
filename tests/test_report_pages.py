"""The pages of comparisons and of coverage, in a browser: nothing leaves them, and all can read them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from browser_support import PHONE, WIDE, Opened, opened
from runs_support import summary
from test_report_html import EVIL
from ticklake.backtesting.tables import SCHEMAS
from ticklake.fetching.survey import Status, Stretch, Survey, SurveyRow
from ticklake.report.compare import write_comparison
from ticklake.report.comparison import Comparison
from ticklake.report.coverage import write_coverage
from ticklake.types import CatalogType, Window

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MORNING = dt.datetime(2024, 8, 8, tzinfo=dt.UTC)
LOOKS = [(WIDE, False), (WIDE, True), (PHONE, False), (PHONE, True)]


@dataclass
class Walk:
    """A run whose equity walks about."""

    seed: int
    config: dict[str, Any]
    name: str = "TradeMomentum"
    begin: dt.datetime = MORNING
    start: int = 1_000_000
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = f"2026010{self.seed % 9 + 1}T030405Z-{self.name}-abc12{self.seed}"

    @property
    def summary(self) -> dict[str, Any]:
        end = self.begin + dt.timedelta(hours=8)
        return summary(
            "20260101T030405Z-x-abc123",
            strategies=[f"module:{self.name}"],
            window={"start": f"{self.begin:%Y-%m-%dT%H:%M:%SZ}", "end": f"{end:%Y-%m-%dT%H:%M:%SZ}"},
            results_digest=f"{self.seed}" * 64,
            net_pnl={"USDT": 1_000.0 * self.seed - 2_500},
        )

    @property
    def equity(self) -> pa.Table:
        rows, value = [], Decimal(self.start)
        for index in range(480):
            value += Decimal((index * index * (self.seed + 3)) % 97 - 48)
            rows.append(
                {
                    "ts_event": self.begin + dt.timedelta(minutes=index),
                    "account_id": "BINANCE-001",
                    "currency": "USDT",
                    "equity": value,
                }
            )
        return pa.Table.from_pylist(rows, schema=SCHEMAS["equity"])


def comparison(count: int = 3, **changes: Any) -> Comparison:
    configs = [
        {"engine": {"chunk_size": 50_000}, "strategies": [{"config": {"size": f"0.{seed}"}}]}
        for seed in range(count)
    ]
    return Comparison(tuple(Walk(seed, config, **changes) for seed, config in enumerate(configs)))


def day(offset: float, length: float = 1) -> Window:
    start = Window.parse("2024-07-20", "2024-07-21").start
    return Window(start + int(offset * 86_400) * 10**9, start + int((offset + length) * 86_400) * 10**9)


def survey(name: str = "BTCUSDT-PERP.BINANCE") -> Survey:
    stretches = (
        Stretch(day(0, 3), Status.NOT_FETCHED),
        Stretch(day(3, 4), Status.COVERED, 4),
        Stretch(day(7, 2), Status.HOLE),
        Stretch(day(9, 3), Status.EMPTY, 3),
        Stretch(day(12, 0.4), Status.COVERED, 1),
        Stretch(day(12.4, 7.6), Status.NOT_FETCHED),
    )
    rows = [
        SurveyRow(kind, each, "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN", "trades", stretches)
        for kind in (CatalogType.DELTAS, CatalogType.TRADES)
        for each in (name, "ETHUSDT-PERP.BINANCE", "SOLUSDT-PERP.BINANCE")
    ]
    return Survey(tuple(rows), day(0, 20), "gs://market-data-tick-cefi")


def year() -> Survey:
    """Return a year in which every other day is covered, most of them in part."""
    stretches: list[Stretch] = []
    for at in range(0, 365, 2):
        part = 1 - at % 5 / 10
        stretches += [
            Stretch(day(at, part), Status.COVERED, 1),
            Stretch(day(at + part, 2 - part), Status.NOT_FETCHED),
        ]
    stretches[-1] = Stretch(day(364.6, 0.4), Status.NOT_FETCHED)
    return Survey((SurveyRow(CatalogType.TRADES, "A.B", "", "", tuple(stretches)),), day(0, 365))


def check(found: Opened, name: str) -> None:
    found.page.keyboard.press("Tab")
    focused = (
        "[document.activeElement.getAttribute('role'), getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert found.page.evaluate(focused) == ["region", "solid"]
    found.page.evaluate("document.activeElement.blur()")
    found.screenshot(name)
    assert found.problems == []
    assert found.requests == []
    assert found.accessibility() == []
    assert found.overflow() == 0
    regions = found.page.locator("[role=region]")
    for index in range(regions.count()):
        region = regions.nth(index)
        if not region.is_visible():
            continue
        region.focus()
        assert found.page.evaluate("document.activeElement.getAttribute('role')") == "region"


@pytest.mark.parametrize(("size", "dark"), LOOKS)
def test_a_comparison_can_be_read(
    browser: Browser, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    path = tmp_path / "compare.html"
    write_comparison(comparison(), path)
    with opened(browser, path, size=size, dark=dark) as found:
        found.page.wait_for_selector(".chart .main-svg")
        look = f"{'phone' if size == PHONE else 'wide'}-{'dark' if dark else 'light'}"
        check(found, f"compare-{look}")
        assert "UTC" in found.page.locator(".chart").first.inner_text()
        lines = found.page.locator(".chart .scatterlayer path.js-line")
        assert lines.count() == 6  # equity and drawdown of three runs
        strokes = lines.evaluate_all("paths => paths.map(path => getComputedStyle(path).stroke)")
        assert len(set(strokes)) == 3
        for table in ("runs", "figures", "config keys that differ"):
            assert found.page.get_by_role("region", name=table).locator("tbody tr").count() > 0


@pytest.mark.parametrize(("size", "dark"), LOOKS)
def test_coverage_can_be_read(browser: Browser, tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    path = tmp_path / "coverage.html"
    write_coverage(survey(), "/data/catalog", path)
    with opened(browser, path, size=size, dark=dark) as found:
        look = f"{'phone' if size == PHONE else 'wide'}-{'dark' if dark else 'light'}"
        check(found, f"coverage-{look}")
        row = found.page.locator("table.map").first.locator("tbody tr").first
        cells = row.locator("td").evaluate_all("cells => cells.map(cell => [cell.colSpan, cell.title])")
        assert [span for span, _ in cells] == [3, 4, 2, 3, 1, 7]
        assert cells[2][1] == "2024-07-27 to 2024-07-28: hole"
        assert "covered 9 h 36 min, not fetched 14 h 24 min" in cells[4][1]
        colours = row.locator("td").evaluate_all(
            "cells => cells.map(cell => getComputedStyle(cell).backgroundColor)"
        )
        assert len(set(colours[:4])) == 4


def test_a_year_is_small_and_opens(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "coverage.html"
    write_coverage(year(), "catalog", path)
    assert path.stat().st_size < 200_000
    with opened(browser, path) as found:
        check(found, "coverage-year")


def test_names_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    write_comparison(
        Comparison((Walk(1, {EVIL: EVIL}, name=EVIL), Walk(2, {}, name=EVIL))), tmp_path / "compare.html"
    )
    write_coverage(survey(EVIL), EVIL, tmp_path / "coverage.html")
    for name in ("compare", "coverage"):
        with opened(browser, tmp_path / f"{name}.html") as found:
            assert found.problems == []
            assert found.page.locator("img").count() == 0
            assert "<script>alert(1)</script>" in found.page.locator("main").inner_text()


def test_runs_without_a_time_in_common_begin_at_the_same_point(browser: Browser, tmp_path: Path) -> None:
    runs = (Walk(1, {}), Walk(2, {}, begin=MORNING + dt.timedelta(days=9), start=500_000))
    write_comparison(Comparison(runs), tmp_path / "compare.html")
    with opened(browser, tmp_path / "compare.html") as found:
        found.page.wait_for_selector(".chart .main-svg")
        text = found.page.locator("main").inner_text()
        assert "Change of equity and drawdown in USDT" in text
        assert "The windows have no time in common" in text
        ends = found.page.evaluate(
            "document.querySelector('.chart').data.map((line) => [line.x[0], line.x.at(-1)])"
        )
        assert all(first == 0 and 7.9 < last < 8 for first, last in ends)
        # Hours since a start are of no time zone.
        assert "UTC" not in found.page.locator(".chart").first.inner_text()
        check(found, "compare-elapsed")


def test_runs_of_the_same_results_are_named_and_do_not_hide_each_other(
    browser: Browser, tmp_path: Path
) -> None:
    runs = (Walk(1, {}), Walk(2, {}), Walk(1, {"engine": {"chunk_size": 1}}))
    assert Comparison(runs).verdict == (
        "The results are not the same, but those of A and C are, by their digests."
    )
    write_comparison(Comparison(runs), tmp_path / "compare.html")
    with opened(browser, tmp_path / "compare.html") as found:
        found.page.wait_for_selector(".chart .main-svg")
        assert "those of A and C are" in found.page.locator(".verdict").inner_text()
        dashes = found.page.evaluate(
            "document.querySelector('.chart').data.slice(0, 3).map((trace) => trace.line.dash)"
        )
        assert dashes == ["solid", "solid", "dash"]


def test_more_runs_than_colours_differ_by_dashes(tmp_path: Path) -> None:
    compared = comparison(10)
    assert compared.labels == tuple("ABCDEFGHIJ")
    write_comparison(compared, tmp_path / "compare.html")
    assert '"dash":"dash"' in (tmp_path / "compare.html").read_text()
