"""Commands whose help gives switches no value; typer's own shows each with one of type <bool>."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

__all__ = ["Command", "Group"]


class Command(TyperCommand):
    """One command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its parameters, with those that typer adds."""
        return _without_values(super().get_params(ctx))


class Group(TyperGroup):
    """All commands, and the switches before them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return its parameters, with those that typer adds."""
        return _without_values(super().get_params(ctx))


def _without_values(parameters: Iterable[Any]) -> list[Any]:
    found = list(parameters)
    for each in found:
        if isinstance(each, TyperOption) and each.is_flag:
            each.metavar = ""
    return found
