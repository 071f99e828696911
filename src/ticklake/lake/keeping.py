"""What a scan may keep beyond its window: the rows that come with it, as far as none of them can be missing.

Pure: works on plans, and adds no byte to them.
"""

from __future__ import annotations

from ticklake.lake.scan import RowGroupPlan, ScanPlan, candidate_days
from ticklake.types import Window

__all__ = ["widest"]


def widest(plan: ScanPlan, first: Window, last: Window, slack: int) -> Window:
    """Return the widest window, around that of a plan, whose rows are all in what the plan reads.

    It stays within the UTC days in which the plan's window begins and ends, and the slack away from midnight
    if the file beyond was not looked at. In between it ends where the next row group begins that is not read;
    where the day's file has none, with the last row that is read, as the file may still grow. Where the day's
    file has no row group for the window, or one that is read has no statistics, which proves nothing, the
    window ends where it did.

    Each end depends on the piece of the window there alone: after a fetch that was killed on the way, what is
    left of its window reaches as far as the whole did.

    Args:
        plan: The plan. Its row groups are read whole.
        first: The piece that the window begins with, in one UTC day.
        last: The piece that it ends with, in one UTC day; perhaps the same.
        slack: How far `ts_init` may lie outside the day that a row is filed under, in nanoseconds.
    """
    window = plan.window
    looked_at = candidate_days(window, slack)
    start = max(
        Window.of_day(first.days[0]).start,
        Window.of_day(looked_at[0]).start + slack,
        _paid(plan, first).start,
        *(item.before + 1 for item in plan.objects if item.before is not None),
    )
    end = min(
        Window.of_day(last.days[0]).end,
        Window.of_day(looked_at[-1]).end - slack,
        _paid(plan, last).end,
        *(item.after for item in plan.objects if item.after is not None),
    )
    return Window(min(start, window.start), max(end, window.end))


def _paid(plan: ScanPlan, part: Window) -> Window:
    """Return how far what is read for a part of a window reaches in the file of its day."""
    if any(group.time_min is None for item in plan.objects for group in _met(item.row_groups, part)):
        return part
    for item in plan.objects:
        if item.day == part.days[0] and (groups := _met(item.row_groups, part)):
            day = Window.of_day(item.day)
            # To the next row group there is nothing; beyond the last one, nobody knows.
            start = min(group.least for group in groups) if item.before is None else day.start
            end = max(group.greatest for group in groups) + 1 if item.after is None else day.end
            return Window(min(start, part.start), max(end, part.end))
    return part


def _met(groups: tuple[RowGroupPlan, ...], part: Window) -> list[RowGroupPlan]:
    return [group for group in groups if group.least < part.end and group.greatest >= part.start]
