"""Defects of source files: each ends as an error, as rows in quarantine, or as a counted warning.

No row is lost on the way, what is published is what Polars makes of the other rows, and the engine reads it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert_support import QUERIES
from defect_support import (
    BAD,
    BOOK,
    DEFECTS,
    DIALECTS,
    LEVELS,
    ROWS,
    STEP,
    TRADES,
    Defect,
    Quarantined,
    Refused,
    Warned,
    Written,
    in_dialect,
    plain_trades,
    table_of_defects,
    written,
)
from fetch_support import BTC_PERP, DAY, DEFINITION, HOUR, PERP_ID, START, files_of
from ticklake.catalog import Catalog, read_provenance
from ticklake.conversion import Note
from ticklake.errors import ConversionError
from ticklake.fetching import FetchReport, FetchRequest, WindowStatus, fetch
from ticklake.lake import Lake
from ticklake.types import CatalogType, Window

KINDS = {TRADES: CatalogType.TRADES, BOOK: CatalogType.DELTAS}

_READER = """
import json, sys
from nautilus_trader.persistence import ParquetDataCatalog
for line in sys.stdin:
    root, query = json.loads(line)
    found = getattr(ParquetDataCatalog(root), query)()
    print(json.dumps([one.to_dict() for one in found], default=str), flush=True)
"""


class Engine:
    """The engine as a reader, in a process of its own that an abort would end."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self, root: Path, kind: CatalogType) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([str(root), QUERIES[kind]]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the engine ended with {self._process.wait()}"
        found: list[dict[str, Any]] = json.loads(answer)
        return found

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def put_file(folder: Path, data: bytes, data_type: str = TRADES, day: int = 0) -> Path:
    date = Window(START + day * DAY, START + day * DAY + 1).days[0]
    path = folder / f"raw_tick_data/by_date/day-{date}/data_type-{data_type}/{BTC_PERP}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fetched(lake: Path, catalog: Path, data_type: str = TRADES, days: int = 1, **rules: Any) -> FetchReport:
    window = Window(START, START + days * DAY)
    request = FetchRequest(key=BTC_PERP, data_type=data_type, window=window, definition=DEFINITION)
    return fetch(Lake(lake), Catalog(catalog), [request], **rules)


def expected(defect: Defect, data_type: str) -> list[tuple[Any, ...]]:
    """Return what the catalog should hold, by Polars: trades, or each snapshot's levels."""
    outcome = defect.trades if data_type == TRADES else defect.book
    bad = outcome.rows if isinstance(outcome, Quarantined) else ()
    plain = {
        name: [value for row, value in enumerate(values) if row not in bad]
        for name, values in defect.plain(data_type).items()
    }
    frame = (
        pl.DataFrame(plain, strict=False)
        .filter(pl.col("ts_init").is_between(START, START + DAY, closed="left"))
        .sort("ts_init", maintain_order=True)
    )
    if data_type == TRADES:
        side = pl.col("aggressor_side").replace_strict(
            {1: "BUY", 2: "SELL"}, default="NO_AGGRESSOR", return_dtype=pl.String
        )
        return frame.select(
            number("price", 1), number("size", 3), side, "trade_id", "ts_event", "ts_init"
        ).rows()
    found = []
    for row in frame.rows(named=True):
        levels = [
            (side, f"{row[f'{name}_price_{level}']:.1f}", f"{row[f'{name}_size_{level}']:.3f}")
            for side, name in (("BUY", "bid"), ("SELL", "ask"))
            for level in range(LEVELS)
            if all(is_there(row[f"{name}_{kind}_{level}"]) for kind in ("price", "size"))
        ]
        found.append((row["ts_event"], row["ts_init"], levels))
    return found


def number(column: str, decimals: int) -> pl.Expr:
    return pl.col(column).map_elements(lambda value: f"{value:.{decimals}f}", pl.String)


def is_there(value: float | None) -> bool:
    return value is not None and value == value and value != 0


