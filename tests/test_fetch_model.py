"""Any sequence of fetches, refreshes, kills, prunes, compactions and changes of the lake, against a model."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crash_support import memory_folder, run_child, temporaries
from model_support import (
    ALL,
    DAYS,
    GRID,
    IDS,
    MIDNIGHTS,
    PLACES,
    SOURCES,
    Ask,
    Change,
    Model,
    Source,
    Span,
    State,
    catalog_rows,
    days_of,
    die_at,
    engine_rows,
    expected,
    merged,
    observe,
    run_compact,
    run_fetch,
    run_prune,
    span_of_name,
    window_of,
)
from ticklake.catalog import Catalog, verify
from ticklake.catalog.naming import file_name
from ticklake.errors import MissingDataError, NotCachedError
from ticklake.fetching.repair import repair
from ticklake.lake import Lake
from ticklake.types import CatalogType

spans = (
    st.tuples(st.integers(0, len(GRID) - 1), st.integers(0, len(GRID) - 1))
    .map(lambda pair: (min(pair), max(pair) + (pair[0] == pair[1])))
    .filter(lambda span: span[1] < len(GRID))
    .map(lambda span: (GRID[span[0]], GRID[span[1]]))
)
keeps = st.sampled_from(["row_groups", "window"])
asks = st.lists(st.builds(Ask, st.sampled_from(PLACES), spans), min_size=1, max_size=3)
objects = st.tuples(
    st.sampled_from(list(IDS)), st.sampled_from(["trades", "book_snapshot_1"]), st.integers(0, DAYS - 1)
)
seeds = st.integers(0, 999)

DIGESTS: dict[object, str] = {}
"""Content digests by what a catalog holds, of all sequences."""


class Lakes(RuleBasedStateMachine):
    """A catalog, its lake, and the model that tells what the catalog has to hold."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(memory_folder(Path(tempfile.gettempdir())))
        self.lake, self.catalog = folder / "lake", Catalog(folder / "catalog")
        self.source = Source(self.lake)
        self.model = Model(self.source)

    def teardown(self) -> None:
        self.stack.close()

    @initialize(seed=seeds)
    def fill(self, seed: int) -> None:
        for number, (key, data_type, day) in enumerate(
            (key, data_type, day)
            for key in IDS
            for data_type in ("trades", "book_snapshot_1")
            for day in range(DAYS)
        ):
            self.source.put(key, data_type, day, seed + number)

    # The lake changes

    @rule(what=objects, seed=seeds)
    def overwrite(self, what: tuple[str, str, int], seed: int) -> None:
        """Another version, or the file of a day that was deleted."""
        self.source.put(*what, seed)

    @rule(what=objects)
    def delete(self, what: tuple[str, str, int]) -> None:
        self.source.remove(*what)

    # The catalog changes

    @rule(asked=asks, refresh=st.booleans(), on_hole=st.sampled_from(["skip", "skip", "stop"]), keep=keeps)
    def fetch(self, asked: list[Ask], refresh: bool, on_hole: str, keep: str) -> None:
        if on_hole == "stop" and self.model.has_holes(asked, refresh=refresh):
            with pytest.raises(MissingDataError):
                run_fetch(self.lake, self.catalog.path, asked, refresh=refresh, keep=keep)
            return
        changes = self.model.fetch(asked, refresh=refresh, keep=keep)
        report = run_fetch(self.lake, self.catalog.path, asked, refresh=refresh, on_hole=on_hole, keep=keep)
        self.model.files = self.model.after(changes)
        written = [row for change in changes for row in change.rows]
        assert report.files == len(changes)
        assert report.rows == sum(len(catalog_rows(change.place[0], change.rows)) for change in changes)
        assert report.source_rows_quarantined == sum(row.bad for row in written)
        assert report.source_rows == report.outside + len(written)
        assert not changes or temporaries(self.catalog.path) == []

    @precondition(lambda self: self.model.files)
    @rule(data=st.data(), length=st.integers(1, 3))
    def extend(self, data: st.DataObject, length: int) -> None:
        """The window after what is covered."""
        place = data.draw(st.sampled_from(sorted(self.model.files)))
        end = max(b for _, b in self.model.files[place])
        later = [point for point in GRID if point > end][:length]
        if later:
            self.fetch([Ask(place, (end, later[-1]))], False, "skip", "row_groups")

    @rule(asked=asks)
    def fetch_offline(self, asked: list[Ask]) -> None:
        run = partial(run_fetch, self.lake, self.catalog.path, asked, offline=True)
        if any(self.model.missing(ask.place, ask.span) for ask in asked):
            with pytest.raises(NotCachedError):
                run()
        else:
            report = run()
            assert (report.files, report.requests) == (0, 0)

    @precondition(lambda self: self.model.files)
    @rule(span=spans, kind=st.sampled_from([None, *CatalogType]))
    def prune(self, span: Span, kind: CatalogType | None) -> None:
        changes = self.model.prune(span, kind)
        run_prune(self.lake, self.catalog.path, span, kind)
        self.model.files = self.model.after(changes)

    @precondition(lambda self: self.touching())
    @rule()
    def compact(self) -> None:
        run_compact(self.lake, self.catalog.path)
        self.adopt_joined()
        if self.source.versions == len(self.source.days):  # of each object one version was ever there
            assert not self.touching()

    def touching(self) -> bool:
        """Whether files touch within a day."""
        return any(
            {a for a, _ in there} & {b for _, b in there} - set(MIDNIGHTS)
            for there in self.model.files.values()
        )

    def adopt_joined(self) -> None:
        there = observe(self.catalog.path)
        self.model.files = self.model.joined({place: list(files) for place, files in there.items()})

    # What goes wrong

    @rule(asked=asks, number=st.integers(0, 60), keep=keeps)
    def kill_a_fetch(self, asked: list[Ask], number: int, keep: str) -> None:
        """Then fetch again: there are the files that a fetch makes which nobody killed."""
        changes = self.model.fetch(asked, keep=keep)
        undisturbed = self.model.after(changes)
        fetch = partial(run_fetch, asks=asked, on_hole="skip", keep=keep, jobs=1)
        self.kill(number, changes, fetch)
        fetch(self.lake, self.catalog.path)
        self.adopt([undisturbed])

    @precondition(lambda self: self.model.files)
    @rule(data=st.data(), seed=seeds, number=st.integers(0, 60))
    def kill_a_refresh(self, data: st.DataObject, seed: int, number: int) -> None:
        """Of a file whose source was overwritten."""
        place = data.draw(st.sampled_from(sorted(self.model.files)))
        span = data.draw(st.sampled_from(sorted(self.model.files[place])))
        self.source.put(place[1], SOURCES[place[0]][0], days_of(span)[0], seed)
        asked = [Ask(place, span)]
        changes = self.model.fetch(asked, refresh=True)
        self.kill(number, changes, partial(run_fetch, asks=asked, refresh=True, on_hole="skip"))

    @precondition(lambda self: self.model.files)
    @rule(span=spans, number=st.integers(0, 12))
    def kill_a_prune(self, span: Span, number: int) -> None:
        self.kill(number, self.model.prune(span, None), partial(run_prune, span=span, kind=None))

    @precondition(lambda self: self.touching())
    @rule(number=st.integers(0, 50))
    def kill_a_compaction(self, number: int) -> None:
        self.killed(number, run_compact)
        self.adopt_joined()

    def killed(self, number: int, operation: Callable[..., object]) -> bool:
        """Run an operation in a process that dies on the way, and tell whether it did."""
        code = run_child(partial(die_at, number, operation, lake=self.lake, catalog=self.catalog.path))
        assert code in (0, -signal.SIGKILL)
        return code != 0

    def kill(self, number: int, changes: list[Change], operation: Callable[..., object]) -> None:
        """Kill an operation: some of its changes are there, in order."""
        died = self.killed(number, operation)
        done = range(len(changes) + 1) if died else [len(changes)]
        self.adopt([self.model.after(changes[:count]) for count in done])

    def adopt(self, states: list[State]) -> None:
        """Go on from that one of some states which is there."""
        there = observe(self.catalog.path)
        found = [state for state in states if expected(state) == there]
        assert found
        self.model.files = found[0]

    @precondition(lambda self: self.model.files)
    @rule(data=st.data(), cut=st.booleans())
    def damage_and_repair(self, data: st.DataObject, cut: bool) -> None:
        place = data.draw(st.sampled_from(sorted(self.model.files)))
        span = data.draw(st.sampled_from(sorted(self.model.files[place])))
        folder = self.catalog.path / "data" / place[0] / IDS[place[1]]
        path = folder / file_name(window_of(span))
        # What a killed compaction joined into this file and did not remove answers for itself again.
        inside = [span_of_name(each.name) for each in folder.glob("*.parquet") if each != path]
        parts = [
            Change(place, (), part, self.model.part(place, span, part))
            for part in inside
            if span[0] <= part[0] and part[1] <= span[1]
        ]
        content = path.read_bytes()
        half = len(content) // 2
        flipped = bytes(byte ^ 255 for byte in content[half : half + 16])
        path.write_bytes(content[:half] if cut else content[:half] + flipped + content[half + 16 :])
        asked = [Ask(each, (GRID[0], GRID[1])) for each in PLACES]
        made = repair(Lake(self.lake), self.catalog, [ask.request() for ask in asked], on_hole="skip")
        assert [check.file.path for check in made.before.bad] == [path]
        states = []
        for kept in (parts, []):
            left = Model(self.source, self.model.after([Change(place, (span,)), *kept]))
            states.append(left.after(left.fetch([Ask(place, span)], keep="window")))
        self.adopt(states)

    # What holds at any time

    @invariant()
    def rows_are_those_of_the_model(self) -> None:
        wanted = expected(self.model.files)
        assert observe(self.catalog.path) == wanted
        if wanted:
            counts = dict.fromkeys(CatalogType, 0)
            for (kind, _), files in wanted.items():
                counts[kind] += sum(map(len, files.values()))
            with self.catalog.pinned([(kind, IDS[key]) for kind, key in PLACES]) as pinned:
                assert engine_rows(pinned.path) == counts

    @invariant()
    def coverage_is_that_of_the_model(self) -> None:
        covered = {(found.catalog_type, found.nautilus_id): found for found in self.catalog.coverage()}
        assert set(covered) == {(kind, IDS[key]) for kind, key in self.model.files}
        for kind, key in self.model.files:
            missing = [window_of(span) for span in self.model.missing((kind, key), ALL)]
            assert list(self.catalog.missing(kind, IDS[key], window_of(ALL))) == missing
            windows = covered[kind, IDS[key]].windows
            assert [window_of(span) for span in merged(self.model.files[kind, key])] == list(windows)

    @invariant()
    def equal_content_has_an_equal_digest(self) -> None:
        digest = self.catalog.content_digest()
        assert DIGESTS.setdefault(self.model.content(), digest) == digest
        assert len(set(DIGESTS.values())) == len(DIGESTS)

    @invariant()
    def nothing_is_bad_or_astray(self) -> None:
        found = verify(self.catalog)
        assert (found.bad, found.strays) == ((), ())


# The same sequences each time, but others each night.
Lakes.TestCase.settings = settings(
    derandomize=settings.get_current_profile_name() != "nightly",
    max_examples=settings().max_examples // 8,
    stateful_step_count=20,
)
TestLakes = Lakes.TestCase
