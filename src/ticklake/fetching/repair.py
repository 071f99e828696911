"""Mending a catalog: damaged files are set aside, and their windows fetched again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ticklake.catalog import Catalog, FileCheck, VerifyReport, verify
from ticklake.catalog.maintenance import set_aside
from ticklake.errors import ConfigError
from ticklake.fetching.badrows import OnBadRow
from ticklake.fetching.execution import fetch
from ticklake.fetching.model import FetchReport, FetchRequest, OnHole
from ticklake.fetching.planning import resolve_all
from ticklake.lake import Lake
from ticklake.types import CatalogType

__all__ = ["RepairReport", "repair"]


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did.

    Attributes:
        before: What was found.
        after: What is found now; the same where nothing was bad.
        defined: The bad instrument definitions that were defined again.
        fetched: The ticks that were fetched; None where none were.
    """

    before: VerifyReport
    after: VerifyReport
    defined: tuple[FileCheck, ...]
    fetched: FetchReport | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: those of `after`, with what was done."""
        return {
            **self.after.to_dict(),
            "set_aside": [check.to_dict() for check in self.before.bad],
            "defined": [str(check.file.path) for check in self.defined],
            "fetched": None if self.fetched is None else self.fetched.to_dict(),
        }


def repair(
    lake: Lake,
    catalog: Catalog,
    requests: Iterable[FetchRequest],
    *,
    on_hole: OnHole = "stop",
    on_bad_row: OnBadRow = "quarantine",
    max_bad_rows: int = 1_000,
) -> RepairReport:
    """Verify a catalog, move bad files to `<root>/.ticklake/damaged`, and fetch their windows again.

    What cannot be fetched again is missing from then on, as it is in the lake; it is never served damaged.
    Damaged definitions are defined again if a request is about their instrument.

    Args:
        lake: Where the ticks are.
        catalog: What is to be mended.
        requests: How its instruments and types are fetched; their windows do not matter, those of the bad
            files do.
        on_hole: As for `fetch`, as are the others.
        on_bad_row: As for `fetch`.
        max_bad_rows: As for `fetch`.

    Raises:
        ConfigError: No request says how to fetch a bad file's instrument and type; no ticks were moved.
        TicklakeError: The errors of `fetch`.
    """
    before = verify(catalog)
    if not before.bad:
        return RepairReport(before, before, (), None)
    ticks = [check for check in before.bad if check.folder in set(CatalogType)]
    # First, as nothing can be asked of a catalog whose definitions cannot be read.
    for check in before.bad:
        if check not in ticks:
            set_aside(catalog, check)
    asked: dict[tuple[str, str], FetchRequest] = {}
    defined: dict[FileCheck, None] = {}
    for request, definitions in resolve_all(lake, catalog, requests, refresh=False, offline=False):
        asked.setdefault((request.catalog_type, definitions.spec.nautilus_id), request)
        for check in before.bad:
            if check not in ticks and check.nautilus_id == definitions.spec.nautilus_id:
                _define_again(lake, catalog, replace(request, window=check.file.window))
                defined[check] = None
    wanted = [(check, asked.get((check.folder, check.nautilus_id))) for check in ticks]
    _refuse_unknown(check for check, request in wanted if request is None)
    again = [replace(request, window=check.file.window) for check, request in wanted if request is not None]
    for check in ticks:
        set_aside(catalog, check)
    fetched = None
    if again:
        # Each file for the window that it had, whatever is read along with it.
        fetched = fetch(
            lake,
            catalog,
            again,
            on_hole=on_hole,
            on_bad_row=on_bad_row,
            max_bad_rows=max_bad_rows,
            keep="window",
        )
    return RepairReport(before, verify(catalog), tuple(defined), fetched)


def _define_again(lake: Lake, catalog: Catalog, request: FetchRequest) -> None:
    for _, definitions in resolve_all(lake, catalog, [request], refresh=False, offline=False):
        definitions.save(catalog)


def _refuse_unknown(checks: Iterable[FileCheck]) -> None:
    if paths := [str(check.file.path) for check in checks]:
        raise ConfigError(
            f"nothing says how to fetch these damaged files again:{''.join(f'\n  {path}' for path in paths)}",
            hint="Name their instruments and data types in the config.",
        )
