"""Instruments: what they are called, how they are defined, and where their definitions are kept.

The names below are imported when they are first used: few need all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake.lazily import lazily

if TYPE_CHECKING:
    from ticklake.instruments.definitions import carried_from, carry, find, from_config, from_lake, spec_of
    from ticklake.instruments.store import load, save
    from ticklake.instruments.symbology import nautilus_id, venue_of

__all__ = [
    "carried_from",
    "carry",
    "find",
    "from_config",
    "from_lake",
    "load",
    "nautilus_id",
    "save",
    "spec_of",
    "venue_of",
]

__getattr__ = lazily(
    __name__,
    {
        "carried_from": "definitions",
        "carry": "definitions",
        "find": "definitions",
        "from_config": "definitions",
        "from_lake": "definitions",
        "load": "store",
        "nautilus_id": "symbology",
        "save": "store",
        "spec_of": "definitions",
        "venue_of": "symbology",
    },
)
