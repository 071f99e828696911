"""What surrounds stores: the standard environment, forks and the end of the process."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake_support import RangeServer
from store_support import CANARY, CONTENT, store
from ticklake.errors import (
    ConfigError,
)
from ticklake.lake.loop import run


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        server.objects["a/f"] = server.objects["bucket/a/f"] = CONTENT
        yield server


class TestEnvironment:
    """What is not in the config comes from each cloud's standard environment."""

    def test_aws(self, server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENVIRONMENT")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
        monkeypatch.setenv("AWS_REGION", "eu-central-7")
        assert run(store("s3://bucket", endpoint=server.url).read_all("a/f")).data == CONTENT
        signed = server.requests.log[0].headers["authorization"]
        assert "Credential=AKENVIRONMENT/" in signed
        assert "/eu-central-7/s3/" in signed
        own = {"access_key_id": "AKCONFIG", "secret_access_key": "x", "region": "r-1"}
        run(store("s3://bucket", endpoint=server.url, **own).read_all("a/f"))
        signed = server.requests.log[1].headers["authorization"]
        assert "Credential=AKCONFIG/" in signed
        assert "/r-1/s3/" in signed
        run(store("s3://bucket", endpoint=server.url, anonymous=True).read_all("a/f"))
        assert "authorization" not in server.requests.log[2].headers

    def test_an_endpoint_from_the_environment_is_used_but_plain_http_needs_leave(
        self, server: RangeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        with pytest.raises(ConfigError, match=r"set lake\.storage\.allow_http: true"):
            run(store("s3://bucket", anonymous=True).read_all("a/f"))
        assert run(store("s3://bucket", anonymous=True, allow_http=True).read_all("a/f")).data == CONTENT

    @pytest.mark.parametrize("way", ["environment", "config", "gcloud"])
    def test_google_service_account(
        self, server: RangeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        key = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
        key.parent.mkdir(parents=True)
        key.write_text(json.dumps(service_account()))
        options: dict[str, object] = {"endpoint": server.url}
        if way == "environment":
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
        else:
            monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
        if way == "config":
            options["service_account"] = key
        assert run(store("gs://bucket", **options).read_all("a/f")).data == CONTENT
        scheme, _, token = server.requests.log[0].headers["authorization"].partition(" ")
        assert scheme == "Bearer"
        claims = token.split(".")[1]
        assert (
            json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iss"] == "me@example.com"
        )

    def test_azure(self, server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "environment")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"key").decode())
        assert run(store("az://bucket", endpoint=server.url).read_all("a/f")).data == CONTENT
        assert server.requests.log[0].headers["authorization"].startswith("SharedKey environment:")


def service_account() -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "private_key": pem,
        "private_key_id": "1",
        "client_email": "me@example.com",
        "client_id": "1",
    }


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from ticklake.config import StorageConfig
from ticklake.lake import Store, StoreUrl, Transfer
from ticklake.lake.loop import run
store = Store(StoreUrl.parse("memory://x"), StorageConfig(), Transfer())
store.put("f", b"1")
if (child := os.fork()) == 0:
    try:
        run(store.read_all("f"))
    except OSError as exc:
        print(exc, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(bytes(run(store.read_all("f")).data))
"""


def test_a_forked_child_is_told_and_does_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK], capture_output=True, text=True, timeout=30, check=True
    )
    assert "do not survive a fork" in done.stdout
    assert "b'1'" in done.stdout
    assert done.stderr == ""


SHORT = """
from ticklake.config import StorageConfig
from ticklake.lake import Store, StoreUrl, Transfer
from ticklake.lake.loop import run
store = Store(StoreUrl.parse("memory://x"), StorageConfig(), Transfer())
store.put("f", b"1")
print(len(list(store.list(""))), bytes(run(store.read_all("f")).data))
"""


def test_a_script_that_ends_right_after_a_request_ends_well() -> None:
    # obstore's threads can take a process down at its end, 1 in 20 on a busy machine: hence several at once.
    command = [sys.executable, "-W", "error", "-c", SHORT]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(12)
    ]
    ends = [(*process.communicate(timeout=60), process.returncode) for process in running]
    assert ends == [("1 b'1'\n", "", 0)] * 12
