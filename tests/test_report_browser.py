"""The report of a real run in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from backtest_support import ETH, WINDOW, job, write_catalog
from browser_support import PHONE, WIDE, Opened, opened
from test_report_html import EVIL, FakeRun
from ticklake.backtesting import Run, execute
from ticklake.backtesting.tables import SCHEMAS
from ticklake.report import write_report

SCREENS = [(WIDE, False), (WIDE, True), (PHONE, False), (PHONE, True)]
SOURCE = {"url": "gs://lake/a.parquet", "etag": '"0123abcd"', "size": 1_234, "rows": 5}
DATA = {"data": {"rows": {f"{ETH} trades": 14_035}, "holes": [], "quarantined": 0, "coverage": {}}}


@pytest.fixture(scope="module")
def run(real_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("browser")
    return execute(
        job(write_catalog(real_lake, folder), config={"often": 0.1}),
        folder / "runs",
        config={"window": str(WINDOW), "venues": {"BINANCE": {"account": "MARGIN"}}},
        provenance={"files": [{"path": "data/trades/x.parquet", "sources": [SOURCE]}]},
        figures_of_data=DATA,
    )


@pytest.fixture(scope="module")
def wide(browser: Browser, run: Run) -> Iterator[Opened]:
    with opened(browser, run.report()) as found:
        yield found


def look_at_all(page: Page) -> None:
    """Unfold everything, and scroll by all charts, which are drawn when they come near."""
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    for chart in page.locator("[data-chart]").all():
        chart.scroll_into_view_if_needed()
        expect(chart.locator(".main-svg").first).to_be_visible()
    page.evaluate("scrollTo(0, 0)")


@pytest.mark.parametrize(("size", "dark"), SCREENS)
def test_the_report_is_right_on_every_screen(
    browser: Browser, run: Run, size: tuple[int, int], dark: bool
) -> None:
    with opened(browser, run.report(), size=size, dark=dark) as found:
        look_at_all(found.page)
        found.screenshot(f"report-{'phone' if size == PHONE else 'wide'}-{'dark' if dark else 'light'}")
        assert (found.problems, found.requests, found.overflow()) == ([], [], 0)
        assert found.accessibility() == []
        # Far more than it takes, for a machine that does other things; nothing is waited for but the page.
        assert found.load_ms() < 10_000
        background = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 300) is dark


def test_a_report_with_more_fills_than_its_tables_hold_is_small(run: Run) -> None:
    assert len(run.fills) > 5_000
    assert run.report().stat().st_size < 8_000_000


def test_every_chart_is_there_with_fills_as_markers(wide: Opened, run: Run) -> None:
    look_at_all(wide.page)
    titles = wide.page.locator(".charts h2").all_inner_texts()
    for title in (
        *("equity and drawdown", "PnL by minute", "price and fills", "position", "book spread and depth"),
        *("feed latency", "PnL by instrument", "Trade sizes", "Holding times"),
    ):
        assert any(title in shown for shown in titles), title
    price = wide.page.locator("section", has_text="price and fills").locator(".chart")
    drawn = price.locator(".scatterlayer .points path").count()
    assert f"{drawn:,} of {len(run.fills):,} fills" in price.locator("xpath=..").inner_text()
    price.scroll_into_view_if_needed()
    label = price.evaluate(
        """(node) => { const curve = node.data.findIndex((trace) => trace.name === "buy");
        Plotly.Fx.hover(node, [{ curveNumber: curve, pointNumber: 0 }]);
        return node.querySelector(".hoverlayer").textContent; }"""
    )
    assert re.match(r"BUY [\d.]+ @ 2,\d{3}\.?\d*O-\d+", label)
    assert "2024-08-08 23:5" in label


@pytest.mark.parametrize("late", [(2.1, 4.3, 3.0), (2.0, 76.0, 5.0), (0.5, 60_000.0, 7.0), (-3.0, 4.0, 1.0)])
def test_the_axis_of_latencies_of_any_range_has_numbers(
    browser: Browser, tmp_path: Path, late: tuple[float, ...]
) -> None:
    write_report(FakeRun(latency_ms=late), tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html") as found:
        look_at_all(found.page)
        chart = found.page.locator("section", has_text="feed latency").locator(".chart")
        assert chart.locator(".ytick text").count() >= 3


class LargeRun(FakeRun):
    """A run whose figures need much room."""

    @property
    def summary(self) -> dict[str, Any]:
        return super().summary | {"turnover": {"USDT": 111_743_812.0}}

    @property
    def positions(self) -> pa.Table:
        (row,) = super().positions.to_pylist()
        return pa.Table.from_pylist(
            [row | {"realized_pnl": Decimal(-2_073_823)}], schema=SCHEMAS["positions"]
        )


def boxes(found: Locator) -> list[dict[str, float]]:
    return found.evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().toJSON())")


@pytest.mark.parametrize("size", [PHONE, WIDE])
def test_numbers_of_an_axis_are_not_written_over_its_title(
    browser: Browser, tmp_path: Path, size: tuple[int, int]
) -> None:
    write_report(LargeRun(), tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html", size=size) as found:
        look_at_all(found.page)
        chart = found.page.locator("section", has_text="PnL by instrument").locator(".chart")
        numbers, (title,) = boxes(chart.locator(".xtick text")), boxes(chart.locator(".xtitle"))
        assert len(numbers) >= 2
        assert max(number["bottom"] for number in numbers) <= title["top"]


def test_a_unit_without_room_stands_closely_below_its_number(browser: Browser, tmp_path: Path) -> None:
    write_report(LargeRun(), tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html", size=(1280, 900)) as found:
        gap = found.page.locator(".card:has(dt:text-is('Turnover'))").evaluate(
            """(card) => { const range = document.createRange(), unit = card.querySelector("small");
            range.selectNode(unit.previousSibling);
            return unit.getBoundingClientRect().top - range.getBoundingClientRect().bottom; }"""
        )
        assert 0 <= gap < 8


def test_each_bar_over_time_stands_by_itself(wide: Opened) -> None:
    look_at_all(wide.page)
    chart = wide.page.locator("section", has_text="PnL by minute").first
    bars = sorted(boxes(chart.locator(".barlayer .point path")), key=lambda bar: bar["left"])
    assert len(bars) > 3
    assert all(after["left"] - bar["right"] > 2 for bar, after in pairwise(bars))


def test_every_point_over_time_tells_its_time(wide: Opened) -> None:
    look_at_all(wide.page)
    labels = wide.page.evaluate(
        """() => {
            const labels = [];
            for (const node of document.querySelectorAll("[data-chart]")) {
                if (node.layout.xaxis.type !== "date") continue;
                node.data.forEach((trace, curveNumber) => {
                    const pointNumber = trace.y.findIndex((y) => y !== null);
                    Plotly.Fx.hover(node, [{ curveNumber, pointNumber }], `x${trace.yaxis ?? "y"}`);
                    labels.push(node.querySelector(".hoverlayer").textContent);
                });
            }
            return labels;
        }"""
    )
    assert len(labels) > 15
    assert [label for label in labels if not re.search(r"2024-08-08 23:5\d:\d\d", label)] == []


def test_a_zoom_of_one_chart_is_the_zoom_of_all_over_time(wide: Opened) -> None:
    look_at_all(wide.page)
    ranges = wide.page.evaluate(
        """async () => { const nodes = [...document.querySelectorAll("[data-chart]")].filter((node) =>
            node.layout.xaxis.type === "date");
        const [start, end] = ["2024-08-08 23:56:00", "2024-08-08 23:57:00"];
        await Plotly.relayout(nodes[0], { "xaxis.range[0]": start, "xaxis.range[1]": end });
        await new Promise((done) => setTimeout(done, 500));
        return nodes.map((node) => node.layout.xaxis.range.map((at) => String(at).slice(0, 19))); }"""
    )
    assert len(ranges) >= 6
    assert {tuple(found) for found in ranges} == {("2024-08-08 23:56:00", "2024-08-08 23:57:00")}


def test_tables_are_sorted_and_searched_with_the_keyboard_alone(wide: Opened, run: Run) -> None:
    page, table = wide.page, wide.page.locator("[data-table=fills]")
    look_at_all(page)
    assert len(run.fills) > 5_000
    status = table.get_by_role("status")
    expect(status).to_have_text("5,000 fills")
    prices = table.locator("tbody td:nth-child(5)")

    table.get_by_role("searchbox").focus()
    page.keyboard.type("sell maker")
    expect(status).to_have_text(re.compile(r"^[\d,]+ of 5,000 fills$"))
    assert set(table.locator("tbody td:nth-child(3)").all_inner_texts()) == {"SELL"}
    rows = run.fills.slice(0, 5_000).to_pylist()
    matching = [row for row in rows if (row["side"], row["liquidity"]) == ("SELL", "MAKER")]
    assert status.inner_text().startswith(f"{len(matching):,} of")

    head = table.get_by_role("columnheader", name="price")
    head.get_by_role("button").focus()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(outline) == "solid"
    for key, direction, best in (("Enter", "ascending", min), ("Space", "descending", max)):
        page.keyboard.press(key)
        expect(head).to_have_attribute("aria-sort", direction)
        shown = [float(text.replace(",", "")) for text in prices.all_inner_texts()]
        assert shown == sorted(shown, reverse=direction == "descending")
        assert shown[0] == float(best(row["price"] for row in matching))

    first = table.locator("tbody").inner_text()
    table.get_by_role("button", name="next fills").press("Enter")
    assert table.locator("tbody").inner_text() != first
    assert table.locator("tbody tr").count() == 50
    table.get_by_role("searchbox").fill("no such thing")
    expect(status).to_have_text("0 of 5,000 fills")
    assert table.locator("tbody tr").count() == 0
    assert wide.problems == []


def test_everything_that_acts_is_reached_with_the_keyboard(browser: Browser, run: Run) -> None:
    with opened(browser, run.report()) as found:
        focused = "((at) => `${at.tagName} ${getComputedStyle(at).outlineStyle}`)(document.activeElement)"
        reached = []
        for _ in range(100):
            found.page.keyboard.press("Tab")
            reached.append(found.page.evaluate(focused))
        assert {"A solid", "BUTTON solid", "SUMMARY solid"} <= set(reached)


def test_links_lead_to_files_that_are_there(wide: Opened, run: Run) -> None:
    links = wide.page.evaluate("[...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href'))")
    beside = {link for link in links if not link.startswith("#")}
    assert beside >= {"fills.parquet", "orders.parquet", "positions.parquet", "provenance.json"}
    assert all((run.path / link).is_file() for link in beside)
    shown = wide.page.locator("#provenance").inner_text()
    assert all(str(part) in shown for part in (SOURCE["url"], SOURCE["etag"], "1,234"))


def test_a_hostile_run_is_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    write_report(
        FakeRun(text=EVIL, id=EVIL, data={"rows": {EVIL: 1}, "holes": [EVIL]}), tmp_path / "evil.html"
    )
    with opened(browser, tmp_path / "evil.html", size=PHONE) as found:
        found.page.on("dialog", lambda dialog: found.problems.append(dialog.message))
        look_at_all(found.page)
        assert (found.problems, found.requests, found.overflow()) == ([], [], 0)
        assert found.page.locator("h1").inner_text() == EVIL
        assert found.page.locator("main img, main script").count() == 0


@pytest.mark.parametrize(
    ("name", "window", "fills"),
    [
        ("minute", ("2024-08-08T23:55:00Z", "2024-08-08T23:56:00Z"), 5),
        ("two-days", ("2024-08-08T00:00:00Z", "2024-08-10T00:00:00.5Z"), 900),
        ("idle", ("2024-08-08T23:55:00Z", "2024-08-09T00:00:00Z"), 0),
    ],
)
def test_short_and_long_windows_and_one_without_fills_have_a_page(
    browser: Browser, tmp_path: Path, name: str, window: tuple[str, str], fills: int
) -> None:
    write_report(FakeRun(fills_count=fills, window=window), tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html") as found:
        look_at_all(found.page)
        found.screenshot(f"report-{name}")
        assert (found.problems, found.requests, found.overflow(), found.accessibility()) == ([], [], 0, [])
        assert ("No fills." in found.page.locator("main").inner_text()) is (fills == 0)
