"""The page: one HTML file that holds everything it shows and asks nothing of the network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa

from ticklake.report.charts import Chart, charts
from ticklake.report.model import RunLike, money, number, percent, primary_currency
from ticklake.report.shell import page, section
from ticklake.report.tables import ROWS, data_table, key_values, rows_table

__all__ = ["write_report"]

_COLUMNS = {
    "fills": (
        "ts_event instrument_id side quantity price liquidity commission commission_currency client_order_id"
    ),
    "positions": (
        "ts_opened ts_closed instrument_id entry peak_quantity avg_price_open avg_price_close realized_pnl "
        "currency"
    ),
    "orders": (
        "ts_init instrument_id client_order_id type side quantity filled_quantity price avg_price status "
        "reason"
    ),
}


def write_report(run: RunLike, path: Path) -> None:
    """Write the report of a run as one HTML file that works offline.

    Args:
        run: The run; a `ticklake.Run` or anything shaped like it.
        path: The file to write; an existing one is replaced.
    """
    path.write_text(_page(run), encoding="utf-8")


def _page(run: RunLike) -> str:
    drawn = charts(run)
    sections = [
        _header(run),
        _cards(run),
        _notes(run),
        *(_chart_section(number_, chart) for number_, chart in enumerate(drawn)),
        section("Data", _completeness(run.summary)),
        *(_table_section(name, getattr(run, name)) for name in ("positions", "fills", "orders")),
        section("Engine log", _log(run.summary.get("log") or {})),
        section("Statistics", _statistics(run.summary["statistics"])),
        section("Config", _details("the resolved config", key_values(run.config))),
        section("Provenance", _provenance(run)),
    ]
    specs = [{"data": chart.data, "layout": chart.layout} for chart in drawn]
    return page(run.id, sections, charts=specs)


def _details(summary: str, inner: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"


def _header(run: RunLike) -> str:
    summary = run.summary
    window = summary["window"]
    names = [str(path).rpartition(":")[2] for path in summary["strategies"]]
    chips = "".join(f'<span class="chip">{escape(name)}</span>' for name in summary["instruments"])
    venues = "".join(f'<span class="chip soft">{escape(text)}</span>' for text in _venues(run.config))
    return (
        f'<header><p class="kicker">ticklake backtest</p><h1>{escape(" + ".join(names))}</h1>'
        f'<p class="window">{_moment(window["start"])} <span>to</span> {_moment(window["end"])} UTC</p>'
        f'<p class="chips">{chips}{venues}</p><p class="id">{escape(run.id)}</p></header>'
    )


def _moment(iso: str) -> str:
    return escape(iso.replace("T", " ").rstrip("Z"))


def _venues(config: dict[str, Any]) -> Iterable[str]:
    for name, venue in (config.get("venues") or {}).items():
        fees = venue.get("fees") or {}
        parts = [
            name,
            venue.get("account"),
            venue.get("book"),
            f"maker {fees.get('maker')}",
            f"taker {fees.get('taker')}",
        ]
        if venue.get("latency") not in (None, "0s"):
            parts.append(f"latency {venue['latency']}")
        yield " · ".join(str(part) for part in parts if part is not None)


def _cards(run: RunLike) -> str:
    summary, code = run.summary, primary_currency(run.summary)

    def of(key: str) -> Any:
        return summary[key].get(code)

    pnl = of("net_pnl")
    mood = "" if not pnl else "gain" if pnl > 0 else "loss"
    cards = [
        ("Net PnL", f"{money(pnl, signed=True)} {code or ''}", mood),
        ("Return", percent(of("return"), signed=True), mood),
        ("Max drawdown", percent(of("max_drawdown")), ""),
        ("Sharpe (daily)", number(of("sharpe"), digits=2), ""),
        ("Win rate", percent(of("win_rate")), ""),
        ("Fills", f"{summary['fills']:,}", ""),
        ("Orders", f"{summary['orders']:,}", ""),
        *_refused(summary.get("orders_by_status") or {}),
        ("Turnover", f"{money(of('turnover') or 0, digits=0)} {code or ''}", ""),
        ("Fees", f"{money(of('fees') or 0)} {code or ''}", ""),
        ("Events", f"{summary['events']:,}", ""),
    ]
    others = [other for other in summary["net_pnl"] if other != code]
    cards += [(f"Net PnL in {other}", number(summary["net_pnl"][other], signed=True), "") for other in others]
    inner = "".join(
        f'<div class="card"><dt>{escape(name)}</dt><dd class="{kind}">{escape(text.strip())}</dd></div>'
        for name, text, kind in cards
    )
    return f'<dl class="cards">{inner}</dl>'


def _refused(by_status: dict[str, int]) -> Iterable[tuple[str, str, str]]:
    for status in ("DENIED", "REJECTED"):
        if by_status.get(status):
            yield (f"Orders {status.lower()}", f"{by_status[status]:,}", "loss")


def _notes(run: RunLike) -> str:
    inner = "".join(f"<li>{escape(str(note))}</li>" for note in run.summary.get("notes", []))
    return f'<ul class="notes">{inner}</ul>' if inner else ""


def _log(log: dict[str, Any]) -> str:
    kinds = log.get("kinds") or []
    if not kinds:
        return '<p class="note">The engine warned of nothing.</p>'
    levels = {"WARN": "warnings", "ERROR": "errors"}
    counts = " and ".join(
        f"{count:,} {levels.get(level, level)}" for level, count in sorted(log["counts"].items())
    )
    rows = [(f"{kind['count']:,}", str(kind["level"]), str(kind["message"])) for kind in kinds]
    return (
        _details(f"{counts}, by kind", rows_table(["count", "level", "message"], rows, [True]))
        + '<p class="note"># stands for ids, times and numbers. The first records of each kind: '
        '<a href="engine-log.jsonl">engine-log.jsonl</a></p>'
    )


def _statistics(statistics: dict[str, Any]) -> str:
    return (
        '<p class="note">pnl and general are what the engine computed of positions. returns are its '
        "formulas over the returns of the UTC days that the window touches, taken from the equity curve; "
        "ratios of 252 days are annualised. A single day has none.</p>"
    ) + _details("all of them", key_values(statistics))


def _chart_section(index: int, chart: Chart) -> str:
    note = f'<p class="note">{escape(chart.note)}</p>' if chart.note else ""
    inner = f'<div class="chart" data-chart="{index}" style="height:{chart.height}px"></div>{note}'
    return section(chart.title, inner)


def _completeness(summary: dict[str, Any]) -> str:
    data = summary.get("data") or {}
    if not data:
        return '<p class="note">Nothing was recorded about the data.</p>'
    holes, warnings = list(data.get("holes") or []), list(data.get("warnings") or [])
    quarantined, reasons = data.get("quarantined") or 0, data.get("quarantine_reasons") or {}
    facts = [(str(kind), f"{count:,} rows") for kind, count in (data.get("rows") or {}).items()]
    facts += [
        ("events", f"{summary['events']:,}"),
        ("holes", f"{len(holes):,}" if holes else "none"),
        ("quarantined", f"{quarantined:,} rows" if quarantined else "none"),
    ]
    complete = not holes and not quarantined
    verdict = "Complete: no holes, no row in quarantine." if complete else "Not complete: see below."
    lists = [
        rows_table(["hole"], [[str(line)] for line in holes]) if holes else "",
        rows_table(
            ["reason for quarantine", "rows"], [(str(k), f"{n:,}") for k, n in reasons.items()], [False, True]
        )
        if reasons
        else "",
        f'<p class="note">Rows in quarantine are kept whole in {escape(str(data["quarantine"]))}</p>'
        if data.get("quarantine")
        else "",
        rows_table(["warning"], [[str(line)] for line in warnings]) if warnings else "",
    ]
    return (
        f'<p class="verdict {"ok" if complete else "warn"}">{verdict}</p>'
        + rows_table(["data", "amount"], facts, [False, True])
        + '<p class="note">An event is what the engine replays at once: a trade, or an update of a book, '
        "whose rows count as one.</p>" + "".join(lists)
    )


def _table_section(name: str, table: pa.Table) -> str:
    total = f"{len(table):,}" if len(table) <= ROWS else f"first {ROWS} of {len(table):,}"
    link = f'<p class="note">All columns and rows: <a href="{name}.parquet">{name}.parquet</a></p>'
    return section(
        name.capitalize(),
        _details(f"{total} {name}", data_table(table, _COLUMNS[name].split())) + link
        if len(table)
        else f'<p class="note">No {name}.</p>',
    )


def _provenance(run: RunLike) -> str:
    digest = {
        "results_digest": run.summary.get("results_digest"),
        "started": run.summary.get("started"),
        "finished": run.summary.get("finished"),
        "nautilus_trader": run.summary.get("engine_version"),
    }
    return rows_table(
        ["key", "value"], [(key, str(value)) for key, value in digest.items() if value]
    ) + _details("where the data came from", key_values(run.provenance))
