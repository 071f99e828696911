"""The report of a run: its sections, in the order of what is asked first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ticklake.report.charts import Chart, charts
from ticklake.report.document import chart_section, details, document, section
from ticklake.report.model import RunLike, count, duration, money, number, percent, primary_currency
from ticklake.report.tables import MOST_ROWS, data_table, key_values, rows_table
from ticklake.types import Window

__all__ = ["write_report"]

_COLUMNS = {
    "positions": (
        "ts_opened ts_closed instrument_id entry realized_pnl currency peak_quantity avg_price_open "
        "avg_price_close"
    ),
    "fills": (
        "ts_event instrument_id side quantity price liquidity commission commission_currency client_order_id"
    ),
    "orders": (
        "ts_init instrument_id client_order_id type side quantity filled_quantity price avg_price status "
        "reason"
    ),
}
_FILES = ("orders", "fills", "positions", "account", "equity", "prices", "latency", "book")


def write_report(run: RunLike, path: Path) -> None:
    """Write the report of a run as one HTML file that works offline.

    Args:
        run: The run; a `ticklake.Run` or anything shaped like it.
        path: The file to write; an existing one is replaced.
    """
    path.write_bytes(_page(run))


def _page(run: RunLike) -> bytes:
    drawn = charts(run)
    tables = {name: _table(name, getattr(run, name)) for name in _COLUMNS}
    parts = [
        _header(run, drawn),
        _verdict(run),
        _cards(run),
        _notes(run),
        '<div class="charts" id="charts">',
        *(chart_section(index, chart) for index, chart in enumerate(drawn)),
        "</div>",
        *(section(name.capitalize(), html, anchor=name) for name, (html, _) in tables.items()),
        section("Data", _completeness(run), anchor="data"),
        section("Statistics", _statistics(run.summary["statistics"]), anchor="statistics"),
        section("Engine log", _log(run.summary.get("log") or {})),
        section("Config", details("the resolved config", key_values(run.config, label="config"))),
        section("Provenance", _provenance(run), anchor="provenance"),
    ]
    data = {name: found for name, (_, found) in tables.items() if found}
    return document(run.id, parts, drawn, data)


def _header(run: RunLike, drawn: Sequence[Chart]) -> str:
    summary = run.summary
    window = summary["window"]
    names = [str(path).rpartition(":")[2] for path in summary["strategies"]]
    chips = "".join(_chip(name, drawn) for name in summary["instruments"])
    venues = "".join(f'<span class="chip soft">{escape(text)}</span>' for text in _venues(run.config))
    links = "".join(
        f'<a href="#{anchor}">{anchor.capitalize()}</a>'
        for anchor in ("charts", *_COLUMNS, "data", "statistics", "provenance")
    )
    span = Window.parse(window["start"], window["end"])
    return (
        f'<header><p class="kicker">ticklake backtest</p><h1>{escape(" + ".join(names))}</h1>'
        f'<p class="window">{_moment(window["start"])} <span>to</span> {_moment(window["end"])} UTC '
        f"<span>({duration(span.end - span.start)})</span></p>"
        f'<p class="chips">{chips}{venues}</p>{_settings(run.config)}<p class="id">{escape(run.id)}</p>'
        f'<nav aria-label="sections">{links}</nav></header>'
    )


def _chip(instrument: str, drawn: Sequence[Chart]) -> str:
    """Return an instrument's name, which leads to its first chart."""
    for at, chart in enumerate(drawn):
        if chart.instrument == instrument:
            return f'<a class="chip" href="#chart-{at}">{escape(instrument)}</a>'
    return f'<span class="chip">{escape(instrument)}</span>'


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


def _settings(config: dict[str, Any]) -> str:
    """Return what each strategy was set to, in a line."""
    lines = []
    for strategy in config.get("strategies") or []:
        name = str(strategy.get("path")).rpartition(":")[2]
        values = " · ".join(f"{key} {value}" for key, value in (strategy.get("config") or {}).items())
        lines += [f'<p class="settings"><b>{escape(name)}</b> {escape(values)}</p>'] if values else []
    return "".join(lines)


