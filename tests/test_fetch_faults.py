"""Sources that lie, fail or stall while they are fetched: nothing is published, one clear error comes out."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fetch_support import DEFINITION, files_of, rows_of
from lake_support import (
    DAY,
    DAY_START,
    PERP,
    SECOND,
    Answer,
    RangeServer,
    Request,
    parquet,
    tick_path,
    trades,
)
from ticklake.catalog import Catalog
from ticklake.config import StorageConfig
from ticklake.errors import (
    CorruptObjectError,
    LakeError,
    MissingDataError,
    ObjectChangedError,
    SourceSchemaError,
    TransientLakeError,
)
from ticklake.fetching import FetchRequest, fetch
from ticklake.lake import ByteRange, Lake
from ticklake.types import Window

START = DAY_START + 3_600 * SECOND
TABLE = trades([START + n * SECOND // 10 for n in range(6_000)])
# Noise between the columns keeps the ranges of row groups apart. Plain: without a checksum a flipped bit is
# just another price.
OPTIONS = {
    "rows_per_group": 1_000,
    "compression": "none",
    "use_dictionary": False,
    "write_page_checksum": True,
}
CONTENT = parquet(TABLE, **OPTIONS)
# All prices are 1. Bytes stand where they stand in the first one, give or take a few.
OTHER = parquet(TABLE.set_column(1, "price", [[1.0] * 6_000]), **OPTIONS)
WINDOW = Window(START, START + 600 * SECOND)
REQUEST = FetchRequest(PERP, "trades", WINDOW, definition=DEFINITION)
PATHS = {"http": tick_path(), "gs": f"bucket/{tick_path()}"}
POSITIONS = ["footer", "first", "middle", "last"]
# One retry, at once: a fault that stays is met twice.
STORAGE = {"max_retries": 1, "retry_wait": "0ms", "timeout": "5s"}


@pytest.fixture(scope="module")
def shared() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server


@pytest.fixture
def server(shared: RangeServer) -> RangeServer:
    """A server with one file, that behaves."""
    shared.objects = dict.fromkeys(PATHS.values(), CONTENT)
    shared.meddle = lambda *_: None
    shared.before = lambda _: None
    shared.honours_if_match = shared.has_etags = True
    shared.requests.clear()
    return shared


def lake(server: RangeServer, kind: str = "http", **options: object) -> Lake:
    if kind == "http":
        return Lake(server.url, storage=StorageConfig.model_validate({**STORAGE, **options}))
    cloud = {"endpoint": server.url, "anonymous": True}
    return Lake("gs://bucket", storage=StorageConfig.model_validate({**STORAGE, **cloud, **options}))


def ranges() -> list[ByteRange]:
    """Return what a fetch asks for after the footer, as the reading of a file in memory plans it."""
    with RangeServer() as server:
        server.objects[PATHS["http"]] = CONTENT
        found = list(lake(server).scan(PERP, "trades", WINDOW).plan().objects[0].ranges)
    assert len(found) >= 5
    return found


RANGES = ranges()
AT = {
    name: f"bytes={wanted.start}-{wanted.end - 1}"
    for name, wanted in zip(POSITIONS[1:], [RANGES[0], RANGES[len(RANGES) // 2], RANGES[-1]], strict=True)
}


def is_at(request: Request, position: str) -> bool:
    """Whether a request is the one at a position; footers are asked for by as much as they took before."""
    asked = request.range or ""
    return asked.startswith("bytes=-") if position == "footer" else asked == AT[position]


def place(answer: Answer) -> tuple[int, int]:
    """Return the first and last byte that an answer says it has."""
    first, _, last = answer.headers["Content-Range"].removeprefix("bytes ").partition("/")[0].partition("-")
    return int(first), int(last)


def move(answer: Answer, first: int, last: int, size: int = len(CONTENT)) -> None:
    answer.headers["Content-Range"] = f"bytes {first}-{last}/{size}"


def truncated(answer: Answer, left: float) -> None:
    answer.headers["Content-Length"] = str(len(answer.body))
    answer.body = answer.body[: int(len(answer.body) * left)]
    answer.hang_up = True


def short(answer: Answer, cut_front: int, cut_back: int) -> None:
    first, last = place(answer)
    move(answer, first + cut_front, last - cut_back)
    answer.body = answer.body[cut_front : len(answer.body) - cut_back]


def shifted(answer: Answer, by: int, *, honest: bool) -> None:
    first, last = place(answer)
    answer.body = CONTENT[first + by : last + 1 + by]
    if honest:
        move(answer, first + by, last + by)


def replaced(answer: Answer, **changes: object) -> None:
    for name, value in changes.items():
        setattr(answer, name, value)


def status(answer: Answer, code: int, **headers: str) -> None:
    answer.status, answer.headers = code, headers
    answer.body = b"<Error><Code>Made</Code></Error>"


FAULTS: dict[str, Callable[[Answer], object]] = {
    "truncated to nothing": lambda a: truncated(a, 0),
    "truncated by half": lambda a: truncated(a, 0.5),
    "truncated at the end": lambda a: truncated(a, 0.999),
    "short": lambda a: short(a, 0, 1),
    "short at the front": lambda a: short(a, 1, 0),
    "half": lambda a: short(a, 0, len(a.body) // 2),
    "short of what it says": lambda a: replaced(a, body=a.body[:-1]),
    "longer than it says": lambda a: replaced(a, body=a.body + b"x"),
    "empty": lambda a: replaced(a, body=b""),
    "shifted back": lambda a: shifted(a, -8, honest=True),
    "shifted back and silent": lambda a: shifted(a, -8, honest=False),
    "shifted far and silent": lambda a: shifted(a, -3_000, honest=False),
    "another place": lambda a: move(a, 4, 3 + len(a.body)),
    "no place": lambda a: a.headers.pop("Content-Range"),
    "a place that is none": lambda a: a.headers.update({"Content-Range": "bytes */*"}),
    "of an unknown size": lambda a: a.headers.update(
        {"Content-Range": a.headers["Content-Range"].rpartition("/")[0] + "/*"}
    ),
    "of a longer object": lambda a: move(a, *place(a), size=len(CONTENT) + 1),
    "of a shorter object": lambda a: move(a, *place(a), size=len(CONTENT) - 1),
    "whole": lambda a: replaced(a, status=200, body=CONTENT, headers={**a.headers, "Content-Range": ""}),
    "whole, plainly": lambda a: (
        replaced(a, status=200, body=CONTENT),
        a.headers.pop("Content-Range"),
    ),
    "200 for a part": lambda a: (replaced(a, status=200), a.headers.pop("Content-Range")),
    "200 with a place": lambda a: replaced(a, status=200),
    "no ETag": lambda a: a.headers.pop("ETag"),
    "another ETag": lambda a: a.headers.update({"ETag": '"other"'}),
    "a weak ETag": lambda a: a.headers.update({"ETag": "W/" + a.headers["ETag"]}),
    "zeros": lambda a: replaced(a, body=bytes(len(a.body))),
    "ones": lambda a: replaced(a, body=b"\xff" * len(a.body)),
    "a login page": lambda a: replaced(a, status=200, body=b"<html>log in</html>", headers={}),
    "no content": lambda a: replaced(a, status=204, body=b"", headers={}),
    "a redirect to itself": lambda a: status(a, 302, Location="/" + PATHS["http"]),
    "a redirect to nowhere": lambda a: status(a, 307),
    "not modified": lambda a: status(a, 304),
    "hung up": lambda a: replaced(a, status=None, body=b"", hang_up=True),
    "not HTTP": lambda a: replaced(a, status=None, body=b"220 smtp ready\r\n\r\n", hang_up=True),
    **{str(code): lambda a, code=code: status(a, code) for code in (400, 401, 403, 404, 408, 412, 416)},
    **{str(code): lambda a, code=code: status(a, code) for code in (429, 500, 502, 503, 504)},
}


def meddle_at(position: str, fault: Callable[[Answer], object]) -> Callable[[Request, Answer], None]:
    def meddle(request: Request, answer: Answer) -> None:
        if is_at(request, position) and answer.status == 206:
            fault(answer)

    return meddle


@pytest.mark.parametrize(
    ("kind", "position"),
    [*(("http", position) for position in POSITIONS), ("gs", "footer"), ("gs", "middle")],
)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_answer_publishes_nothing(
    server: RangeServer, tmp_path: Path, fault: str, position: str, kind: str
) -> None:
    server.meddle = meddle_at(position, FAULTS[fault])
    began = time.monotonic()
    with pytest.raises(LakeError) as caught:
        fetch(lake(server, kind), Catalog(tmp_path), [REQUEST])
    assert time.monotonic() - began < 5
    assert files_of(tmp_path) == {}
    assert caught.value.url or "no file for" in str(caught.value)
    assert len(str(caught.value)) > 20


def test_the_same_server_without_faults(server: RangeServer, tmp_path: Path) -> None:
    for kind in PATHS:
        fetch(lake(server, kind), Catalog(tmp_path / kind), [REQUEST])
        assert rows_of(tmp_path / kind) == TABLE["trade_id"].to_pylist()
        assert {request.range for request in server.requests.log} >= set(AT.values())


# Flipped bits

METADATA = pq.read_metadata(io.BytesIO(CONTENT))
FOOTER = len(CONTENT) - 8 - int.from_bytes(CONTENT[-8:-4], "little")


def flip(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("column", ["price", "size", "trade_id", "ts_event", "ts_init"])
@pytest.mark.parametrize("row_group", [0, 3, 5])
def test_a_flipped_bit_of_a_page_with_a_checksum_publishes_nothing(
    server: RangeServer, tmp_path: Path, row_group: int, column: str, bit: int
) -> None:
    chunk = METADATA.row_group(row_group).column(TABLE.column_names.index(column))
    at = chunk.data_page_offset + chunk.total_compressed_size // 2
    server.objects[PATHS["http"]] = flip(CONTENT, at, bit)
    with pytest.raises(CorruptObjectError, match=f"row group {row_group} cannot be decoded"):
        fetch(lake(server), Catalog(tmp_path), [REQUEST])
    assert files_of(tmp_path) == {}


@pytest.mark.parametrize("at", range(FOOTER, FOOTER + 40))
def test_a_flipped_bit_of_the_footer_is_an_error_or_harmless(
    server: RangeServer, tmp_path: Path, at: int
) -> None:
    # The schema's end of the footer. The whole of it has statistics too, in which a flip can be silent.
    server.objects[PATHS["http"]] = flip(CONTENT, at, at % 8)
    with contextlib.suppress(LakeError, SourceSchemaError):
        fetch(lake(server), Catalog(tmp_path), [REQUEST])
    if files_of(tmp_path):
        assert rows_of(tmp_path) == TABLE["trade_id"].to_pylist()


@pytest.mark.parametrize("name", [b"price", b"ts_init"])
def test_a_column_name_that_is_no_text_publishes_nothing(
    server: RangeServer, tmp_path: Path, name: bytes
) -> None:
    server.objects[PATHS["http"]] = flip(CONTENT, CONTENT.index(name, FOOTER) + 1, 7)
    with pytest.raises(CorruptObjectError, match="footer is damaged"):
        fetch(lake(server), Catalog(tmp_path), [REQUEST])
    assert files_of(tmp_path) == {}


@pytest.mark.parametrize("row_group", [0, 3, 5])
@pytest.mark.parametrize("edge", ["min", "max"])
def test_times_that_the_footer_rules_out_publish_nothing(
    server: RangeServer, tmp_path: Path, row_group: int, edge: str
) -> None:
    statistics = METADATA.row_group(row_group).column(TABLE.column_names.index("ts_init")).statistics
    value = getattr(statistics, f"{edge}_raw").to_bytes(8, "little")
    # One second into the row group.
    moved = int.from_bytes(value, "little") + (SECOND if edge == "min" else -SECOND)
    footer = CONTENT[FOOTER:].replace(value, moved.to_bytes(8, "little"))
    assert footer != CONTENT[FOOTER:]
    server.objects[PATHS["http"]] = CONTENT[:FOOTER] + footer
    with pytest.raises(CorruptObjectError, match=f"row group {row_group} has rows from .* the footer says"):
        fetch(lake(server), Catalog(tmp_path), [REQUEST])
    assert files_of(tmp_path) == {}


# Overwriters


@pytest.mark.parametrize("honours_if_match", [True, False])
@pytest.mark.parametrize("position", POSITIONS[1:])
def test_what_was_overwritten_once_is_read_again(
    server: RangeServer, tmp_path: Path, position: str, honours_if_match: bool
) -> None:
    server.honours_if_match = honours_if_match

    def overwrite(request: Request) -> None:
        if is_at(request, position):
            server.objects[PATHS["http"]] = OTHER

    server.before = overwrite
    report = fetch(lake(server), Catalog(tmp_path), [REQUEST])
    assert rows_of(tmp_path) == TABLE["trade_id"].to_pylist()
    (file,) = files_of(tmp_path)
    assert set(pq.read_table(tmp_path / file, partitioning=None)["price"].to_pylist()) == {1}
    assert (report.rows, report.source_rows, report.source_rows_written) == (6_000, 6_000, 6_000)
    assert any("was overwritten while it was being read" in warning for warning in report.warnings)


@pytest.mark.parametrize("honours_if_match", [True, False])
def test_an_object_that_is_always_overwritten_publishes_nothing(
    server: RangeServer, tmp_path: Path, honours_if_match: bool
) -> None:
    server.honours_if_match = honours_if_match

    def overwrite(request: Request) -> None:
        start = (request.range or "").removeprefix("bytes=").partition("-")[0]
        if start and int(start) > RANGES[-2].start:
            begun = sum(is_at(one, "footer") for one in server.requests.log)
            server.objects[PATHS["http"]] = OTHER if begun % 2 else CONTENT

    server.before = overwrite
    with pytest.raises(ObjectChangedError, match="begun 4 times"):
        fetch(lake(server), Catalog(tmp_path), [REQUEST])
    assert files_of(tmp_path) == {}
    assert sum(is_at(one, "footer") for one in server.requests.log) == 4


def test_an_object_that_is_deleted_publishes_nothing(server: RangeServer, tmp_path: Path) -> None:
    def delete(request: Request) -> None:
        if is_at(request, "middle"):
            server.objects.clear()

    server.before = delete
    with pytest.raises(MissingDataError):
        fetch(lake(server), Catalog(tmp_path), [REQUEST])
    assert files_of(tmp_path) == {}


def test_no_day_mixes_versions_and_days_before_are_not_read_again(
    server: RangeServer, tmp_path: Path
) -> None:
    """The last of three days is overwritten; the one before has a row that is filed under it."""
    days = [DAY + dt.timedelta(n) for n in range(3)]
    first, second, third = (tick_path(day=day) for day in days)
    midnights = [Window.of_day(day).start for day in days]

    def file(day: int, price: float) -> bytes:
        times = [midnights[day] + n * 14 * SECOND for n in range(6_000)]
        inits = [midnights[2] - SECOND, *times[1:]] if day == 2 else times
        table = trades(inits, ts_event=times, first_id=10_000 * day)
        return parquet(table.set_column(1, "price", [[price] * 6_000]), **OPTIONS)

    server.objects = {path: file(day, 60_000.0) for day, path in enumerate([first, second, third])}
    data_requests: Counter[str] = Counter()

    def overwrite(request: Request) -> None:
        if request.range and not request.range.startswith("bytes=-"):
            data_requests[request.path] += 1
        # Late: the day before is in the catalog by then.
        if data_requests[third] == 5:
            server.objects[third] = file(2, 1.0)

    server.before = overwrite
    window = Window(midnights[0], midnights[2] + 86_400 * SECOND)
    asked = FetchRequest(PERP, "trades", window, definition=DEFINITION)
    report = fetch(lake(server, max_concurrency=1), Catalog(tmp_path), [asked])
    tables = [pq.read_table(tmp_path / file, partitioning=None) for file in files_of(tmp_path)]
    prices = [[float(price) for price in table["price"].to_pylist()] for table in tables]
    assert prices == [[60_000.0] * 6_000, [60_000.0] * 6_000 + [1.0], [1.0] * 5_999]
    assert report.rows == report.source_rows_written == 18_000
    assert report.source_rows == report.source_rows_written + report.outside
    assert [(found.window.days[0], found.rows) for found in report.windows] == [
        *zip(days, [6_000, 6_001, 5_999], strict=True)
    ]
    once = len(lake(server).scan(PERP, "trades", Window.of_day(DAY)).plan().objects[0].ranges)
    assert data_requests[first] == once < data_requests[second] == 2 * once


# Deadlines


def stall_before_headers(answer: Answer) -> None:
    answer.stall_at = 0


def stall_in_the_body(answer: Answer) -> None:
    answer.stall_at = 1_000


def drip(answer: Answer) -> None:
    answer.drip = 0.05


@pytest.mark.parametrize("slowness", [stall_before_headers, stall_in_the_body, drip])
@pytest.mark.parametrize("position", POSITIONS)
def test_waiting_is_bounded(
    server: RangeServer, tmp_path: Path, slowness: Callable[[Answer], None], position: str
) -> None:
    server.meddle = meddle_at(position, slowness)
    began = time.monotonic()
    with pytest.raises(TransientLakeError, match=r"no whole answer within 0\.15 s .* after 2 requests"):
        fetch(lake(server, timeout="150ms", retry_timeout="1s"), Catalog(tmp_path), [REQUEST])
    # The server alone would take for ever, or its drip for minutes; a busy machine takes its time as well.
    assert time.monotonic() - began < 5
    assert files_of(tmp_path) == {}


def test_no_retry_begins_after_the_retry_timeout(server: RangeServer, tmp_path: Path) -> None:
    server.meddle = meddle_at("footer", stall_before_headers)
    began = time.monotonic()
    slow = lake(server, timeout="200ms", retry_timeout="500ms", max_retries=100)
    with pytest.raises(TransientLakeError, match=r"after [23] requests"):
        fetch(slow, Catalog(tmp_path), [REQUEST])
    # A hundred retries would take 20 s; a busy machine may send the third one too late.
    assert time.monotonic() - began < 5


def test_a_host_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # The queue is full: what comes now is dropped without an answer.
        for _ in range(4):
            queued = sockets.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        options = {**STORAGE, "connect_timeout": "200ms", "retry_timeout": "1s"}
        began = time.monotonic()
        with pytest.raises(TransientLakeError, match="after 2 requests"):
            fetch(Lake(url, storage=StorageConfig.model_validate(options)), Catalog(tmp_path), [REQUEST])
        assert 0.4 <= time.monotonic() - began < 5


def test_a_host_without_an_address_is_given_up(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TransientLakeError):
        fetch(
            Lake(
                "https://nowhere.invalid/x",
                storage=StorageConfig.model_validate({**STORAGE, "timeout": "1s"}),
            ),
            Catalog(tmp_path),
            [REQUEST],
        )
    assert time.monotonic() - began < 4
    assert files_of(tmp_path) == {}
