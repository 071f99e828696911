"""Trades that come twice: whose id another trade shortly before has.

Most feeds number their trades, so that ids rise from trade to trade, and what rises has nothing twice: that
is seen from neighbours alone. Only where ids do not rise are hashes of them sorted, and only where two hashes
are equal are the ids themselves looked at. So the answer depends neither on hashes nor on batches.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ticklake.conversion.quality import Note

__all__ = ["BLOCK", "REACH", "Repeats"]

REACH = 16_384
"""How many trades before a trade are looked at for its id: those of seconds in which all happens at once."""
BLOCK = 65_536
"""How many trades are looked at at once. Not many more are held, however long a file is."""

_REST = ("price", "size", "ts_event")
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Repeats:
    """Counts the trades of one catalog file whose id one of the `REACH` trades before them has.

    A trade that equals the last one of its id in price, size, side and `ts_event` is a `REPEATED_TRADE` (its
    `ts_init` may be another: it was sent again), any other a `REUSED_TRADE_ID`.
    """

    def __init__(self) -> None:
        # Those before what is to be looked at, and then that.
        self._trades: list[pa.RecordBatch] = []
        self._looked_at = 0
        self._new = 0
        # How many of the last trades have rising ids for certain, and the last of them.
        self._rising = 0
        self._last: pa.Scalar | None = None
        self._found: Counter[Note] = Counter()

    def add(self, trades: pa.RecordBatch) -> None:
        """Take rows of the catalog's schema that follow those before."""
        if trades.num_rows == 0:
            return
        self._trades.append(trades)
        self._new += trades.num_rows
        ids = trades.column("trade_id")
        if not pc.all(pc.less(ids[:-1], ids[1:]), min_count=0).as_py():
            self._rising = 0
        else:
            follows = self._last is not None and self._last.as_py() < ids[0].as_py()
            self._rising = trades.num_rows + (self._rising if follows else 0)
        self._last = ids[-1]
        if self._new >= BLOCK:
            self._look()

    def counts(self) -> Counter[Note]:
        """Return how many there are among all rows so far, by kind."""
        self._look()
        return self._found.copy()

    def _look(self) -> None:
        if self._new and self._rising < self._looked_at + self._new:
            self._found += _repeats(pa.Table.from_batches(self._trades), self._looked_at)
        self._looked_at += self._new
        self._new = 0
        while self._looked_at > REACH:
            over = self._looked_at - REACH
            first = self._trades.pop(0)
            if first.num_rows > over:
                self._trades.insert(0, first.slice(over))
            self._looked_at -= min(over, first.num_rows)


def _repeats(trades: pa.Table, start: int) -> Counter[Note]:
    """Count the repeats among the trades from position `start` on."""
    ids = trades["trade_id"].combine_chunks()
    hashes = _hashes(ids)
    # Merging what is nearly in order is four times as fast, and sorting what is not is ten times as slow.
    nearly = np.count_nonzero(hashes[1:] < hashes[:-1]) < len(hashes) // 20
    hashes.sort(kind="stable" if nearly else "quicksort")
    if not (hashes[1:] == hashes[:-1]).any():
        return Counter()
    codes = ids.dictionary_encode().indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    same = codes[order[1:]] == codes[order[:-1]]
    earlier, later = order[:-1][same], order[1:][same]
    near = (later >= start) & (later - earlier <= REACH)
    alike = _alike(trades.take(pa.array(earlier[near])), trades.take(pa.array(later[near])))
    repeated = int(np.count_nonzero(alike))
    return Counter({Note.REPEATED_TRADE: repeated, Note.REUSED_TRADE_ID: len(alike) - repeated})


def _hashes(ids: pa.Array) -> npt.NDArray[np.uint64]:
    """Return a number for each id, the same for the same id; ids are ASCII without NUL.

    Numbers of ids that rise rise mostly: the last 8 characters decide where those before are the same.
    """
    width = -(-pc.max(pc.binary_length(ids)).as_py() // 8) * 8
    padded = pc.ascii_lpad(ids, width=width, padding="\0")
    words = np.frombuffer(padded.buffers()[2], np.uint64, len(ids) * width // 8).reshape(len(ids), -1)
    hashes: npt.NDArray[np.uint64] = words[:, -1].byteswap()
    before = np.zeros(1, np.uint64)
    for column in range(words.shape[1] - 1):
        before = (before + words[:, column]) * _MIX
    hashes += before
    return hashes


def _alike(one: pa.Table, other: pa.Table) -> npt.NDArray[np.bool_]:
    alike: npt.NDArray[np.bool_] = np.ones(one.num_rows, np.bool_)
    for name in _REST:
        alike &= pc.equal(one[name], other[name]).to_numpy()
    sides = (table["aggressor_side"].cast(pa.string()) for table in (one, other))
    alike &= pc.equal(*sides).to_numpy()
    return alike
