"""Which versions are installed, and whether the engine is the one that ticklake is made for."""

from __future__ import annotations

import re
from importlib.metadata import requires, version

__all__ = ["ENGINE", "engine_pin", "installed"]

ENGINE = "nautilus_trader"
_PACKAGES = ("ticklake", ENGINE, "pyarrow", "obstore", "numpy")


def installed() -> dict[str, str]:
    """Return the versions of what results depend on, by package."""
    return {name: version(name) for name in _PACKAGES}


def engine_pin() -> str | None:
    """Return the one version of the engine that ticklake is made for, or None where it names none."""
    for requirement in requires("ticklake") or ():
        match = re.fullmatch(r"([\w-]+) *\(?== *([\w.+!]+)\)?", requirement)
        if match and match[1].replace("-", "_") == ENGINE:
            return match[2]
    return None
