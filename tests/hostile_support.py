"""Hostile Parquet: a compact Thrift tree to forge, mutants by seed, and the process that reads them.

Run as a script it reads mutants or the files of a folder, one after another, and prints what became of each.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import random
import resource
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from lake_support import DAY, DAY_START, PERP, SECOND, tick_path, trades
from ticklake.conversion import convert
from ticklake.errors import ConversionError, CorruptObjectError
from ticklake.lake import Lake, rowgroups
from ticklake.types import InstrumentSpec, Window

MEGABYTE = 1024 * 1024
PATIENCE = 60  # seconds for one file
MEMORY = 1_250  # megabytes that may be in use at any time
ADDRESSES = 24_000  # megabytes of addresses, so that the worst does not take the machine with it


# Thrift's compact protocol as a tree: a struct is a list of fields, so that one can stand twice or be of
# another type.


@dataclass
class Value:
    """A field of a struct or an element of a list.

    Attributes:
        kind: The wire type.
        content: bool, int, bytes, or a list of the values in a struct, list, set or map.
        field: Its id in a struct.
        of: The wire type of a list's elements.
    """

    kind: int
    content: object
    field: int = 0
    of: int = 12

    def __getitem__(self, field: int) -> Value:
        """Return a field of a struct."""
        return next(value for value in self.content if value.field == field)

    def at(self, index: int) -> Value:
        """Return an element of a list."""
        return self.content[index]

    def put(self, field: int, value: Value) -> None:
        """Set a field of a struct."""
        value.field = field
        self.content = sorted([*(v for v in self.content if v.field != field), value], key=lambda v: v.field)

    def everything(self) -> Iterator[Value]:
        """Yield this value and all inside it."""
        yield self
        if isinstance(self.content, list):
            for value in self.content:
                yield from value.everything()


def zigzag(number: int) -> int:
    return ((number << 1) ^ (number >> 63)) & (2**64 - 1)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def read_varint(data: io.BytesIO) -> int:
    value = shift = 0
    while True:
        byte = data.read(1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value


def read_value(data: io.BytesIO, kind: int, field: int = 0) -> Value:
    if kind in (1, 2):
        return Value(kind, kind == 1, field)
    if kind == 3:
        return Value(kind, data.read(1)[0], field)
    if kind in (4, 5, 6):
        number = read_varint(data)
        return Value(kind, (number >> 1) ^ -(number & 1), field)
    if kind == 7:
        return Value(kind, data.read(8), field)
    if kind == 8:
        return Value(kind, data.read(read_varint(data)), field)
    if kind == 9:
        header = data.read(1)[0]
        count = read_varint(data) if header >> 4 == 15 else header >> 4
        of = header & 15
        return Value(9, [read_value(data, 3 if of in (1, 2) else of) for _ in range(count)], field, of)
    assert kind == 12
    fields, last = [], 0
    while header := data.read(1)[0]:
        number = read_varint(data) if header < 16 else 0
        last = (number >> 1) ^ -(number & 1) if header < 16 else last + (header >> 4)
        fields.append(read_value(data, header & 15, last))
    return Value(12, fields, field)


def encode(value: Value) -> bytes:
    content = value.content
    if value.kind in (1, 2):
        return b""
    if value.kind == 3:
        return bytes([content & 0xFF])
    if value.kind in (4, 5, 6):
        return varint(zigzag(content))
    if value.kind == 7:
        return content
    if value.kind == 8:
        return varint(len(content)) + content
    if value.kind == 9:
        count = len(content)
        head = bytes([count << 4 | value.of]) if count < 15 else bytes([0xF0 | value.of]) + varint(count)
        return head + b"".join(map(encode, content))
    out, last = [], 0
    for one in content:
        kind = (1 if one.content else 2) if one.kind in (1, 2) else one.kind
        if 0 < one.field - last < 16:
            out.append(bytes([(one.field - last) << 4 | kind]))
        else:
            out.append(bytes([kind]) + varint(zigzag(one.field)))
        out.append(encode(one))
        last = one.field
    return b"".join(out) + b"\0"


# Files


def split(file: bytes) -> tuple[bytes, Value]:
    """Return what is before a file's footer, and the footer."""
    length = struct.unpack("<I", file[-8:-4])[0]
    return file[: -8 - length], read_value(io.BytesIO(file[-8 - length :]), 12)


def join(data: bytes, footer: Value | bytes) -> bytes:
    encoded = footer if isinstance(footer, bytes) else encode(footer)
    return data + encoded + struct.pack("<I", len(encoded)) + b"PAR1"


def column(footer: Value, group: int, index: int) -> Value:
    """Return the ColumnMetaData of a column."""
    return footer[4].at(group)[1].at(index)[3]


def chunk_start(meta: Value) -> int:
    dictionary = next((v.content for v in meta.content if v.field == 11), None)
    return min(meta[9].content, dictionary or meta[9].content)


