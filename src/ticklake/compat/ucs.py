"""`UnifiedCloudService`: downloads and uploads of objects, by the names and arguments that such code calls.

The methods are coroutines; what they do runs in threads, so that the event loop goes on. A missing object is
an `ObjectNotFoundError`, which is a `FileNotFoundError`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.compat.buckets import Buckets, bucket_place
from ticklake.compat.frames import Format, check_format, decoded, encoded, pandas
from ticklake.compat.times import TimeColumn, TimeRange
from ticklake.config import StorageConfig
from ticklake.errors import ConfigError, ObjectChangedError, SourceSchemaError, TicklakeError
from ticklake.lake import ParquetObject, Store, StoreUrl, Transfer
from ticklake.lake.loop import gather, run

__all__ = ["FUSE_MOUNT", "CloudTarget", "UnifiedCloudService"]

FUSE_MOUNT = "GCS_FUSE_MOUNT_PATH"
"""Environment variable with the folder where buckets, or one bucket, are mounted."""

type Output = Literal["dataframe", "parquet", "csv"]

_logger = logging.getLogger(__name__)
# How often a download is begun again because the object was overwritten meanwhile.
_RESTARTS = 3
# Stores that list in the order of names.
_ORDERED = ("gs", "s3", "az")


@dataclass(frozen=True, slots=True)
class CloudTarget:
    """Where objects are.

    Attributes:
        gcs_bucket: Name of the bucket, wherever it is.
        bigquery_dataset, project_id, region: Taken for the sake of such code; nothing here needs them.
    """

    gcs_bucket: str
    bigquery_dataset: str | None = None
    project_id: str | None = None
    region: str | None = None


class UnifiedCloudService:
    """Objects of buckets. Nothing is opened before it is needed.

    A bucket is `gs://<name>`, unless `buckets` or the environment (`TICKLAKE_BUCKETS`) say otherwise. Where
    `GCS_FUSE_MOUNT_PATH` is set, downloads take `<mount>/<bucket>/<path>` or `<mount>/<path>` if it is there.

    Args:
        buckets: Where buckets are: URL, folder, or a mapping of `url` and `storage`, by name. None asks the
            environment.
    """

    def __init__(self, buckets: Buckets | None = None) -> None:
        self._buckets = buckets
        self._stores: list[tuple[str, StorageConfig, Store]] = []
        self._lock = threading.Lock()

    async def download_from_gcs(
        self, target: CloudTarget, gcs_path: str, format: Format = "parquet", log_errors: bool = True
    ) -> Any:
        """Return a whole object.

        Args:
            target: Its bucket.
            gcs_path: Its path in there.
            format: `parquet`, `csv` and `json` give a pandas data frame, `bytes` and `text` (UTF-8) what they
                say.
            log_errors: Log an error (it is raised all the same); not for those that are expected.

        Raises:
            ConfigError: The format is not known, or refused, or the object is not of it.
            ObjectNotFoundError: There is no such object.
            LakeError: It could not be read.
        """
        check_format(format)
        try:
            return await asyncio.to_thread(self._download, target, gcs_path, format)
        except TicklakeError as exc:
            if log_errors:
                _logger.error("download of %s failed: %s", gcs_path, exc)  # noqa: TRY400 (the raiser's affair)
            raise

    async def download_from_gcs_streaming(
        self,
        target: CloudTarget,
        gcs_path: str,
        timestamp_range: tuple[Any, Any] | None = None,
        timestamp_column: str = "timestamp",
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        output_format: Output = "dataframe",
        local_path: str | Path | None = None,
        use_byte_range: bool = True,
    ) -> Any:
        """Return a part of a Parquet object; only the bytes of the needed row groups and columns are fetched.

        Args:
            target: Its bucket.
            gcs_path: Its path in there.
            timestamp_range: First and last time, both inclusive: aware datetimes, pandas timestamps, ISO 8601
                text with a zone, or integer nanoseconds. None takes all.
            timestamp_column: The column that it is about: Arrow timestamps (without a zone they are UTC), or
                integers. The unit of integers is the one in which all that the statistics say are times of
                1990 to 2262; what is read has to be in it as well.
            row_groups: Only these, by number.
            columns: Only these; None takes all.
            output_format: `dataframe` returns one; `parquet` and `csv` write a file and return its path.
            local_path: Where to write it; by default a new temporary file.
            use_byte_range: Makes no difference: parts are always fetched by range, with the same result.

        Raises:
            ConfigError: An argument is not usable, for example a time without a zone.
            SourceSchemaError: There is no such column, or no telling the unit of its integers.
            ObjectNotFoundError: There is no such object.
            LakeError: It could not be read.
        """
        if output_format not in get_args(Output.__value__):
            raise ConfigError(f"output_format is {output_format!r}, not one of dataframe, parquet, csv")
        if local_path is not None and output_format == "dataframe":
            raise ConfigError("local_path needs output_format parquet or csv; a data frame is returned")
        part = _Part(
            None if timestamp_range is None else TimeRange.of(timestamp_range),
            timestamp_column,
            None if row_groups is None else tuple(row_groups),
            None if columns is None else tuple(columns),
        )
        return await asyncio.to_thread(self._stream, target, gcs_path, part, output_format, local_path)

    async def upload_to_gcs(
        self, target: CloudTarget, gcs_path: str, data: Any, format: Format = "parquet"
    ) -> str:
        """Write an object, whole or not at all, and return its URL.

        Args:
            target: Its bucket.
            gcs_path: Its path in there.
            data: A pandas data frame, bytes or text as they are, or (for `json`) plain values.
            format: Of a data frame or of plain values.

        Raises:
            ConfigError: The format is not known, or refused, or the data have no such form.
            LakeError: It could not be written.
        """
        check_format(format)
        return await asyncio.to_thread(self._upload, target, gcs_path, data, format)

    async def list_gcs_files(
        self, target: CloudTarget, prefix: str, max_results: int | None = None
    ) -> list[dict[str, Any]]:
        """Return `name`, `size` and `updated` (an aware datetime) of objects, in the order of their names.

        Args:
            target: Their bucket.
            prefix: What their names begin with; it may end within a name.
            max_results: The most to return.

        Raises:
            LakeError: The store could not be listed.
        """
        return await asyncio.to_thread(self._list, target, prefix, max_results)

    async def check_gcs_files_exist_batch(
        self,
        target: CloudTarget,
        paths: Sequence[str] | None = None,
        *,
        gcs_paths: Sequence[str] | None = None,
    ) -> dict[str, bool]:
        """Return for each path whether there is such an object.

        Args:
            target: Their bucket.
            paths: Their paths in there.
            gcs_paths: The same by another name, which some code uses.

        Raises:
            LakeError: The store could not be asked.
        """
        if (paths is None) is (gcs_paths is None):
            raise ConfigError("give paths (or gcs_paths)")
        return await asyncio.to_thread(self._exist, target, list(paths or gcs_paths or ()))

    def _download(self, target: CloudTarget, path: str, format_: Format) -> Any:
        store, place = self._find(target, path)
        if format_ == "parquet":
            pandas()  # before anything moves
            return _retried(lambda: ParquetObject.open(store, place).read()).to_pandas()
        fetched = run(store.read_all(place))
        return decoded(bytes(fetched.data), format_, fetched.version.url)

    def _stream(
        self, target: CloudTarget, path: str, part: _Part, output: Output, local_path: str | Path | None
    ) -> Any:
        if output != "parquet":
            pandas()
        store, place = self._find(target, path)
        table = _retried(lambda: part.read(ParquetObject.open(store, place)))
        return table.to_pandas() if output == "dataframe" else _write(table, output, local_path)

    def _upload(self, target: CloudTarget, path: str, data: Any, format_: Format) -> str:
        store = self._store(target)
        store.put(path, encoded(data, format_))
        return store.url.of(path)

    def _list(self, target: CloudTarget, prefix: str, most: int | None) -> list[dict[str, Any]]:
        store = self._store(target)
        folder = prefix.rpartition("/")[0]
        found = (item for item in store.list(folder) if item.path.startswith(prefix))
        ordered = found if store.url.scheme in _ORDERED else iter(sorted(found, key=lambda item: item.path))
        return [
            {"name": item.path, "size": item.size, "updated": item.last_modified}
            for item in islice(ordered, most)
        ]

    def _exist(self, target: CloudTarget, paths: list[str]) -> dict[str, bool]:
        places = [self._find(target, path) for path in paths]
        return dict(zip(paths, run(gather(store.exists(place) for store, place in places)), strict=True))

    def _find(self, target: CloudTarget, path: str) -> tuple[Store, str]:
        """Return the store to read an object from, and its path in there."""
        store = self._store(target)
        if mount := os.environ.get(FUSE_MOUNT):
            if not Path(mount).is_dir():
                _logger.warning("%s is %s, which is no folder: the bucket itself is asked", FUSE_MOUNT, mount)
                return store, path
            mounted = self._opened(mount, StorageConfig())
            for place in (f"{target.gcs_bucket}/{path}", path):
                if run(mounted.exists(place)):
                    return mounted, place
        return store, path

    def _store(self, target: CloudTarget) -> Store:
        if not isinstance(target, CloudTarget):
            raise ConfigError(f"the target is a {type(target).__name__}, not a CloudTarget")
        place = bucket_place(target.gcs_bucket, self._buckets)
        return self._opened(place.url, place.options)

    def _opened(self, url: str, storage: StorageConfig) -> Store:
        with self._lock:
            for known_url, known_storage, store in self._stores:
                if (known_url, known_storage) == (url, storage):
                    return store
            store = Store(StoreUrl.parse(url, allow_http=storage.allow_http), storage, Transfer())
            self._stores.append((url, storage, store))
            return store


@dataclass(frozen=True, slots=True)
class _Part:
    """Which part of a Parquet object is wanted."""

    times: TimeRange | None
    time_column: str
    row_groups: tuple[int, ...] | None
    columns: tuple[str, ...] | None

    def read(self, source: ParquetObject) -> pa.Table:
        columns = self._checked_columns(source)
        groups = self._checked_groups(source)
        if self.times is None:
            return source.read(columns, groups)
        column = TimeColumn(self.time_column, source.schema, source.url)
        statistics = source.integer_ranges(column.name)
        meeting = set(column.groups(statistics, self.times)) & set(groups)
        needed = columns if columns is None or column.name in columns else (*columns, column.name)
        table = column.within(source.read(needed, meeting), statistics, self.times)
        return table if columns is None else table.select(list(columns))

    def _checked_columns(self, source: ParquetObject) -> tuple[str, ...] | None:
        unknown = [name for name in self.columns or () if name not in source.schema.names]
        if unknown:
            raise SourceSchemaError(
                f"there are no columns {', '.join(unknown)}; there are {', '.join(source.schema.names)}",
                url=source.url,
            )
        return self.columns

    def _checked_groups(self, source: ParquetObject) -> set[int]:
        if self.row_groups is None:
            return set(range(source.row_groups))
        unknown = [index for index in self.row_groups if not 0 <= index < source.row_groups]
        if unknown:
            raise ConfigError(
                f"{source.url} has the row groups 0 to {source.row_groups - 1}, and not "
                f"{', '.join(map(str, unknown))}"
            )
        return set(self.row_groups)


def _retried[T](read: Callable[[], T]) -> T:
    """Read an object, again where it is overwritten meanwhile."""
    for _ in range(_RESTARTS):
        with suppress(ObjectChangedError):
            return read()
    return read()


def _write(table: pa.Table, output: Output, local_path: str | Path | None) -> str:
    """Write a table to a file, which appears when it is whole, and return its path."""
    suffix = f".{output}"
    if local_path is None:
        handle, name = tempfile.mkstemp(suffix, "ticklake-")
        os.close(handle)
        local_path = name
    target = Path(local_path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".ticklake-", dir=target.parent) as scratch:
            path = Path(scratch, f"part{suffix}")
            if output == "parquet":
                pq.write_table(table, path, compression="snappy")
            else:
                table.to_pandas().to_csv(path, index=False)
            path.replace(target)
    except OSError as exc:
        raise ConfigError(f"cannot write {target}: {exc}") from exc
    return str(target)
