"""A web server of a folder that answers late, and counts: `python -m benchmarks.server FOLDER`.

It stands in for a bucket: HTTP/1.1 with kept connections, single ranges, ETags and If-Match. Each answer
begins a given time after its request. The folder has as many URLs as are asked for, each on its own port and
under its own name: nothing that a client keeps of one makes another quicker, be it of a file or of a server.

Each line on stdin is JSON and answered by a line of JSON: `"new"` by another URL; a number, which is the
latency in milliseconds from then on, by the counts since the last such line, once nothing is under way.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.parse import unquote

from benchmarks.child import answers
from benchmarks.harness import spawn

__all__ = ["Counts", "Server", "serving"]

_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_REASONS = {200: "OK", 206: "Partial Content", 404: "Not Found", 405: "Method Not Allowed"}
_REASONS |= {412: "Precondition Failed", 416: "Range Not Satisfiable"}


@dataclass(slots=True)
class Counts:
    """What came and went since the last look.

    Attributes:
        requests: Requests.
        bytes: Bytes of bodies.
        connections: New connections.
        trips: Round trips one after another: the longest row of requests each of which came when the one
            before it had been answered. Without latency, requests sent at once look like that too.
    """

    requests: int = 0
    bytes: int = 0
    connections: int = 0
    trips: int = 0


class Server:
    """The server's process, from outside."""

    def __init__(self, process: Popen[str]) -> None:
        self._process = process

    def new_url(self) -> str:
        """Return a URL of the folder that was never used before, on a port that was not either."""
        return str(self._ask("new"))

    def take(self, latency: int = 0) -> Counts:
        """Return the counts since the last call and set the latency (ms) of what follows."""
        return Counts(**self._ask(latency))

    def _ask(self, message: str | int) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the server was started without pipes")
        print(json.dumps(message), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder from a process of its own."""
    with spawn("benchmarks.server", str(folder)) as process:
        try:
            yield Server(process)
        finally:
            process.kill()


class _Service:
    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.latency = 0.0
        self._counts = Counts()
        self._lock = threading.Condition()
        self._under_way = 0

    def take(self) -> Counts:
        with self._lock:
            self._lock.wait_for(lambda: not self._under_way, timeout=1)
            found, self._counts = self._counts, Counts()
        return found

    def _came(self) -> int:
        """Count a request and return which trip it is a part of."""
        with self._lock:
            self._counts.requests += 1
            return self._counts.trips + 1

    def _answered(self, trip: int) -> None:
        with self._lock:
            self._counts.trips = max(self._counts.trips, trip)

    @contextmanager
    def _busy(self) -> Iterator[None]:
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()

    def listen(self) -> str:
        """Begin to serve another URL, and return it."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        return f"http://127.0.0.1:{port}/{port}"

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._counts.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        # A client that hangs up in the middle is its own affair.
        with connection, connection.makefile("rb") as requests, suppress(ConnectionError):
            while first := requests.readline():
                method, target, _ = first.decode("latin-1").split(" ", 2)
                headers = dict(_headers(requests))
                with self._busy():
                    self._answer(connection, method, target, headers)

    def _answer(self, connection: socket.socket, method: str, target: str, headers: dict[str, str]) -> None:
        began, trip = time.monotonic(), self._came()
        path = self.folder / unquote(target.partition("?")[0]).lstrip("/").partition("/")[2]
        status, lines, start, length = self._response(method, path, headers)
        size = 0 if method == "HEAD" else length
        head = [f"HTTP/1.1 {status} {_REASONS[status]}", *lines, f"Content-Length: {length}", "", ""]
        time.sleep(max(0.0, began + self.latency - time.monotonic()))
        self._answered(trip)
        connection.sendall("\r\n".join(head).encode())
        if size:
            self._send(connection, path, start, start + size)

    def _send(self, connection: socket.socket, path: Path, start: int, end: int) -> None:
        # Piece by piece, because some clients hang up when they have read enough.
        with path.open("rb") as file:
            while start < end:
                sent = os.sendfile(connection.fileno(), file.fileno(), start, min(_PIECE, end - start))
                start += sent
                with self._lock:
                    self._counts.bytes += sent

    def _response(self, method: str, path: Path, headers: dict[str, str]) -> tuple[int, list[str], int, int]:
        """Return status, header lines, and start and length of the part of the file that is the body."""
        if method not in ("GET", "HEAD"):
            return 405, [], 0, 0
        if not path.is_file():
            return 404, [], 0, 0
        facts = path.stat()
        etag = f'"{facts.st_ino:x}-{facts.st_size:x}-{facts.st_mtime_ns:x}"'
        if headers.get("if-match", etag) != etag:
            return 412, [], 0, 0
        modified = email.utils.formatdate(facts.st_mtime, usegmt=True)
        lines = [f"ETag: {etag}", f"Last-Modified: {modified}", "Accept-Ranges: bytes"]
        lines.append("Content-Type: application/octet-stream")
        wanted = _RANGE.fullmatch(headers.get("range", ""))
        if wanted is None or method == "HEAD":
            return 200, lines, 0, facts.st_size
        first, last = wanted.groups()
        start = int(first) if first else max(0, facts.st_size - int(last))
        end = min(facts.st_size, int(last) + 1) if first and last else facts.st_size
        if start >= end:
            return 416, [f"Content-Range: bytes */{facts.st_size}"], 0, 0
        lines.append(f"Content-Range: bytes {start}-{end - 1}/{facts.st_size}")
        return 206, lines, start, end - start


def _headers(lines: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if not line.strip():
            return
        name, _, value = line.decode("latin-1").partition(":")
        yield name.lower(), value.strip()


def main() -> None:
    """Serve until stdin ends."""
    out = answers()
    service = _Service(Path(sys.argv[1]))
    for line in sys.stdin:
        message = json.loads(line)
        if message == "new":
            print(json.dumps(service.listen()), file=out)
        else:
            service.latency = message / 1_000
            print(json.dumps(asdict(service.take())), file=out)
    os._exit(0)


if __name__ == "__main__":
    main()
