"""A run as one HTML page."""

from ticklake.report.html import write_report

__all__ = ["write_report"]
