"""Who may write what while several processes fetch into one catalog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Self

from ticklake.catalog import Catalog
from ticklake.fetching.planning import Resolved
from ticklake.types import CatalogType

__all__ = ["WriteLocks"]

type _Place = tuple[CatalogType, str]


class WriteLocks:
    """Holds the types and instruments that requests have to write, each until its last request is done.

    All are taken before anything is planned, so that a plan holds until it is carried out, and in an order
    that is the same for all processes, so that none waits for another that waits for it. What is covered is
    not locked.

    Args:
        catalog: What is written to.
        requests: What is wanted.
        refresh: Whether what is covered is written too.
        on_wait: Called with a message when waiting for another process begins.
    """

    def __init__(
        self, catalog: Catalog, requests: Iterable[Resolved], *, refresh: bool, on_wait: Callable[[str], None]
    ) -> None:
        self._catalog = catalog
        self._on_wait = on_wait
        self._open: Counter[_Place] = Counter()
        self._to_write: set[_Place] = set()
        self._held: dict[_Place, ExitStack] = {}
        self._stack = ExitStack()
        for request, definitions in requests:
            place = request.catalog_type, definitions.spec.nautilus_id
            self._open[place] += 1
            if refresh or catalog.missing(*place, request.window):
                self._to_write.add(place)

    def holds(self, place: _Place) -> bool:
        """Tell whether a type and instrument may be written."""
        return place in self._held

    def done(self, place: _Place) -> None:
        """Tell that a request of a type and instrument is done."""
        self._open[place] -= 1
        if not self._open[place] and place in self._held:
            self._held[place].close()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for place in sorted(self._to_write):
                self._held[place] = stack.enter_context(ExitStack())
                self._held[place].enter_context(self._catalog.lock(*place, on_wait=self._on_wait))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
