"""`DataConverter`: data frames and Parquet files into a catalog, as such code calls for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ticklake.catalog import Catalog, Provenance, schema
from ticklake.catalog.records import record_published
from ticklake.conversion import Conversion, convert, recognise
from ticklake.conversion.kernels import SIDES, raw_of
from ticklake.errors import CatalogConflictError, ConfigError, SourceSchemaError
from ticklake.parquet.footers import read_footer_of_file
from ticklake.types import BookAs, CatalogType, DataType, InstrumentSpec, Window

if TYPE_CHECKING:
    from nautilus_trader.model import InstrumentId, TradeTick

__all__ = ["DataConverter", "catalog_of"]

# More than any lake has; each is asked for by its columns, until one is not there.
_DEEPEST = 1_000


class DataConverter:
    """Conversions into a NautilusTrader catalog. Its methods are called on the class, as such code does.

    Frames and files are of any dialect that a lake may have (`docs/dialects.md`), whose units count. A row
    that cannot be converted is an error. A catalog file answers for the time from the first to the last row
    given.

    Common arguments:
        instrument_id: The Nautilus id, as text or as the engine's `InstrumentId`.
        catalog: Folder of a catalog, or the engine's `ParquetDataCatalog` of one.
        price_precision, size_precision: Decimal places, 0 to 16. A price or size that has more is an error.
        skip_if_exists: Skip what the catalog covers already and write the rest. Otherwise what it covers is
            replaced.

    Common errors:
        ConversionError: The columns are in no known dialect, or a row cannot be converted.
        CatalogConflictError: The catalog covers rows that it does not have (with `skip_if_exists`), or its
            files reach beyond the rows given (without).
        CatalogError: The catalog cannot be written.
        ConfigError: An argument is not usable.
    """

    @staticmethod
    def convert_trades_parquet_to_catalog(
        parquet_path: Any,
        instrument_id: InstrumentId | str,
        catalog: Any,
        price_precision: int = 2,
        size_precision: int = 3,
        skip_if_exists: bool = True,
    ) -> int:
        """Convert a Parquet file of trades, or a data frame, and return the rows written."""
        spec = _spec(instrument_id, price_precision, size_precision)
        return _convert(parquet_path, spec, DataType("trades"), catalog, skip_if_exists=skip_if_exists)

    @staticmethod
    def convert_trades_dataframe_to_catalog(
        df: Any,
        instrument_id: InstrumentId | str,
        catalog: Any,
        price_precision: int = 2,
        size_precision: int = 3,
        skip_if_exists: bool = True,
    ) -> int:
        """Convert a data frame of trades, and return the rows written."""
        return DataConverter.convert_trades_parquet_to_catalog(
            df, instrument_id, catalog, price_precision, size_precision, skip_if_exists
        )

    @staticmethod
    def convert_orderbook_parquet_to_catalog(
        parquet_path: Any,
        instrument_id: InstrumentId | str,
        catalog: Any,
        is_snapshot: bool = True,
        price_precision: int = 2,
        size_precision: int = 3,
        skip_if_exists: bool = True,
    ) -> int:
        """Convert a Parquet file of book snapshots, or a data frame, to deltas, and return their number.

        A snapshot becomes a CLEAR and an ADD for each of its levels; it has as many as the columns have.
        `is_snapshot` has to be true: rows of levels that are no whole book do not say which levels went.
        """
        if not is_snapshot:
            raise ConfigError(
                "is_snapshot=False: rows of levels that are no whole book do not say which levels went, and "
                "would leave stale ones in the book",
                hint="Rows that hold all levels of a side are snapshots; leave is_snapshot as it is.",
            )
        spec = _spec(instrument_id, price_precision, size_precision)
        return _convert(parquet_path, spec, None, catalog, skip_if_exists=skip_if_exists)

    @staticmethod
    def convert_orderbook_dataframe_to_catalog(
        df: Any,
        instrument_id: InstrumentId | str,
        catalog: Any,
        is_snapshot: bool = True,
        price_precision: int = 2,
        size_precision: int = 3,
        skip_if_exists: bool = True,
    ) -> int:
        """Convert a data frame of book snapshots to deltas, and return the deltas written."""
        return DataConverter.convert_orderbook_parquet_to_catalog(
            df, instrument_id, catalog, is_snapshot, price_precision, size_precision, skip_if_exists
        )

    @staticmethod
    def dataframe_to_trade_ticks(
        df: Any, instrument_id: InstrumentId | str, price_precision: int = 2, size_precision: int = 3
    ) -> list[TradeTick]:
        """Return a data frame's trades as objects of the engine, in the order of `ts_init`.

        A catalog needs none of them: converting into it takes a tenth of the time.
        """
        spec = _spec(instrument_id, price_precision, size_precision)
        return _trade_ticks(convert(df, spec=spec, data_type="trades").table, spec)


def catalog_of(catalog: Any) -> Catalog:
    """Return the catalog of a folder, or that of the engine's `ParquetDataCatalog`.

    Raises:
        ConfigError: It is neither, or the engine's is no folder of this machine.
    """
    if isinstance(catalog, Catalog):
        return catalog
    if isinstance(catalog, str | Path):
        return Catalog(catalog)
    if type(catalog).__name__ != "ParquetDataCatalog":
        raise ConfigError(f"a {type(catalog).__name__} is no catalog; give its folder or the engine's object")
    return Catalog(_folder_of(catalog))


_LOOKED_IN = re.compile(r"file://(?P<folder>/.*)/ticklake-asks-where/")


def _folder_of(catalog: Any) -> Path:
    """Return the folder of the engine's object, which has no attribute that tells it.

    Its error of a file that is not there does. Nothing is read or written.
    """
    from nautilus_trader.model import NautilusDataType

    told = ""
    try:
        catalog.query(NautilusDataType.TradeTick, files=["ticklake-asks-where/none.parquet"])
    except OSError as exc:
        told = str(exc)
    found = _LOOKED_IN.search(told)
    folder = Path(unquote(found["folder"])) if found else None
    if folder is None or not folder.is_dir():  # the engine leaves % and # in a path as they are
        raise ConfigError("the engine's catalog does not tell its folder", hint="Give the folder instead.")
    return folder


def _spec(instrument_id: object, price_precision: int, size_precision: int) -> InstrumentSpec:
    try:
        return InstrumentSpec(str(instrument_id), price_precision, size_precision)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def _convert(
    source: Any, spec: InstrumentSpec, data_type: DataType | None, catalog: Any, *, skip_if_exists: bool
) -> int:
    target = catalog_of(catalog)
    if not isinstance(source, str | Path) and not len(source):  # its columns need not even have types
        return 0
    data_type = data_type or _book_of(source)
    whole = convert(source, spec=spec, data_type=data_type)
    if not whole.table.num_rows:
        return 0
    kind, window = CatalogType.of(data_type, BookAs.DELTAS), _window_of(whole.table)
    rows = 0
    with target.lock(kind, spec.nautilus_id):
        if skip_if_exists:
            _refuse_other_precision(target, kind, spec, window)
            parts = list(target.missing(kind, spec.nautilus_id, window))
            _refuse_rows_lost(target, kind, spec, whole.table, parts)
        else:
            parts = list(target.refreshed(kind, spec.nautilus_id, window))
            _refuse_beyond(spec, window, parts)
        for part in parts:
            # What is counted of a file is counted of its rows alone.
            made = whole if part == window else convert(source, spec=spec, data_type=data_type, window=part)
            rows += _write(target, kind, spec, part, made, data_type, replace=not skip_if_exists)
    return rows


def _book_of(source: Any) -> DataType:
    """Return the data type of a book by its columns: the deepest that they have."""
    columns = (
        read_footer_of_file(source).schema.to_arrow_schema()
        if isinstance(source, str | Path)
        else pa.RecordBatchReader.from_stream(source).schema
    )
    found: DataType | None = None
    for depth in range(1, _DEEPEST + 1):
        data_type = DataType(f"book_snapshot_{depth}")
        try:
            recognise(columns, data_type)
        except SourceSchemaError:
            if found is None:
                raise
            return found
        found = data_type
    return DataType(f"book_snapshot_{_DEEPEST}")


def _refuse_other_precision(target: Catalog, kind: CatalogType, spec: InstrumentSpec, window: Window) -> None:
    """Check that the catalog's files in a window have the precisions that are given."""
    asked = schema(kind, spec).metadata
    for file in target.files(kind, spec.nautilus_id, window):
        found = pq.read_schema(file.path).metadata or {}
        for name, value in asked.items():
            if found.get(name, value) != value:
                raise CatalogConflictError(
                    f"the catalog's {file.path} has {name.decode()} {found[name].decode()}, and not "
                    f"{value.decode()}",
                    instrument=spec.nautilus_id,
                    hint="Give the same precisions, or use another catalog.",
                )


