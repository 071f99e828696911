"""The configuration: one YAML or JSON file, or the same as Python values."""

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
