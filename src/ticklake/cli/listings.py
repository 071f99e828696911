"""What the commands show of runs, comparisons and coverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from ticklake.cli.console import print_note, print_warning, stdout
from ticklake.cli.tables import clock, fits, moment, show, table
from ticklake.display import format_signed

if TYPE_CHECKING:
    from pathlib import Path

    from ticklake.backtesting.listing import RunList
    from ticklake.fetching.survey import Survey
    from ticklake.report.comparison import Comparison

__all__ = ["print_comparison", "print_run_list", "print_survey", "print_unlisted"]

_DIGEST = 12


def print_unlisted(found: RunList) -> None:
    """Print on stderr what lies among the runs and is none."""
    for location, why in found.unreadable:
        print_warning(f"{location}/summary.json is not what a run writes: {why}")
    for location in found.unfinished:
        print_note(f"unfinished, being written or left by a process that was killed: {location}")


def print_run_list(found: RunList) -> None:
    """Print runs with as many of their figures as fit beside each other."""
    console = stdout()
    if not found.runs:
        console.print(f"There is no such run in {escape(found.location)}.")
        return
    summaries = [run.summary for run in found.runs]
    shown = [name for name, _ in _COLUMNS]
    for name in _FIRST_TO_GO:
        if fits(console, _run_table(summaries, shown)):
            break
        shown.remove(name)
    console.print(f"Runs in {escape(found.location)}", style="bold", soft_wrap=True)
    console.print(_run_table(summaries, shown))
    if left := [name for name, _ in _COLUMNS if name not in shown]:
        console.print(f"Too wide to show: {', '.join(left)}. --json has all.", style="dim")


def _run_table(summaries: Sequence[Mapping[str, Any]], shown: Sequence[str]) -> Any:
    grid = table(shown, _NUMBERS)
    for summary in summaries:
        grid.add_row(*(escape(cell(summary)) for name, cell in _COLUMNS if name in shown))
    return grid


def _main(key: str, form: str, unit: str = "") -> Callable[[Mapping[str, Any]], str]:
    """Return what shows the figure of the currency that most was traded in."""

    def cell(summary: Mapping[str, Any]) -> str:
        code = _currency(summary)
        value = (summary.get(key) or {}).get(code)
        if value is None:
            return "–"
        return f"{format_signed(value, form)}{unit and ' ' + str(code)}"

    return cell


def _several(names: Sequence[str]) -> str:
    return f"{names[0]} +{len(names) - 1}" if len(names) > 1 else "".join(map(str, names))


def _currency(summary: Mapping[str, Any]) -> str | None:
    from ticklake.report.model import primary_currency

    return primary_currency({"turnover": {}, "starting_balance": {}, **summary})


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("run", lambda s: str(s["id"])),
    ("instruments", lambda s: _several(s["instruments"])),
    ("start (UTC)", lambda s: moment(str(s["window"].get("start", "")))),
    ("end", lambda s: moment(str(s["window"].get("end", "")))),
    ("net PnL", _main("net_pnl", "+,.2f", "currency")),
    ("return", _main("return", "+.2%")),
    ("drawdown", _main("max_drawdown", ".2%")),
    ("Sharpe", _main("sharpe", ".2f")),
    ("fills", lambda s: f"{s.get('fills', 0):,}"),
    ("digest", lambda s: str(s["results_digest"])[:_DIGEST]),
)
_NUMBERS = ("net PnL", "return", "drawdown", "Sharpe", "fills")
_FIRST_TO_GO = ("end", "Sharpe", "drawdown", "start (UTC)", "fills", "instruments", "return")


def print_comparison(comparison: Comparison, locations: Sequence[str], html: Path | None) -> None:
    """Print runs beside each other.

    Args:
        comparison: What is compared.
        locations: Where the runs lie.
        html: The page that was written, if one was.
    """
    console = stdout()
    for label, location in zip(comparison.labels, locations, strict=True):
        console.print(f"{label}  {escape(location)}", soft_wrap=True)
    with_change = len(comparison.runs) == 2
    for figure in comparison.figures:
        if figure.name in _OF_ALL and len(set(figure.texts)) == 1:
            console.print(f"{figure.name} {escape(figure.texts[0])}", style="dim")
    rows = [
        (figure.name, *map(_plain, figure.texts), *([_plain(figure.changes[1])] if with_change else []))
        for figure in comparison.figures
        if figure.name not in _OF_ALL or len(set(figure.texts)) > 1
    ]
    heads = ["figure", *comparison.labels, *(["B - A"] if with_change else [])]
    _print_columns(console, "Figures", heads, rows, right=heads[1:])
    if comparison.differences:
        texts = [(each.key, *each.texts) for each in comparison.differences]
        _print_columns(console, "Config keys that differ", ["key", *comparison.labels], texts)
    else:
        console.print("The configs are the same.")
    console.print(comparison.verdict)
    if html is not None:
        console.print(f"Page: {escape(str(html))}", soft_wrap=True)


# What takes much room and is often the same.
_OF_ALL = ("start", "end", "strategies", "instruments")


def _plain(text: str) -> str:
    """Return a text with a minus that can be copied, and each name of a list on a line of its own."""
    return text.replace("−", "-").replace(", ", "\n")


def _print_columns(
    console: Console,
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
) -> None:
    """Print rows as one table, or as several with as many of the columns as fit beside the first."""
    console.print(title, style="bold")
    begin = 1
    while begin < len(heads):
        end = len(heads)
        while end > begin + 1 and not fits(console, _columns(heads, rows, begin, end, right)):
            end -= 1
        console.print(_columns(heads, rows, begin, end, right))
        begin = end


def _columns(
    heads: Sequence[str], rows: Sequence[Sequence[str]], begin: int, end: int, right: Sequence[str]
) -> Any:
    grid = table([heads[0], *heads[begin:end]], right)
    for row in rows:
        grid.add_row(escape(row[0]), *map(escape, row[begin:end]))
    return grid


_STYLES = {"hole": "red", "known-empty": "dim", "not fetched": "yellow"}


def print_survey(found: Survey, html: Path | None, *, gaps: bool) -> None:
    """Print what a catalog holds and lacks.

    Args:
        found: That.
        html: The page that was written, if one was.
        gaps: Whether to print what is missing, too.
    """
    from ticklake.fetching.survey import Status

    held = (Status.COVERED, Status.EMPTY)
    rows = [
        (
            row.catalog_type.value,
            row.instrument,
            clock(each.window.start),
            clock(each.window.end),
            str(each.status),
            f"{each.files:,}" if each.status in held else "",
        )
        for row in found.rows
        for each in row.stretches
        if gaps or each.status in held
    ]
    console = stdout()
    if rows:
        columns = ("type", "instrument", "start", "end", "status", "files")
        show(
            console,
            "Coverage (UTC)",
            columns,
            rows,
            right=("files",),
            style=lambda row: _STYLES.get(row[4], ""),
        )
    else:
        console.print("The catalog holds no ticks.")
    if html is not None:
        console.print(f"Page: {escape(str(html))}", soft_wrap=True)
