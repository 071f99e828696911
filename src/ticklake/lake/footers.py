"""Footers of files in a lake, read in one request or two, and what decodes row groups by them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.errors import CorruptObjectError, ObjectNotFoundError
from ticklake.lake.decoding import Budget, SparseFile, decode, pages_of, row_decoders, whole
from ticklake.lake.loop import in_turn
from ticklake.lake.objects import ObjectVersion, SourceObject
from ticklake.lake.pages import ColumnPages
from ticklake.lake.store import Fetched, Store
from ticklake.parquet.footers import MAGIC, TRAILER
from ticklake.parquet.footers import read_footer as parse_footer
from ticklake.parquet.pageindex import Page
from ticklake.parquet.structure import MAX_FOOTER, Structure, placed
from ticklake.types import ByteRange

__all__ = ["FOOTER_GUESS", "Footer", "find_footer", "read_footer"]

FOOTER_GUESS = 44 * 1024
"""What a first request asks for where nothing is known of such files.

Trades of a day in 30 row groups have a footer of 27 KB, and one of 4 KB with a page index of 32 KB in three.
"""

_ENCRYPTED = b"PARE"


@dataclass(frozen=True, slots=True)
class Footer:
    """The footer of a file, with the bytes that came along with it.

    Attributes:
        path: The file's key in its store.
        version: The version that the footer is of, and to which later reads are pinned.
        metadata: What the footer says. Its row groups are not to be asked for their columns: where one makes
            no sense, pyarrow ends the process.
        structure: What the footer says of row groups.
        tail: The end of the file.
    """

    path: str
    version: ObjectVersion
    metadata: pq.FileMetaData
    structure: Structure
    tail: Fetched

    @property
    def source(self) -> SourceObject:
        """The file as the source of rows."""
        version = self.version
        return SourceObject(
            version.url, version.etag, version.size, self.metadata.num_rows, version.last_modified
        )

    @property
    def start(self) -> int:
        """Where the footer begins in the file."""
        return _footer_start(self.tail)

    def extended(self, head: Fetched) -> Footer:
        """Return the footer with more of the end of the file, which is what lies before its tail."""
        return replace(self, tail=_joined(head, self.tail))

    def decode(self, index: int, columns: Sequence[str] | None, pieces: Sequence[Fetched]) -> pa.Table:
        """Return columns of a row group.

        Args:
            index: Number of the row group.
            columns: Names of top-level columns; None for all.
            pieces: The bytes of those columns, as far as they are not in the tail.

        Raises:
            CorruptObjectError: It cannot be decoded, is not what the footer says, or is beyond a limit.
        """
        file = SparseFile(self.version.size, [*pieces, self.tail])
        with placed(self.version.url):
            group = self.structure.row_groups[index]
            return decode(file, self.metadata, group, index, columns)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Names of the columns that have values, with those of their parents, by number."""
        schema = self.metadata.schema
        return tuple(schema.column(number).path for number in range(len(schema)))

    def pages(
        self, index: int, columns: Sequence[str], pieces: Sequence[Fetched], known: Sequence[ColumnPages]
    ) -> dict[int, tuple[Page, ...]]:
        """Return the pages of columns of a row group by number, none of a column that does not tell.

        Args:
            index: Number of the row group.
            columns: Their names.
            pieces: The bytes of the columns, as far as they are not in the tail.
            known: What is known of them already; where it is nothing, their headers are read.

        Raises:
            CorruptObjectError: A page header is damaged.
        """
        wanted = self._flat(columns)
        if known:
            return {part.column: part.pages for part in known if part.column in wanted}
        file = SparseFile(self.version.size, [*pieces, self.tail])
        with placed(self.version.url):
            group = self.structure.row_groups[index]
            return {number: pages_of(file, group, number) for number in wanted} or {-1: ()}

    def all_pages(self, index: int, columns: Sequence[str]) -> dict[int, tuple[Page, ...]]:
        """Return all pages of columns as if each column had one, otherwise as `pages`; no header is read."""
        with placed(self.version.url):
            group = self.structure.row_groups[index]
            return {number: whole(group, number) for number in self._flat(columns)} or {-1: ()}

    def _flat(self, columns: Sequence[str]) -> list[int]:
        """Return the numbers of columns; none where one is nested, so that its pages do not tell its rows."""
        numbers = [number for number, name in enumerate(self.leaves) if name in columns]
        schema = self.metadata.schema
        is_nested = any(schema.column(number).max_repetition_level for number in numbers)
        return [] if is_nested or len(numbers) < len(columns) else numbers

    def row_decoders(
        self,
        index: int,
        pages: Mapping[int, Sequence[Page]],
        rows: range,
        pieces: Sequence[Fetched],
        *,
        by_index: bool,
        budget: Budget,
        threads: bool = False,
    ) -> list[Callable[[], pa.Table]]:
        """Prepare to decode columns of some rows of a row group from the pages that have them.

        Args:
            index: Number of the row group.
            pages: By the number of the column, neighbouring pages that have those rows.
            rows: Positions in the row group.
            pieces: The bytes of those pages and of their dictionaries, as far as they are not in the tail.
            by_index: Whether the pages are known from the page index.
            budget: What all that is decoded of the row group may take.
            threads: Whether columns are decoded side by side, in threads of Arrow's.

        Returns:
            What decodes some of the columns each, in whatever thread; a `CorruptObjectError` as from here.

        Raises:
            CorruptObjectError: They cannot be decoded, are not what the footer or the page index says, or
                are beyond a limit.
        """
        file = SparseFile(self.version.size, [*pieces, self.tail])
        with placed(self.version.url):
            decoders = row_decoders(
                file, self.structure, index, pages, rows, by_index=by_index, budget=budget, threads=threads
            )
            return self._placing(decoders)

    def _placing(self, decoders: Iterable[Callable[[], pa.Table]]) -> list[Callable[[], pa.Table]]:
        def placing(decoder: Callable[[], pa.Table]) -> pa.Table:
            with placed(self.version.url):
                return decoder()

        return [partial(placing, decoder) for decoder in decoders]