def _refuse_rows_lost(
    target: Catalog, kind: CatalogType, spec: InstrumentSpec, table: pa.Table, missing: list[Window]
) -> None:
    """Check that what the catalog covers it also has, as far as numbers of rows tell.

    Where two parts of a source meet within one timestamp, skipping what is covered would lose rows.
    """
    files = target.files(kind, spec.nautilus_id, _window_of(table))
    given = table.num_rows - sum(_rows_in(table, part) for part in missing)
    kept = sum(_rows_in(pq.read_table(file.path, columns=["ts_init"]), _window_of(table)) for file in files)
    if given > kept:
        raise CatalogConflictError(
            f"the catalog covers {given:,} of the rows, but has {kept:,} there: skipping would lose some",
            instrument=spec.nautilus_id,
            hint="Cut a source so that no two parts share a timestamp, or replace what is there with "
            "skip_if_exists=False.",
        )


def _refuse_beyond(spec: InstrumentSpec, window: Window, parts: list[Window]) -> None:
    """Check that no file to be replaced reaches beyond the rows given."""
    for part in parts:
        if part.intersect(window) != part:
            raise CatalogConflictError(
                f"the catalog's file of {part} reaches beyond the rows given, {window}: replacing it would "
                "lose the others",
                instrument=spec.nautilus_id,
                hint="Give all rows of that time, or skip what is there with skip_if_exists=True.",
            )


