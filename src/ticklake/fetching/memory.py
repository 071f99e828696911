"""Which allocator Arrow takes its memory from while rows are read and written."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

__all__ = ["system_memory"]

_CHOSEN = "ARROW_DEFAULT_MEMORY_POOL"

_lock = threading.Lock()
_users = 0
_before: pa.MemoryPool | None = None


@contextmanager
def system_memory() -> Iterator[None]:
    """Let all of Arrow in this process allocate from the C library, until the last who asks for it is done.

    Arrow's own choice, mimalloc, has each thread begin with huge pages, which the kernel has to clear:
    measured on 2 cores, 3M trades take 0.87 and books 0.9 of the time with glibc. Does nothing elsewhere than
    on Linux, or where somebody chose a pool: by the environment (`ARROW_DEFAULT_MEMORY_POOL`), or another
    than Arrow's by `pyarrow.set_memory_pool`.
    """
    global _users, _before  # noqa: PLW0603 (Arrow has one default for the process, and so have we)
    with _lock:
        if _users == 0 and _is_ours_to_choose():
            _before = pa.default_memory_pool()
            pa.set_memory_pool(pa.system_memory_pool())
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _before is not None:
                pa.set_memory_pool(_before)
                _before = None


def _is_ours_to_choose() -> bool:
    is_arrows = pa.default_memory_pool().backend_name == "mimalloc"
    return sys.platform == "linux" and _CHOSEN not in os.environ and is_arrows
