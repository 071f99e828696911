"""The tick files of a lake: which there are, and their footers as far as they were read."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from ticklake.errors import ObjectChangedError
from ticklake.lake.footers import FOOTER_GUESS, Footer, find_footer
from ticklake.lake.layout import Layout
from ticklake.lake.loop import gather, start
from ticklake.lake.store import Store
from ticklake.types import ByteRange, DataType, InstrumentKey

__all__ = ["TickFiles"]

# How often a footer is begun again because the file was overwritten meanwhile.
_RESTARTS = 3

# How many footers of a data type tell how much the next one is asked for; and what that is at most.
_SEEN = 16
_MAX_GUESS = 256 * 1024
_ROUND = 1_024


class TickFiles:
    """The tick files of a lake, with the footers read so far.

    Args:
        store: Where they are.
        layout: How they are named.
        slack: How far `ts_init` may lie outside the UTC day that a row is filed under, in nanoseconds.
    """

    def __init__(self, store: Store, layout: Layout, slack: int) -> None:
        self.store = store
        self.slack = slack
        self._layout = layout
        # By the paths where a file may lie: which of them exists is remembered too.
        self._footers: dict[tuple[str, ...], Footer] = {}
        # Those of files that were looked at in the block of `one_look`.
        self._looked_at: set[tuple[str, ...]] | None = None
        # Of two that want a footer at once one reads it.
        self._reading: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()
        # What was asked for before it is needed.
        self._ahead: dict[tuple[str, ...], Future[Footer | None]] = {}
        # How much of the end of files was needed.
        self._needed: dict[DataType, deque[int]] = {}

    async def footer(
        self,
        data_type: DataType,
        day: dt.date,
        key: InstrumentKey,
        *,
        is_pinned: Callable[[Footer], bool],
        index: Callable[[Footer], ByteRange | None],
    ) -> Footer | None:
        """Return the footer of a day's file, or None where there is no file; absence is not remembered.

        Args:
            data_type: Of the file.
            day: Of the file.
            key: Of the file.
            is_pinned: Whether what is read by a kept footer will fail if the file is another version by now.
                Otherwise the store is asked, as nothing else would notice.
            index: Where the page index is that should be at hand too; it lies before the footer.
        """
        paths = self._layout.tick_paths(data_type, day, key)
        reading = self._reading.setdefault(paths, asyncio.Lock())
        async with reading:
            kept = self._footers.get(paths)
            looked_at = self._looked_at
            is_current = kept is not None and (
                (looked_at is not None and paths in looked_at)
                or is_pinned(kept)
                or await self.store.is_current(kept.path, kept.version)
            )
            footer: Footer | None = None
            if kept and is_current:
                with suppress(ObjectChangedError):
                    footer = await self._with_index(kept, index(kept))
            if footer is None:
                ahead = self._ahead.pop(paths, None)
                footer = await (
                    self._read(paths, data_type, index) if ahead is None else asyncio.wrap_future(ahead)
                )
                if footer is not None and looked_at is not None:
                    looked_at.add(paths)
            if footer is not None:
                self._footers[paths] = footer
            return footer

    def look_ahead(
        self,
        data_type: DataType,
        day: dt.date,
        key: InstrumentKey,
        *,
        index: Callable[[Footer], ByteRange | None],
    ) -> None:
        """Begin to read a footer if none is kept: who asks for it next gets it, or what went wrong.

        Args are those of `footer`. Waits for nothing; what nobody asked for is dropped by `stop_ahead`.
        """
        paths = self._layout.tick_paths(data_type, day, key)
        if paths not in self._footers and paths not in self._ahead:
            self._ahead[paths] = start(self._read(paths, data_type, index))

    def stop_ahead(self) -> None:
        """Drop what was asked for ahead and not taken: for who asks later it would be out of date."""
        while self._ahead:
            _, reading = self._ahead.popitem()
            reading.cancel()

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Take what is read in the block to be of one moment: no version is asked for again in it."""
        self._looked_at = set()
        try:
            yield
        finally:
            self._looked_at = None

    async def _read(
        self, paths: tuple[str, ...], data_type: DataType, index: Callable[[Footer], ByteRange | None]
    ) -> Footer | None:
        seen = self._needed.setdefault(data_type, deque(maxlen=_SEEN))
        guess = FOOTER_GUESS
        # A file that is another version by now may have grown.
        if seen and paths not in self._footers:
            # An eighth more than any of them, as days differ.
            guess = min(_MAX_GUESS, -(-max(seen) * 9 // 8 // _ROUND) * _ROUND)
        for restarts in range(_RESTARTS, -1, -1):
            try:
                footer = await find_footer(self.store, paths, guess)
                if footer is not None:
                    place = index(footer)
                    seen.append(
                        footer.version.size - min(footer.start, place.start if place else footer.start)
                    )
                    footer = await self._with_index(footer, place)
            except ObjectChangedError:  # between the parts of what is read
                if not restarts:
                    raise
            else:
                return footer
        return None

    async def _with_index(self, footer: Footer, place: ByteRange | None) -> Footer:
        if place is None or footer.tail.range.covers(place):
            return footer
        missing = ByteRange(place.start, footer.tail.range.start)
        return footer.extended(await self.store.read_range(missing, footer.path, footer.version))

    def forget(self, url: str | None = None) -> None:
        """Drop the footer of an object that is another version by now, or (None) of all."""
        for paths, kept in list(self._footers.items()):
            if url is None or kept.version.url == url:
                self._footers.pop(paths, None)

    async def days(
        self, data_type: DataType, key: InstrumentKey, days: Sequence[dt.date] | None = None
    ) -> tuple[dt.date, ...]:
        """Return the days that have a file, of these or of all.

        Of all, the layout's folders tell which may; each is then asked for.
        """
        if days is None:
            days = await self._possible_days(data_type, key)
        there = await gather(self._has_file(data_type, day, key) for day in days)
        return tuple(day for day, exists in zip(days, there, strict=True) if exists)

    async def _possible_days(self, data_type: DataType, key: InstrumentKey) -> list[dt.date]:
        folders = self._layout.day_folders(data_type, key)
        listed = await gather(self.store.children(folder.prefix) for folder in folders)
        found = {folder.day(child) for folder, paths in zip(folders, listed, strict=True) for child in paths}
        return sorted(day for day in found if day is not None)

    async def _has_file(self, data_type: DataType, day: dt.date, key: InstrumentKey) -> bool:
        for path in self._layout.tick_paths(data_type, day, key):
            if await self.store.exists(path):
                return True
        return False
