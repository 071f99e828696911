"""How much was asked of stores."""

from __future__ import annotations

import threading

__all__ = ["Transfer"]


class Transfer:
    """Counts what was asked of stores; shared by threads.

    Each request is counted when it is sent, also one that is sent again. (Those for tokens are the client's
    own and not counted.) Bytes are those of bodies that arrived whole.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0

    @property
    def requests(self) -> int:
        """Requests sent."""
        return self._requests

    @property
    def bytes(self) -> int:
        """Bytes of the bodies received."""
        return self._bytes

    def add(self, *, requests: int = 0, size: int = 0) -> None:
        """Count requests and bytes."""
        with self._lock:
            self._requests += requests
            self._bytes += size

    def __repr__(self) -> str:
        return f"Transfer(requests={self._requests}, bytes={self._bytes})"