def _verdict(run: RunLike) -> str:
    """Return whether the data was complete, in one line that leads to what is known of it."""
    data = run.summary.get("data") or {}
    if not data:
        return '<p class="verdict warn">Nothing was recorded about the data.</p>'
    faults, crossed = _faults(data), (data.get("remarkable") or {}).get("crossed_book", 0)
    told = f"not complete: {', '.join(faults)}" if faults else "complete: no holes, no row in quarantine"
    told += f", {count(crossed, 'crossed book') if crossed else 'no crossed book'}."
    kind = "warn" if faults or crossed else "ok"
    return f'<p class="verdict {kind}">Data {escape(told)} <a href="#data">More</a></p>'


def _faults(data: dict[str, Any]) -> list[str]:
    holes, quarantined = len(data.get("holes") or []), data.get("quarantined") or 0
    uncovered = sum(share < 1 for share in (data.get("coverage") or {}).values())
    return [
        *([count(holes, "hole")] if holes else []),
        *([f"{count(uncovered, 'data set')} not covered throughout"] if uncovered else []),
        *([f"{count(quarantined, 'row')} in quarantine"] if quarantined else []),
    ]


def _cards(run: RunLike) -> str:
    summary, code = run.summary, primary_currency(run.summary)
    unit = code or ""

    def of(key: str) -> Any:
        return (summary.get(key) or {}).get(code)

    pnl, turnover, fees = of("net_pnl"), of("turnover") or 0, of("fees") or 0
    mood = "" if not pnl else "gain" if pnl > 0 else "loss"
    sharpe, time_in_market = of("sharpe"), summary.get("time_in_market")
    others = [other for other in summary["net_pnl"] if other != code]
    first = [
        _Card("Net PnL", money(pnl, signed=True), unit, _of_balance(of("starting_balance"), unit), mood),
        _Card("Return", percent(of("return"), signed=True), mood=mood),
        _Card("Max drawdown", percent(of("max_drawdown")), hint=_amount(of("max_drawdown_amount"), unit)),
        _Card("Sharpe", number(sharpe, digits=2), hint=_days(run, defined=sharpe is not None)),
        *(
            _Card(f"Net PnL in {other}", number(summary["net_pnl"][other], signed=True), other)
            for other in others
        ),
    ]
    bps = f"{number(fees / turnover * 1e4, digits=2)} bps of turnover" if turnover else ""
    second = [
        _Card("Win rate", percent(of("win_rate")), hint=f"of {count(summary['positions'], 'position')}"),
        _Card("Fills", f"{summary['fills']:,}", hint=f"of {count(summary['orders'], 'order')}"),
        *_refused(summary.get("orders_by_status") or {}),
        _Card("Turnover", money(turnover, digits=0), unit),
        _Card("Fees", money(fees), unit, bps),
        _Card("Funding", "–", hint="no funding rates in the data"),
        _Card("Exposure", percent(time_in_market), hint=_most(time_in_market, of("max_exposure"), unit)),
        _Card("Events", f"{summary['events']:,}", hint=f"in {number(summary['engine_seconds'], digits=2)} s"),
    ]
    return _card_list(first, "cards first") + _card_list(second, "cards")


class _Card(NamedTuple):
    """A figure: what it is, its value and unit, a word on it, and whether it is a `gain` or a `loss`."""

    name: str
    text: str
    unit: str = ""
    hint: str = ""
    mood: str = ""