def replace_chunk(data: bytes, meta: Value, chunk: bytes) -> bytes:
    """Put other bytes in the place of a column chunk: at the end, where the footer then looks for them."""
    moved = len(data) - chunk_start(meta)
    for value in meta.content:
        if value.field in (9, 11):
            value.content += moved
    meta[7].content = len(chunk)
    return data + chunk


TABLE = trades([DAY_START + 3_600 * SECOND + n * SECOND // 10 for n in range(2_000)])
SPEC = InstrumentSpec("BTCUSDT-PERP.BINANCE", price_precision=8, size_precision=8)
DAY_WINDOW = Window.of_day(DAY)
PART = Window(DAY_START + 3_650 * SECOND, DAY_START + 3_680 * SECOND)


def written(table: pa.Table = TABLE, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"row_group_size": 700, "compression": "snappy", **options})
    return sink.getvalue()


NESTED = TABLE.append_column(
    "levels",
    pa.array([[{"price": 1.5, "size": n}] * (n % 4) for n in range(len(TABLE))]),
)
ENCODED = {"price": "BYTE_STREAM_SPLIT", "ts_event": "DELTA_BINARY_PACKED", "ts_init": "DELTA_BINARY_PACKED"}

SYNTHETIC: dict[str, Callable[[], bytes]] = {
    "snappy": written,
    "page index, checksums": lambda: written(write_page_index=True, write_page_checksum=True),
    "zstd, plain": lambda: written(compression="zstd", use_dictionary=False),
    "gzip, v2 pages": lambda: written(compression="gzip", data_page_version="2.0"),
    "brotli, small pages": lambda: written(compression="brotli", data_page_size=2_000),
    "lz4, nested": lambda: written(NESTED, compression="lz4"),
    "delta text": lambda: written(
        use_dictionary=False,
        compression="none",
        column_encoding={**ENCODED, "trade_id": "DELTA_BYTE_ARRAY", "noise": "DELTA_LENGTH_BYTE_ARRAY"},
    ),
    "delta, v2 pages": lambda: written(
        use_dictionary=False,
        compression="zstd",
        data_page_version="2.0",
        column_encoding={**ENCODED, "trade_id": "DELTA_LENGTH_BYTE_ARRAY"},
    ),
}


@dataclass(frozen=True)
class Hostile:
    """A file that may be anything.

    Attributes:
        what: How it was made.
        kind: What it is read as: a data type, `instruments`, or `file` for trades in a file of the user's.
        data: Its bytes.
    """

    what: str
    kind: str
    data: bytes


@cache
def bases(real_lake: Path) -> tuple[tuple[str, str, bytes], ...]:
    """Return name, kind and bytes of the files that mutants are made of."""
    real = []
    for path in sorted(real_lake.rglob("*.parquet")):
        folder = path.parent.name
        kind = "instruments" if path.stem == "instruments" else folder.removeprefix("data_type-")
        if path.stat().st_size < 250_000 and f"day-{DAY}" in path.as_posix():
            real.append((f"{kind} {path.stem}", kind, path.read_bytes()))
    return (*real, *((name, "trades", make()) for name, make in SYNTHETIC.items()))


_NUMBERS = (0, 1, -1, 2, 127, 2**15, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1, -(2**63))


def _flip(rng: random.Random, data: bytes, footer: Value) -> bytes:
    file = bytearray(join(data, footer))
    # Half of them in the footer, which is small.
    first = rng.choice((0, len(data)))
    for _ in range(rng.choice((1, 1, 1, 8))):
        at = rng.randrange(first, len(file))
        file[at] ^= 1 << rng.randrange(8)
    return bytes(file)


def _run(rng: random.Random, data: bytes, footer: Value) -> bytes:
    file = bytearray(join(data, footer))
    at = rng.randrange(rng.choice((0, len(data))), len(file))
    length = rng.randrange(1, 64)
    file[at : at + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return bytes(file)


def _cut(rng: random.Random, data: bytes, footer: Value) -> bytes:
    if rng.random() < 0.5:
        file = join(data, footer)
        return file[: rng.randrange(len(file))]
    # Cut out of the middle: everything that the footer points to has moved.
    start = rng.randrange(len(data))
    return join(data[:start] + data[start + rng.randrange(1, 5_000) :], footer)


def _swap(rng: random.Random, data: bytes, footer: Value) -> bytes:
    groups = footer[4].content
    one, other = (
        column(footer, rng.randrange(len(groups)), rng.randrange(len(groups[0][1].content))) for _ in "ab"
    )
    start, length = chunk_start(other), other[7].content
    return join(replace_chunk(data, one, data[start : start + length]), footer)


def _forge(rng: random.Random, tree: Value) -> None:
    """Change numbers, lengths, types and the presence of fields; most of all where counts and places are."""
    values = list(tree.everything())
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = rng.choice(values)
        if isinstance(value.content, bool):
            value.content = not value.content
        elif isinstance(value.content, int):
            number = value.content
            near = (number + 1, number - 1, number * 2, number // 2, -number, number ^ 1 << rng.randrange(40))
            value.content = rng.choice(near + _NUMBERS)
            if value.kind == 3 or not -(2**63) <= value.content < 2**63:
                value.content = 0
        elif isinstance(value.content, bytes):
            length = rng.choice((0, 1, 7, 8, 9, 200))
            value.content = rng.choice((rng.randbytes(length), value.content * 2, value.content[:length]))
            if value.kind == 7:
                value.content = value.content.ljust(8, b"\0")[:8]
        elif value.content:
            content = value.content
            chosen = rng.randrange(len(content))
            content[chosen : chosen + 1] = [content[chosen]] * rng.choice((0, 2, 3))
            if value.kind == 12 and rng.random() < 0.3:
                value.content = [*content, Value(6, rng.choice(_NUMBERS), rng.randrange(1, 20))]
                value.content.sort(key=lambda v: v.field)


def _forge_footer(rng: random.Random, data: bytes, footer: Value) -> bytes:
    # The chunks are most of a footer: as often one of them, a row group, or anything.
    groups = footer[4].content
    group = rng.choice(groups)
    _forge(rng, rng.choice((footer, footer[2], group, rng.choice(group[1].content), group[1].at(-1))))
    return join(data, footer)


def _forge_page(rng: random.Random, data: bytes, footer: Value) -> bytes:
    groups = footer[4].content
    meta = column(footer, rng.randrange(len(groups)), rng.randrange(len(groups[0][1].content)))
    start = chunk_start(meta)
    chunk = data[start : start + meta[7].content]
    stream, pages = io.BytesIO(chunk), []
    while stream.tell() < len(chunk):
        header = read_value(stream, 12)
        pages.append((header, stream.read(header[3].content)))
    forged = rng.randrange(len(pages))
    if rng.random() < 0.2:
        pages[forged], pages[0] = pages[0], pages[forged]
    else:
        _forge(rng, pages[forged][0])
    return join(replace_chunk(data, meta, b"".join(encode(head) + body for head, body in pages)), footer)


MUTATIONS = (_flip, _run, _cut, _swap, _forge_footer, _forge_footer, _forge_footer, _forge_page, _forge_page)


def mutant(seed: int, real_lake: Path) -> Hostile:
    rng = random.Random(seed)
    name, kind, file = rng.choice(bases(real_lake))
    if kind == "trades" and rng.random() < 0.1:
        kind = "file"
    mutation = rng.choice(MUTATIONS)
    return Hostile(f"{mutation.__name__} of {name}", kind, mutation(rng, *split(file)))


# The process that reads them


def read(hostile: Hostile, folder: Path) -> str:
    """Read a file in all ways that there are; return what became of it, in a few words."""
    kind = hostile.kind
    path = folder / (
        f"instrument_availability/by_date/day-{DAY}/instruments.parquet"
        if kind == "instruments"
        else tick_path(data_type=kind)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hostile.data)
    lake = Lake(folder, folder)
    try:
        if kind == "file":
            table = convert(path, spec=SPEC, data_type="trades", on_bad_row="quarantine").table
        elif kind == "instruments":
            table, _ = lake.instruments(DAY)
        else:
            table = lake.scan(PERP, kind, DAY_WINDOW).to_table(on_hole="skip")
            # A part of it, of columns side by side, and of pages with the times in shares.
            for share in (rowgroups.SHARE, 1):
                with patch.object(rowgroups, "SHARE", share):
                    lake.scan(PERP, kind, PART).to_table(on_hole="skip").validate(full=True)
        table.validate(full=True)
        outcome = f"{table.num_rows} rows"
    except (CorruptObjectError, ConversionError) as exc:
        outcome = f"{type(exc).__name__}: {exc}"
    return " ".join(outcome.split())


def _most_memory() -> int:
    """Return the megabytes that this process had in use at most.

    Not `ru_maxrss`: that of a process that was forked begins with its parent's.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real_lake", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, help="mutants from the first to before the second")
    parser.add_argument("--files", type=Path, nargs="*", help="files to read instead")
    arguments = parser.parse_args()
    if arguments.seeds:
        cases = ((str(seed), mutant(seed, arguments.real_lake)) for seed in range(*arguments.seeds))
    else:
        cases = (
            (str(path), Hostile(path.name, kind, path.read_bytes()))
            for path in arguments.files
            for kind in ("instruments", "trades")
        )
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES * MEGABYTE, ADDRESSES * MEGABYTE))
    with tempfile.TemporaryDirectory() as scratch:
        for name, hostile in cases:
            print(f"{name}\t{hostile.what}", end="\t", flush=True)
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            outcome = read(hostile, Path(scratch))
            faulthandler.cancel_dump_traceback_later()
            if (most := _most_memory()) > MEMORY:
                sys.exit(f"{most} MB of memory")
            print(outcome, flush=True)


if __name__ == "__main__":
    main()
