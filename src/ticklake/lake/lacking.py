"""What is said where a lake has no ticks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ticklake.errors import LakeError
from ticklake.lake.layout import Layout
from ticklake.lake.url import StoreUrl

__all__ = ["no_ticks"]


def no_ticks(url: str, layouts: Iterable[Layout]) -> LakeError:
    """Return the error for a URL under which there is no tick file.

    Args:
        url: As it was given.
        layouts: What was looked for.
    """
    looked = tuple(layouts)
    if below := _below(url, looked):
        hint = f"Name the folder {below}, which has ticks."
    else:
        hint = (
            "The URL may be a folder too high or too deep, or the layout another one (--layout, or one of "
            "your own: docs/config.md)."
        )
    templates = " or ".join(layout.ticks for layout in looked)
    return LakeError(f"no tick file lies under {url}; looked for {templates}", url=url, hint=hint)


def _below(url: str, layouts: Iterable[Layout]) -> Path | None:
    """Return the folder one level below that has what holds the ticks; looked for on this machine only."""
    folder = StoreUrl.parse(url, allow_http=True).folder
    if folder is None:
        return None
    prefixes = [layout.tick_prefix for layout in layouts]
    found = (
        child for child in sorted(folder.iterdir()) if any((child / prefix).is_dir() for prefix in prefixes)
    )
    return next(found, None)
