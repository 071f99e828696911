"""A canary secret is searched for in everything that failing and succeeding runs leave."""

from __future__ import annotations

import base64
import json
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from cli_support import Cli, cli
from fetch_support import (
    BTC_PERP,
    DAY,
    DEFINITION,
    INSTRUMENTS,
    START,
    TICKS,
    ask,
    cloud_of,
    made_trades,
    minutes,
    put_trades,
)
from lake_support import PERP, Answer, RangeServer, Request
from ticklake.catalog import Catalog
from ticklake.config import RunConfig, StorageConfig, parse_config, parse_storage, read_values
from ticklake.errors import ConfigError, TicklakeError
from ticklake.fetching import fetch, plan_fetch
from ticklake.lake import Lake
from ticklake.types import Window

__all__ = ["cli"]

CANARY = "CANARY0123456789canary"
WINDOW = Window(START, START + DAY)
FORMS = (CANARY, base64.b64encode(CANARY.encode()).decode().rstrip("="))
S3 = {"region": "us-east-1"}
S3_KEYS = {"access_key_id": CANARY, "secret_access_key": CANARY, "session_token": CANARY}
AWS = {"AWS_ACCESS_KEY_ID": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_SESSION_TOKEN": CANARY}


@pytest.fixture(autouse=True)
def no_ambient_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)


def chain(exc: BaseException | None) -> Iterator[BaseException]:
    if exc is not None:
        yield exc
        yield from chain(exc.__cause__)
        yield from chain(exc.__context__)


def told_by(exc: BaseException) -> str:
    """Return all that an exception and those behind it say in a log, or send to another process."""
    parts = ["".join(traceback.format_exception(exc)), repr(pickle.dumps(exc))]
    for each in chain(exc):
        parts += [
            str(each),
            repr(each),
            repr(each.args),
            repr(vars(each)),
            repr(each.__notes__ if hasattr(each, "__notes__") else ""),
        ]
    return "\n".join(parts)


def told_by_folder(folder: Path) -> str:
    """Return the names and contents of all files, and what is compressed in them."""
    parts = []
    for path in folder.rglob("*"):
        parts.append(str(path))
        if path.is_file():
            parts.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet":
            parts += [repr(pq.read_metadata(path).metadata), repr(pq.ParquetFile(path).read().to_pylist())]
    return "\n".join(parts)


def assert_clean(*texts: object) -> None:
    for text in map(str, texts):
        for form in FORMS:
            at = text.find(form)
            assert at < 0, text[max(0, at - 300) : at + 100]


def reading(url: str, storage: dict[str, Any]) -> Callable[[], object]:
    return lambda: (
        Lake(url, storage=StorageConfig(**{"max_retries": 0, **storage})).scan(PERP, "trades", WINDOW).plan()
    )


