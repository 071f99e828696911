"""The report: one page that holds everything, shows every text as text, and asks nothing of the network."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticklake.backtesting.equity import time_extremes
from ticklake.backtesting.feed import BOOK_SCHEMA, LATENCY_SCHEMA
from ticklake.backtesting.prices import PRICES_SCHEMA
from ticklake.backtesting.tables import SCHEMAS
from ticklake.report import write_report
from ticklake.report.charts import Chart, charts
from ticklake.report.model import duration, money, number, percent, primary_currency
from ticklake.report.tables import data_table
from ticklake.report.thinning import extremes, stretches

START = dt.datetime(2024, 8, 8, 23, 55, tzinfo=dt.UTC)
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@dataclass
class FakeRun:
    """A run of values, so that each can be anything."""

    text: str = "ETHUSDT-PERP.BINANCE"
    fills_count: int = 5
    id: str = "20260101T000000Z-Fake-abcdef"
    window: tuple[str, str] = ("2024-08-08T23:55:00Z", "2024-08-09T00:00:00Z")
    latency_ms: tuple[float, ...] = ()
    data: dict[str, Any] = field(
        default_factory=lambda: {"rows": {"trades": 7}, "holes": [], "quarantined": 0}
    )

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "window": dict(zip(("start", "end"), self.window, strict=True)),
            "instruments": [self.text],
            "strategies": [f"module:{self.text}"],
            "events": 7,
            "orders": 2,
            "fills": self.fills_count,
            "positions": 1,
            "engine_seconds": 0.5,
            "net_pnl": {"USDT": 12.5, "BTC": 0.0},
            "starting_balance": {"USDT": 1000.0, "BTC": 1.0},
            "ending_balance": {"USDT": 1012.5, "BTC": 1.0},
            "return": {"USDT": 0.0125, "BTC": 0.0},
            "max_drawdown": {"USDT": -0.001, "BTC": 0.0},
            "fees": {"USDT": 0.25},
            "turnover": {"USDT": 5000.0},
            "win_rate": {"USDT": None},
            "sharpe": {"USDT": 1.25, "BTC": None},
            "orders_by_status": {"DENIED": 1, "FILLED": 1},
            "statistics": {"pnl": {self.text: {"a": None}}},
            "notes": [self.text],
            "log": {
                "counts": {"WARN": 2},
                "kinds": [{"level": "WARN", "message": f"# of {self.text}", "count": 2}],
            },
            "data": self.data,
        }

    @property
    def config(self) -> dict[str, Any]:
        return {
            "venues": {self.text: {"account": "MARGIN", "fees": {"maker": "0", "taker": self.text}}},
            "strategies": [{"path": f"module:{self.text}", "config": {"size": "0.1", "of": self.text}}],
        }

    @property
    def provenance(self) -> dict[str, Any]:
        return {"files": [{"path": self.text}], self.text: []}

    def _rows(self, name: str, count: int, **columns: Any) -> pa.Table:
        defaults = {"side": ["BUY", "SELL"], "instrument_id": [self.text]}
        rows = []
        for i in range(count):
            row: dict[str, Any] = {}
            for column in SCHEMAS[name]:
                if column.name in defaults:
                    choices = defaults[column.name]
                    row[column.name] = choices[i % len(choices)]
                elif pa.types.is_string(column.type):
                    row[column.name] = self.text
                elif pa.types.is_timestamp(column.type):
                    row[column.name] = START + dt.timedelta(seconds=i)
                elif pa.types.is_decimal(column.type):
                    row[column.name] = Decimal(i + 1)
                else:
                    row[column.name] = bool(i % 2) if pa.types.is_boolean(column.type) else i
            rows.append(row)
        return pa.Table.from_pylist(rows, schema=SCHEMAS[name])

    @property
    def orders(self) -> pa.Table:
        return self._rows("orders", 2)

    @property
    def fills(self) -> pa.Table:
        return self._rows("fills", self.fills_count)

    @property
    def positions(self) -> pa.Table:
        return self._rows("positions", 1)

    @property
    def equity(self) -> pa.Table:
        return self._rows("equity", 3)

    @property
    def latency(self) -> pa.Table:
        rows = [
            {
                "instrument_id": self.text,
                "data_type": "trades",
                "ts_start": START + dt.timedelta(seconds=index),
                "updates": 1,
                **{f"{what}_ns": int(late * 1e6) for what in ("min", "p50", "p99", "max")},
            }
            for index, late in enumerate(self.latency_ms)
        ]
        return pa.Table.from_pylist(rows, schema=LATENCY_SCHEMA)

    @property
    def book(self) -> pa.Table:
        return BOOK_SCHEMA.empty_table()

    @property
    def prices(self) -> pa.Table:
        rows = [{"instrument_id": self.text, "ts_event": START, "price": 1.5}]
        return pa.Table.from_pylist(rows, schema=PRICES_SCHEMA)


class Page(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.shown = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.shown += data


def page(run: FakeRun, folder: Path) -> tuple[str, Page]:
    write_report(run, folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_everything_is_in_the_page(tmp_path: Path) -> None:
    text, parsed = page(FakeRun(), tmp_path)
    within = [address for address in parsed.addresses if address.startswith("#")]
    assert within[:2] == ["#chart-2", "#charts"]
    assert all(f'id="{address[1:]}"' in text for address in within)
    assert set(parsed.addresses) - set(within) == {
        *(f"{name}.parquet" for name in (*SCHEMAS, "prices", "latency", "book")),
        *("engine-log.jsonl", "summary.json", "config.yaml", "provenance.json"),
    }
    assert not {"link", "iframe", "img", "object", "embed", "form"} & set(parsed.tags)
    assert "default-src 'none'" in text
    assert len(text) < 8_000_000
    data, plotly, own = parsed.scripts
    assert "Plotly, Inc." in plotly[:200]
    without_plotly = text.replace(plotly, "")
    assert re.findall(r"(?:https?:)?//[a-z]", without_plotly) == []
    assert "prefers-color-scheme: dark" in text
    assert [len(json.loads(data)[name]) for name in ("charts", "tables")] == [len(charts(FakeRun())), 3]
    assert "Plotly.react" in own


def test_values_are_shown_as_text(tmp_path: Path) -> None:
    harmless, hostile = FakeRun(), FakeRun(text=EVIL, id=EVIL, data={"rows": {EVIL: 1}, "holes": [EVIL]})
    _, expected = page(harmless, tmp_path)
    _, parsed = page(hostile, tmp_path)
    assert parsed.handlers == []
    assert len(parsed.scripts) == len(expected.scripts)
    assert "img" not in parsed.tags
    assert parsed.shown.count(EVIL) >= 15
    specs = json.loads(parsed.scripts[0])["charts"]
    # Plotly reads a small HTML in its labels; what it shows is escaped for it.
    labels = [text for spec in specs for text in _texts(spec)]
    assert sum("&lt;script" in label for label in labels) > FakeRun().fills_count
    assert not any("<script" in label or "<img" in label for label in labels)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def test_it_says_what_was_run_and_what_came_of_it(tmp_path: Path) -> None:
    _, parsed = page(FakeRun(), tmp_path)
    assert "ETHUSDT-PERP.BINANCE size 0.1 · of ETHUSDT-PERP.BINANCE" in parsed.shown
    assert "Funding–no funding rates in the data" in parsed.shown
    assert "Sharpe1.25of 1 daily return, annualised" in parsed.shown
    for expected in ("+12.50 USDT", "+1.25 %", "−0.1 %", "5,000 USDT", "0.25 USDT", "1.25"):
        assert expected in parsed.shown, expected
    assert "Net PnL in BTC" in parsed.shown
    assert "Orders denied1" in parsed.shown
    assert "2 warnings, by kind" in parsed.shown
    assert "2WARN# of ETHUSDT-PERP.BINANCE" in parsed.shown
    assert "Data complete: no holes" in parsed.shown


def test_holes_and_quarantined_rows_are_told(tmp_path: Path) -> None:
    data = {
        "rows": {},
        "holes": ["2024-08-10"],
        "quarantined": 12,
        "quarantine_reasons": {"price is NaN": 11, "size is 0": 1},
        "quarantine": "/somewhere/catalog/quarantine",
        "warnings": ["3 books are crossed"],
    }
    _, parsed = page(FakeRun(data=data), tmp_path)
    assert "Not complete" in parsed.shown
    for expected in ("2024-08-10", "12 rows", "price is NaN11", "size is 01", *map(str, data["warnings"])):
        assert expected in parsed.shown, expected
    assert "/somewhere/catalog/quarantine" in parsed.shown
    _, parsed = page(FakeRun(data={}), tmp_path)
    assert "Nothing was recorded" in parsed.shown


def test_long_tables_are_cut_and_say_so(tmp_path: Path) -> None:
    _, parsed = page(FakeRun(fills_count=5_432), tmp_path)
    assert "first 5,000 of 5,432 fills" in parsed.shown
    # What can be searched is more than what stands in the document at once.
    assert parsed.tags.count("tr") < 400
    fills = json.loads(parsed.scripts[0])["tables"]["fills"]
    assert {len(column[1] if isinstance(column[0], list) else column) for column in fills["columns"]} == {
        5_000
    }


def test_a_column_of_numbers_has_the_decimals_of_the_one_that_needs_most() -> None:
    column = pa.table({"x": pa.array([Decimal("1.5"), None, Decimal("1234.125"), Decimal(2)])})
    _, data = data_table("x", column, ["x"])
    assert data["columns"] == [["1.500", "–", "1,234.125", "2.000"]]
    assert data["numeric"] == [True]


def chart_of(run: FakeRun, title: str) -> Chart:
    (found,) = (chart for chart in charts(run) if chart.title.endswith(title))
    return found


def test_many_fills_become_few_markers_and_keep_the_largest() -> None:
    run = FakeRun(fills_count=10_000)
    price = chart_of(run, "price and fills")
    markers = [trace for trace in price.data if trace["mode"] == "markers"]
    shown = sum(len(trace["x"]) for trace in markers)
    assert shown <= 400
    assert f"{shown:,} of 10,000" in price.note
    assert any("10,000" in label for trace in markers for label in trace["text"])


def test_a_busy_position_is_its_mean_and_range() -> None:
    """Every second one more is bought than sold."""
    position = chart_of(FakeRun(fills_count=10_000), "position")
    lowest, highest, mean = position.data
    for low, middle, high in zip(lowest["y"], mean["y"], highest["y"], strict=True):
        assert low <= middle <= high
    assert len(mean["x"]) < 300
    assert "10,000 changes" in position.note
    assert "in stretches of 1.25 s, the band" in position.note
    quiet = chart_of(FakeRun(fills_count=5), "position")
    assert [trace["y"] for trace in quiet.data] == [[0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 3.0]]


def test_times_of_all_charts_stand_above_each_other() -> None:
    over_time = [chart for chart in charts(FakeRun()) if chart.over_time]
    assert len(over_time) > 3
    assert len({tuple(chart.layout["xaxis"]["range"]) for chart in over_time}) == 1


def test_what_is_filled_after_the_window_is_in_the_charts(tmp_path: Path) -> None:
    run = FakeRun(fills_count=5, window=("2024-08-08T23:55:00Z", "2024-08-08T23:55:02Z"))
    price = chart_of(run, "price and fills")
    last = max(at for trace in price.data for at in trace["x"])
    assert last == "2024-08-08 23:55:04.000000"
    low, high = price.layout["xaxis"]["range"]
    assert low < "2024-08-08 23:55:00.000000"
    assert last < high < "2024-08-08 23:55:04.1"


def test_a_price_holds_until_the_next_trade() -> None:
    (trades,) = (trace for trace in chart_of(FakeRun(), "price and fills").data if trace["name"] == "trades")
    assert trades["line"]["shape"] == "hv"


def test_without_trades_and_fills_the_price_is_the_middle_of_the_book(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row: dict[str, Any] = {
        "instrument_id": FakeRun().text,
        "data_type": "order_book_deltas",
        "ts_start": START,
        "updates": 3,
        **{
            f"{value}_{what}": 2.5
            for value in ("mid", "spread", "bid_size", "ask_size")
            for what in ("min", "mean", "max")
        },
    }
    monkeypatch.setattr(FakeRun, "prices", PRICES_SCHEMA.empty_table())
    monkeypatch.setattr(FakeRun, "book", pa.Table.from_pylist([row], schema=BOOK_SCHEMA))
    price = chart_of(FakeRun(fills_count=0), "price and fills")
    assert [trace["y"] for trace in price.data] == [[2.5]] * 3
    assert price.note == "No fills. No trades: the line is the middle of the book."


def test_an_equity_that_never_falls_has_its_drawdown_at_the_top() -> None:
    """The equity of `FakeRun` rises."""
    equity = chart_of(FakeRun(), "equity and drawdown in " + FakeRun().text)
    assert equity.layout["yaxis2"]["range"] == [-1, 0]


def test_long_names_leave_room_for_bars_and_stay_apart() -> None:
    names = [f"BTC-20240927-{strike}-C-AND-MUCH-MORE-OF-A-NAME.DERIBIT" for strike in (60_000, 65_000)]
    positions = FakeRun(fills_count=5).positions
    (position,) = positions.to_pylist()
    run = FakeRun()
    table = pa.Table.from_pylist(
        [{**position, "instrument_id": name} for name in names], schema=positions.schema
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRun, "positions", table)
        chart = chart_of(run, "PnL by instrument in " + run.text)
    assert sorted(chart.data[0]["y"]) == names
    assert {len(text) for text in chart.layout["yaxis"]["ticktext"]} == {32}


def test_an_instrument_leads_to_its_charts(tmp_path: Path) -> None:
    text, parsed = page(FakeRun(), tmp_path)
    (target,) = (address[1:] for address in parsed.addresses if address.startswith("#chart-"))
    section = text[text.index(f'<section id="{target}"') :]
    assert section[: section.index("</h2>")].endswith("ETHUSDT-PERP.BINANCE · price and fills")


def test_one_row_is_not_several(tmp_path: Path) -> None:
    _, parsed = page(FakeRun(fills_count=1), tmp_path)
    assert "1 fill" in parsed.shown
    assert "1 fills" not in parsed.shown
    assert "1 positions" not in parsed.shown


def test_averages_are_shown_with_eight_digits_and_prices_exactly() -> None:
    values = pa.array([Decimal("60832.70"), Decimal("2727.841234567890")], pa.decimal128(38, 16))
    column = pa.table({"avg_price": values, "price": values})
    _, data = data_table("x", column, ["avg_price", "price"])
    assert data["columns"] == [
        ["60,832.7000", "2,727.8412"],
        ["60,832.70000000", "2,727.84123457"],
    ]


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(-50, 50)), min_size=1, max_size=300),
    st.integers(4, 100),
)
def test_a_series_thinned_by_time_keeps_ends_and_extremes(points: list[tuple[int, int]], most: int) -> None:
    points.sort(key=lambda point: point[0])
    times, values = [at for at, _ in points], [value for _, value in points]
    _check_thinned(time_extremes(times, values, most), values, most)


@given(st.lists(st.decimals(-50, 50, places=2), min_size=1, max_size=300), st.integers(5, 100))
def test_a_thinned_series_keeps_ends_and_extremes(values: list[Decimal], most: int) -> None:
    _check_thinned(extremes(values, most), values, most)


def _check_thinned(kept: list[int], values: list[Any], most: int) -> None:
    assert len(kept) <= most
    assert kept == sorted(set(kept))
    assert {kept[0], kept[-1]} == {0, len(values) - 1}
    assert {min(values), max(values)} <= {values[index] for index in kept}


@given(
    st.lists(st.tuples(st.integers(-50, 1_200), st.integers(-5, 5)), max_size=60),
    st.integers(1, 40),
)
def test_a_stretch_has_the_mean_and_range_of_each_of_its_moments(
    points: list[tuple[int, int]], count: int
) -> None:
    steps = dict(sorted(points))
    found = stretches(list(steps), list(steps.values()), 0, 1_000, count)

    def value(at: int) -> int:
        return next((steps[time] for time in reversed(steps) if time <= at), 0)

    ends = [*(part.start for part in found[1:]), 1_000]
    assert len(found) <= count
    for part, end in zip(found, ends, strict=True):
        inside = [value(at) for at in range(part.start, end)]
        assert part.mean == pytest.approx(sum(inside) / len(inside))
        assert (part.lowest, part.highest) == (min(inside), max(inside))


def test_a_run_without_fills_has_a_report(tmp_path: Path) -> None:
    _, parsed = page(FakeRun(fills_count=0), tmp_path)
    assert "No fills." in parsed.shown
    data = json.loads(parsed.scripts[0])
    assert set(data["tables"]) == {"positions", "orders"}
    assert len(data["charts"]) == len(charts(FakeRun(fills_count=0))) > 0


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(None), "–"),
        (number(Decimal("1234.50000000")), "1,234.5"),
        (number(-0.00000000001), "0"),
        (number(-5), "−5"),
        (number(5, signed=True), "+5"),
        (money(-1234.5, signed=True), "−1,234.50"),
        (money(0.0, signed=True), "0.00"),
        (percent(0.5), "50 %"),
        (percent(-0.000123), "−0.0123 %"),
        (percent(None), "–"),
        (duration(90_061_500_000_000), "1 d 1 h 1 min 1.5 s"),
        (duration(360 * 10**9), "6 min"),
        (duration(0), "0 s"),
    ],
)
def test_numbers_are_spelled_for_people(shown: str, expected: str) -> None:
    assert shown == expected


def test_the_primary_currency_is_the_one_most_traded() -> None:
    balances = {"BTC": 1.0, "USDT": 5.0}
    assert primary_currency({"turnover": {"USDT": 3.0}, "starting_balance": balances}) == "USDT"
    assert primary_currency({"turnover": {}, "starting_balance": balances}) == "BTC"
    assert primary_currency({"turnover": {}, "starting_balance": {}}) is None
