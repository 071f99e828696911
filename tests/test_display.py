"""How values show: short exact reprs, and HTML that a notebook shows in any theme."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetch_support import BTC_PERP, DAY, ask, made_trades, minutes, put_trades
from ticklake import Catalog, FetchReport, Lake, Run, fetch, list_runs
from ticklake.backtesting.places import RunFolder
from ticklake.backtesting.tables import SCHEMAS
from ticklake.display import card, table

SUMMARY = {
    "id": "20240808T000000Z-X-000000",
    "started": "2026-01-01T00:00:00Z",
    "window": {"start": "2024-08-08T00:00:00Z", "end": "2024-08-09T00:00:00Z"},
    "strategies": ["<script>alert(1)</script>:X"],
    "instruments": ["BTCUSDT-PERP.BINANCE"],
    "events": 1_234_567,
    "orders": 3,
    "fills": 4,
    "positions": 2,
    "net_pnl": {"USDT": -1_234.5},
    "fees": {"USDT": 12.0},
    "turnover": {"USDT": 98_765.4},
    "max_drawdown_amount": {},
    "notes": ["a note & more"],
    "results_digest": "abc",
}


class Values:
    """One of each kind, in a folder whose name is markup."""

    def __init__(self, folder: Path) -> None:
        root = folder / "<b>&'"
        put_trades(root / "lake", made_trades(minutes()))
        self.lake = Lake(root / "lake")
        self.catalog = Catalog(root / "catalog")
        self.empty = Catalog(root / "nothing")
        request = ask(0, DAY // 2)
        self.scan = self.lake.scan(request.key, request.data_type, request.window)
        self.unplanned = self.lake.scan(request.key, request.data_type, request.window)
        self.plan = self.scan.plan()
        requests = [request, ask(2 * DAY, 3 * DAY)]
        self.report = fetch(self.lake, self.catalog, requests, on_hole="skip", keep="window")
        run = root / "runs" / SUMMARY["id"]
        run.mkdir(parents=True)
        (root / "runs" / f".{SUMMARY['id']}.tmp").mkdir()
        (run / "summary.json").write_text(json.dumps(SUMMARY))
        for name, schema in SCHEMAS.items():
            pq.write_table(schema.empty_table(), run / f"{name}.parquet")
        self.run = Run(SUMMARY["id"], RunFolder(run))
        self.runs = list_runs(root / "runs")


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Values:
    return Values(tmp_path_factory.mktemp("values"))


def words(html: str) -> str:
    return " ".join("".join(ET.fromstring(html).itertext()).split())


KINDS: dict[str, Callable[[Values], Any]] = {
    name: (lambda values, name=name: getattr(values, name))
    for name in ("lake", "scan", "unplanned", "plan", "catalog", "empty", "report", "run", "runs")
}


@pytest.mark.parametrize("kind", KINDS)
def test_html_is_well_formed_escaped_and_takes_the_colours_of_the_page(values, kind):
    value = KINDS[kind](values)
    html = value._repr_html_()
    tree = ET.fromstring(html)  # what is not escaped does not parse, or is an element
    assert {element.tag for element in tree.iter()} <= {"div", "table", "thead", "tbody", "tr", "th", "td"}
    for element in tree.iter():
        assert set(element.keys()) <= {"style"}
        style = element.get("style", "")
        assert not re.search(r"(?<![-\w])color:|background:(?!none)|url\(", style)
    assert type(value).__name__ in words(html)
    assert len(html) < 20_000


@pytest.mark.parametrize("kind", KINDS)
def test_reprs_are_one_short_line(values, kind):
    text = repr(KINDS[kind](values))
    assert "\n" not in text
    assert len(text) < 300
    assert type(KINDS[kind](values)).__name__ in text


def test_html_tells_what_a_user_wants_to_know(values):
    assert "layout raw_tick_data" in words(values.lake._repr_html_()).replace("layoutraw", "layout raw")
    plan = words(values.plan._repr_html_())
    assert BTC_PERP in plan
    assert "2024-08-07T12:00:00Z" in plan
    assert f"at most {values.plan.rows:,}, in {values.plan.row_groups}" in plan
    catalog = words(values.catalog._repr_html_())
    assert "trades" in catalog
    assert "BTCUSDT-PERP.BINANCE" in catalog
    assert "holds no ticks" in words(values.empty._repr_html_())
    report = words(values.report._repr_html_())
    assert "1 fetched, 1 hole" in report
    assert "= 720 written" in report
    run = words(values.run._repr_html_())
    assert "<script>alert(1)</script>:X" in run
    assert "-1,234.50 USDT" in run
    assert "1,234,567" in run
    runs = words(values.runs._repr_html_())
    assert "-1,234.50 USDT" in runs
    assert f".{SUMMARY['id']}.tmp" in runs


def test_a_list_of_runs_is_told_by_its_place_and_number(values):
    place = values.runs.location
    assert repr(values.runs) == f"RunList({place!r}: 1 runs, 1 unfinished, 0 unreadable)"
    (run,) = values.runs.runs
    assert repr(run) == f"ListedRun(location={place + '/' + SUMMARY['id']!r})"


def test_showing_a_scan_reads_nothing(values):
    before = values.lake.transfer.requests
    for value in (values.lake, values.unplanned, values.scan, values.plan):
        repr(value)
        value._repr_html_()
    assert values.lake.transfer.requests == before
    assert "nothing read yet" in values.unplanned._repr_html_()
    assert f"{values.plan.bytes:,} bytes in" in values.scan._repr_html_()


def test_a_fetch_report_is_exact(values):
    report = values.report
    assert repr(report) == (
        f"FetchReport(1 fetched, 1 hole: 720 rows in 1 files, {report.bytes_read} bytes in "
        f"{report.requests} requests, 0 quarantined)"
    )
    assert repr(FetchReport(())) == (
        "FetchReport(nothing asked: 0 rows in 0 files, 0 bytes in 0 requests, 0 quarantined)"
    )


@given(st.text(), st.lists(st.text(), min_size=1, max_size=3), st.integers(0, 60))
def test_any_text_is_shown_as_it_is(title, cells, rows):
    shown = [
        text
        for text in (title, *cells)
        if re.fullmatch(r"[^\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]*", text)
    ]
    html = card("title", {}, table([f"c{index}" for index in range(len(shown))], [shown] * rows))
    tree = ET.fromstring(html)
    found = ["".join(cell.itertext()) for cell in tree.iter("td")]
    assert found == [text.replace("\r\n", "\n").replace("\r", "\n") for text in shown] * min(rows, 20)
    assert (f"and {rows - 20:,} more" in html) == (rows > 20)


def test_tables_of_a_run_go_to_polars_and_pandas_as_they_are(values):
    for name, schema in SCHEMAS.items():
        arrow = getattr(values.run, name)
        assert isinstance(arrow, pa.Table)
        frame = pl.from_arrow(arrow)
        assert isinstance(frame, pl.DataFrame)
        assert frame.columns == schema.names
        assert [frame.schema[field.name] for field in schema if pa.types.is_decimal(field.type)] == [
            pl.Decimal(38, 16) for field in schema if pa.types.is_decimal(field.type)
        ]
        table_of_pandas = arrow.to_pandas()
        assert isinstance(table_of_pandas, pd.DataFrame)
        assert list(table_of_pandas.columns) == schema.names


def test_rows_of_a_scan_come_without_a_catalog(values):
    frame = pl.from_arrow(values.scan.to_table())
    assert len(frame) == 720
    assert frame["ts_init"].is_sorted()