KEY_FILE = {
    "type": "service_account",
    "private_key_id": CANARY,
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n",
    "client_email": f"{CANARY}@example.com",
    "token_uri": "https://localhost:1/token",
}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "s3": ("s3://bucket", {**S3, **S3_KEYS, "endpoint": "{server}"}, {}),
    "s3 of the environment": ("s3://bucket", {**S3, "endpoint": "{server}"}, AWS),
    "s3, endpoint of the environment": (
        "s3://bucket",
        S3,
        {**AWS, "AWS_ENDPOINT_URL": f"http://me:{CANARY}@localhost:1", "AWS_ALLOW_HTTP": "true"},
    ),
    "s3, container": (
        "s3://bucket",
        S3,
        {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost:1/x",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": CANARY,
            "AWS_METADATA_ENDPOINT": "http://localhost:1",
        },
    ),
    "gs": ("gs://bucket", {"bearer_token": CANARY, "endpoint": "{server}"}, {}),
    "gs, key file": ("gs://bucket", {"service_account": "{file}"}, {}),
    "gs, no key file": ("gs://bucket", {"service_account": "{file}"}, {"CONTENT": json.dumps(CANARY)}),
    "gs, key file of another kind": (
        "gs://bucket",
        {},
        {"GOOGLE_APPLICATION_CREDENTIALS": "{file}", "CONTENT": json.dumps({"type": CANARY})},
    ),
    "gs, content for a path": ("gs://bucket", {}, {"GOOGLE_SERVICE_ACCOUNT": json.dumps(KEY_FILE)}),
    "gs, content for a path of all": (
        "gs://bucket",
        {},
        {"GOOGLE_APPLICATION_CREDENTIALS": json.dumps(KEY_FILE)},
    ),
    "gs, key of the environment": ("gs://bucket", {}, {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(KEY_FILE)}),
    "gs, text of the environment": ("gs://bucket", {}, {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(CANARY)}),
    "az, key": (
        "az://box",
        {"account_name": "me", "account_key": FORMS[1] + "==", "endpoint": "{server}"},
        {},
    ),
    "az, bad key": ("az://box", {"account_name": "me", "account_key": CANARY}, {}),
    "az, SAS": (
        "az://box",
        {"account_name": "me", "sas_token": f"sv=1&sig={CANARY}", "endpoint": "{server}"},
        {},
    ),
    "az, token": ("az://box", {"account_name": "me", "bearer_token": CANARY, "endpoint": "{server}"}, {}),
    "az, SAS of the environment": (
        "az://box",
        {"endpoint": "{server}"},
        {"AZURE_STORAGE_ACCOUNT_NAME": "me", "AZURE_STORAGE_SAS_TOKEN": f"sv=1&sig={CANARY}"},
    ),
    "az, no such host": ("az://box", {"account_name": "me.invalid", "sas_token": f"sv=1&sig={CANARY}"}, {}),
    "line break": (
        "s3://bucket",
        {**S3, "endpoint": "{server}"},
        {**AWS, "AWS_SESSION_TOKEN": f"{CANARY}\n"},
    ),
    "user info": (f"https://me:{CANARY}@localhost:1/x", {}, {}),
    "user info, not quoted": (f"https://me:x/{CANARY}@localhost:1/x", {}, {}),
    "user info, odd": (f"https://me:{CANARY}@localhost\uff0f1/x", {}, {}),
    "query": (f"https://localhost:1/x?sig={CANARY}", {}, {}),
    "fragment": (f"gs://bucket/x#{CANARY}", {}, {}),
}


def refusing(status: int) -> Callable[[RangeServer], None]:
    def prepare(server: RangeServer) -> None:
        server.status[""] = status

    return prepare


def redirecting(server: RangeServer) -> None:
    def meddle(_: Request, answer: Answer) -> None:
        answer.status = 301
        answer.headers["Location"] = f"http://me:{CANARY}@127.0.0.1:1/?sig={CANARY}"

    server.meddle = meddle


def hanging_up(server: RangeServer) -> None:
    def meddle(_: Request, answer: Answer) -> None:
        answer.status, answer.body, answer.hang_up = None, b"", True

    server.meddle = meddle


ANSWERS = [*map(refusing, (400, 401, 403, 412, 416, 500, 503)), redirecting, hanging_up]


@pytest.mark.parametrize("case", CASES)
def test_no_failure_tells_a_secret(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, storage, environment = CASES[case]
    file = tmp_path / "key.json"
    content = environment.get("CONTENT", json.dumps(KEY_FILE))
    file.write_text(content)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("{file}", str(file)))
    # Only what asks the server can be answered in several ways.
    for answer in ANSWERS if storage.get("endpoint") else ANSWERS[:1]:
        with RangeServer() as server:
            # Stores quote what was signed, and with which key.
            server.body = f"<Error><Code>{CANARY}</Code><Signed>{CANARY} {FORMS[1]}</Signed></Error>".encode()
            answer(server)
            options = {
                name: value.format(server=server.url, file=file) if "{" in str(value) else value
                for name, value in storage.items()
            }
            with pytest.raises((TicklakeError, ValueError)) as caught:
                reading(url, options)()
            assert_clean(told_by(caught.value))


