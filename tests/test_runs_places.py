"""Runs in object stores: there whole or not at all, listed and read from there, without secrets."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake_support import MotoServer
from runs_support import BUCKET, bucket, failing, fill, options, put_run, storage_of, summary
from ticklake.backtesting import Run
from ticklake.backtesting.listing import list_runs
from ticklake.backtesting.places import check_runs, run_folder
from ticklake.errors import BacktestError, ConfigError, LakeError

FIRST, SECOND, THIRD = (f"2026010{day}T030405Z-TradeMomentum-abc12{day}" for day in (1, 2, 3))
SECRET = "CANARY0secret0CANARY"


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with bucket() as server:
        yield server


@pytest.fixture(params=["s3", "gs"])
def place(server: MotoServer, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, object]:
    """A folder of its own in the bucket, and how it is reached."""
    return f"{request.param}://{BUCKET}/{request.param}/{tmp_path.name}", storage_of(server, request.param)


def objects(server: MotoServer, url: str) -> set[str]:
    """Return the keys below a URL, as boto3 lists them."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    prefix = url.partition(f"//{BUCKET}/")[2] + "/"
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {each["Key"].removeprefix(prefix) for each in found}


def test_a_run_is_written_listed_and_read_back(server, place, tmp_path):
    url, storage = place
    put_run(url, FIRST, storage, config={"a": 1})
    put_run(tmp_path / "runs", FIRST, config={"a": 1})
    run, local = Run.load(f"{url}/{FIRST}", storage=storage), Run.load(tmp_path / "runs" / FIRST)
    assert (run.id, run.location) == (FIRST, f"{url}/{FIRST}")
    assert (run.summary, run.config) == (local.summary, local.config)
    for name in ("orders", "fills", "positions", "account", "equity", "prices"):
        assert getattr(run, name) == getattr(local, name)
    assert run.report().read_text() == "<!doctype html>"
    with pytest.raises(BacktestError, match="lies in an object store"):
        _ = run.path
    (listed,) = list_runs(url, storage=storage).runs
    assert (listed.location, listed.summary) == (run.location, run.summary)


def test_the_summary_is_written_last_and_everything_says_what_it_is(server, place):
    url, storage = place
    server.requests.clear()
    put_run(url, FIRST, storage)
    puts = [request for request in server.requests.log if request.method == "PUT"]
    assert len(puts) == 10
    assert puts[-1].path.endswith(f"/{FIRST}/summary.json")


@pytest.mark.parametrize("broken", ["fills.parquet", "summary.json", "account.parquet"])
def test_what_breaks_off_is_no_run_and_is_kept_here(server, place, broken, monkeypatch, tmp_path):
    url, storage = place
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    put_run(url, FIRST, storage)
    with (
        failing(server, lambda method, path: method == "PUT" and path.endswith(broken)),
        pytest.raises(BacktestError, match="complete, but could not be written") as caught,
    ):
        put_run(url, SECOND, storage.model_copy(update={"max_retries": 1}))
    assert [run.id for run in list_runs(url, storage=storage).runs] == [FIRST]
    # What was written is gone again; where the last object failed, nobody can tell that it is not there.
    assert any(SECOND in key for key in objects(server, url)) == (broken == "summary.json")
    (kept,) = tmp_path.glob("ticklake-run-*")
    assert str(kept) in str(caught.value)
    assert Run.load(kept).id == SECOND
    assert SECRET not in str(caught.value)


