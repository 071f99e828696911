"""Parquet footers, read without trusting them: within limits, and without running anybody's code.

A writer may leave its Arrow schema in the footer, and pyarrow makes the types that it names as soon as it
reads that: an extension type that some library has registered runs that library's code on bytes of the file.
Here a column of such a type is what it is stored as.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Buffer
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.errors import CorruptObjectError
from ticklake.parquet.structure import MAX_FOOTER, Structure
from ticklake.types import ByteRange

__all__ = ["MAGIC", "TRAILER", "read_footer", "read_footer_of_file", "read_structure"]

MAGIC = b"PAR1"
"""How a Parquet file begins and ends."""

TRAILER = 8
"""Bytes after the footer: its length, and the magic."""

_KEY = b"ARROW:schema"
_NO_KEY = b"ARROW-schema"
_EXTENSION = b"ARROW:extension:name"
# The key, then in Thrift's terms: the next field, a text, its length; base64; the end of the pair.
_SCHEMA = re.compile(_KEY + rb"\x18[\x80-\xff]*[\x00-\x7f]([A-Za-z0-9+/]+={0,2})\x00")


def read_footer(tail: Buffer) -> pq.FileMetaData:
    """Read a footer; the Arrow schema in it is left out, unless it is certain to name no extension type.

    Args:
        tail: A footer with its length and magic.

    Raises:
        pa.ArrowException: It is damaged.
        OSError: It is damaged.
    """
    data = bytes(tail)
    if not _is_plain(data):
        data = data.replace(_KEY, _NO_KEY)
    return pq.read_metadata(pa.BufferReader(data))


def read_footer_of_file(path: str | Path) -> pq.FileMetaData:
    """Read the footer of a file on disk as `read_footer` does; errors are the same."""
    with Path(path).open("rb") as file:
        return read_footer(_tail(file))


def read_structure(file: BinaryIO) -> Structure:
    """Read what the footer of an open file says of row groups, and check all of it.

    What passes pyarrow can be asked for: where a footer makes no sense, that may end the process.

    Raises:
        CorruptObjectError: It is no Parquet file, damaged, contradicts itself, or is beyond a limit.
        OSError: It cannot be read.
    """
    tail = _tail(file)
    length = len(tail) - TRAILER
    if tail[-len(MAGIC) :] != MAGIC or length < 1:
        raise CorruptObjectError("it does not end like a Parquet file")
    structure = _structure(tail[:length])
    size = file.seek(0, os.SEEK_END)
    for group in structure.row_groups:
        for column in range(group.columns):
            if not ByteRange(len(MAGIC), size - len(tail)).covers(group.chunk(column).range):
                raise CorruptObjectError("the footer places columns outside the file")
    return structure


@lru_cache(maxsize=16)
def _structure(footer: bytes) -> Structure:
    """Parse a footer once: a run asks several times what its files have."""
    return Structure.parse(footer)


def _tail(file: BinaryIO) -> bytes:
    """Return footer, length and magic, as far as they are there."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TRAILER))
    length = int.from_bytes(file.read(4), "little") + TRAILER
    file.seek(max(0, size - min(length, MAX_FOOTER + TRAILER)))
    return file.read()


def _is_plain(footer: bytes) -> bool:
    keys = footer.count(_KEY)
    if keys == 0:
        return True
    found = _SCHEMA.search(footer)
    if keys > 1 or found is None:
        return False
    try:
        return _EXTENSION not in base64.b64decode(found[1])
    except binascii.Error:
        return False