def as_read(found: list[dict[str, Any]], data_type: str) -> list[tuple[Any, ...]]:
    """Return what the engine read in the form of `expected`."""
    if data_type == TRADES:
        names = ("price", "size", "aggressor_side", "trade_id", "ts_event", "ts_init")
        return [tuple(one[name] for name in names) for one in found]
    snapshots: list[tuple[Any, ...]] = []
    for delta in found:
        order = delta["order"]
        if delta["action"] == "CLEAR":
            snapshots.append((delta["ts_event"], delta["ts_init"], []))
        else:
            snapshots[-1][-1].append((order["side"], order["price"], order["size"]))
    return snapshots


def check_conserved(report: FetchReport, catalog: Path, data_type: str) -> None:
    """Check that read = written + outside + quarantined, in the report and in each file."""
    assert report.source_rows == (
        report.source_rows_written + report.outside + report.source_rows_quarantined
    )
    for file in Catalog(catalog).files(KINDS[data_type], PERP_ID):
        origin = read_provenance(file.path)
        assert origin is not None
        counts = origin.counts
        assert counts["read"] == counts["written"] + counts["outside"] + origin.quarantined.total()
        assert counts["rows"] == pq.read_metadata(file.path).num_rows
        assert min(counts.values()) >= 0


def check_quarantine(catalog: Path, source: pa.Table, outcome: Quarantined) -> None:
    """Check that the bad rows are kept whole, with reason and position, and not as data."""
    kept = [path for path in catalog.rglob("*.parquet") if "data" not in path.relative_to(catalog).parts]
    (path,) = kept
    table = pq.read_table(path, partitioning=None)
    assert table["row"].to_pylist() == list(outcome.rows)
    assert set(table["reason"].to_pylist()) == {outcome.reason.value}
    assert all(column in source.column_names for column in table["column"].to_pylist())
    whole = source.take(list(outcome.rows)).select(table.column_names[5:])
    assert len(whole.column_names) == len(source.column_names)
    assert contents(table.select(whole.column_names)) == contents(whole)


def contents(table: pa.Table) -> list[str]:
    # A NaN equals nothing, and some text is no UTF-8.
    columns = [
        column.cast(pa.binary()) if pa.types.is_string(column.type) else column for column in table.columns
    ]
    return [repr(column.to_pylist()) for column in columns]


def nothing_published(catalog: Path) -> bool:
    return not files_of(catalog) and not list((catalog / "quarantine").rglob("*.parquet"))


CASES = [
    pytest.param(
        defect, data_type, dialect, statistics, id=f"{defect.title}-{data_type}-{dialect}-{statistics}"
    )
    for defect in DEFECTS
    for data_type in (TRADES, BOOK)
    if (defect.trades if data_type == TRADES else defect.book) is not None
    for dialect in DIALECTS
    for statistics in (defect.statistics if dialect == DIALECTS[0] else defect.statistics[:1])
]