def test_a_store_that_comes_back_gets_its_run_after_all(server, place):
    url, storage = place
    refused: list[str] = []

    def fails(method: str, path: str) -> bool:
        once = method == "PUT" and path not in refused
        refused.append(path)
        return once

    with failing(server, fails, "503 Made"):
        put_run(url, FIRST, storage)
    assert Run.load(f"{url}/{FIRST}", storage=storage).fills.num_rows == 5
    assert list_runs(url, storage=storage).unfinished == ()


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from runs_support import put_run
from ticklake.config import StorageConfig
put_run(sys.argv[2], sys.argv[3], StorageConfig.model_validate_json(sys.argv[4]))
"""


def test_a_killed_process_leaves_no_run_but_something_that_tells(server, tmp_path):
    url, storage, given = f"s3://{BUCKET}/killed", storage_of(server, "s3"), options(server, "s3")
    reached = threading.Event()

    def fails(method: str, path: str) -> bool:
        if method == "PUT" and path.endswith("summary.json"):
            reached.set()
            child.wait(30)
            return True
        return False

    with failing(server, fails):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, Path(__file__).parent, url, FIRST, json.dumps(given)],
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        assert reached.wait(60)
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    found = list_runs(url, storage=storage)
    assert (found.runs, found.unfinished) == ((), (f"{url}/{FIRST}",))
    with pytest.raises(BacktestError, match=r"holds no run: it lacks summary\.json\. Name the"):
        Run.load(f"{url}/{FIRST}", storage=storage)


def test_a_failed_run_leaves_nothing_in_the_store(server, place):
    url, storage = place
    folders: list[Path] = []

    def interrupted() -> None:
        with run_folder(url, FIRST, storage) as folder:
            folders.append(folder)
            fill(folder, summary(FIRST))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not folders[0].exists()
    assert objects(server, url) == set()


def test_a_run_is_not_written_over(server, place):
    url, storage = place
    put_run(url, FIRST, storage)
    with pytest.raises(BacktestError, match="already"):
        put_run(url, FIRST, storage)


def test_whether_runs_can_be_written_is_found_out_first_and_once(server, place):
    url, storage = place
    check_runs(url, storage)
    check_runs(url, storage)
    assert objects(server, url) == {".ticklake"}
    assert list_runs(url, storage=storage).runs == ()
    with failing(server, lambda method, _: method == "PUT", "403 Made"), pytest.raises(LakeError) as caught:
        check_runs(f"{url}/other", storage)
    assert "runs_storage" in str(caught.value)
    assert SECRET not in str(caught.value)
    scheme = url.partition(":")[0]
    with pytest.raises(ConfigError, match=f"{scheme}://no-such-bucket does not exist"):
        check_runs(f"{scheme}://no-such-bucket", storage)


def test_runs_are_listed_newest_first_and_filtered(place, tmp_path):
    url, storage = place
    for where, how in ((url, storage), (tmp_path / "runs", None)):
        put_run(where, SECOND, how, strategies=["a.b:Breakout"], instruments=["BTCUSDT-PERP.BINANCE"])
        put_run(where, FIRST, how)
        put_run(where, THIRD, how)

        def ids(where=where, how=how, **filters: str) -> list[str]:
            return [run.id for run in list_runs(where, storage=how, **filters).runs]

        assert ids() == [THIRD, SECOND, FIRST]
        assert ids(strategy="breakOUT") == [SECOND]
        assert ids(instrument="btcusdt") == [SECOND]
        assert ids(strategy="Trade", instrument="ETH") == [THIRD, FIRST]
        assert ids(strategy="none") == []


def test_what_is_no_run_is_told_apart(tmp_path):
    put_run(tmp_path, FIRST)
    (tmp_path / f".{SECOND}.tmp").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "summary.json").write_text("{")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "summary.json").write_text('{"id": 5}')
    found = list_runs(tmp_path)
    assert [run.id for run in found.runs] == [FIRST]
    assert found.unfinished == (str(tmp_path / f".{SECOND}.tmp"),)
    assert [location for location, _ in found.unreadable] == [str(tmp_path / "odd"), str(tmp_path / "torn")]
    with pytest.raises(BacktestError, match="no folder of runs"):
        list_runs(tmp_path / "nowhere")


def test_secrets_stay_out_of_reprs_and_pickles(place):
    url, storage = place
    put_run(url, FIRST, storage)
    run = Run.load(f"{url}/{FIRST}", storage=storage)
    assert run.summary
    assert SECRET not in repr(run) + repr(run.place) + str(pickle.dumps(run))
    assert pickle.loads(pickle.dumps(run)) == run


def test_a_large_file_goes_in_parts(server):
    url, storage = f"s3://{BUCKET}/large", storage_of(server, "s3")
    content = os.urandom(20 * 1024 * 1024)
    with run_folder(url, FIRST, storage) as folder:
        fill(folder, summary(FIRST))
        (folder / "report.html").write_bytes(content)
    assert Run.load(f"{url}/{FIRST}", storage=storage).report().read_bytes() == content


@pytest.mark.parametrize("url", ["ftp://host/x", "gs://user:secret@bucket/x", "gs://"])
def test_other_urls_are_refused(url):
    with pytest.raises(ConfigError) as caught:
        list_runs(url)
    assert "secret" not in str(caught.value)


def test_a_file_url_is_a_folder(tmp_path):
    put_run(tmp_path.as_uri(), FIRST)
    assert Run.load(tmp_path / FIRST) == Run.load(f"{tmp_path.as_uri()}/{FIRST}")