@pytest.mark.parametrize(
    "values",
    [
        {"lake": f"https://me:{CANARY}@host/x"},
        {"lake": {"ticks": f"https://me:{CANARY}@host/x"}},
        {"lake": {"ticks": "gs://b", "instruments": f"https://host/x?sig={CANARY}"}},
        {"lake": {"ticks": "gs://b", "access_key_id": CANARY}},
        *(
            {"lake": {"ticks": "gs://b", "storage": storage}}
            for storage in (
                CANARY,
                [CANARY],
                {"access_key_id": [CANARY]},
                {"secret_access_key": f"{CANARY}\n"},
                {"sas_token": f"é{CANARY}"},
                {"anonymous": CANARY},
                {"endpoint": f"https://me:{CANARY}@host"},
                {"endpoint": f"https://host?{CANARY}"},
                {"service_account": json.dumps(KEY_FILE)},
                {"service_account": [CANARY]},
            )
        ),
    ],
)
def test_no_bad_config_tells_a_secret(values: dict[str, Any], tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**config(tmp_path), **values}))
    for command in ("fetch", "backtest", "doctor", "verify"):
        assert_clean(*cli(2, command, str(path)))
    with pytest.raises(ConfigError) as caught:
        parse_config({**config(tmp_path), **values})
    assert_clean(told_by(caught.value))
    storage = (
        values["lake"]["storage"]
        if isinstance(values["lake"], dict) and "storage" in values["lake"]
        else None
    )
    if isinstance(storage, dict):
        with pytest.raises(ValidationError) as of_model:
            StorageConfig(**storage)
        assert_clean(str(of_model.value), repr(of_model.value))
        with pytest.raises(ConfigError) as caught:
            parse_storage(storage)
        assert_clean(told_by(caught.value))


@pytest.mark.parametrize(
    "text",
    ["a: *{}", "a: &{} 1\nb: &{} 2", "a: !{} x", "a: !x!{} y", "a: !!int {}", "a: !!timestamp {}", "a: [{}",
     "a: '{}", 'a: "\\{}"', "a: |{}", "a: %{}", "a: {{{}: }} }}", "- {}", "{}"],
)  # fmt: skip
def test_no_broken_file_tells_a_secret(tmp_path: Path, text: str) -> None:
    for suffix in ("yaml", "json"):
        path = tmp_path / f"run.{suffix}"
        path.write_text(text.format(*[CANARY] * text.count("{}")))
        with pytest.raises(ConfigError) as caught:
            read_values(path)
        assert_clean(told_by(caught.value))


def test_no_flag_tells_a_secret(cli: Cli) -> None:
    for arguments in (
        ["ls", f"https://me:{CANARY}@localhost:1/x"],
        ["ls", f"https://localhost:1/x?sig={CANARY}"],
        ["ls", "s3://b", "--storage", CANARY],
        ["ls", "s3://b", "--storage", f"secret_key={CANARY}"],
        ["ls", "s3://b", "--storage", f"secret_access_key={CANARY}\n"],
        ["ls", "s3://b", "--storage", f"endpoint=http://me:{CANARY}@localhost:1"],
    ):
        assert_clean(*cli(2, *arguments))


def config(folder: Path) -> dict[str, Any]:
    venue = {"account": "MARGIN", "book": "L1_MBP", "balances": ["1 USDT"], "fees": {"maker": 0, "taker": 0}}
    return {
        "lake": {"ticks": "s3://market-data-tick-cefi", "storage": {**S3, **S3_KEYS}},
        "catalog": str(folder / "left" / "catalog"),
        "runs": str(folder / "left" / "runs"),
        "window": {"start": "2024-08-07", "end": "2024-08-08"},
        "instruments": [{"key": BTC_PERP, "definition": DEFINITION}],
        "venues": {"BINANCE": venue},
        "strategies": [{"path": "silent:Silent", "config_path": "silent:SilentConfig"}],
    }


SILENT = """
from nautilus_trader.trading import Strategy, StrategyConfig
class SilentConfig(StrategyConfig): pass
class Silent(Strategy): pass
"""