async def find_footer(store: Store, paths: Sequence[str], guess: int = FOOTER_GUESS) -> Footer | None:
    """Return the footer of the first of several objects that exists, or None where none does.

    Args:
        store: Where they are.
        paths: Their paths.
        guess: As for `read_footer`.

    Raises:
        LakeError: One could not be read.
    """
    for path in paths:
        try:
            return await read_footer(store, path, guess)
        except ObjectNotFoundError:
            continue
    return None


async def read_footer(store: Store, path: str, guess: int = FOOTER_GUESS) -> Footer:
    """Read the footer of a Parquet file: one request, two where it is longer than that asks for.

    Args:
        store: Where it is.
        path: Its path.
        guess: Bytes that the first request asks for.

    Raises:
        CorruptObjectError: It is not a (whole) Parquet file.
        LakeError: It could not be read.
    """
    tail = await store.read_suffix(path, guess)
    version = tail.version
    start_of_footer = _footer_start(tail)
    if start_of_footer < tail.range.start:
        head = await store.read_range(ByteRange(start_of_footer, tail.range.start), path, version)
        tail = _joined(head, tail)
    async with in_turn():
        return _parsed(path, tail, tail.data[start_of_footer - tail.range.start :])


def _parsed(path: str, tail: Fetched, footer: memoryview) -> Footer:
    version = tail.version
    with placed(version.url):
        # First, as pyarrow has no limits.
        structure = Structure.parse(bytes(footer[:-TRAILER]))
    try:
        metadata = parse_footer(footer)
        # A name that is no text is an error here, and not wherever it is looked at first.
        _ = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as exc:
        raise CorruptObjectError(f"the Parquet footer is damaged: {exc}", url=version.url) from exc
    return Footer(path, version, metadata, structure, tail)


def _joined(head: Fetched, tail: Fetched) -> Fetched:
    data = memoryview(b"".join((head.data, tail.data)))
    return replace(tail, data=data, range=ByteRange(head.range.start, tail.range.end))


def _footer_start(tail: Fetched) -> int:
    """Return where the footer begins in the file, by the trailer that names its length."""
    url, size = tail.version.url, tail.version.size
    magic = bytes(tail.data[-4:])
    if magic == _ENCRYPTED:
        raise CorruptObjectError("the Parquet file is encrypted, which ticklake cannot read", url=url)
    length = int.from_bytes(tail.data[-TRAILER:-4], "little")
    footer_start = size - TRAILER - length
    begins_otherwise = tail.range.start == 0 and bytes(tail.data[:4]) != MAGIC
    if magic != MAGIC or footer_start < len(MAGIC) or begins_otherwise:
        raise CorruptObjectError(
            f"not a Parquet file, or a truncated one of {size:,} bytes",
            url=url,
            hint="Upload it again, or ask for another window; a day without a file can be left out "
            "(on_hole: skip).",
        )
    if length > MAX_FOOTER:
        raise CorruptObjectError(
            f"the Parquet footer has {length:,} bytes, at most {MAX_FOOTER:,} are read",
            url=url,
            hint="If the file is sound, write it with larger row groups.",
        )
    return footer_start
