"""How many bad rows the files of a fetch were made without, and whether those are too many."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from ticklake.catalog import Provenance
from ticklake.conversion.quality import ConversionCounts, Reason
from ticklake.errors import ConversionError
from ticklake.fetching.model import FetchRequest

__all__ = ["BadRows", "OnBadRow"]

type OnBadRow = Literal["fail", "quarantine"]

_AGAIN = "and read it again with refresh (--refresh)"
_MEND = f"Correct the source or the instrument's precision {_AGAIN}"
_MEND_SLACK = f"Correct the source, or lake.partition_slack if its rows belong there, {_AGAIN}"


class BadRows:
    """The rule for bad rows, held against the catalog files of the windows and all that is read now.

    A file counts whole, also where it reaches beyond the windows, and once, however many requests it serves.
    `check` may be called from several threads.

    Args:
        on_bad_row: Whether a file without bad rows is an error.
        allowed: How many there may be in all.

    Attributes:
        by_reason: Bad rows of the files so far.
    """

    def __init__(self, on_bad_row: OnBadRow, allowed: int) -> None:
        self.on_bad_row = on_bad_row
        self._allowed = allowed
        self.by_reason: Counter[str] = Counter()
        self._files: dict[Path, Provenance] = {}
        self._lock = threading.Lock()
        self._read: dict[object, Counter[str]] = {}

    def add(self, files: Mapping[Path, Provenance], read_by: Iterable[object] = ()) -> None:
        """Count files of the windows in, instead of those that they replace.

        Args:
            files: The files.
            read_by: What `check` was told for these counts no more: they are in the files, or are dropped.
        """
        with self._lock:
            self._files |= files
            self.by_reason = sum((file.quarantined for file in self._files.values()), Counter())
            for reader in read_by:
                self._read.pop(reader, None)

    def check_files(self) -> None:
        """Check the files so far.

        Raises:
            ConversionError: A file was made without bad rows, which are an error; or there are too many.
        """
        found = {path: count for path, file in self._files.items() if (count := file.quarantined.total())}
        if self.on_bad_row == "fail" and found:
            lines = "".join(f"\n  {path}: {count:,} rows" for path, count in found.items())
            raise ConversionError(
                f"on_bad_row is fail, but the catalog lacks rows that could not be converted:{lines}",
                hint=f"{_MEND}, or allow them with on_bad_row: quarantine",
            )
        self._check(None)

    def check(self, reader: object, now: ConversionCounts, request: FetchRequest) -> None:
        """Check the files so far together with all that is being converted.

        Args:
            reader: Tells one read from the others.
            now: What it has come to so far.
            request: What it reads.

        Raises:
            ConversionError: There are too many.
        """
        with self._lock:
            if now.bad:
                self._read[reader] = Counter({why.value: count for why, count in now.quarantined.items()})
            self._check(request)

    def _check(self, request: FetchRequest | None) -> None:
        kept, now = self.by_reason, sum(self._read.values(), Counter[str]())
        if kept.total() + now.total() <= self._allowed:
            return
        total = kept + now
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in total.most_common())
        slack = Reason.FAR_FROM_DAY in total
        held = f" ({kept.total():,} of them in files of the catalog)" if kept else ""
        raise ConversionError(
            f"more than {self._allowed:,} rows cannot be converted: {reasons}{held}",
            instrument=None if request is None else str(request.key),
            data_type=None if request is None else str(request.data_type),
            hint=f"{_MEND_SLACK if slack else _MEND}, or raise max_bad_rows. To see the first of them, set "
            "on_bad_row: fail",
        )
