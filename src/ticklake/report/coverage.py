"""The page of a catalog's coverage: for each data type a map of instruments and days."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ticklake.display import counted
from ticklake.fetching.survey import Status, Stretch, Survey, SurveyRow
from ticklake.report.document import document, resource, section
from ticklake.report.tables import rows_table
from ticklake.types import NANOS_PER_DAY, Window, format_nanos

__all__ = ["write_coverage"]

# Pixels of a day by the number of days, so that a map is neither a stamp nor a mile long.
_WIDTHS = ((4, 160), (12, 72), (40, 26), (120, 13), (400, 7))
_NARROWEST = 4
# Where days are at least this wide, each has its number above it.
_NUMBERED = 20
# And what the name of a month takes; where there is less room, its title tells it.
_MONTH = 56
_CLASSES = {
    Status.COVERED: "covered",
    Status.EMPTY: "empty",
    Status.HOLE: "hole",
    Status.NOT_FETCHED: "absent",
}
_MEANINGS = {
    Status.COVERED: "the catalog has the rows",
    Status.EMPTY: "the catalog knows that there are no rows",
    Status.HOLE: "the lake has no file of that day",
    Status.NOT_FETCHED: "the catalog lacks it",
}


def write_coverage(survey: Survey, catalog: str, path: Path) -> None:
    """Write what a catalog holds and lacks as one HTML file that works offline.

    Args:
        survey: What it holds and lacks.
        catalog: What the catalog is called.
        path: The file to write; an existing one is replaced.
    """
    path.write_bytes(_page(survey, catalog))


def _page(survey: Survey, catalog: str) -> bytes:
    kinds = itertools.groupby(survey.rows, key=lambda row: row.catalog_type)
    window = survey.window
    maps = [_kind(kind.value, list(rows), window) for kind, rows in kinds] if window is not None else []
    empty = [] if maps else [section("Nothing", '<p class="note">The catalog holds no ticks.</p>')]
    return document(
        f"coverage of {catalog}",
        [_header(survey, catalog), _legend(survey), *maps, *empty],
        css=resource("coverage.css"),
    )


def _header(survey: Survey, catalog: str) -> str:
    days = "" if survey.window is None else _days(survey.window.days)
    lake = f"holes as {survey.lake} tells" if survey.lake else "no lake was asked for holes"
    return (
        f'<header><p class="kicker">ticklake coverage</p><h1>{escape(catalog)}</h1>'
        f'<p class="window">{days}</p><p class="id">{escape(lake)}</p></header>'
    )


def _legend(survey: Survey) -> str:
    shown = [status for status in Status if status is not Status.HOLE or survey.lake]
    items = "".join(
        f'<li><span class="key {_CLASSES[status]}"></span><b>{status}</b> {_MEANINGS[status]}</li>'
        for status in shown
    )
    mixed = '<li><span class="key mixed"></span><b>in part</b> a day of several, in their order</li>'
    return f'<ul class="legend">{items}{mixed}</ul>'


def _kind(name: str, rows: Sequence[SurveyRow], window: Window) -> str:
    days = window.days
    width = next((px for most, px in _WIDTHS if len(days) <= most), _NARROWEST)
    heads = f'<tr><th scope="col">instrument</th>{_months(days, width)}</tr>'
    if width >= _NUMBERED:
        numbers = "".join(f'<th scope="col" title="{day}">{day.day}</th>' for day in days)
        heads += f'<tr><th><span class="hidden">day</span></th>{numbers}</tr>'
    body = "".join(f'<tr><th scope="row">{escape(row.instrument)}</th>{_cells(row)}</tr>' for row in rows)
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="days of {escape(name)}">'
        f'<table class="map" style="--day: {width}px; width: calc(var(--name) + {width * len(days)}px)">'
        f'<colgroup><col class="name"><col span="{len(days)}" class="day"></colgroup>'
        f"<thead>{heads}</thead><tbody>{body}</tbody></table></div>"
    )
    return section(name, table + _totals(name, rows) + _windows(name, rows))


def _months(days: Sequence[dt.date], width: int) -> str:
    def head(month: tuple[int, int], count: int) -> str:
        text = f"{month[0]}-{month[1]:02d}"
        shown = text if count * width >= _MONTH else f'<span class="hidden">{text}</span>'
        return f'<th scope="colgroup" colspan="{count}" title="{text}">{shown}</th>'

    groups = itertools.groupby(days, key=lambda day: (day.year, day.month))
    return "".join(head(month, len(list(each))) for month, each in groups)


@dataclass(frozen=True, slots=True)
class _Day:
    """A day, or (of one status) several."""

    first: dt.date
    last: dt.date
    parts: tuple[Stretch, ...]


def _cells(row: SurveyRow) -> str:
    """Return the cells of a row: one for each run of days of one status, one for each day of several."""
    return "".join(_cell(each) for each in _runs_of_days(row))


def _runs_of_days(row: SurveyRow) -> Iterator[_Day]:
    parts = (Stretch(part, each.status) for each in row.stretches for part in each.window.split_days())
    open_run: _Day | None = None
    for date, group in itertools.groupby(parts, key=lambda part: part.window.days[0]):
        inside = tuple(group)
        if open_run is not None and len(inside) == 1 and open_run.parts[0].status is inside[0].status:
            open_run = _Day(open_run.first, date, open_run.parts)
            continue
        if open_run is not None:
            yield open_run
        open_run = None
        if len(inside) == 1:
            open_run = _Day(date, date, inside)
        else:
            yield _Day(date, date, inside)
    if open_run is not None:
        yield open_run


def _cell(run: _Day) -> str:
    count = (run.last - run.first).days + 1
    span = f' colspan="{count}"' if count > 1 else ""
    dates = f"{run.first}" if count == 1 else f"{run.first} to {run.last}"
    if len(run.parts) == 1:
        status = run.parts[0].status
        return (
            f'<td{span} class="{_CLASSES[status]}" title="{dates}: {status}">'
            f'<span class="hidden">{status}</span></td>'
        )
    told = ", ".join(f"{part.status} {_length(part.window)}" for part in run.parts)
    # A day of very many parts is only told to be one.
    drawn = run.parts if len(run.parts) <= _MOST_PARTS else ()
    style = f' style="background: linear-gradient(90deg, {_stops(drawn)})"' if drawn else ""
    return (
        f'<td class="mixed"{style} title="{dates}: {escape(_cut(told))}">'
        f'<span class="hidden">{escape(_cut(told))}</span></td>'
    )


_MOST_PARTS, _MOST_TEXT = 24, 400


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _stops(parts: Sequence[Stretch]) -> str:
    start = parts[0].window.start // NANOS_PER_DAY * NANOS_PER_DAY
    stops = []
    for part in parts:
        begin, end = (100 * (nanos - start) / NANOS_PER_DAY for nanos in (part.window.start, part.window.end))
        stops.append(f"var(--{_CLASSES[part.status]}) {begin:.4g}% {end:.4g}%")
    return ", ".join(stops)


def _totals(name: str, rows: Sequence[SurveyRow]) -> str:
    columns = ["instrument", "lake key", *map(str, Status), "files"]
    lines = [
        [
            row.instrument,
            row.lake_key or "–",
            *(_duration(row.nanos(status)) for status in Status),
            f"{row.files:,}",
        ]
        for row in rows
    ]
    numeric = [False, False, True, True, True, True, True]
    return rows_table(columns, lines, numeric, label=f"amounts of {name}")


def _windows(name: str, rows: Sequence[SurveyRow]) -> str:
    lines = [
        [row.instrument, _moment(each.window.start), _moment(each.window.end), str(each.status)]
        for row in rows
        for each in row.stretches
    ]
    shown = lines[:_MOST_LINES]
    note = f'<p class="note">The first {_MOST_LINES:,} of {len(lines):,}.</p>' * (len(shown) < len(lines))
    table = rows_table(["instrument", "start (UTC)", "end", "status"], shown, label=f"stretches of {name}")
    return f"<details><summary>every stretch ({len(lines):,})</summary>{table}{note}</details>"


_MOST_LINES = 2_000


def _days(days: Sequence[dt.date]) -> str:
    return f"{days[0]} <span>to</span> {days[-1]} UTC, {counted(len(days), 'day')}"


def _moment(nanos: int) -> str:
    return format_nanos(nanos).removesuffix("Z").replace("T", " ").removesuffix(" 00:00:00")


def _length(window: Window) -> str:
    return _duration(window.end - window.start)


_PARTS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def _duration(nanos: int) -> str:
    """Return a duration by its two largest units; a dash where it is none."""
    if not nanos:
        return "–"
    texts: list[str] = []
    rest = nanos // 10**9
    for unit, seconds in _PARTS:
        count, rest = divmod(rest, seconds)
        if count or texts:
            texts.append(f"{count:,} {unit}" if count else "")
        if len(texts) == 2:
            break
    return " ".join(text for text in texts if text) or "< 1 s"
