"""Servers that count and misbehave, and small lakes to put on them."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq

from ticklake.types import Window

PERP = "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN"
DAY = dt.date(2024, 8, 8)
DAY_START = Window.of_day(DAY).start
SECOND = 1_000_000_000


def tick_path(key: str = PERP, day: dt.date = DAY, data_type: str = "trades") -> str:
    """Return a path in the default layout, spelled out here and not by the code under test."""
    return f"raw_tick_data/by_date/day-{day}/data_type-{data_type}/{key}.parquet"


def trades(ts_init: list[int], *, ts_event: list[int] | None = None, first_id: int = 0) -> pa.Table:
    """Return trades in the nautilus dialect, with a column that no dialect needs between those it does."""
    rows = len(ts_init)
    ids = range(first_id, first_id + rows)
    return pa.table(
        {
            "instrument_key": pa.array([PERP] * rows),
            "price": pa.array([60_000 + n % 7 / 2 for n in ids], pa.float64()),
            "noise": pa.array([hashlib.sha256(str(n).encode()).hexdigest() for n in ids]),
            "size": pa.array([1 + n % 3 for n in ids], pa.float64()),
            "aggressor_side": pa.array([1 + n % 2 for n in ids], pa.int8()),
            "trade_id": pa.array([str(n) for n in ids]),
            "ts_event": pa.array(ts_event or ts_init, pa.int64()),
            "ts_init": pa.array(ts_init, pa.int64()),
        }
    )


def parquet(table: pa.Table, *, rows_per_group: int = 1_000, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=rows_per_group, **{"compression": "snappy", **options})
    return sink.getvalue()


@dataclass
class Request:
    """One request as a server saw it; `sent` are the bytes of the answer's body, `target` has the query."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0
    target: str = ""

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class Answer:
    """One answer of a server, to be meddled with.

    Attributes:
        status, headers, body: Of the answer; a Content-Length is added where there is none.
        stall_at: Sends only so many bytes (of head and body), then nothing more until the server ends.
        drip: Seconds between single bytes of the body.
        hang_up: Closes the connection after the body, or (with no status) without a word.
    """

    status: int | None
    headers: dict[str, str]
    body: bytes
    stall_at: int | None = None
    drip: float = 0.0
    hang_up: bool = False


@dataclass
class Requests:
    """What a server was asked, in order."""

    log: list[Request] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.log)

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.log if request.method != "HEAD")

    @property
    def ranges(self) -> list[str | None]:
        return [request.range for request in self.log]

    def clear(self) -> None:
        self.log.clear()


_RANGE = re.compile(r"bytes=(?:(?P<start>\d+)-(?P<end>\d*)|-(?P<suffix>\d+))")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *request: Any) -> None:
        """Say nothing of clients that were killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*request)


class RangeServer:
    """An HTTP server of bytes in memory that answers range and conditional requests, and can misbehave.

    Attributes:
        url: Its base URL.
        objects: Bytes by path without a leading slash. Assign to overwrite: the ETag follows the content.
        requests: What it was asked.
        before: Called with each request before it is answered, in the answering thread; may change `objects`.
        status: Answers this status instead, by path; an empty path stands for all.
        body: The body of such an answer.
        honours_if_match: Whether If-Match is looked at.
        has_etags: Whether answers carry an ETag.
        alter: Turns the body of a 206 into another one (short, shifted, ...); Content-Length follows it.
        content_range: Replaces the Content-Range of a 206.
        meddle: Called with each request and its answer; may change the answer in any way.
        honours_ranges: Whether Range is looked at; otherwise answers are 200 and whole.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests = Requests()
        self.before: Callable[[Request], object] = lambda _: None
        self.status: dict[str, int] = {}
        self.body = b"<Error><Code>Made</Code></Error>"
        self.honours_if_match = True
        self.honours_ranges = True
        self.has_etags = True
        self.alter: Callable[[bytes], bytes] = lambda body: body
        self.content_range: str | None = None
        self.meddle: Callable[[Request, Answer], object] = lambda *_: None
        self._lock = threading.Lock()
        self._ended = threading.Event()

        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                path = unquote(self.path.partition("?")[0]).lstrip("/")
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, path, headers, target=self.path)
                with server._lock:
                    server.requests.log.append(request)
                server.before(request)
                answer = Answer(*server._answer(request))
                server.meddle(request, answer)
                request.status, request.sent = answer.status or 0, len(answer.body)
                self.close_connection |= answer.hang_up
                with contextlib.suppress(ConnectionError):
                    self._send(answer)

            def _send(self, answer: Answer) -> None:
                if answer.status is None:
                    self.wfile.write(answer.body)
                    return
                body = b"" if self.command == "HEAD" else answer.body
                headers = {"Content-Length": str(len(answer.body)), **answer.headers}
                lines = [f"HTTP/1.1 {answer.status} Made", *(f"{k}: {v}" for k, v in headers.items())]
                head = "\r\n".join([*lines, "", ""]).encode()
                if answer.stall_at is not None:
                    self.wfile.write((head + body)[: answer.stall_at])
                    server._ended.wait(10)
                elif answer.drip:
                    self.wfile.write(head)
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        if server._ended.wait(answer.drip):
                            break
                else:
                    self.wfile.write(head + body)

            do_HEAD = do_PUT = do_PROPFIND = do_GET  # noqa: N815 (http.server finds them by name)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        forced = self.status.get(request.path, self.status.get(""))
        if forced is not None:
            return forced, {}, self.body
        if request.method not in ("GET", "HEAD"):
            return 405, {}, b""
        content = self.objects.get(request.path)
        if content is None:
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {"Last-Modified": format_datetime(dt.datetime(2024, 8, 9, tzinfo=dt.UTC), usegmt=True)}
        if self.has_etags:
            headers["ETag"] = etag
        wanted = request.headers.get("if-match")
        if self.honours_if_match and wanted is not None and wanted != etag:
            return 412, {}, b""
        match = _RANGE.fullmatch(request.range or "") if self.honours_ranges else None
        if match is None:
            return 200, headers, content
        if match["suffix"]:
            start, end = max(0, len(content) - int(match["suffix"])), len(content)
        else:
            start, end = int(match["start"]), min(len(content), int(match["end"] or len(content)) + 1)
        if start >= len(content):
            return 416, {}, b""
        headers["Content-Range"] = self.content_range or f"bytes {start}-{end - 1}/{len(content)}"
        return 206, headers, self.alter(content[start:end])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class MotoServer:
    """moto's S3 on a free loopback port, counting; serves `gs://` with an endpoint as well (GCS's XML API).

    Attributes:
        url: Its base URL.
        requests: What it was asked.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                pass

        self.requests = Requests()
        self._lock = threading.Lock()
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._count, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _count(self, environ: dict[str, object], start_response: Callable[..., object]) -> Iterator[bytes]:
        headers = {
            k[5:].lower().replace("_", "-"): str(v) for k, v in environ.items() if k.startswith("HTTP_")
        }
        request = Request(str(environ["REQUEST_METHOD"]), str(environ["PATH_INFO"]), headers)
        # GCS takes a bucket's name percent-encoded, as obstore sends it; moto looks for it letter by letter.
        raw, mark, query = str(environ["RAW_URI"]).partition("?")
        environ["RAW_URI"] = quote(unquote(raw)) + mark + query
        with self._lock:
            self.requests.log.append(request)

        def start(status: str, *rest: object) -> object:
            request.status = int(status.split(maxsplit=1)[0])
            return start_response(status, *rest)

        for chunk in self._app(environ, start):
            request.sent += len(chunk)
            yield chunk

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
