"""`ticklake doctor`: what it finds between this machine and a lake."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_support import Cli, cli
from fetch_support import (
    BTC_PERP,
    DAY,
    DEFINITION,
    INSTRUMENTS,
    TICKS,
    Lake,
    ask,
    cloud_of,
    made_trades,
    minutes,
    put_trades,
)
from lake_support import Answer, RangeServer, Request
from ticklake.catalog import Catalog
from ticklake.fetching import fetch
from ticklake.versions import engine_pin, installed

__all__ = ["cli"]

KEYS = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}


@pytest.fixture(autouse=True)
def no_ambient_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)


def write(folder: Path, lake: dict[str, Any], **changes: Any) -> Path:
    values = {
        "lake": lake,
        "catalog": str(folder / "catalog"),
        "window": {"start": "2024-08-07", "end": "2024-08-08"},
        "instruments": [{"key": BTC_PERP, "definition": DEFINITION}],
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def examined(cli: Cli, code: int, *arguments: object) -> dict[str, list[tuple[bool, str]]]:
    """Return what the doctor finds, by check."""
    document = json.loads(cli(code, "doctor", *arguments, "--json")[0])
    assert document["healthy"] == (code == 0)
    found: dict[str, list[tuple[bool, str]]] = {}
    for each in document["findings"]:
        found.setdefault(each["check"], []).append((each["wrong"], each["text"]))
    return found


def test_a_lake_that_can_be_read_is_fine(tmp_path: Path, cli: Cli) -> None:
    put_trades(tmp_path / "lake" / TICKS, made_trades(minutes()))
    (tmp_path / "lake" / INSTRUMENTS).mkdir()
    with cloud_of(tmp_path / "lake") as server:
        lake = {"ticks": f"s3://{TICKS}", "instruments": f"s3://{INSTRUMENTS}"}
        run = write(tmp_path, {**lake, "storage": {**KEYS, "endpoint": server.url}})
        found = examined(cli, 0, run)  # before the first fetch, too
        assert set(found) == {"credentials", "store", "clock"}
        assert [text for _, text in found["credentials"]] == [
            f"s3://{TICKS} is asked with lake.storage.access_key_id",
            f"s3://{INSTRUMENTS} is asked with lake.storage.access_key_id",
        ]
        ticks, lists = (text for _, text in found["store"])
        assert ticks.startswith(f"s3://{TICKS}/raw_tick_data/by_date/day-2024-08-07/")
        assert ticks.endswith("can be read")
        assert lists.startswith(f"s3://{INSTRUMENTS} answers; it has no instrument_availability")
        assert found["clock"] == [(False, "this machine's clock agrees with that of 127.0.0.1")]
        # Each of the things asked for is asked for once, and no more than its end.
        gets = [request for request in server.requests.log if request.method == "GET"]
        assert [request.headers["range"] for request in gets] == ["bytes=-8"] * 2

        assert cli(0, "fetch", run)
        assert {"disk", "store"} <= set(examined(cli, 0, run))
        gone = write(
            tmp_path, {**lake, "ticks": "s3://no-such-bucket", "storage": {**KEYS, "endpoint": server.url}}
        )
        (answer,) = (text for wrong, text in examined(cli, 1, gone)["store"] if wrong)
        assert "s3://no-such-bucket does not exist (404 NoSuchBucket)" in answer


@pytest.mark.parametrize(
    ("status", "check", "told"),
    [
        (401, "credentials", "access denied (401 Made); tried with lake.storage.access_key_id"),
        (403, "credentials", "access denied (403 Made); tried with lake.storage.access_key_id"),
        (400, "store", "the store refused the request (400 Made)"),
        (404, None, "answers; it has no"),
        (500, "network", "the store did not answer properly"),
        (503, "network", "the store did not answer properly"),
    ],
)
def test_each_answer_is_told_apart(
    tmp_path: Path, cli: Cli, status: int, check: str | None, told: str
) -> None:
    with RangeServer() as server:
        server.status[""] = status
        run = write(tmp_path, {"ticks": "s3://bucket", "storage": {**KEYS, "endpoint": server.url}})
        found = examined(cli, int(check is not None), run)
        answer = next(text for _, text in found[check or "store"] if "is asked with" not in text)
        assert told in answer
        assert [wrong for name in found for wrong, _ in found[name]].count(True) == int(check is not None)
        asked = [request for request in server.requests.log if request.method == "GET"]
        assert len(asked) == (2 if status == 404 else 1)  # with and without @LIN


def test_no_network_is_told_and_nothing_else_asked(tmp_path: Path, cli: Cli) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # not listening
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        run = write(tmp_path, {"ticks": "gs://bucket", "storage": {"anonymous": True, "endpoint": endpoint}})
        found = examined(cli, 1, run)
    assert set(found) == {"credentials", "network"}
    assert found["credentials"] == [
        (False, "gs://bucket is asked with no credentials (lake.storage.anonymous)")
    ]
    assert found["network"][0][0]


def test_credentials_that_cannot_be_used_are_told(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    found = examined(cli, 1, write(tmp_path, {"ticks": "gs://bucket"}))["credentials"]
    assert found[0] == (False, "gs://bucket is asked with GOOGLE_APPLICATION_CREDENTIALS of the environment")
    assert "no usable credentials for gs://bucket" in found[1][1]
    assert "No such file" in found[1][1]


@pytest.mark.parametrize(
    ("minutes_ahead", "told"), [(20, "s behind that of 127.0.0.1"), (-20, "s ahead of that of 127.0.0.1")]
)
def test_a_wrong_clock_is_told(tmp_path: Path, cli: Cli, minutes_ahead: int, told: str) -> None:
    def late(_: Request, answer: Answer) -> None:
        there = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes_ahead)
        answer.headers["Date"] = format_datetime(there, usegmt=True)

    with RangeServer() as server:
        server.meddle = late
        run = write(tmp_path, {"ticks": server.url, "instruments": f"{server.url}/lists"})
        ((wrong, text),) = examined(cli, 1, run)["clock"]
    assert wrong
    assert told in text
    assert 1_190 < int(text.split(" s ")[0].split()[-1].replace(",", "")) < 1_300


def test_a_store_that_tells_no_time_is_no_fault(tmp_path: Path, cli: Cli) -> None:
    with RangeServer() as server:
        found = examined(cli, 0, write(tmp_path, {"ticks": server.url}))
    ((wrong, text),) = found["clock"]
    assert not wrong
    assert "was not checked" in text


def test_offline_and_of_a_folder_nothing_is_asked(tmp_path: Path, cli: Cli) -> None:
    put_trades(tmp_path / "lake", made_trades(minutes()))
    fetch(Lake(tmp_path / "lake"), Catalog(tmp_path / "catalog"), [ask(0, DAY)])
    with RangeServer() as server:
        server.status[""] = 403
        run = write(tmp_path, {"ticks": "s3://bucket", "storage": {**KEYS, "endpoint": server.url}})
        assert set(examined(cli, 0, run, "--offline")) == {"disk"}
        assert set(examined(cli, 0, tmp_path / "catalog")) == {"disk"}
        assert not server.requests.log
        assert "credentials" in examined(cli, 1, run)
        assert server.requests.log


def test_a_lake_in_a_folder_has_neither_credentials_nor_clock(tmp_path: Path, cli: Cli) -> None:
    put_trades(tmp_path / "lake", made_trades(minutes()))
    assert set(examined(cli, 0, write(tmp_path, {"ticks": str(tmp_path / "lake")}))) == {"store"}
    ((wrong, text),) = examined(cli, 1, write(tmp_path, {"ticks": str(tmp_path / "nowhere")}))["store"]
    assert wrong
    assert "nowhere does not exist" in text


def test_another_engine_than_the_one_ticklake_is_made_for_is_told(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_pin() == installed()["nautilus_trader"]
    put_trades(tmp_path / "lake", made_trades(minutes()))
    run = write(tmp_path, {"ticks": str(tmp_path / "lake")})
    assert "versions" not in examined(cli, 0, run)
    metadata = tmp_path / "site" / "nautilus_trader-3.1.4.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: nautilus_trader\nVersion: 3.1.4\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    ((wrong, text),) = examined(cli, 1, run)["versions"]
    assert wrong
    assert f"nautilus_trader 3.1.4 is installed, but ticklake is made for {engine_pin()}" in text