@pytest.mark.parametrize(("defect", "data_type", "dialect", "statistics"), CASES)
def test_what_becomes_of_a_defect(
    engine: Engine, tmp_path: Path, defect: Defect, data_type: str, dialect: str, statistics: bool
) -> None:
    data = defect.file(data_type, dialect, statistics)
    lake, catalog = tmp_path / "lake", tmp_path / "catalog"
    put_file(lake, data, data_type)
    outcome = defect.trades if data_type == TRADES else defect.book
    assert outcome is not None

    if isinstance(outcome, Refused):
        with pytest.raises(outcome.error, match=outcome.said) as refused:
            fetched(lake, catalog, data_type)
        assert type(refused.value) is outcome.error
        assert nothing_published(catalog)
        with pytest.raises((outcome.error, *outcome.of_row)):
            fetched(lake, catalog, data_type, on_bad_row="fail")
        assert nothing_published(catalog)
        return

    bad = outcome.rows if isinstance(outcome, Quarantined) else ()
    # What is an error does not depend on the dialect.
    if bad and dialect == DIALECTS[0]:
        with pytest.raises(ConversionError, match=rf"row {bad[0]} cannot be converted"):
            fetched(lake, catalog, data_type, on_bad_row="fail")
        assert nothing_published(catalog)
        with pytest.raises(ConversionError, match=f"more than {len(bad) - 1} rows .*: {len(bad)} "):
            fetched(lake, catalog, data_type, max_bad_rows=len(bad) - 1)
        assert nothing_published(catalog)
    report = fetched(lake, catalog, data_type, max_bad_rows=len(bad))

    check_conserved(report, catalog, data_type)
    rows = pq.read_metadata(pa.BufferReader(data)).num_rows
    assert (report.source_rows, report.source_rows_quarantined) == (rows, len(bad))
    (file,) = Catalog(catalog).files(KINDS[data_type], PERP_ID)
    origin = read_provenance(file.path)
    assert origin is not None
    if isinstance(outcome, Quarantined):
        assert report.quarantined == origin.quarantined == {outcome.reason: len(bad)}
        check_quarantine(catalog, pq.read_table(pa.BufferReader(data)), outcome)
    else:
        assert not report.quarantined
        assert not list((catalog / "quarantine").rglob("*.parquet"))
        if dialect == DIALECTS[0]:  # what is no error with quarantine is none without
            again = fetched(lake, catalog, data_type, on_bad_row="fail", refresh=True)
            assert (again.rows, again.warnings) == (report.rows, report.warnings)
    if isinstance(outcome, Warned):
        assert origin.notes == {outcome.note: outcome.count}
        assert any(f": {outcome.count} rows " in warning for warning in report.warnings)
    else:
        assert not origin.notes
    if isinstance(outcome, Written):
        assert report.outside == outcome.outside
        assert (outcome.warning in " ".join(report.warnings)) if outcome.warning else not report.warnings
    found = as_read(engine.read(catalog, KINDS[data_type]), data_type)
    assert found == (expected(defect, data_type) if rows else [])
    assert {window.status for window in report.windows} == {
        WindowStatus.FETCHED if found else WindowStatus.EMPTY
    }


def test_the_documentation_tells_what_is_tested() -> None:
    docs = (Path(__file__).parents[1] / "docs" / "reliability.md").read_text()
    assert table_of_defects() in docs
    assert len(DEFECTS) >= 50


# However rows are split


def kept_rows(catalog: Path) -> list[tuple[Any, ...]]:
    """Return position, reason and column of all rows in quarantine."""
    tables = [pq.read_table(path, partitioning=None) for path in (catalog / "quarantine").rglob("*.parquet")]
    return sorted(row for table in tables for row in pl.from_arrow(table.select(range(3))).rows())


def rows_and_notes(catalog: Path) -> tuple[list[pa.Table], list[dict[str, int]]]:
    files = Catalog(catalog).files(CatalogType.TRADES, PERP_ID)
    origins = [read_provenance(file.path) for file in files]
    tables = [pq.read_table(file.path, partitioning=None) for file in files]
    return tables, [dict(origin.notes) for origin in origins if origin is not None]


SPOILT: dict[str, list[Any]] = {
    "price": [None, float("nan"), -1.0, 1e15, 60_000.15, 0.0],
    "size": [None, 0.0, 0.0001],
    "aggressor_side": [None, 7],
    "trade_id": [None, "", "é", "1000", "1001", "1002"],
    "ts_event": [None, -1_000, 0, START],
    "ts_init": [None, -1_000, 2**62, START - 10**12, START, START + DAY - 1_000, START + DAY + 10**9],
}
spoils = st.sampled_from(list(SPOILT)).flatmap(
    lambda column: st.tuples(st.just(column), st.integers(0, 39), st.sampled_from(SPOILT[column]))
)


