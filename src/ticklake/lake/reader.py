"""Row groups that are fetched and decoded ahead of the consumer."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from ticklake.conversion.dialects import Dialect
from ticklake.lake.footers import Footer
from ticklake.lake.loop import start, wait
from ticklake.lake.objects import SourceObject
from ticklake.lake.rowgroups import Inside, Unit, decode_unit
from ticklake.lake.scan import ObjectPlan, watermarks
from ticklake.lake.store import Fetched, Store
from ticklake.lake.times import check_day, time_range
from ticklake.types import ByteRange, Window

__all__ = ["SourceBatch", "read_ahead"]


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """The rows of one row group or a stretch of it, also those outside the window.

    Attributes:
        table: The dialect's columns in the source's types, text in views (`string_view`) as `string`.
        dialect: What they mean.
        source: The file.
        row_group: Number of the row group in it.
        first_row: Position of the first row in the file.
        watermark: The least `ts_init` in the window, in nanoseconds, that batches after this one can still
            bring; None where this is the last.
        reach: Where `ts_init` can lie; rows elsewhere are not near the file's day, so that no window has them
            and no watermark is about them.
        undated: Stands in for the `ts_init` of a row that has no usable one, so that such a row counts to one
            window only, however often its row group is read.
        notes: What the user should know of the file, where only reading it could tell.
    """

    table: pa.Table
    dialect: Dialect
    source: SourceObject
    row_group: int
    first_row: int
    watermark: int | None
    reach: Window
    undated: int
    notes: tuple[str, ...]


def read_ahead(
    store: Store,
    objects: Sequence[tuple[ObjectPlan, Footer]],
    *,
    slack: int,
    max_in_flight_bytes: int,
    decoders: int,
    only: Window | None = None,
) -> Generator[SourceBatch]:
    """Yield the planned row groups in order, while later ones are fetched and decoded.

    Args:
        store: Where the objects are.
        objects: What to read, with the footers that the plans were made from.
        slack: The slack that it was planned with.
        max_in_flight_bytes: Bound on the bytes fetched, being fetched, decoded and not yet let go of.
            Besides the row group that the consumer has, one is always under way, however large it is.
        decoders: Threads that decode ahead; with 0 a row group is decoded when it is taken.
        only: Decode what has rows of this window, and no more of a row group than that, as far as its times
            tell; None decodes all. The positions of batches do not tell which rows those are.

    Raises:
        ObjectChangedError: An object was overwritten since its footer was read.
        CorruptObjectError: A row group cannot be decoded, or is not what the footer says.
        SourceSchemaError: A file without statistics has no row near its day.
        LakeError: An object could not be read.
    """
    todo = deque(
        Unit(plan, footer, group, tuple((footer.path, wanted) for wanted in plan.ranges_of(group)))
        for plan, footer in objects
        for group in plan.row_groups
    )
    marks = watermarks([unit.group for unit in todo])
    unsaid = _UnsaidTimes(slack)
    users = Counter(key for unit in todo for key in unit.fetches)
    ahead = _ReadAhead(store, max_in_flight_bytes, users, decoders, only)
    try:
        for watermark in marks:
            while todo and ahead.has_room_for(todo[0]):
                ahead.begin(todo.popleft())
            unit, table = ahead.next()
            plan, group = unit.plan, unit.group
            yield SourceBatch(
                table,
                plan.dialect,
                plan.source,
                group.index,
                group.first_row,
                watermark,
                plan.reach,
                plan.undated(group),
                unsaid.check(unit, table),
            )
            # Only now has the consumer let go of it.
            del table
            ahead.release()
    finally:
        ahead.close()


class _UnsaidTimes:
    """Checks the times that no statistics told; those of statistics were checked when the plan was made."""

    def __init__(self, slack: int) -> None:
        self._slack = slack
        self._of_file: list[int] = []

    def check(self, unit: Unit, table: pa.Table) -> tuple[str, ...]:
        """Take in the row group that comes next; with the last of a file, return what is to be noted of it.

        Args:
            unit: The row group.
            table: Its rows.

        Raises:
            SourceSchemaError: No row of the file is near its day.
        """
        plan, group = unit.plan, unit.group
        if group.time_min is None and (found := time_range(table, plan.dialect)) is not None:
            self._of_file += found
        if group is not plan.row_groups[-1] or not self._of_file:
            return ()
        least, greatest = min(self._of_file), max(self._of_file)
        self._of_file.clear()
        return check_day(plan.source, plan.day, self._slack, least, greatest)


_LEAST = 2
"""Row groups under way at any time, that of the consumer among them, however large they are."""


class _ReadAhead:
    """Row groups under way, in order. All its bookkeeping happens in the consumer's thread.

    What is fetched is small beside what is decoded of it: so that latency is hidden in little memory, row
    groups are fetched well ahead, and handed to the decoders only as far as there is room for them decoded.
    """

    def __init__(
        self,
        store: Store,
        max_bytes: int,
        users: Counter[tuple[str, ByteRange]],
        decoders: int,
        only: Window | None,
    ) -> None:
        self._store = store
        self._inside = None if only is None else Inside(only)
        self._max_bytes = max_bytes
        self._fetched_bytes = self._decoded_bytes = 0
        # How many row groups still need a request: neighbours share one, and it is made once.
        self._users = users
        self._fetches: dict[tuple[str, ByteRange], Future[Fetched]] = {}
        self._waiting: deque[Unit] = deque()
        self._decoding: deque[tuple[Unit, Callable[[], pa.Table]]] = deque()
        self._pool = ThreadPoolExecutor(decoders, thread_name_prefix="ticklake-decode") if decoders else None

    def has_room_for(self, unit: Unit) -> bool:
        if len(self._waiting) + len(self._decoding) < _LEAST:
            return True
        new = sum(key[1].length for key in unit.fetches if key not in self._fetches)
        return self._fetched_bytes + new <= self._max_bytes * 3 // 4

    def begin(self, unit: Unit) -> None:
        """Start to fetch a row group."""
        for path, wanted in unit.fetches:
            if (path, wanted) not in self._fetches:
                self._fetches[path, wanted] = start(self._store.read_range(wanted, path, unit.footer.version))
                self._fetched_bytes += wanted.length
        self._waiting.append(unit)

    def next(self) -> tuple[Unit, pa.Table]:
        """Wait for the first row group under way, and let go of what was fetched for it last."""
        least = 1 if self._pool is None else _LEAST
        while self._waiting and (len(self._decoding) < least or self._has_room_to_decode(self._waiting[0])):
            self._decode(self._waiting.popleft())
        unit, decoded = self._decoding[0]
        table = decoded()
        for key in unit.fetches:
            self._users[key] -= 1
            if not self._users[key]:
                del self._fetches[key]
                self._fetched_bytes -= key[1].length
        return unit, table

    def _has_room_to_decode(self, unit: Unit) -> bool:
        in_flight = self._fetched_bytes + self._decoded_bytes
        return self._pool is not None and in_flight + unit.group.decoded_bytes <= self._max_bytes

    def _decode(self, unit: Unit) -> None:
        decode = partial(decode_unit, unit, [self._fetches[key] for key in unit.fetches], self._inside)
        if self._pool is not None:
            decode = partial(wait, self._pool.submit(decode))
        self._decoding.append((unit, decode))
        self._decoded_bytes += unit.group.decoded_bytes

    def release(self) -> None:
        """Forget the first row group."""
        unit, _ = self._decoding.popleft()
        self._decoded_bytes -= unit.group.decoded_bytes

    def close(self) -> None:
        """Stop everything under way: requests at once, decoding at the end of the row group at hand."""
        for fetch in self._fetches.values():
            fetch.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._inside is not None:
            self._inside.pool.shutdown(wait=True, cancel_futures=True)
