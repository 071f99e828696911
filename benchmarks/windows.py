"""Windows of a day over HTTP: ticklake against its peers, by requests, bytes and wall time.

The day is stored as lakes store it (row groups of 100,000), in row groups of a million, and in those with a
page index. Each reader reads five minutes of a file that it never saw, five other minutes of it, and an hour
in twelve pieces of another file that it never saw.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from benchmarks.harness import Route, Samples, in_turns
from benchmarks.inputs import MIDNIGHT, make_lake, source
from benchmarks.readers import CATALOG, COLUMNS, FILE, JUDGED, TICKLAKE, Reader, installed, reading
from benchmarks.results import Check, Result, Table, table
from benchmarks.scale import Scale
from benchmarks.server import Server, serving

__all__ = ["run"]


class Place(NamedTuple):
    """What was read: which file, over how many milliseconds, which windows."""

    shape: str
    latency: int
    step: str


type Span = tuple[int, int]
type Figures = dict[str, float]

_MINUTE = 60_000_000_000
_HOUR = 60 * _MINUTE
_SMALL, _LARGE, _INDEXED = "small groups", "large groups", "page index"
_FOLDERS = {_SMALL: "small", _LARGE: "large", _INDEXED: "indexed"}
_FIRST, _LATER = "first", "later"
_DAYS, _DAYS_LATENCY = 3, 20


def run(scale: Scale, folder: Path) -> Result:
    """Measure all readers over all shapes and latencies."""
    _make_shapes(scale, folder)
    names = [TICKLAKE, CATALOG, *installed()]
    steps = {_FIRST: [_piece(14)], _LATER: [_piece(8)], f"{scale.adjacent} adjacent": []}
    adjacent = list(steps)[-1]
    steps[adjacent] = [_piece(10, number) for number in range(scale.adjacent)]
    found: dict[Place, Samples] = {}
    with ExitStack() as stack:
        server = stack.enter_context(serving(folder))
        readers = {name: stack.enter_context(reading(name)) for name in names}
        _warm_up(server, readers)
        for latency in scale.latencies:
            # The row of windows is about bytes and round trips, which need no more than one latency to tell.
            with_row = latency == scale.latencies[len(scale.latencies) // 2]
            asked = {step: spans for step, spans in steps.items() if step != adjacent or with_row}
            for shape in _FOLDERS:
                by_step = _measure(server, readers, shape, latency, asked, scale.rounds)
                found |= {Place(shape, latency, step): samples for step, samples in by_step.items()}
        days = _over_days(server, readers[TICKLAKE], scale.rounds)
    for place, samples in found.items():
        _require_equal_rows(place, samples)
    needed = {
        (shape, step): _needed(folder / name, spans)
        for shape, name in _FOLDERS.items()
        for step, spans in steps.items()
    }
    return Result(
        "windows",
        "Window reads over HTTP",
        (
            *_checks(found, needed, adjacent),
            Check(
                f"window over {_DAYS} objects: round trips",
                days.median(TICKLAKE, "trips"),
                "trips",
                2,
                at_most=True,
            ),
        ),
        (
            *(_table(place, samples, needed[place.shape, place.step]) for place, samples in found.items()),
            _days_table(days),
        ),
        (
            f"A window is five minutes. Needed are footer and {len(COLUMNS)} columns of its groups, once.",
            "Round trips are requests that waited for each other. New connections cost more elsewhere.",
            "DuckDB, which keeps what it read, and fetches into a catalog are shown, and not compared.",
        ),
        {f"{place.shape}, {place.latency} ms, {place.step}": one.rounds for place, one in found.items()}
        | {"objects": days.rounds},
    )


def _piece(hour: int, number: int = 0) -> Span:
    start = MIDNIGHT + hour * _HOUR + 5 * number * _MINUTE
    return start, start + 5 * _MINUTE


def _make_shapes(scale: Scale, folder: Path) -> None:
    for name in _FOLDERS.values():
        make_lake(folder / name, trades=scale.trades if name == "small" else 1)
    rows = pq.read_table(source(folder / "small"), partitioning=None)
    for name, indexed in (("large", False), ("indexed", True)):
        pq.write_table(
            rows,
            source(folder / name),
            compression="snappy",
            row_group_size=scale.large_group,
            write_page_index=indexed,
        )
    make_lake(folder / "days", trades=scale.unit_trades, days=_DAYS)
    for name in _FOLDERS.values():
        os.link(source(folder / name), folder / name / FILE)


def _measure(
    server: Server,
    readers: dict[str, Reader],
    shape: str,
    latency: int,
    steps: dict[str, list[Span]],
    rounds: int,
) -> dict[str, Samples]:
    """Return what each step costs each reader."""
    by_step = {step: Samples(list(readers)) for step in steps}

    def session(route: Route) -> Figures:
        reader = readers[route.name]
        for step, spans in steps.items():
            if step != _LATER:
                reader.open(f"{server.new_url()}/{_FOLDERS[shape]}")
            server.take(latency)
            answers = [reader.read(*span) for span in spans]
            figures = {figure: sum(answer[figure] for answer in answers) for figure in ("seconds", "rows")}
            by_step[step].add(route.name, figures | asdict(server.take(latency)))
        return {}

    in_turns([Route(name, "") for name in readers], rounds, run=session)
    return by_step


def _over_days(server: Server, reader: Reader, rounds: int) -> Samples:
    """Return what a window that begins on the first of several days and ends on the last costs."""
    samples = Samples([TICKLAKE])
    for _ in range(rounds):
        reader.open(f"{server.new_url()}/days")
        server.take(_DAYS_LATENCY)
        figures = reader.read(_piece(22)[0], _piece(24 * (_DAYS - 1) + 2)[0])
        samples.add(TICKLAKE, figures | asdict(server.take()))
    return samples


def _days_table(samples: Samples) -> Table:
    figures = (f"{samples.median(TICKLAKE, name):.0f}" for name in ("requests", "trips"))
    seconds = f"{1_000 * samples.median(TICKLAKE):.0f}"
    title = f"A window that {_DAYS} objects have a part of, {_DAYS_LATENCY} ms of latency"
    return table(title, ("reader", "requests", "round trips", "ms"), [(TICKLAKE, *figures, seconds)])


def _warm_up(server: Server, readers: dict[str, Reader]) -> None:
    server.take()
    for reader in readers.values():
        for folder in _FOLDERS.values():
            reader.open(f"{server.new_url()}/{folder}")
            reader.read(*_piece(12))


def _require_equal_rows(place: Place, samples: Samples) -> None:
    rows = {name: {one["rows"] for one in each} for name, each in samples.rounds.items() if name != CATALOG}
    if len(set.union(*rows.values())) != 1:
        raise RuntimeError(f"{place}: the readers do not agree on the rows: {rows}")


def _needed(lake: Path, spans: Sequence[Span]) -> int:
    """Return the bytes of the footer and of the columns in the row groups that meet windows, once each."""
    path = lake / FILE
    footer = pq.read_metadata(path)
    names = footer.schema.to_arrow_schema().names
    columns, times = [names.index(name) for name in COLUMNS], names.index("ts_init")
    total = int(footer.serialized_size) + 8
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        known = group.column(times).statistics
        if any(known.min < end and known.max >= start for start, end in spans):
            total += sum(int(group.column(column).total_compressed_size) for column in columns)
    return total


def _checks(
    found: dict[Place, Samples], needed: dict[tuple[str, str], int], adjacent: str
) -> Iterator[Check]:
    peers = [name for name in next(iter(found.values())).rounds if name in JUDGED]
    excess = max(
        samples.median(TICKLAKE, "bytes") / needed[place.shape, place.step]
        for place, samples in found.items()
        if place.step != adjacent
    )
    late = {place: samples for place, samples in found.items() if place.latency}
    for step, bound in ((_FIRST, 2), (_LATER, 1)):
        trips = max(
            samples.median(TICKLAKE, "trips") for place, samples in late.items() if place.step == step
        )
        yield Check(f"{step} window: round trips, at worst", trips, "trips", bound, at_most=True)
    yield Check("window: bytes / footer and needed chunks, at worst", excess, "x", 1.02, at_most=True)
    yield from _catalog_checks(found, needed, adjacent)
    if not peers:
        return
    yield from _peer_checks(found, peers)


def _catalog_checks(
    found: dict[Place, Samples], needed: dict[tuple[str, str], int], adjacent: str
) -> Iterator[Check]:
    for (shape, _, step), samples in found.items():
        if step == adjacent:
            share = samples.median(CATALOG, "bytes") / needed[shape, step]
            what = f"{step} windows fetched, {shape}: bytes / each group once"
            yield Check(what, share, "x", 1.02, at_most=True)


def _peer_checks(found: dict[Place, Samples], peers: list[str]) -> Iterator[Check]:
    def worst(figure: str, places: Callable[[Place], bool]) -> tuple[float, str]:
        """Return the greatest ratio to the best peer, and where and against whom it is."""
        ratios = []
        for place, samples in found.items():
            if places(place):
                best = min(peers, key=lambda peer: samples.median(peer, figure))
                ratio = max(samples.median(TICKLAKE, figure), 1) / max(samples.median(best, figure), 1)
                if figure == "seconds":
                    ratio = samples.ratio(TICKLAKE, best)
                ratios.append((ratio, f"{best}: {place.shape}, {place.step}"))
        return max(ratios)

    for figure in ("bytes", "requests"):
        ratio, place = worst(figure, lambda place: place.shape != _INDEXED)
        yield Check(f"{figure} / best peer, at worst ({place})", ratio, "x", 1, at_most=True)
    ratio, place = worst("bytes", lambda place: place.shape == _INDEXED)
    yield Check(f"page index: bytes / best peer, at worst ({place})", ratio, "x", 1.1, at_most=True)
    for latency in dict.fromkeys(place.latency for place in found):
        ratio, place = worst("seconds", partial(_has_latency, latency))
        yield Check(f"{latency} ms: wall / fastest peer, at worst ({place})", ratio, "x", 1.1, at_most=True)


def _has_latency(latency: int, place: Place) -> bool:
    return place.latency == latency


def _table(place: Place, samples: Samples, needed: int) -> Table:
    shape, latency, step = place
    rows = [
        (
            name,
            f"{samples.median(name, 'requests'):.0f}",
            f"{samples.median(name, 'trips'):.0f}" if latency else "",
            f"{samples.median(name, 'bytes') / 1e6:.2f}",
            f"{samples.median(name, 'bytes') / needed:.2f}x",
            f"{1_000 * samples.median(name):.0f}",
            f"{samples.ratio(name, TICKLAKE):.2f}x",
        )
        for name in samples.rounds
    ]
    windows = "windows" if "adjacent" in step else "window"
    header = ("reader", "requests", "round trips", "MB", "/ needed", "ms", "/ ticklake")
    return table(f"{shape}, {latency} ms of latency, {step} {windows}", header, rows)
