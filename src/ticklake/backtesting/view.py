"""A run's own view of the catalog: links to the files of its window, and one definition an instrument.

Why a run does not read the catalog itself:

- The engine loads every definition that a catalog holds of an instrument, whatever its time, and the last
  one wins. Where a later one has a coarser tick, the engine then drops fills at prices between its ticks
  with nothing but a warning in its log.
- A chunked run fails where an instrument's book starts after the first chunk; an unchunked one does not.
  An empty book at the start of the window makes both the same.
- The engine finds `BTC/USD.KRAKEN` in a folder `BTCUSD.KRAKEN` only, which the catalog keeps for that id.
- Superseded files, and what else lies in the catalog's folders, are none of its business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nautilus_trader.model import BookAction, BookOrder, OrderBookDelta, OrderSide, Price, Quantity
from nautilus_trader.persistence import ParquetDataCatalog

from ticklake.backtesting.job import EngineJob, InstrumentData
from ticklake.catalog import Catalog
from ticklake.catalog.naming import engine_dir, instrument_dir
from ticklake.errors import BacktestError, CatalogConflictError
from ticklake.types import CatalogType, Window, format_nanos

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SEED_AFTER_ROWS", "CatalogView", "build_view"]

# An instrument whose book starts after this many rows of the run gets an empty book at the window's start.
# No chunk is smaller, so that whether one gets it depends on the data alone.
SEED_AFTER_ROWS = 1_000

_SNAPSHOT_AND_LAST = 32 | 128


@dataclass(frozen=True, slots=True)
class CatalogView:
    """The two small catalogs that a run reads.

    Attributes:
        root: Catalog of the run: linked tick files and one definition an instrument.
        seed: Catalog of empty books at the window's start, for `seeded`.
        seeded: Instruments whose book starts late.
        files: The linked tick files by instrument and type, in time order; what has none is left out.
        notes: What the user should know.
    """

    root: Path
    seed: Path
    seeded: tuple[str, ...]
    files: dict[tuple[str, CatalogType], tuple[Path, ...]]
    notes: tuple[str, ...]


def build_view(job: EngineJob, folder: Path) -> CatalogView:
    """Build the view of a job's catalog in a folder, which is created.

    Raises:
        BacktestError: The catalog holds nothing of the window, lacks an instrument's definition, holds
            definitions of several types of it, changes its precision within the window, or has trades but no
            book where the venue needs one.
        CatalogConflictError: The engine would mix up two of the instruments.
        CatalogError: The engine cannot find an instrument by its id.
    """
    root, seed = folder / "catalog", folder / "seed"
    _refuse_shared_folders(job)
    notes: list[str] = []
    definitions: dict[str, Any] = {}
    files = {
        (data.nautilus_id, kind): _link_files(job, data.nautilus_id, kind, root)
        for data in job.instruments
        for kind in data.types
    }
    if not any(files.values()):
        names = ", ".join(data.nautilus_id for data in job.instruments)
        raise BacktestError(f"the catalog holds nothing of {names} in {job.window}", hint="Fetch it first.")
    for (nautilus_id, kind), paths in files.items():
        if not paths:
            notes.append(f"the catalog holds no {kind} of {nautilus_id} in the window; run without them")
        elif nautilus_id not in definitions:
            definitions[nautilus_id], note = _definition(job, nautilus_id)
            notes += note
            for catalog in (root, seed):
                catalog.mkdir(parents=True, exist_ok=True)
                ParquetDataCatalog(str(catalog)).write_instruments([definitions[nautilus_id]])
    seeded = tuple(
        data.nautilus_id
        for data in job.instruments
        if job.venues[data.venue].book != "L1_MBP" and _starts_late(job.window, data, files)
    )
    for nautilus_id in seeded:
        _write_empty_book(seed, definitions[nautilus_id], job.window.start)
        notes.append(
            f"the book of {nautilus_id} starts late in the window; until then its orders find no market"
        )
    return CatalogView(
        root, seed, seeded, {key: paths for key, paths in files.items() if paths}, tuple(notes)
    )


def _refuse_shared_folders(job: EngineJob) -> None:
    found: dict[str, str] = {}
    for data in job.instruments:
        other = found.setdefault(engine_dir(data.nautilus_id), data.nautilus_id)
        if other != data.nautilus_id:
            raise CatalogConflictError(
                f"the engine cannot tell {other} from {data.nautilus_id} in a catalog",
                hint="Give one of the two another nautilus_id, or run them apart.",
            )


def _link_files(job: EngineJob, nautilus_id: str, kind: CatalogType, root: Path) -> tuple[Path, ...]:
    target = root / "data" / kind / engine_dir(nautilus_id)
    linked = []
    for file in Catalog(job.catalog).files(kind, nautilus_id, job.window):
        target.mkdir(parents=True, exist_ok=True)
        _link(file.path, target / file.path.name)
        linked.append(target / file.path.name)
    return tuple(linked)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source.resolve())
    except OSError:  # another filesystem, or one without hard links
        target.symlink_to(source.resolve())


def _definition(job: EngineJob, nautilus_id: str) -> tuple[Any, list[str]]:
    """Return the definition to simulate with, and what there is to say about it."""
    # Where the engine would look in another folder than ours, it is asked for all.
    asked = [nautilus_id] if engine_dir(nautilus_id) == instrument_dir(nautilus_id) else None
    found = ParquetDataCatalog(str(job.catalog)).instruments(asked)
    definitions = sorted(
        (instrument for instrument in found if instrument.id.value == nautilus_id),
        key=lambda instrument: int(instrument.ts_init),
    )
    if not definitions:
        raise BacktestError(f"the catalog holds no definition of {nautilus_id}", hint="Fetch it first.")
    kinds = sorted({type(item).__name__ for item in definitions})
    if len(kinds) > 1:
        raise BacktestError(
            f"the catalog holds {nautilus_id} as {' and as '.join(kinds)}",
            hint="Give one of them another nautilus_id, or remove the wrong definitions from the catalog.",
        )
    before = [item for item in definitions if item.ts_init <= job.window.start]
    within = [item for item in definitions if job.window.start < item.ts_init < job.window.end]
    candidates = [before[-1] if before else definitions[0], *within]
    if len({(item.price_precision, item.size_precision) for item in candidates}) > 1:
        changed = next(
            i
            for i in within
            if i.price_precision != candidates[0].price_precision
            or i.size_precision != candidates[0].size_precision
        )
        raise BacktestError(
            f"{nautilus_id} changes its price or size precision at {format_nanos(changed.ts_init)}",
            hint="The engine cannot follow that in one run; split the window there.",
        )
    # The simulated exchange keeps one definition. The finest increments make it take every real price.
    chosen = min(candidates, key=_increments)
    if len({_increments(item) for item in candidates}) == 1:
        return chosen, []
    price, size = _increments(chosen)
    note = (
        f"{nautilus_id} changes its increments within the window; simulated with price {price}, size {size}"
    )
    return chosen, [note]


def _increments(instrument: Any) -> tuple[Decimal, Decimal]:
    return instrument.price_increment.as_decimal(), instrument.size_increment.as_decimal()


def _starts_late(
    window: Window, data: InstrumentData, files: dict[tuple[str, CatalogType], tuple[Path, ...]]
) -> bool:
    """Whether the first book row of an instrument comes after many rows of the run."""
    import pyarrow.compute as pc  # takes time, and is not needed where no book is simulated

    books = [files[data.nautilus_id, kind] for kind in data.types if kind is not CatalogType.TRADES]
    if not any(files[data.nautilus_id, kind] for kind in data.types):
        return False  # nothing of the instrument is replayed
    firsts = [first for paths in books if (first := next(_times(paths, window), None)) is not None]
    if not firsts:
        raise BacktestError(
            f"the catalog holds not one book row of {data.nautilus_id} in {window}",
            hint="Choose another window, or take trades only with `book: L1_MBP` of the venue.",
        )
    start = min(pc.min(first).as_py() for first in firsts)
    rows = 0
    for paths in files.values():
        for times in _times(paths, window):
            rows += pc.sum(pc.less(times, start)).as_py() or 0
            if rows >= SEED_AFTER_ROWS or pc.max(times).as_py() >= start:
                break
        if rows >= SEED_AFTER_ROWS:
            return True
    return False


def _times(paths: Sequence[Path], window: Window) -> Iterator[pa.ChunkedArray]:
    """Yield the `ts_init` of the rows in the window, batch by batch in file order, empty batches left out."""
    from ticklake.catalog.rows import read_rows

    for path in paths:
        for rows in read_rows(path, window, ["ts_init"]):
            yield rows["ts_init"]


def _write_empty_book(seed: Path, definition: Any, nanos: int) -> None:
    nothing = BookOrder(
        OrderSide.NO_ORDER_SIDE,
        Price(0, definition.price_precision),
        Quantity(0, definition.size_precision),
        0,
    )
    clear = OrderBookDelta(definition.id, BookAction.CLEAR, nothing, _SNAPSHOT_AND_LAST, 0, nanos, nanos)
    ParquetDataCatalog(str(seed)).write_order_book_deltas([clear])
