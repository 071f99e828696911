"""How many bad rows the files of a fetch were made without, and whether those are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from ticklake.catalog import Provenance
from ticklake.conversion import ConversionCounts, Reason
from ticklake.errors import ConversionError
from ticklake.fetching.model import FetchRequest

__all__ = ["BadRows", "OnBadRow"]

type OnBadRow = Literal["fail", "quarantine"]

_AGAIN = "and read it again with refresh (--refresh)"
_MEND = f"Correct the source or the instrument's precision {_AGAIN}"
_MEND_SLACK = f"Correct the source, or lake.partition_slack if its rows belong there, {_AGAIN}"


class BadRows:
    """The rule for bad rows, held against the catalog files of the windows and what is read now.

    A file counts whole, also where it reaches beyond the windows, and once, however many requests it serves.

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

    def add(self, files: Mapping[Path, Provenance]) -> None:
        """Count files of the windows in, instead of those that they replace."""
        self._files |= files
        self.by_reason = sum((file.quarantined for file in self._files.values()), Counter())

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
        self.check(ConversionCounts())

    def check(self, now: ConversionCounts, request: FetchRequest | None = None) -> None:
        """Check the files so far together with what is being converted.

        Raises:
            ConversionError: There are too many.
        """
        kept = self.by_reason
        if kept.total() + now.bad <= self._allowed:
            return
        total = kept + Counter({reason.value: count for reason, count in now.quarantined.items()})
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
