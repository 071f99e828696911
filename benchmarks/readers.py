"""Who reads windows of a Parquet file over HTTP: ticklake and its peers, each as somebody would use it.

`python -m benchmarks.readers NAME` is the process of one reader. It takes JSON lines on stdin:
`{"open": URL}` for a new lake, answered with `{}`, then `{"window": [start, end]}`, half-open in nanoseconds
of `ts_init`, answered with `{"seconds": …, "rows": …}`. What a reader keeps between the windows of a lake is
its own affair; `open` itself reads nothing, so that the first window pays for everything.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen
from typing import Any

from benchmarks.child import answers
from benchmarks.harness import spawn
from benchmarks.inputs import KEY, lake_urls, request

__all__ = ["CATALOG", "COLUMNS", "FILE", "JUDGED", "PEERS", "TICKLAKE", "Reader", "installed", "reading"]

type Read = Callable[[int, int], int]
"""Reads a window and returns its number of rows."""

COLUMNS = ["price", "size", "aggressor_side", "trade_id", "ts_event", "ts_init"]
FILE = "ticks.parquet"
"""The tick file's other name, at the root of its lake, for those who know no lakes."""

TICKLAKE, CATALOG = "ticklake Scan.to_table", "ticklake fetch"


def ticklake_scan(url: str) -> Read:
    """Read into an Arrow table, in the order of `ts_init`."""
    from ticklake import Lake

    lake = Lake(*lake_urls(url))
    return lambda start, end: lake.scan(KEY, "trades", (start, end)).to_table().num_rows


def ticklake_fetch(url: str) -> Read:
    """Fetch into a new catalog; what is there already is not read again, and no rows are counted."""
    from ticklake import Catalog, Lake, fetch

    lake, folder = Lake(*lake_urls(url)), tempfile.TemporaryDirectory()

    def read(start: int, end: int) -> int:
        fetch(lake, Catalog(folder.name), [request("trades", (start, end))])
        return 0

    return read


def polars_scan(url: str) -> Read:
    """`scan_parquet`, lazily filtered."""
    import polars as pl

    frame = pl.scan_parquet(f"{url}/{FILE}", glob=False)
    time_column = pl.col("ts_init")

    def read(start: int, end: int) -> int:
        window = frame.filter((time_column >= start) & (time_column < end)).select(COLUMNS)
        return int(window.collect().to_arrow().num_rows)

    return read


def pyarrow_fsspec(url: str) -> Read:
    """A dataset of pyarrow over fsspec's http file system, both with their defaults."""
    import fsspec
    import pyarrow.dataset as ds

    found: list[Any] = []

    def read(start: int, end: int) -> int:
        if not found:
            # A new one: fsspec keeps file systems, and what they know.
            files = fsspec.filesystem("http", skip_instance_cache=True)
            found.append(ds.dataset(f"{url}/{FILE}", filesystem=files, format="parquet"))
        times = ds.field("ts_init")
        table = found[0].to_table(columns=COLUMNS, filter=(times >= start) & (times < end))
        return int(table.num_rows)

    return read


def _query(table: str, start: int, end: int) -> str:
    columns = ", ".join(COLUMNS)
    return f"select {columns} from {table} where ts_init >= {start} and ts_init < {end}"


def datafusion_sql(url: str) -> Read:
    """SQL over a registered file; the page index is used where there is one."""
    from datafusion import SessionContext
    from datafusion.object_store import AmazonS3

    server, bucket, path = url.rsplit("/", 2)
    found = list[SessionContext]()

    def read(start: int, end: int) -> int:
        if not found:
            context = SessionContext()
            # Its http store refuses plain http, so the server is an S3 to it; the requests are the same.
            store = AmazonS3(
                bucket,
                "us-east-1",
                access_key_id="-",
                secret_access_key="-",
                endpoint=server,
                allow_http=True,
            )
            context.register_object_store("s3://", store, bucket)
            context.register_parquet("ticks", f"s3://{bucket}/{path}/{FILE}")
            found.append(context)
        return int(found[0].sql(_query("ticks", start, end)).to_arrow_table().num_rows)

    return read


def duckdb_httpfs(url: str) -> Read:
    """SQL with the httpfs extension."""
    import duckdb
    import duckdb_extension_httpfs

    (extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
    connection = duckdb.connect()
    connection.load_extension(str(extension))

    def read(start: int, end: int) -> int:
        table = f"read_parquet('{url}/{FILE}')"
        return int(connection.sql(_query(table, start, end)).to_arrow_table().num_rows)

    return read


PEERS: dict[str, tuple[Callable[[str], Read], str]] = {
    "Polars scan_parquet": (polars_scan, "polars"),
    "pyarrow + fsspec": (pyarrow_fsspec, "aiohttp"),
    "DataFusion": (datafusion_sql, "datafusion"),
    "DuckDB httpfs": (duckdb_httpfs, "duckdb_extension_httpfs"),
}
"""Peers, and the module without which they are left out."""

JUDGED = ("Polars scan_parquet", "pyarrow + fsspec", "DataFusion")
"""Peers that keep no data between windows, as a scan of ticklake does not either."""

_READERS = {TICKLAKE: ticklake_scan, CATALOG: ticklake_fetch} | {name: one[0] for name, one in PEERS.items()}


def installed() -> list[str]:
    """Return the peers that are installed here."""
    return [name for name, (_, module) in PEERS.items() if find_spec(module)]


class Reader:
    """The process of a reader, from outside."""

    def __init__(self, name: str, process: Popen[str]) -> None:
        self.name = name
        self._process = process

    def open(self, url: str) -> None:
        """Turn to a lake that was never seen before."""
        self._ask({"open": url})

    def read(self, start: int, end: int) -> dict[str, float]:
        """Read a window and return `seconds` and `rows`."""
        return self._ask({"window": [start, end]})

    def _ask(self, message: dict[str, Any]) -> dict[str, float]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the reader was started without pipes")
        print(json.dumps(message), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} failed; see above")
        return dict(json.loads(answer))


@contextmanager
def reading(name: str) -> Iterator[Reader]:
    """Start the process of a reader."""
    with spawn("benchmarks.readers", name) as process:
        try:
            yield Reader(name, process)
        finally:
            process.kill()


def main() -> None:
    """Answer until stdin ends."""
    out, read = answers(), None
    for line in sys.stdin:
        message = json.loads(line)
        answer: dict[str, float] = {}
        if "open" in message:
            read = _READERS[sys.argv[1]](message["open"])
        elif read is not None:
            began = time.perf_counter()
            rows = read(*message["window"])
            answer = {"seconds": time.perf_counter() - began, "rows": rows}
        print(json.dumps(answer), file=out)


if __name__ == "__main__":
    main()