def _rows_in(table: pa.Table, window: Window) -> int:
    times = table["ts_init"].cast(pa.int64())
    inside = pc.and_(pc.greater_equal(times, window.start), pc.less(times, window.end))
    return int(pc.sum(inside).as_py() or 0)


def _window_of(table: pa.Table) -> Window:
    """Return the window from the first to the last row."""
    ends = pc.min_max(table["ts_init"].cast(pa.int64()))
    return Window.from_closed(ends["min"].as_py(), ends["max"].as_py())


def _write(
    target: Catalog,
    kind: CatalogType,
    spec: InstrumentSpec,
    part: Window,
    conversion: Conversion,
    data_type: DataType,
    *,
    replace: bool,
) -> int:
    counts = conversion.counts
    table = conversion.table
    provenance = Provenance(lake_key="", data_type=data_type.name).with_counts(
        {"rows": table.num_rows, "read": counts.read, "written": counts.written, "outside": counts.outside},
        quarantined={},
        notes={note.value: count for note, count in counts.notes.items()},
    )
    with target.writer(kind, spec, part, replace=replace) as writer:
        writer.write(table)
        path = writer.commit(provenance)
    record_published(target.path, path, table.num_rows)
    return int(table.num_rows)


def _trade_ticks(table: pa.Table, spec: InstrumentSpec) -> list[TradeTick]:
    from nautilus_trader.model import AggressorSide, InstrumentId, TradeId, TradeTick

    instrument = InstrumentId.from_str(spec.nautilus_id)
    sides = {name: getattr(AggressorSide, name) for name in SIDES.to_pylist()}
    columns = (
        _raw(table["price"]),
        _raw(table["size"]),
        table["aggressor_side"].to_pylist(),
        table["trade_id"].to_pylist(),
        table["ts_event"].cast(pa.int64()).to_pylist(),
        table["ts_init"].cast(pa.int64()).to_pylist(),
    )
    return [
        TradeTick.from_raw(
            instrument,
            price,
            spec.price_precision,
            size,
            spec.size_precision,
            sides[side],
            TradeId(trade_id),
            ts_event,
            ts_init,
        )
        for price, size, side, trade_id, ts_event, ts_init in zip(*columns, strict=True)
    ]


def _raw(column: pa.ChunkedArray) -> Iterator[int]:
    """Yield decimals as the integers that the engine keeps: 10**16 is one."""
    for chunk in column.chunks:
        pairs = raw_of(chunk)
        low, high = pairs[:, 0].view(np.uint64).tolist(), pairs[:, 1].tolist()
        yield from ((most << 64) + least for least, most in zip(low, high, strict=True))