@settings(max_examples=15)
@given(
    spoilt=st.lists(spoils, max_size=30),
    copies=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=5),
    groups=st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=2, max_size=2),
    dialect=st.sampled_from(DIALECTS),
)
def test_any_mixture_of_rows_is_conserved_however_it_is_split(
    tmp_path_factory: pytest.TempPathFactory,
    spoilt: list[tuple[str, int, Any]],
    copies: list[tuple[int, int]],
    groups: list[tuple[int, bool]],
    dialect: str,
) -> None:
    plain = {name: values[:40] for name, values in plain_trades().items()}
    for values in plain.values():
        for source, target in copies:
            values[target] = values[source]
    for column, row, value in spoilt:
        plain[column][row] = value
    table = in_dialect(plain, dialect, TRADES)
    results = []
    for rows, statistics in groups:
        folder = tmp_path_factory.mktemp("split")
        put_file(folder / "lake", written(table, rows=rows, write_statistics=statistics))
        report = fetched(folder / "lake", folder / "catalog")
        check_conserved(report, folder / "catalog", TRADES)
        kept = kept_rows(folder / "catalog")
        assert report.source_rows == 40
        assert [row for row, *_ in kept] == sorted({row for row, *_ in kept})
        assert report.source_rows_quarantined == len(kept) == sum(report.quarantined.values())
        results.append((*rows_and_notes(folder / "catalog"), kept, report.quarantined, report.outside))
    assert results[0] == results[1]


@pytest.mark.parametrize("statistics", [True, False])
def test_a_row_far_from_its_day_is_in_quarantine_once_and_never_written_however_it_is_fetched(
    tmp_path: Path, statistics: bool
) -> None:
    # The fourth day's window would hold the row, if only the first day's file were read for it.
    plain = [plain_trades() for _ in range(4)]
    for day, columns in enumerate(plain):
        for name in ("ts_init", "ts_event"):
            columns[name] = [time + day * DAY for time in columns[name]]
    plain[0]["ts_init"][BAD] = START + 3 * DAY + HOUR
    for row in range(60, 120):  # a whole row group
        plain[1]["ts_init"][row] = START + 3 * DAY + HOUR
    plain[3]["ts_init"][70] = START + 2 * DAY + HOUR  # of a day before, and not in the first row group
    for day, columns in enumerate(plain):
        data = written(in_dialect(columns, "nautilus", TRADES), write_statistics=statistics)
        put_file(tmp_path / "lake", data, day=day)
    report = fetched(tmp_path / "lake", tmp_path / "once", days=4)
    assert report.quarantined == {"far_from_day": 62}
    assert report.rows == 4 * ROWS - 62
    check_conserved(report, tmp_path / "once", TRADES)
    for start in range(0, 4 * DAY, DAY // 2):
        window = Window(START + start, START + start + DAY // 2)
        request = FetchRequest(key=BTC_PERP, data_type=TRADES, window=window, definition=DEFINITION)
        fetch(Lake(tmp_path / "lake"), Catalog(tmp_path / "parts"), [request])
        check_conserved(report, tmp_path / "parts", TRADES)
    assert kept_rows(tmp_path / "parts") == kept_rows(tmp_path / "once")
    once, parts = (pa.concat_tables(rows_and_notes(tmp_path / name)[0]) for name in ("once", "parts"))
    assert once.equals(parts)


def test_trades_that_come_again_are_counted_in_each_file_by_itself(tmp_path: Path) -> None:
    plain = plain_trades()
    for name, values in plain.items():
        if name != "ts_init":
            values[150:] = values[:150]
    put_file(tmp_path / "lake", written(in_dialect(plain, "nautilus", TRADES)))
    fetched(tmp_path / "lake", tmp_path / "whole")
    assert rows_and_notes(tmp_path / "whole")[1] == [{Note.REPEATED_TRADE: 150}]
    # Whether the second half is fetched with the first or by itself, its file is the same.
    for catalog, ends in (("halves", (0, 150, ROWS)), ("half", (150, ROWS))):
        requests = [
            FetchRequest(
                key=BTC_PERP,
                data_type=TRADES,
                window=Window(START + ends[n] * STEP, START + ends[n + 1] * STEP),
                definition=DEFINITION,
            )
            for n in range(len(ends) - 1)
        ]
        for refresh in (False, True):  # which reads all of it in one go
            fetch(
                Lake(tmp_path / "lake"),
                Catalog(tmp_path / catalog),
                requests,
                refresh=refresh,
                keep="window",
            )
    halves, half = (files_of(tmp_path / name) for name in ("halves", "half"))
    assert half.items() <= halves.items()
    assert rows_and_notes(tmp_path / "half")[1] == [{}]
