"""Footers and row groups over HTTP: what is asked, what is refused, and how reading ahead ends."""

from __future__ import annotations

import datetime as dt
import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake_support import DAY, DAY_START, PERP, SECOND, RangeServer, Request, parquet, tick_path, trades
from ticklake.config import StorageConfig
from ticklake.errors import (
    CorruptObjectError,
    LakeError,
    ObjectChangedError,
    SourceSchemaError,
    TransientLakeError,
)
from ticklake.lake import ByteRange, Lake
from ticklake.lake.decoding import SparseFile
from ticklake.lake.footers import FOOTER_GUESS
from ticklake.lake.objects import ObjectVersion
from ticklake.lake.store import Fetched
from ticklake.types import Window

PATH = tick_path()
# Twenty row groups of 100 seconds, far enough from both midnights; noise keeps their columns apart.
START = DAY_START + 3_600 * SECOND
TABLE = trades([START + n * SECOND // 20 for n in range(40_000)])
NOISY = parquet(TABLE, rows_per_group=2_000)
EVERYTHING = Window(START, START + 2_000 * SECOND)
FAST = StorageConfig(max_retries=0)


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        server.objects[PATH] = NOISY
        yield server


def lake(server: RangeServer, storage: StorageConfig = FAST) -> Lake:
    return Lake(server.url, storage=storage)


def seconds(start: int, end: int) -> Window:
    return Window(START + start * SECOND, START + end * SECOND)


def byte_range(request: Request) -> ByteRange:
    start, _, end = (request.range or "").removeprefix("bytes=").partition("-")
    return ByteRange(int(start), int(end) + 1)


class TestRequests:
    def test_a_window_is_one_footer_request_and_the_planned_ranges(self, server: RangeServer) -> None:
        source = lake(server)
        scan = source.scan(PERP, "trades", seconds(150, 450))
        plan = scan.plan()
        assert [(r.method, r.path, r.range) for r in server.requests.log] == [
            ("GET", PATH, f"bytes=-{FOOTER_GUESS}")
        ]
        assert [group.index for group in plan.objects[0].row_groups] == [1, 2, 3, 4]
        server.requests.clear()
        assert sum(batch.table.num_rows for batch in scan.batches()) == plan.rows == 8_000
        assert sorted(byte_range(r) for r in server.requests.log) == list(plan.objects[0].ranges)
        assert len(server.requests) == plan.requests
        assert server.requests.sent == plan.bytes < len(NOISY) / 5
        assert plan.object_bytes == len(NOISY)
        assert plan.share == plan.bytes / len(NOISY)
        assert {r.headers["if-match"] for r in server.requests.log} == {plan.objects[0].source.etag}
        assert source.transfer.requests == 1 + plan.requests
        assert source.transfer.bytes == FOOTER_GUESS + plan.bytes

    def test_a_second_window_needs_no_footer(self, server: RangeServer) -> None:
        source = lake(server)
        source.scan(PERP, "trades", seconds(150, 250)).to_table()
        server.requests.clear()
        plan = source.scan(PERP, "trades", seconds(1_000, 1_100)).plan()
        assert len(server.requests) == 0
        assert source.scan(PERP, "trades", seconds(1_000, 1_100)).to_table().num_rows == 2_000
        assert server.requests.sent == plan.bytes

    def test_a_small_file_is_one_request(self, server: RangeServer) -> None:
        server.objects[PATH] = parquet(TABLE.slice(0, 300), rows_per_group=100)
        assert len(server.objects[PATH]) < FOOTER_GUESS
        assert lake(server).scan(PERP, "trades", EVERYTHING).to_table().num_rows == 300
        assert len(server.requests) == 1

    def test_a_long_footer_is_two_requests(self, server: RangeServer) -> None:
        data = server.objects[PATH] = parquet(TABLE, rows_per_group=60)
        footer = int.from_bytes(data[-8:-4], "little")
        assert footer > FOOTER_GUESS
        source = lake(server)
        window = seconds(30, 35)
        plan = source.scan(PERP, "trades", window).plan()
        assert server.requests.ranges == [
            f"bytes=-{FOOTER_GUESS}",
            f"bytes={len(data) - 8 - footer}-{len(data) - FOOTER_GUESS - 1}",
        ]
        assert server.requests.log[1].headers["if-match"] == plan.objects[0].source.etag
        assert source.scan(PERP, "trades", window).to_table().num_rows == 100

    def test_an_overwritten_object_between_the_parts_of_a_footer_is_noticed(
        self, server: RangeServer
    ) -> None:
        server.objects[PATH] = parquet(TABLE, rows_per_group=60)

        versions = [parquet(TABLE, rows_per_group=rows) for rows in (60, 59)]

        def overwrite(request: Request) -> None:
            if "if-match" in request.headers and versions:
                server.objects[PATH] = versions[len(server.requests) // 2 % len(versions)]

        server.before = overwrite
        with pytest.raises(ObjectChangedError):
            lake(server).scan(PERP, "trades", EVERYTHING).plan()
        assert len(server.requests) == 8, "begun four times"
        versions.pop()
        assert lake(server).scan(PERP, "trades", EVERYTHING).plan().row_groups == -(-40_000 // 60)


class TestKeptFooters:
    @pytest.fixture(params=["etags", "no etags"])
    def grown(self, server: RangeServer, request: pytest.FixtureRequest) -> bytes:
        """Serve the first half of a file; return the whole of it."""
        server.has_etags = request.param == "etags"
        server.objects[PATH] = parquet(TABLE.slice(0, 20_000), rows_per_group=2_000)
        return NOISY

    @pytest.mark.parametrize("small", [False, True])
    def test_a_window_without_data_to_ask_for_asks_whether_the_file_changed(
        self, server: RangeServer, small: bool
    ) -> None:
        # All of a small file comes with its footer; of a large one, nothing is needed for a later window.
        if small:
            server.objects[PATH] = parquet(TABLE.slice(0, 300), rows_per_group=100)
        source = lake(server)
        assert source.scan(PERP, "trades", seconds(0, 15)).to_table().num_rows == 300
        server.requests.clear()
        window = seconds(0, 15) if small else seconds(3_000, 4_000)
        assert source.scan(PERP, "trades", window).to_table().num_rows == (300 if small else 0)
        assert [(r.method, r.status, r.path) for r in server.requests.log] == [("HEAD", 200, PATH)]

    def test_rows_that_came_later_are_seen(self, server: RangeServer, grown: bytes) -> None:
        source = lake(server)
        later = seconds(1_000, 1_100)
        assert source.scan(PERP, "trades", seconds(0, 100)).to_table().num_rows == 2_000
        assert source.scan(PERP, "trades", later).to_table().num_rows == 0
        server.objects[PATH] = grown
        server.requests.clear()
        plan = source.scan(PERP, "trades", later).plan()
        assert [r.method for r in server.requests.log] == ["HEAD", "GET"]
        assert plan.rows == 2_000
        assert source.scan(PERP, "trades", later).to_table().num_rows == 2_000

    def test_a_file_that_went_is_a_hole(self, server: RangeServer) -> None:
        source = lake(server)
        source.scan(PERP, "trades", seconds(0, 100)).plan()
        del server.objects[PATH]
        assert source.scan(PERP, "trades", seconds(3_000, 4_000)).plan().absent_days == (DAY,)
        server.objects[PATH] = NOISY
        assert source.scan(PERP, "trades", seconds(3_000, 4_000)).plan().absent_days == ()

    def test_a_file_that_was_mended_is_read(self, server: RangeServer) -> None:
        source = lake(server)
        good = parquet(TABLE, rows_per_group=2_000)
        server.objects[PATH] = parquet(TABLE.rename_columns([f"my_{name}" for name in TABLE.column_names]))
        for _ in range(2):
            with pytest.raises(SourceSchemaError, match="no known dialect"):
                source.scan(PERP, "trades", EVERYTHING).plan()
        server.objects[PATH] = good
        assert source.scan(PERP, "trades", EVERYTHING).to_table().num_rows == 40_000

    def test_forgetting_reads_the_footer_anew(self, server: RangeServer, grown: bytes) -> None:
        source = lake(server)
        window = seconds(900, 1_100)
        assert source.scan(PERP, "trades", window).plan().rows == 2_000
        server.objects[PATH] = grown
        source.forget()
        assert source.scan(PERP, "trades", window).to_table().num_rows == 4_000


class TestVersions:
    @pytest.mark.parametrize("honours_if_match", [True, False])
    def test_an_object_overwritten_after_its_footer_is_refused_then_read_anew(
        self, server: RangeServer, honours_if_match: bool
    ) -> None:
        server.honours_if_match = honours_if_match
        scan = lake(server).scan(PERP, "trades", seconds(150, 450))
        scan.plan()
        server.objects[PATH] = parquet(trades([START + 200 * SECOND]))
        with pytest.raises(ObjectChangedError) as caught:
            list(scan.batches())
        assert caught.value.url == f"{server.url}/{PATH}"
        assert scan.to_table().num_rows == 1

    def test_an_object_overwritten_between_two_ranges_is_refused(self, server: RangeServer) -> None:
        scan = lake(server, FAST.model_copy(update={"max_concurrency": 1})).scan(PERP, "trades", EVERYTHING)
        scan.plan()
        server.requests.clear()

        def overwrite(_: Request) -> None:
            if len(server.requests) == 7:
                server.objects[PATH] = parquet(TABLE.slice(1), rows_per_group=2_000)

        server.before = overwrite
        with pytest.raises(ObjectChangedError):
            list(scan.batches())
        assert len(server.requests) >= 7

    def test_an_object_deleted_after_its_footer_is_an_error_not_a_hole(self, server: RangeServer) -> None:
        scan = lake(server).scan(PERP, "trades", EVERYTHING)
        scan.plan()
        del server.objects[PATH]
        with pytest.raises(ObjectChangedError, match="deleted"):
            list(scan.batches())
        assert scan.plan().absent_days == (DAY,)


def encrypted(data: bytes) -> bytes:
    return data[:-4] + b"PARE"


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda _: b"<html>" * 30_000,
    "short text": lambda _: b"hello",
    "magic alone": lambda _: b"PAR1PAR1",
    "no start": lambda data: b"XXXX" + parquet(TABLE.slice(0, 10))[4:],
    "cut": lambda data: data[:-1],
    "cut by half": lambda data: data[: len(data) // 2],
    "footer longer than the file": lambda data: data[:-8] + (1 << 30).to_bytes(4, "little") + b"PAR1",
    "footer of zeros": lambda data: (
        data[: -8 - int.from_bytes(data[-8:-4], "little")]
        + bytes(int.from_bytes(data[-8:-4], "little"))
        + data[-8:]
    ),
    "footer length off by one": lambda data: (
        data[:-8] + (int.from_bytes(data[-8:-4], "little") - 1).to_bytes(4, "little") + b"PAR1"
    ),
    "head cut off": lambda data: data[len(data) // 2 :],
    "encrypted": encrypted,
    "empty": lambda _: b"",
}


class TestDamage:
    @pytest.mark.parametrize("kind", BROKEN)
    def test_what_is_no_whole_parquet_file_is_refused(self, server: RangeServer, kind: str) -> None:
        server.objects[PATH] = BROKEN[kind](NOISY)
        with pytest.raises(CorruptObjectError) as caught:
            list(lake(server).scan(PERP, "trades", EVERYTHING).batches())
        assert caught.value.url == f"{server.url}/{PATH}"
        assert isinstance(caught.value, LakeError)
        assert len(server.requests) <= 2

    def test_an_empty_file_on_disk_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / PATH).parent.mkdir(parents=True)
        (tmp_path / PATH).touch()
        with pytest.raises(CorruptObjectError, match="0 bytes"):
            Lake(tmp_path).scan(PERP, "trades", EVERYTHING).plan()

    def test_flipped_bits_are_found_by_page_checksums(self, server: RangeServer) -> None:
        # Plain doubles: without checksums a flipped bit is just another price.
        plain = {"compression": "none", "use_dictionary": False}
        data = parquet(TABLE, rows_per_group=20_000, write_page_checksum=True, **plain)
        price = pq.read_metadata(io.BytesIO(data)).row_group(0).column(1)
        position = price.data_page_offset + price.total_compressed_size // 2
        server.objects[PATH] = data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :]
        with pytest.raises(CorruptObjectError, match="row group 0 cannot be decoded"):
            list(lake(server).scan(PERP, "trades", EVERYTHING).batches())

    def test_a_footer_that_promises_more_rows_is_refused(self, server: RangeServer) -> None:
        data = parquet(TABLE.slice(0, 100))
        # The last 100 in the footer, as Thrift writes it, is the number of rows of the row group.
        head, hundred, rest = data.rpartition(b"\x16\xc8\x01")
        server.objects[PATH] = head + hundred.replace(b"\xc8", b"\xca") + rest
        assert pq.read_metadata(io.BytesIO(server.objects[PATH])).row_group(0).num_rows == 101
        with pytest.raises(CorruptObjectError, match="100 rows, but 101 in its row groups"):
            list(lake(server).scan(PERP, "trades", EVERYTHING).batches())

    @pytest.mark.parametrize("alter", [lambda b: b[:-1], lambda b: bytes(len(b))], ids=["short", "zeros"])
    def test_other_bytes_than_asked_for_are_refused(
        self, server: RangeServer, alter: Callable[[bytes], bytes]
    ) -> None:
        scan = lake(server).scan(PERP, "trades", EVERYTHING)
        scan.plan()
        server.alter = alter
        with pytest.raises((CorruptObjectError, TransientLakeError)):
            list(scan.batches())

    @pytest.mark.parametrize("failing", range(4))
    def test_an_error_comes_out_and_ends_everything(self, server: RangeServer, failing: int) -> None:
        scan = lake(server).scan(PERP, "trades", EVERYTHING)
        plan = scan.plan()
        chosen = plan.objects[0].ranges[failing * (plan.requests - 1) // 3]

        def fail(request: Request) -> None:
            if byte_range(request) == chosen:
                server.status[PATH] = 500

        server.before = fail
        with pytest.raises(TransientLakeError):
            list(scan.batches())
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("ticklake-decode")]


class TestSparseFile:
    def test_reading_what_was_not_fetched_is_an_error(self) -> None:
        content = bytes(range(100))
        version = ObjectVersion("x", None, 100, dt.datetime.now(dt.UTC))
        pieces = [
            Fetched(memoryview(content)[start:end], ByteRange(start, end), version)
            for start, end in [(60, 100), (10, 20), (20, 30)]
        ]
        file = SparseFile(100, pieces)

        def read(start: int, size: int) -> bytes:
            file.seek(start)
            return bytes(file.read(size))

        assert read(12, 5) == content[12:17]
        assert read(12, 18) == content[12:30]
        assert read(60, -1) == content[60:]
        assert file.tell() == 100
        assert (file.seek(-4, io.SEEK_END), bytes(file.read())) == (96, content[96:])
        assert read(95, 50) == content[95:], "a file ends where it ends"
        for start, size in [(0, 1), (9, 2), (25, 10), (30, 1), (29, 40), (0, -1)]:
            with pytest.raises(OSError, match="were not fetched"):
                read(start, size)

    def test_who_reads_side_by_side_has_a_position_of_its_own(self) -> None:
        version = ObjectVersion("x", None, 100, dt.datetime.now(dt.UTC))
        pieces = [Fetched(memoryview(bytes(range(50))), ByteRange(0, 50), version)]
        file = SparseFile(100, pieces)
        one, other = file.source(), file.source()
        one.seek(10)
        assert bytes(other.read(2)) == b"\x00\x01"
        assert bytes(one.read(2)) == b"\x0a\x0b"


class TestReadingAhead:
    def test_batches_come_in_order_with_positions_and_watermarks(self, server: RangeServer) -> None:
        batches = list(lake(server).scan(PERP, "trades", EVERYTHING).batches())
        assert [batch.row_group for batch in batches] == list(range(20))
        assert [batch.first_row for batch in batches] == list(range(0, 40_000, 2_000))
        assert [batch.watermark for batch in batches[:-1]] == [START + n * 100 * SECOND for n in range(1, 20)]
        assert batches[-1].watermark is None
        assert batches[0].dialect.name == "nautilus"
        assert tuple(batches[0].table.column_names) == batches[0].dialect.columns
        whole = pa.concat_tables(batch.table for batch in batches)
        assert whole.equals(TABLE.select(batches[0].dialect.columns))

    def test_memory_is_bounded_in_bytes(self, server: RangeServer) -> None:
        scan = lake(server).scan(PERP, "trades", EVERYTHING)
        (plan,) = scan.plan().objects
        fetched = plan.bytes // len(plan.row_groups)
        each = max(group.decoded_bytes for group in plan.row_groups) + fetched

        def started() -> int:
            """Return how many row groups have been asked for, when no more are."""
            asked = -1
            while asked != len(server.requests):
                asked = len(server.requests)
                time.sleep(0.1)
            got = {byte_range(request) for request in server.requests.log}
            return sum(got.issuperset(plan.ranges_of(group)) for group in plan.row_groups)

        # Three quarters are for what is fetched, ahead of what is decoded. A request can bring a part of the
        # next row group too, which then counts as asked for.
        for allowed, least in ((1, 1), (2 * each, 2), (4 * each, 3), (1 << 40, 20)):
            most = min(20, max(2, allowed * 3 // 4 // fetched + 2))
            server.requests.clear()
            batches = scan.batches(max_in_flight_bytes=allowed)
            next(batches)
            assert least <= started() <= most
            for _ in range(10):
                next(batches)
            # What was taken makes room for more.
            assert min(20, 10 + least) <= started() <= min(20, 10 + most)
            batches.close()

    def test_a_tiny_bound_only_slows_down(self, server: RangeServer) -> None:
        batches = lake(server).scan(PERP, "trades", EVERYTHING).batches(max_in_flight_bytes=1)
        assert sum(batch.table.num_rows for batch in batches) == 40_000

    def test_row_groups_that_share_a_request_fetch_it_once(self, server: RangeServer) -> None:
        table = TABLE.drop_columns(["noise"])
        server.objects[PATH] = parquet(table, rows_per_group=100)
        scan = lake(server).scan(PERP, "trades", EVERYTHING)
        plan = scan.plan()
        assert plan.row_groups == 400
        assert plan.requests == 1
        server.requests.clear()
        for allowed in (1, 1 << 40):
            assert sum(b.table.num_rows for b in scan.batches(max_in_flight_bytes=allowed)) == 40_000
        assert [byte_range(r) for r in server.requests.log] == [*plan.objects[0].ranges] * 2

    def test_a_consumer_that_stops_ends_requests_and_threads_at_once(self, server: RangeServer) -> None:
        scan = lake(server).scan(PERP, "trades", EVERYTHING)
        plan = scan.plan()
        first = plan.objects[0].ranges_of(plan.objects[0].row_groups[0])
        answer = threading.Event()
        stalled = threading.Event()

        def stall(request: Request) -> None:
            if byte_range(request) not in first:
                stalled.set()
                answer.wait(20)

        server.before = stall
        batches = scan.batches()
        next(batches)
        assert stalled.wait(5)
        began = time.monotonic()
        batches.close()
        # The answer would take 20 s.
        assert time.monotonic() - began < 5
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("ticklake-decode")]
        answer.set()

    def test_several_threads_read_one_lake(self, server: RangeServer) -> None:
        source = lake(server)
        rows: list[int] = []

        def read(start: int) -> None:
            rows.append(source.scan(PERP, "trades", seconds(start, start + 100)).to_table().num_rows)

        threads = [threading.Thread(target=read, args=(n * 100,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert rows == [2_000] * 8


INTERRUPTED = """
import sys
from ticklake.config import StorageConfig
from ticklake.lake import Lake
from ticklake.types import Window
lake = Lake(sys.argv[1])
scan = lake.scan(sys.argv[2], "trades", Window.parse("2024-08-08T01:00:00Z", "2024-08-08T02:00:00Z"))
try:
    for batch in scan.batches(max_in_flight_bytes=1):
        print("batch", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize("stall_at", [1, 2])
def test_ctrl_c_ends_a_stalled_read_at_once(server: RangeServer, stall_at: int) -> None:
    answer, stalled = threading.Event(), threading.Event()

    def stall(_: Request) -> None:
        if len(server.requests) >= stall_at:
            stalled.set()
            answer.wait(30)

    server.before = stall
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", INTERRUPTED, server.url, PERP],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert stalled.wait(20)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
            assert time.monotonic() - began < 2
            assert (process.returncode, out, err) == (130, "interrupted\n", "")
        finally:
            process.kill()
            answer.set()
