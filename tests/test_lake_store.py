"""Stores: URLs, versions, and what is read of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lake_support import RangeServer, Request
from store_support import CANARY, CONTENT, KINDS, clouds, store
from ticklake.errors import (
    ConfigError,
    LakeError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from ticklake.lake import ByteRange, StoreUrl, Transfer
from ticklake.lake.loop import gather, in_turn, run, start


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        server.objects["a/f"] = server.objects["bucket/a/f"] = CONTENT
        yield server


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "text", "of"),
        [
            ("gs://b", "gs://b", "gs://b/k 1"),
            ("gs://b/", "gs://b", "gs://b/k 1"),
            ("s3://b/some/folder/", "s3://b/some/folder", "s3://b/some/folder/k 1"),
            ("AZ://c/f", "az://c/f", "az://c/f/k 1"),
            ("memory://", "memory://", "memory:///k 1"),
            ("https://host/x/", "https://host/x", "https://host/x/k%201"),
            ("http://localhost:9000", "http://localhost:9000", "http://localhost:9000/k%201"),
            ("file:///data/a%20b", "file:///data/a%20b", "file:///data/a%20b/k%201"),
            ("/data/a%b", "file:///data/a%25b", "file:///data/a%25b/k%201"),
        ],
    )
    def test_a_url_names_objects(self, url: str, text: str, of: str) -> None:
        parsed = StoreUrl.parse(url)
        assert (parsed.text, parsed.of("k 1")) == (text, of)

    def test_paths_are_relative_to_the_current_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "lake").mkdir()
        (tmp_path / "lake" / "f").write_bytes(CONTENT)
        monkeypatch.chdir(tmp_path)
        assert run(store("lake").read_all("f")).data == CONTENT
        assert run(store("./lake/../lake").read_all("f")).data == CONTENT
        assert run(store(f"file://{tmp_path}/lake").read_all("f")).data == CONTENT

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "  ",
            "ftp://host/x",
            "gs://",
            "s3:///folder",
            "file://data/x",
            "https://host/x?sig=1",
            "gs://b/x#y",
            "https://[::1/x",
        ],
    )
    def test_what_is_no_url_of_a_store_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigError) as caught:
            StoreUrl.parse(url)
        assert caught.value.hint

    @pytest.mark.parametrize("scheme", ["https", "http", "gs", "s3", "az", "file"])
    def test_user_info_is_refused_and_not_repeated(self, scheme: str) -> None:
        with pytest.raises(ConfigError, match="user info") as caught:
            StoreUrl.parse(f"{scheme}://me:{CANARY}@host/x")
        assert CANARY not in str(caught.value)
        with pytest.raises(ConfigError) as caught:
            StoreUrl.parse(f"https://host/x?token={CANARY}")
        assert CANARY not in str(caught.value)
        with pytest.raises(ValueError, match="user info") as told:
            store("s3://b", endpoint=f"https://me:{CANARY}@host")
        assert CANARY not in str(told.value)

    @pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "localhost.example.com", "[2001:db8::1]:80"])
    def test_plain_http_is_for_this_machine(self, host: str) -> None:
        with pytest.raises(ConfigError, match="plain http to another machine"):
            StoreUrl.parse(f"http://{host}/x")
        with pytest.raises(ConfigError, match="plain http to another machine"):
            store("s3://b", endpoint=f"http://{host}")
        assert StoreUrl.parse(f"http://{host}/x", allow_http=True).text == f"http://{host}/x"
        store("s3://b", endpoint=f"http://{host}", allow_http=True)

    @pytest.mark.parametrize(
        "host", ["localhost", "127.0.0.1:80", "127.9.9.9", "[::1]:80", "minio.localhost"]
    )
    def test_loopback_needs_no_leave(self, host: str) -> None:
        assert StoreUrl.parse(f"http://{host}").scheme == "http"
        store("s3://b", endpoint=f"http://{host}")

    @pytest.mark.parametrize("endpoint", ["minio:9000", "ftp://host", "http://", "/tmp"])
    def test_an_endpoint_is_an_http_url(self, endpoint: str) -> None:
        with pytest.raises(ConfigError, match=r"lake\.storage\.endpoint"):
            store("s3://b", endpoint=endpoint)


class TestFolders:
    def test_a_folder_that_does_not_exist_is_no_empty_lake(self, tmp_path: Path) -> None:
        missing = store(tmp_path / "nope")
        for attempt in (lambda: run(missing.read_all("f")), lambda: list(missing.list(""))):
            with pytest.raises(ConfigError, match="nope does not exist"):
                attempt()

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"x")
        with pytest.raises(ConfigError, match="does not exist"):
            run(store(tmp_path / "f").read_all("g"))

    def test_a_folder_in_it_that_does_not_exist_is_empty(self, tmp_path: Path) -> None:
        assert run(store(tmp_path).children("nope")) == []
        assert list(store(tmp_path).list("nope")) == []

    @pytest.mark.parametrize("path", ["nope", "nope/f", "folder"])
    def test_what_is_no_file_does_not_exist(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(ObjectNotFoundError) as caught:
            run(store(tmp_path).read_all(path))
        assert caught.value.url == f"file://{tmp_path}/{path}"
        assert isinstance(caught.value, FileNotFoundError)

    def test_nothing_outside_the_folder_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "lake").mkdir()
        (tmp_path / "f").write_bytes(b"x")
        with pytest.raises(ConfigError):
            run(store(tmp_path / "lake").read_all("../f"))

    def test_overwriting_changes_the_version(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(CONTENT)
        folder = store(tmp_path)
        version = run(folder.read_suffix("f", 8)).version
        assert run(folder.read_range(ByteRange(1, 3), "f", version)).data == CONTENT[1:3]
        (tmp_path / "f").write_bytes(CONTENT[::-1] + b"x")
        with pytest.raises(ObjectChangedError):
            run(folder.read_range(ByteRange(1, 3), "f", version))


class TestMemory:
    def test_stores_of_one_name_are_one_store(self) -> None:
        store("memory://shared/x").put("a/f", CONTENT)
        assert run(store("memory://shared").read_all("x/a/f")).data == CONTENT
        assert run(store("memory://shared/x/a/").read_suffix("f", 5)).data == CONTENT[-5:]
        with pytest.raises(ObjectNotFoundError):
            run(store("memory://other/x").read_all("a/f"))

    def test_listing_is_relative_to_the_url(self) -> None:
        memory = store("memory://listed/root")
        for name in ("a/f", "a/b/g", "h"):
            memory.put(name, CONTENT)
        store("memory://listed").put("elsewhere", b"")
        assert sorted((item.path, item.size) for item in memory.list("")) == [
            ("a/b/g", 1024),
            ("a/f", 1024),
            ("h", 1024),
        ]
        assert sorted(item.path for item in memory.list("a")) == ["a/b/g", "a/f"]
        assert sorted(run(memory.children("a"))) == ["a/b", "a/f"]
        assert sorted(run(memory.children(""))) == ["a", "h"]


class TestReading:
    @pytest.mark.parametrize("kind", KINDS)
    def test_ranges_of_one_version(self, server: RangeServer, kind: str) -> None:
        it = clouds(server)[kind]
        tail = run(it.read_suffix("a/f", 100))
        assert (bytes(tail.data), tail.range) == (CONTENT[-100:], ByteRange(924, 1024))
        assert tail.version.size == 1024
        assert tail.version.url == it.url.of("a/f")
        # Azure cannot count from the end: it is asked for the size first.
        methods = [request.method for request in server.requests.log]
        assert methods == (["HEAD", "GET"] if kind in ("az", "sas") else ["GET"])
        part = run(it.read_range(ByteRange(10, 20), "a/f", tail.version))
        assert part.data == CONTENT[10:20]
        assert server.requests.log[-1].headers["if-match"] == tail.version.etag
        assert run(it.read_all("a/f")).data == CONTENT
        assert run(it.read_suffix("a/f", 5_000)).range == ByteRange(0, 1024)

    def test_an_empty_object_on_azure_is_empty(self, server: RangeServer) -> None:
        server.objects["bucket/a/f"] = b""
        assert run(clouds(server)["az"].read_suffix("a/f", 100)).version.size == 0
        assert len(server.requests) == 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_overwritten_object_is_noticed(self, server: RangeServer, kind: str) -> None:
        it = clouds(server)[kind]
        version = run(it.read_suffix("a/f", 100)).version
        server.objects["a/f"] = server.objects["bucket/a/f"] = CONTENT[::-1]
        for honours in (True, False):
            server.honours_if_match = honours
            server.requests.clear()
            with pytest.raises(ObjectChangedError) as caught:
                run(it.read_range(ByteRange(0, 10), "a/f", version))
            assert caught.value.url == it.url.of("a/f")
            assert len(server.requests) == 1

    def test_without_etags_size_and_time_tell(self, server: RangeServer) -> None:
        server.has_etags = False
        it = store(server.url)
        version = run(it.read_suffix("a/f", 100)).version
        assert version.etag is None
        assert run(it.read_range(ByteRange(0, 10), "a/f", version)).data == CONTENT[:10]
        server.objects["a/f"] = CONTENT + b"more"
        with pytest.raises(ObjectChangedError):
            run(it.read_range(ByteRange(0, 10), "a/f", version))

    @pytest.mark.parametrize(
        "alter",
        [lambda b: b[:-1], lambda b: b[1:], lambda b: b + b"x", lambda b: b""],
        ids=["short", "shifted", "long", "nothing"],
    )
    @pytest.mark.parametrize("range_follows", [True, False])
    def test_an_answer_of_another_length_is_refused(
        self, server: RangeServer, alter: Callable[[bytes], bytes], range_follows: bool
    ) -> None:
        it = store(server.url)
        version = run(it.read_suffix("a/f", 100)).version
        server.alter = alter
        if range_follows:
            server.content_range = f"bytes 100-{99 + max(1, len(alter(CONTENT[100:200])))}/1024"
        with pytest.raises(LakeError, match=r"asked for bytes|did not answer properly") as caught:
            run(it.read_range(ByteRange(100, 200), "a/f", version))
        assert caught.value.url == f"{server.url}/a/f"

    @pytest.mark.parametrize("content_range", ["bytes 0-99/1024", "bytes 101-200/1024"])
    def test_an_answer_from_elsewhere_is_refused(self, server: RangeServer, content_range: str) -> None:
        it = store(server.url)
        version = run(it.read_suffix("a/f", 10)).version
        server.content_range = content_range
        with pytest.raises(LakeError):
            run(it.read_range(ByteRange(100, 200), "a/f", version))
        with pytest.raises(LakeError):
            run(it.read_suffix("a/f", 100))

    @pytest.mark.parametrize("kind", ["http", "gs", "s3"])
    def test_a_server_without_ranges_is_refused(self, server: RangeServer, kind: str) -> None:
        server.honours_ranges = False
        with pytest.raises(LakeError, match="cannot do what is needed") as caught:
            run(clouds(server)[kind].read_suffix("a/f", 100))
        assert "range requests" in str(caught.value)

    def test_requests_and_bytes_are_counted(self, server: RangeServer) -> None:
        it, transfer = store(server.url), Transfer()
        it._transfer = transfer
        version = run(it.read_suffix("a/f", 100)).version
        run(it.read_range(ByteRange(0, 7), "a/f", version))
        with pytest.raises(ObjectNotFoundError):
            run(it.read_all("nope"))
        assert (transfer.requests, transfer.bytes) == (3, 107)
        assert repr(transfer) == "Transfer(requests=3, bytes=107)"

    def test_no_more_requests_than_allowed_run_at_once(self, server: RangeServer) -> None:
        running, most = 0, 0
        lock = threading.Lock()

        def slow(_: object) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.02)
            with lock:
                running -= 1

        it = store(server.url, max_concurrency=3)
        server.before = slow
        run(gather(it.read_all("a/f") for _ in range(12)))
        assert most == 3

    def test_a_cancelled_request_ends_at_once(self, server: RangeServer) -> None:
        asked, answer = threading.Event(), threading.Event()

        def stall(_: Request) -> None:
            asked.set()
            answer.wait(10)

        server.before = stall
        future = start(store(server.url).read_all("a/f"))
        assert asked.wait(5)
        began = time.monotonic()
        future.cancel()
        # The one slot is free again: the next request is not held up by the one that was cancelled.
        answer.set()
        assert run(store(server.url).read_all("a/f")).data == CONTENT
        assert time.monotonic() - began < 2


def test_what_takes_a_while_lets_answers_in_between() -> None:
    order: list[str] = []

    async def long(name: str) -> None:
        async with in_turn():
            order.append(name)

    async def answered() -> None:
        for _ in range(2):
            await asyncio.sleep(0)
        order.append("answer")

    async def both() -> None:
        await asyncio.gather(*(long(name) for name in "abcdef"), answered())

    run(both())
    assert [name for name in order if name != "answer"] == [*"abcdef"]
    assert order.index("answer") < order.index("c")
