"""Which charts a report has, in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ticklake.report.chart import Chart
from ticklake.report.markets import market_charts
from ticklake.report.model import RunLike, iso_time
from ticklake.report.outcomes import equity_charts, trade_charts
from ticklake.types import Window

__all__ = ["Chart", "charts"]


# Room at both ends of the time axis, as a share of it: what happens there is not cut.
_ROOM = 0.005


def charts(run: RunLike) -> list[Chart]:
    """Return the charts of a run; those that it has no data for are left out."""
    window = Window.parse(run.summary["window"]["start"], run.summary["window"]["end"])
    shown = _shown(run, window)
    drawn = [
        *equity_charts(run, window),
        *(
            replace(chart, instrument=instrument)
            for instrument in run.summary["instruments"]
            for chart in market_charts(run, instrument, window)
        ),
        *trade_charts(run),
    ]
    return [
        replace(chart, layout=_over(chart.layout, shown)) if chart.over_time else chart for chart in drawn
    ]


def _shown(run: RunLike, window: Window) -> list[str]:
    """Return the ends of the time axis: the window, and the fills after it that closed positions."""
    last = pc.max(run.fills["ts_event"].cast(pa.int64())).as_py()
    end = max(window.end, last or 0)
    room = int((end - window.start) * _ROOM)
    return [iso_time(window.start - room), iso_time(end + room)]


def _over(layout: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    return {**layout, "xaxis": {**layout.get("xaxis", {}), "range": shown}}
