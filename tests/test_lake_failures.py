"""What failures of a store become: which are tried again, what they say, and that they keep secrets."""

from __future__ import annotations

import base64
import re
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from lake_support import Answer, RangeServer, Request
from store_support import CANARY, CONTENT, KINDS, clouds, store
from ticklake.errors import (
    AccessDeniedError,
    ConfigError,
    CorruptObjectError,
    LakeError,
    ObjectChangedError,
    ObjectNotFoundError,
    TicklakeError,
    TransientLakeError,
)
from ticklake.lake import ByteRange, Transfer
from ticklake.lake.loop import gather, run, start
from ticklake.lake.retry import Throttle


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        server.objects["a/f"] = server.objects["bucket/a/f"] = CONTENT
        yield server


class TestFailures:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (404, ObjectChangedError),
            (403, AccessDeniedError),
            (401, AccessDeniedError),
            (400, LakeError),
            (412, ObjectChangedError),
            (416, ObjectChangedError),
        ],
    )
    def test_lasting_failures_cost_one_request(
        self, server: RangeServer, kind: str, status: int, error: type[LakeError]
    ) -> None:
        it = clouds(server, max_retries=5)[kind]
        version = run(it.read_suffix("a/f", 10)).version
        server.requests.clear()
        server.status[""] = status
        with pytest.raises(error) as caught:
            run(it.read_range(ByteRange(0, 10), "a/f", version))
        assert type(caught.value) is error
        assert caught.value.url == it.url.of("a/f")
        assert len(server.requests) == 1

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("status", "error"),
        [(404, ObjectNotFoundError), (403, AccessDeniedError), (416, CorruptObjectError)],
    )
    def test_so_do_those_of_a_first_request(
        self, server: RangeServer, kind: str, status: int, error: type[LakeError]
    ) -> None:
        it = clouds(server)[kind]
        server.status[""] = status
        with pytest.raises(error) as caught:
            run(it.read_suffix("a/f", 10))
        assert type(caught.value) is error
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [500, 503, 429, 408])
    def test_passing_failures_are_tried_again(self, server: RangeServer, status: int) -> None:
        server.status[""] = status
        with pytest.raises(TransientLakeError) as caught:
            run(store(server.url, max_retries=2).read_all("a/f"))
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.__cause__ is not None
        assert len(server.requests) == 3

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    @pytest.mark.parametrize("way", ["suffix", "range", "head", "children"])
    def test_what_passes_is_got_over(self, server: RangeServer, way: str, status: int) -> None:
        it, transfer = clouds(server, max_retries=3)["http" if way != "head" else "az"], Transfer()
        version = run(it.read_suffix("a/f", 10)).version
        it._transfer = transfer
        server.requests.clear()
        server.before = lambda _: server.status.update({"": status})
        failures = 2

        def meddle(_: Request, answer: Answer) -> None:
            nonlocal failures
            failures -= 1
            if not failures:
                server.before = lambda _: server.status.clear()

        server.meddle = meddle
        try:
            if way == "suffix":
                assert run(it.read_suffix("a/f", 10)).data == CONTENT[-10:]
            elif way == "range":
                assert run(it.read_range(ByteRange(3, 9), "a/f", version)).data == CONTENT[3:9]
            elif way == "head":
                assert run(it.exists("a/f"))
            else:
                with pytest.raises(LakeError, match="cannot list"):
                    run(it.children("a"))
        finally:
            server.status.clear()
        assert len(server.requests) == transfer.requests == 3

    def test_a_listing_goes_on_where_it_failed(self, server: RangeServer) -> None:
        names = [f"a/{n:04}" for n in range(2_500)]
        failing = iter([False, True, False, True, True, False, False])

        def list_page(request: Request, answer: Answer) -> None:
            query = parse_qs(urlsplit(request.target).query)
            if next(failing):
                answer.status, answer.body = 500, b""
                return
            after = query.get("start-after", query.get("continuation-token", [""]))[0]
            page = [name for name in names if name > after][:1_000]
            more = page[-1] != names[-1]
            token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
            items = "".join(
                f"<Contents><Key>{name}</Key><Size>1</Size>"
                "<LastModified>2024-08-09T00:00:00.000Z</LastModified></Contents>"
                for name in page
            )
            answer.status, answer.headers = 200, {}
            answer.body = f"<ListBucketResult>{token}{items}</ListBucketResult>".encode()

        server.meddle = list_page
        it = clouds(server, max_retries=3)["s3"]
        it._transfer = Transfer()
        assert [item.path for item in it.list("")] == names
        assert it._transfer.requests == len(server.requests) == 6

    def test_a_listing_in_no_order_does_not_go_on_and_loses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page = [{"path": f"z{n}", "size": 1, "last_modified": None} for n in range(1_000)]

        class Stream:
            pages = iter([page])

            async def __anext__(self) -> object:
                if (found := next(self.pages, None)) is None:
                    raise TimeoutError
                return found

        monkeypatch.setattr("ticklake.lake.store.obstore.list", lambda *_, **__: Stream())
        with pytest.raises(LakeError, match="broke off"):
            list(store(tmp_path, max_retries=3).list(""))

    @pytest.mark.parametrize("status", [429, 503])
    def test_a_store_that_is_asked_too_much_is_left_alone_by_all(
        self, server: RangeServer, status: int
    ) -> None:
        it = store(server.url, max_retries=3, retry_wait="300ms")
        times: list[float] = []

        def refuse_one(_: Request, answer: Answer) -> None:
            times.append(time.monotonic())
            if len(times) == 1:
                answer.status, answer.body = status, b""

        server.meddle = refuse_one
        first = start(it.read_all("a/f"))
        while not times or it._throttle.remaining == 0:
            time.sleep(0.005)
        # Requests that have nothing to do with the one refused.
        run(gather(it.read_all("a/f") for _ in range(4)))
        assert first.result(5).data == CONTENT
        assert len(times) == 6
        assert min(times[1:]) - times[0] >= 0.29

    def test_pauses_double_until_a_request_succeeds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr("ticklake.lake.retry.time.monotonic", lambda: now)
        throttle, pauses = Throttle(1.0), []
        for _ in range(8):
            throttle.refused()
            throttle.refused()  # one of those under way together
            pauses.append(throttle.remaining)
            now += throttle.remaining
        assert pauses == [1, 2, 4, 8, 16, 32, 32, 32]
        throttle.passed()
        throttle.refused()
        assert throttle.remaining == 1

    def test_no_server_at_all(self) -> None:
        with RangeServer() as gone:
            url = gone.url
        with pytest.raises(TransientLakeError) as caught:
            run(store(url, max_retries=1, retry_wait="1ms").read_all("a/f"))
        host = url.partition("//")[2].partition("/")[0]
        assert re.fullmatch(
            rf"nothing answers at {host}: it refuses connections; given up after 2 requests in [\d.]+ s "
            rf"\(object {url}/a/f\)\. Check the lake's URL and lake\.storage\.endpoint, the network and its "
            r"proxy\.",
            str(caught.value),
        )

    def test_a_host_that_is_not_known(self) -> None:
        with pytest.raises(TransientLakeError, match=r"nothing answers at no-such-host\.invalid: its name"):
            run(store("https://no-such-host.invalid/lake", max_retries=0).read_all("a/f"))

    def test_a_stalled_answer_ends_with_the_timeout(self, server: RangeServer) -> None:
        answer = threading.Event()
        server.before = lambda _: answer.wait(10)
        began = time.monotonic()
        with pytest.raises(TransientLakeError):
            run(store(server.url, timeout="300ms").read_all("a/f"))
        assert time.monotonic() - began < 3
        answer.set()

    @pytest.mark.parametrize("kind", ["gs", "s3", "az"])
    @pytest.mark.parametrize("code", ["NoSuchBucket", "ContainerNotFound"])
    def test_a_bucket_that_does_not_exist_is_no_missing_object(
        self, server: RangeServer, kind: str, code: str
    ) -> None:
        server.status[""], server.body = 404, f"<Error><Code>{code}</Code></Error>".encode()
        if kind == "az":
            # A HEAD has no body to tell; a listing does.
            with pytest.raises(ConfigError, match="az://bucket does not exist"):
                list(clouds(server)[kind].list(""))
        else:
            with pytest.raises(ConfigError, match=f"{kind}://bucket does not exist"):
                run(clouds(server)[kind].read_suffix("a/f", 10))

    def test_a_web_server_that_cannot_list_says_so(self, server: RangeServer) -> None:
        assert server.status == {}
        for status in (405, 501):
            for ask in (
                lambda: list(store(server.url).list("")),
                lambda: run(store(server.url).children("")),
            ):
                with pytest.raises(LakeError, match=rf"cannot list what it has \({status}") as caught:
                    ask()
                assert caught.value.url == f"{server.url}/"
                assert not isinstance(caught.value, TransientLakeError)
                assert "no listing" in str(caught.value)
            # Python's own web server answers so; nginx, for one, like the first.
            server.status[""] = 501
        # Other requests that are refused so are no listings.
        with pytest.raises(TransientLakeError):
            run(store(server.url).read_suffix("a/f", 10))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 500])
    def test_no_secret_is_told(self, server: RangeServer, kind: str, status: int) -> None:
        it = clouds(server)[kind]
        encoded = base64.b64encode(CANARY.encode()).decode()
        server.status[""] = status
        # Stores quote in their answer what was signed and with what.
        server.body = (
            f"<Error><Code>Made</Code><StringToSign>{CANARY} {encoded}</StringToSign></Error>".encode()
        )
        told = [repr(it), repr(it.url), repr(it._storage)]
        for attempt in (it.read_suffix("a/f", 10), it.read_all("a/f"), it.children("a")):
            try:
                run(attempt)
            except TicklakeError as exc:
                told += [repr(exc), str(exc), "".join(traceback.format_exception(exc)), repr(exc.__cause__)]
        assert len(told) > 3
        assert not [text for text in told if CANARY in text or encoded in text]

    @pytest.mark.parametrize("kind", ["gs", "s3", "az"])
    def test_refused_access_says_what_was_tried_and_what_to_do(self, server: RangeServer, kind: str) -> None:
        server.status[""] = 403
        with pytest.raises(AccessDeniedError) as caught:
            run(clouds(server)[kind].read_all("a/f"))
        text = str(caught.value)
        assert "(403 Made)" in text
        assert "tried with lake.storage." in text
        assert {"gs": "gcloud auth", "s3": "AWS_ACCESS_KEY_ID", "az": "AZURE_STORAGE_ACCOUNT"}[kind] in text
        assert "lake.storage.anonymous" in text
        with pytest.raises(AccessDeniedError, match="tried with no credentials"):
            run(store("gs://bucket", endpoint=server.url, anonymous=True).read_all("a/f"))

    @pytest.mark.parametrize("status", [400, 401, 403])
    @pytest.mark.parametrize(
        ("kind", "variable", "tried"),
        [
            ("s3", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID of the environment"),
            ("az", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCOUNT_KEY of the environment"),
            ("http", None, "no credentials"),
        ],
    )
    def test_a_credential_of_the_environment_is_named_but_not_told(
        self,
        server: RangeServer,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
        variable: str | None,
        tried: str,
        status: int,
    ) -> None:
        secret = base64.b64encode(CANARY.encode()).decode()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        if variable is not None:
            monkeypatch.setenv(variable, secret)
        account = {"account_name": "me"} if kind == "az" else {}
        url = server.url if kind == "http" else f"{kind}://bucket"
        cloud = {} if kind == "http" else {"endpoint": server.url, "region": "r", **account}
        server.status[""] = status
        with pytest.raises(LakeError) as caught:
            run(store(url, max_retries=5, **cloud).read_all("a/f"))
        assert re.search(rf"(tried|sent) with {tried}", str(caught.value))
        assert caught.value.hint
        assert secret not in str(caught.value)
        assert len(server.requests) == 1

    def test_a_missing_azure_account_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
        with pytest.raises(AccessDeniedError, match="AZURE_STORAGE_ACCOUNT_NAME"):
            run(store("az://container").read_all("a/f"))

    def test_a_key_file_that_does_not_exist_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(AccessDeniedError, match="service account file") as caught:
            run(store("gs://b", service_account=tmp_path / "nope.json").read_all("a/f"))
        assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "neither.json"))
        # Not the file: who gives the content of one for its path gets it told as well.
        tried = "tried with GOOGLE_APPLICATION_CREDENTIALS of the environment: .* No such file"
        with pytest.raises(AccessDeniedError, match=tried):
            run(store("gs://b").read_all("a/f"))

    def test_errors_survive_the_way_to_another_process(self, server: RangeServer) -> None:
        import pickle

        with pytest.raises(ObjectNotFoundError) as caught:
            run(store(server.url).read_all("nope"))
        # Made by this test a line above.
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy), copy.url) == (
            ObjectNotFoundError,
            str(caught.value),
            f"{server.url}/nope",
        )
