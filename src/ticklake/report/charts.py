"""Which charts a report has, in their order."""

from __future__ import annotations

from ticklake.report.chart import Chart
from ticklake.report.markets import market_charts
from ticklake.report.model import RunLike
from ticklake.report.outcomes import equity_charts, trade_charts
from ticklake.types import Window

__all__ = ["Chart", "charts"]


def charts(run: RunLike) -> list[Chart]:
    """Return the charts of a run; those that it has no data for are left out."""
    window = Window.parse(run.summary["window"]["start"], run.summary["window"]["end"])
    return [
        *equity_charts(run, window),
        *(
            chart
            for instrument in run.summary["instruments"]
            for chart in market_charts(run, instrument, window)
        ),
        *trade_charts(run),
    ]
