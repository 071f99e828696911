"""A run as one HTML page.

Imported when it is first used: the engine's process needs nothing of it but the thinning of its curve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake.lazily import lazily

if TYPE_CHECKING:
    from ticklake.report.html import write_report

__all__ = ["write_report"]

__getattr__ = lazily(__name__, {"write_report": "html"})
