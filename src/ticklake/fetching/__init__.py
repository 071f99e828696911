"""From the lake into the catalog: requests, plans, and carrying them out."""

from ticklake.fetching.execution import fetch
from ticklake.fetching.model import (
    FetchProgress,
    FetchReport,
    FetchRequest,
    FetchRules,
    Keep,
    ObjectProgress,
    OnHole,
    Piece,
    WindowReport,
    WindowStatus,
    refuse_holes,
    requests_of,
    rules_of,
)
from ticklake.fetching.planning import FetchPlan, UnitPlan, plan_fetch

__all__ = [
    "FetchPlan",
    "FetchProgress",
    "FetchReport",
    "FetchRequest",
    "FetchRules",
    "Keep",
    "ObjectProgress",
    "OnHole",
    "Piece",
    "UnitPlan",
    "WindowReport",
    "WindowStatus",
    "fetch",
    "plan_fetch",
    "refuse_holes",
    "requests_of",
    "rules_of",
]