def test_no_run_leaves_a_secret(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    put_trades(tmp_path / "lake" / TICKS, made_trades([*minutes(), None]))
    (tmp_path / "lake" / INSTRUMENTS).mkdir()
    (tmp_path / "silent.py").write_text(SILENT)
    values, path = config(tmp_path), tmp_path / "run.yaml"
    for name in ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    monkeypatch.setenv("RUST_LOG", "trace")
    with cloud_of(tmp_path / "lake") as server:
        values["lake"]["storage"]["endpoint"] = server.url
        path.write_text(yaml.safe_dump(values))
        told = [
            *cli(0, "doctor", str(path)),
            *cli(0, "fetch", str(path), "--dry-run"),
            *cli(0, "backtest", str(path)),
            *cli(0, "fetch", str(path), "--refresh", "--json"),
        ]
        assert all(
            "x-amz-security-token" in one.headers for one in server.requests.log if one.method != "HEAD"
        )
    # The store is gone: a failing fetch over a catalog that is there.
    told += cli(1, "fetch", str(path), "--refresh", "--storage", "max_retries=0")
    told += cli(1, "doctor", str(path))
    left = tmp_path / "left"
    assert len(list(left.rglob("*.parquet"))) > 8
    assert list(left.rglob("report.html"))
    assert list((left / "catalog" / "quarantine").rglob("*.parquet"))
    assert_clean(*told, told_by_folder(left))


def test_no_public_object_shows_or_sends_a_secret(tmp_path: Path) -> None:
    put_trades(tmp_path / "lake", made_trades(minutes()))
    storage = StorageConfig(**S3_KEYS, account_key=CANARY, sas_token=CANARY, bearer_token=CANARY)
    settings = parse_config(
        {**config(tmp_path), "lake": {"ticks": str(tmp_path / "lake"), "storage": S3_KEYS}}
    )
    lake, catalog = Lake(tmp_path / "lake", storage=storage), Catalog(tmp_path / "catalog")
    (tmp_path / "silent.py").write_text(SILENT)
    plan = plan_fetch(lake, catalog, [ask(0, DAY)])
    report = fetch(lake, catalog, [ask(0, DAY)])
    scan = lake.scan(BTC_PERP, "trades", WINDOW)
    objects = [storage, settings, settings.lake, lake, lake.layout, catalog, plan, report, scan, ask(0, DAY)]
    objects += [scan.plan(), scan.to_table().schema, next(lake.list()), lake.transfer]
    for each in objects:
        assert_clean(repr(each), str(each))
    for each in (storage, settings, settings.lake, lake, report, scan.plan(), ask(0, DAY)):
        assert_clean(pickle.dumps(each))
    assert_clean(settings.model_dump_json(), settings.model_dump(mode="json"))


def test_what_is_sent_to_another_process_works_there_with_its_own_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = {"access_key_id": CANARY, "secret_access_key": CANARY, "region": "r-1", "max_retries": 0}
    with RangeServer() as server:
        lake = Lake("s3://bucket/in", storage=StorageConfig(**storage, endpoint=server.url), layout="hive")
        sent = pickle.loads(pickle.dumps(lake))
        assert repr(sent) == repr(lake)
        assert sent.layout == lake.layout
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AMBIENT")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
        for each in (lake, sent):
            assert not each.scan(BTC_PERP, "trades", WINDOW).plan().objects
        keys = [
            request.headers["authorization"].split("Credential=")[1].split("/")[0]
            for request in server.requests.log
        ]
        assert set(keys[: len(keys) // 2]) == {CANARY}
        assert set(keys[len(keys) // 2 :]) == {"AMBIENT"}
        assert {request.path.split("/")[1] for request in server.requests.log} == {"in"}

    values = config(Path("x"))
    again: RunConfig = pickle.loads(pickle.dumps(parse_config(values)))
    assert again.lake.storage == StorageConfig(**S3)
    assert again.model_copy(update={"lake": None}) == parse_config(values).model_copy(update={"lake": None})
    assert pickle.loads(pickle.dumps(StorageConfig(anonymous=True))) == StorageConfig(anonymous=True)