def _card_list(cards: Iterable[_Card], kind: str) -> str:
    inner = "".join(
        f'<div class="card"><dt>{escape(card.name)}</dt><dd class="{card.mood}">{escape(card.text)}'
        + (f" <small>{escape(card.unit)}</small></dd>" if card.unit else "</dd>")
        + (f'<dd class="hint">{escape(card.hint)}</dd>' if card.hint else "")
        + "</div>"
        for card in cards
    )
    return f'<dl class="{kind}">{inner}</dl>'


def _of_balance(balance: float | None, unit: str) -> str:
    return "" if balance is None else f"on {number(balance, digits=2)} {unit}"


def _amount(value: float | None, unit: str) -> str:
    return "" if value is None else f"{money(value)} {unit}"


def _most(time_in_market: float | None, value: float | None, unit: str) -> str:
    if time_in_market is None:
        return ""
    return "of the time" + ("" if value is None else f", at most {money(value, digits=0)} {unit}")


def _days(run: RunLike, *, defined: bool) -> str:
    window = Window.parse(run.summary["window"]["start"], run.summary["window"]["end"])
    days = len(window.split_days())
    if defined:
        return f"of {count(days, 'daily return')}, annualised"
    return "needs two days" if days < 2 else "undefined"


def _refused(by_status: dict[str, int]) -> Iterable[_Card]:
    for status in ("DENIED", "REJECTED"):
        if by_status.get(status):
            yield _Card(
                f"Orders {status.lower()}", f"{by_status[status]:,}", hint="see the notes", mood="loss"
            )


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
        details(
            f"{counts}, by kind",
            rows_table(["count", "level", "message"], rows, [True, False, False], label="engine log"),
        )
        + '<p class="note"># stands for ids, times and numbers. The first records of each kind: '
        '<a href="engine-log.jsonl">engine-log.jsonl</a></p>'
    )


def _statistics(statistics: dict[str, Any]) -> str:
    """Return the engine's statistics as a tearsheet has them: of positions, of returns, by currency."""
    parts = []
    titles = {"pnl": "Of realised PnL", "returns": "Of daily returns"}
    for name, title in titles.items():
        by_code = statistics.get(name) or {}
        rows = list(dict.fromkeys(key for values in by_code.values() for key in values))
        cells = [[row, *(number(values.get(row), digits=6) for values in by_code.values())] for row in rows]
        if cells:
            heads = [title, *map(str, by_code)]
            parts.append(rows_table(heads, cells, [False, *([True] * len(by_code))], label=title))
    if general := statistics.get("general"):
        rows_ = [(str(name), number(value, digits=6)) for name, value in general.items()]
        parts.append(rows_table(["Of positions", "value"], rows_, [False, True], label="Of positions"))
    return (
        f'<div class="columns">{"".join(parts)}</div>'
        '<p class="note">The engine\'s own statistics. PnL and positions are as it counted them; returns are '
        "its formulas over the UTC days that the window touches, taken from the equity curve; ratios of 252 "
        "days are annualised. A single day has none.</p>"
    )


