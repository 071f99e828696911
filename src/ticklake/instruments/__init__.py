"""Instruments: what they are called, how they are defined, and where their definitions are kept."""

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
