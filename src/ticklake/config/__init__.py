"""The configuration: one YAML or JSON file, or the same as Python values.

The names below are imported when they are first used: the engine's process needs no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticklake.lazily import lazily

if TYPE_CHECKING:
    from ticklake.config.loading import (
        load_config,
        parse_config,
        parse_definition,
        parse_dialect,
        parse_storage,
        read_values,
    )
    from ticklake.config.models import (
        DialectConfig,
        EngineConfig,
        FeesConfig,
        InstrumentConfig,
        InstrumentDefinition,
        LakeConfig,
        LayoutConfig,
        RunConfig,
        StorageConfig,
        StrategyConfig,
        VenueConfig,
        WindowConfig,
    )
    from ticklake.config.urls import public_host

__all__ = [
    "DialectConfig",
    "EngineConfig",
    "FeesConfig",
    "InstrumentConfig",
    "InstrumentDefinition",
    "LakeConfig",
    "LayoutConfig",
    "RunConfig",
    "StorageConfig",
    "StrategyConfig",
    "VenueConfig",
    "WindowConfig",
    "load_config",
    "parse_config",
    "parse_definition",
    "parse_dialect",
    "parse_storage",
    "public_host",
    "read_values",
]

__getattr__ = lazily(
    __name__,
    {
        "DialectConfig": "models",
        "EngineConfig": "models",
        "FeesConfig": "models",
        "InstrumentConfig": "models",
        "InstrumentDefinition": "models",
        "LakeConfig": "models",
        "LayoutConfig": "models",
        "RunConfig": "models",
        "StorageConfig": "models",
        "StrategyConfig": "models",
        "VenueConfig": "models",
        "WindowConfig": "models",
        "load_config": "loading",
        "parse_config": "loading",
        "parse_definition": "loading",
        "parse_dialect": "loading",
        "parse_storage": "loading",
        "public_host": "urls",
        "read_values": "loading",
    },
)
