"""A run as one HTML page.

Imported when it is first used: the engine's process needs nothing of it but the thinning of its curve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ticklake.report.html import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> object:
    if name != "write_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ticklake.report.html import write_report

    return write_report