def _completeness(run: RunLike) -> str:
    summary = run.summary
    data = summary.get("data") or {}
    if not data:
        return '<p class="note">Nothing was recorded about the data.</p>'
    holes, warnings = list(data.get("holes") or []), list(data.get("warnings") or [])
    quarantined, reasons = data.get("quarantined") or 0, data.get("quarantine_reasons") or {}
    coverage, remarkable = data.get("coverage") or {}, data.get("remarkable") or {}
    latency = _latencies(run.latency)
    replayed = [
        (str(name), f"{count:,}", percent(coverage.get(name)), latency.get(str(name), "–"))
        for name, count in (data.get("rows") or {}).items()
    ]
    facts = [
        ("events", f"{summary['events']:,}"),
        ("holes", f"{len(holes):,}" if holes else "none"),
        ("quarantined", f"{quarantined:,} rows" if quarantined else "none"),
        *((str(kind).replace("_", " "), f"{count:,} rows") for kind, count in remarkable.items()),
    ]
    complete = not _faults(data)
    verdict = "Complete: no holes, no row in quarantine." if complete else "Not complete: see below."
    heads = ["replayed", "rows", "window covered", "feed latency"]
    lists = [
        rows_table(["hole"], [[str(line)] for line in holes], label="holes") if holes else "",
        rows_table(
            ["reason for quarantine", "rows"],
            [(str(k), f"{n:,}") for k, n in reasons.items()],
            [False, True],
            label="quarantine",
        )
        if reasons
        else "",
        f'<p class="note">Rows in quarantine are kept whole in {escape(str(data["quarantine"]))}</p>'
        if data.get("quarantine")
        else "",
        rows_table(["warning"], [[str(line)] for line in warnings], label="warnings") if warnings else "",
    ]
    return (
        f'<p class="verdict {"ok" if complete else "warn"}">{verdict}</p>'
        + rows_table(heads, replayed, [False, True, True, True], label="rows replayed")
        + rows_table(["data", "amount"], facts, [False, True], label="data")
        + '<p class="note">An event is what the engine replays at once: a trade, or an update of a book, '
        "whose rows count as one. Quarantined and remarkable rows are those of all catalog files that meet "
        "the window.</p>" + "".join(lists)
    )


def _latencies(latency: pa.Table) -> dict[str, str]:
    """Return the range of the feed latency by instrument and type, spelled."""
    # Not `group_by`, for which pyarrow imports its dataset module.
    ranges: dict[str, tuple[int, int]] = {}
    columns = (latency[name].to_pylist() for name in ("instrument_id", "data_type", "min_ns", "max_ns"))
    for instrument, kind, low, high in zip(*columns, strict=True):
        name = f"{instrument} {kind}"
        least, most = ranges.get(name, (low, high))
        ranges[name] = min(least, low), max(most, high)
    return {
        name: "no receive time"
        if low == high == 0
        else f"{number(low / 1e6, digits=3)} to {number(high / 1e6, digits=3)} ms"
        for name, (low, high) in ranges.items()
    }


def _table(name: str, table: pa.Table) -> tuple[str, dict[str, Any] | None]:
    link = f'<p class="note">All columns and rows: <a href="{name}.parquet">{name}.parquet</a></p>'
    if not len(table):
        return f'<p class="note">No {name}.</p>{link}', None
    total = count(len(table), name.removesuffix("s"))
    if len(table) > MOST_ROWS:
        total = f"first {MOST_ROWS:,} of {total}"
    html, data = data_table(name, table, _COLUMNS[name].split())
    return details(total, html) + link, data


def _provenance(run: RunLike) -> str:
    summary, known = run.summary, run.provenance
    facts = {
        "run id": run.id,
        "results digest": summary.get("results_digest"),
        "started": summary.get("started"),
        "finished": summary.get("finished"),
        "nautilus_trader": summary.get("engine_version"),
    }
    objects = {
        (str(source.get("url")), str(source.get("etag"))): source
        for file in known.get("files") or ()
        for source in file.get("sources") or ()
    }
    rows = [
        (url, etag, _optional(source.get("size")), _optional(source.get("rows")))
        for (url, etag), source in sorted(objects.items())
    ]
    names = ", ".join(f'<a href="{name}.parquet">{name}.parquet</a>' for name in _FILES)
    return (
        rows_table(
            ["key", "value"], [(key, str(value)) for key, value in facts.items() if value], label="run"
        )
        + (
            rows_table(
                ["lake object", "ETag", "bytes", "rows"],
                rows,
                [False, False, True, True],
                label="lake objects",
            )
            if rows
            else '<p class="note">No lake object is recorded for the files used.</p>'
        )
        + details("versions and catalog files", key_values(known, label="provenance"))
        + f'<p class="note">Beside this page: {names}, <a href="summary.json">summary.json</a>, '
        '<a href="config.yaml">config.yaml</a>, <a href="provenance.json">provenance.json</a></p>'
    )


def _optional(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
