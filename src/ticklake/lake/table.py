"""Parts of one Parquet object as a table, whatever its columns mean: row groups and columns by ranges."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Self

import pyarrow as pa
import pyarrow.types as pt

from ticklake.errors import CorruptObjectError
from ticklake.lake.footers import Footer, read_footer
from ticklake.lake.loop import gather, run
from ticklake.lake.scan import coalesce
from ticklake.lake.store import Fetched, Store
from ticklake.parquet.structure import placed
from ticklake.types import ByteRange

__all__ = ["ParquetObject"]


class ParquetObject:
    """One version of a Parquet object in a store; made by `open`, which reads its footer.

    What it reads is within the limits of all sources (`docs/reliability.md`).
    """

    def __init__(self, store: Store, footer: Footer) -> None:
        self._store = store
        self._footer = footer
        try:
            self._schema = footer.metadata.schema.to_arrow_schema()
        except pa.ArrowException as exc:
            raise CorruptObjectError(f"the Parquet schema is not usable: {exc}", url=self.url) from exc
        columns = footer.metadata.schema
        self._paths = [columns.column(index).path for index in range(len(columns))]

    @classmethod
    def open(cls, store: Store, path: str) -> Self:
        """Read the footer of an object: one request, two where it is long.

        Raises:
            ObjectNotFoundError: There is no such object.
            CorruptObjectError: It is no whole Parquet file.
            LakeError: It could not be read.
        """
        return cls(store, run(read_footer(store, path)))

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        return self._footer.version.url

    @property
    def schema(self) -> pa.Schema:
        """Its columns as Arrow sees them."""
        return self._schema

    @property
    def row_groups(self) -> int:
        """How many row groups it has."""
        return len(self._footer.structure.row_groups)

    def integer_ranges(self, column: str) -> list[tuple[int, int] | None]:
        """Return the least and greatest value of each row group, as stored; None where it does not say.

        Args:
            column: A column of integers or Arrow timestamps.
        """
        index = self._paths.index(column)
        signed = not pt.is_unsigned_integer(self._schema.field(column).type)
        with placed(self.url):
            groups = self._footer.structure.row_groups
            return [group.chunk(index).integers(signed=signed) for group in groups]

    def read(
        self, columns: Sequence[str] | None = None, row_groups: Collection[int] | None = None
    ) -> pa.Table:
        """Return columns of row groups, in the order of the file; only their bytes are fetched.

        Args:
            columns: Names of columns, all of which must be there; None for all.
            row_groups: Numbers of row groups; None for all.

        Raises:
            ObjectChangedError: The object was overwritten since it was opened.
            CorruptObjectError: A row group cannot be decoded, is not what the footer says, or is too large.
            LakeError: It could not be read.
        """
        indices = range(self.row_groups) if row_groups is None else sorted(set(row_groups))
        pieces = run(self._fetch(self._ranges(columns, indices)))
        schema = (
            self._schema if columns is None else pa.schema([self._schema.field(name) for name in columns])
        )
        parts = [schema.with_metadata(self._schema.metadata).empty_table()]
        for index in indices:
            part = self._footer.decode(index, columns, pieces)
            parts.append(part if columns is None else part.select(list(columns)))
        return pa.concat_tables(parts)

    def _ranges(self, columns: Sequence[str] | None, row_groups: Collection[int]) -> tuple[ByteRange, ...]:
        wanted = [
            number
            for number, path in enumerate(self._paths)
            if columns is None or path in columns or path.partition(".")[0] in columns
        ]
        at_hand = self._footer.tail.range
        with placed(self.url):
            groups = [self._footer.structure.row_groups[index] for index in row_groups]
            ranges = [group.chunk(number).range for group in groups if group.rows for number in wanted]
            if any(r.start < 0 or r.length <= 0 or r.end > self._footer.version.size for r in ranges):
                raise CorruptObjectError("the footer places columns outside the file")
        return coalesce(r for r in ranges if not at_hand.covers(r))

    async def _fetch(self, ranges: Sequence[ByteRange]) -> list[Fetched]:
        footer = self._footer
        return await gather(self._store.read_range(r, footer.path, footer.version) for r in ranges)
