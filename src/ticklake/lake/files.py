"""The tick files of a lake: which there are, and their footers as far as they were read."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from ticklake.errors import ObjectChangedError
from ticklake.lake.layout import Layout
from ticklake.lake.loop import gather
from ticklake.lake.reader import Footer, find_footer
from ticklake.lake.store import Store
from ticklake.types import DataType, InstrumentKey

__all__ = ["TickFiles"]

# How often a footer is begun again because the file was overwritten meanwhile.
_RESTARTS = 3


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

    async def footer(
        self, data_type: DataType, day: dt.date, key: InstrumentKey, *, is_pinned: Callable[[Footer], bool]
    ) -> Footer | None:
        """Return the footer of a day's file, or None where there is no file; absence is not remembered.

        Args:
            data_type: Of the file.
            day: Of the file.
            key: Of the file.
            is_pinned: Whether what is read by a kept footer will fail if the file is another version by now.
                Otherwise the store is asked, as nothing else would notice.
        """
        paths = self._layout.tick_paths(data_type, day, key)
        reading = self._reading.setdefault(paths, asyncio.Lock())
        async with reading:
            kept = self._footers.get(paths)
            looked_at = self._looked_at
            if kept and looked_at is not None and paths in looked_at:
                return kept
            if kept and (is_pinned(kept) or await self.store.is_current(kept.path, kept.version)):
                return kept
            footer = await self._read(paths)
            if footer is not None:
                self._footers[paths] = footer
                if looked_at is not None:
                    looked_at.add(paths)
            return footer

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Take what is read in the block to be of one moment: no version is asked for again in it."""
        self._looked_at = set()
        try:
            yield
        finally:
            self._looked_at = None

    async def _read(self, paths: tuple[str, ...]) -> Footer | None:
        for _ in range(_RESTARTS):
            with suppress(ObjectChangedError):  # between the two parts of a long footer
                return await find_footer(self.store, paths)
        return await find_footer(self.store, paths)

    def forget(self, url: str | None = None) -> None:
        """Drop the footer of an object that is another version by now, or (None) of all."""
        for paths, kept in list(self._footers.items()):
            if url is None or kept.version.url == url:
                self._footers.pop(paths, None)

    async def days(self, data_type: DataType, key: InstrumentKey) -> tuple[dt.date, ...]:
        """Return the days that have a file: the layout's folders tell which may, each is then asked for."""
        folders = self._layout.day_folders(data_type, key)
        listed = await gather(self.store.children(folder.prefix) for folder in folders)
        found = {folder.day(child) for folder, paths in zip(folders, listed, strict=True) for child in paths}
        days = sorted(day for day in found if day is not None)
        there = await gather(self._has_file(data_type, day, key) for day in days)
        return tuple(day for day, exists in zip(days, there, strict=True) if exists)

    async def _has_file(self, data_type: DataType, day: dt.date, key: InstrumentKey) -> bool:
        for path in self._layout.tick_paths(data_type, day, key):
            if await self.store.exists(path):
                return True
        return False
