"""Hostile names of instruments: each is kept apart and found again, or refused; nothing leaves the root."""

from __future__ import annotations

import json
import os
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog_support import engine_read, put
from fetch_support import DAY, DEFINITION, START, ask, made_trades, minutes, put_trades
from lake_support import DAY as DATE
from lake_support import DAY_START, SECOND, MotoServer, RangeServer, parquet, tick_path, trades
from ticklake.backtesting import backtest
from ticklake.catalog import Catalog, verify
from ticklake.config import StorageConfig, parse_config
from ticklake.errors import CatalogConflictError, CatalogError, ConfigError
from ticklake.fetching import FetchRequest, fetch
from ticklake.lake import Lake
from ticklake.types import InstrumentKey, InstrumentSpec, Window

_SYMBOLS = [
    *("..", ".", "...", "/", "//", "/etc/passwd", "../..", "../../../../tmp/x", "..\\..\\x", "a/../b", "./a"),
    *("%2F", "%2f", "%252F", "%2e%2e%2f", "a%00b", "%", "%%", "%zz", "%E6", "a%2Fb", "a/b", "a\\b", "ab"),
    *("*", "?", "[]", "[a-z]", "*?[]\\", "{a,b}", "{}", "~", "~root", "$HOME", "$(id)", "`id`", "a;b", "a|b"),
    *("a&b", "a>b", "a<b", 'a"b', "a'b", "a#b", "a^b", "a_b", "a b", " a", "a ", "-a", "--help", "-", "_"),
    *("btc", "BTC", "Btc", "bTC", "straße", "STRASSE", "ı", "I", "i", "é", "e\u0301", "Å", "\u212b", "ﬁ"),
    *("\n", "a\nb", "\r", "\t", "\x00", "a\x00b", "\x01", "\x1b[31m", "\x7f", "\x80", "\u2028", "\u202eabc"),
    *(
        "\u200b",
        "\ufeff",
        "日本",
        "😀",
        "\ud800",
        "a:b",
        "C:",
        "C:\\x",
        "con",
        "NUL",
        "aux",
        "a.parquet",
        ".a",
    ),
    *(
        ".ticklake",
        "data",
        "a.lock",
        "a.tmp",
        "=",
        "a=b",
        "@",
        "a@b",
        "+",
        "a+b",
        "!",
        "a,b",
        "(a)",
        "0",
        "-0",
    ),
    *(
        "A" * 100,
        "A" * 200,
        "A" * 238,
        "A" * 239,
        "A" * 255,
        "A" * 300,
        "A" * 5_000,
        "日" * 25,
        "日" * 80,
        "é" * 200,
    ),
]
NAMES = [*(f"{symbol}.X" for symbol in _SYMBOLS), "a.X/../../y", "a.X/b", "a.%2F", "a.b.c.X", "a..X"]
BAD_ROW = {"price": pa.array([float("nan"), *[60_000.0] * 3])}


def below(folder: Path) -> set[str]:
    return {os.path.relpath(path, folder) for path in folder.rglob("*")}


def request_of(number: int, name: str) -> FetchRequest:
    definition = {**DEFINITION, "type": "spot", "raw_symbol": "S"}
    return ask(0, DAY, key=f"V:SPOT:S{number}", nautilus_id=name, definition=definition)


def test_hostile_instrument_ids_stay_apart_and_inside_the_root(tmp_path: Path) -> None:
    assert len(set(NAMES)) > 110
    for number in range(len(NAMES)):
        put_trades(tmp_path / "lake", made_trades(minutes(0, 4), **BAD_ROW), key=f"V:SPOT:S{number}")
    lake, catalog = Lake(tmp_path / "lake"), Catalog(tmp_path / "in" / "catalog")
    before, kept, refused = below(tmp_path), [], []
    for number, name in enumerate(NAMES):
        try:
            report = fetch(lake, catalog, [request_of(number, name)])
        except (ConfigError, CatalogError):
            refused.append(name)
        else:
            assert (report.rows, report.source_rows_quarantined) == (3, 1)
            kept.append(name)

    new = below(tmp_path) - before
    assert {Path(path).parts[:2] for path in new} <= {("in",), ("in", "catalog")}
    assert {Path(path).parts[2] for path in new if len(Path(path).parts) > 2} == {
        *("data", "quarantine", ".ticklake"),
    }
    # No folder in a folder of names: <kind>/<type>/<instrument>/<file>.
    assert max(len(Path(path).parts) for path in new) == 7
    assert len(kept) > 100
    assert set(refused) >= {"A" * 239 + ".X", "A" * 5_000 + ".X", "\ud800.X", "日" * 80 + ".X"}

    found = catalog.coverage()
    assert sorted(each.nautilus_id for each in found) == sorted(kept)
    assert all(each.windows == (Window(START, START + DAY),) for each in found)
    assert not catalog.strays()
    assert not verify(catalog).bad
    for name in kept:
        (file,) = catalog.files("trades", name)
        assert pq.read_schema(file.path).metadata[b"instrument_id"].decode() == name
        assert fetch(lake, catalog, [request_of(NAMES.index(name), name)]).requests == 0
    assert len({file.path for name in kept for file in catalog.files("trades", name)}) == len(kept)


def test_a_catalog_of_such_names_can_be_read_by_the_engine_as_a_whole(tmp_path: Path) -> None:
    names = [
        "BTC/USD.X",
        "BTCUSD.X",
        "^A.X",
        "_A.X",
        "a*?[1].X",
        "日本.X",
        "A\\B.X",
        "a\nb.X",
        "%2F.X",
        "../../x.X",
    ]
    window = Window(START, START + DAY)
    for number, name in enumerate(names):
        put(tmp_path, window, [START + number], spec=InstrumentSpec(name, 1, 3))
    found = engine_read(tmp_path, "query_trade_ticks")
    assert [each["instrument_id"] for each in found] == names


def test_two_instruments_in_one_folder_are_a_conflict(tmp_path: Path) -> None:
    """As where the file system takes upper for lower case; a link stands for that here."""
    put_trades(tmp_path / "lake", made_trades(minutes(0, 4)), key="V:SPOT:S0")
    put_trades(tmp_path / "lake", made_trades(minutes(0, 4)), key="V:SPOT:S1")
    lake, catalog = Lake(tmp_path / "lake"), Catalog(tmp_path / "catalog")
    fetch(lake, catalog, [request_of(0, "btc.X")])
    for kind in ("trades", "currency_pair"):
        (catalog.path / "data" / kind / "BTC.X").symlink_to("btc.X")
    before = below(catalog.path)
    with pytest.raises(CatalogConflictError):
        fetch(lake, catalog, [request_of(1, "BTC.X")])
    with pytest.raises(CatalogConflictError, match=r"is the folder btc\.X as well"):
        put(catalog, Window(START + DAY, START + 2 * DAY), spec=InstrumentSpec("BTC.X", 1, 3))
    assert {path for path in below(catalog.path) - before if not path.startswith(".ticklake")} == set()


def run_of(tmp_path: Path, *names: str) -> dict[str, int]:
    """Run a backtest with these instruments and return how many trades of each the strategy saw."""
    for number in range(len(names)):
        put_trades(tmp_path / "lake", made_trades(minutes(0, 10 + number)), key=f"V:SPOT:S{number}")
    (tmp_path / "counting.py").write_text(COUNTING)
    venue = {"account": "MARGIN", "book": "L1_MBP", "balances": ["1 USDT"], "fees": {"maker": 0, "taker": 0}}
    lines: list[str] = []
    backtest(
        {
            "lake": {"ticks": str(tmp_path / "lake")},
            "catalog": str(tmp_path / "catalog"),
            "runs": str(tmp_path / "runs"),
            "window": {"start": "2024-08-07", "end": "2024-08-08"},
            "instruments": [
                {
                    "key": f"V:SPOT:S{number}",
                    "nautilus_id": name,
                    "definition": {**DEFINITION, "type": "spot"},
                }
                for number, name in enumerate(names)
            ],
            "venues": {"X": venue},
            "strategies": [
                {
                    "path": "counting:Counting",
                    "config_path": "counting:CountingConfig",
                    "config": {"names": list(names)},
                }
            ],
        },
        on_output=lines.append,
    )
    return json.loads(lines[-1])


COUNTING = """
import json
from collections import Counter
from nautilus_trader.model import InstrumentId
from nautilus_trader.trading import Strategy, StrategyConfig

class CountingConfig(StrategyConfig):
    def __init__(self, names=(), **more):
        self.names = names

class Counting(Strategy):
    def __init__(self, config):
        super().__init__(config)
        self.names, self.seen = config.names, Counter()
    def on_start(self):
        for name in self.names:
            self.subscribe_trades(InstrumentId.from_str(name))
    def on_trade(self, trade):
        self.seen[trade.instrument_id.value] += 1
    def on_stop(self):
        print(json.dumps(self.seen))
"""


def test_a_run_reads_the_instrument_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("BTC/USD.X", "^A.X", "é%2F|{}.X")
    assert run_of(tmp_path, *names) == {"BTC/USD.X": 10, "^A.X": 11, "é%2F|{}.X": 12}
    # The catalog knows them apart, the engine does not.
    assert run_of(tmp_path, "BTC/USD.X") == {"BTC/USD.X": 10}
    with pytest.raises(CatalogConflictError, match=r"cannot tell BTC/USD\.X from BTCUSD\.X"):
        run_of(tmp_path, "BTC/USD.X", "BTCUSD.X")
    with pytest.raises(CatalogError, match="the engine cannot find"):
        run_of(tmp_path, "A\\B.X")


def test_hostile_lake_keys_name_one_object_or_none(tmp_path: Path) -> None:
    keys, refused = [], []
    for text in (f"V:SPOT:{symbol}" for symbol in _SYMBOLS if len(symbol) < 200):
        try:
            keys.append(InstrumentKey(text))
        except ValueError:
            refused.append(text)
            values = {**CONFIG, "instruments": [{"key": text}]}
            with pytest.raises(ConfigError, match=r"instruments\[0\]\.key"):
                parse_config(values)
    assert len(keys) > 40
    assert len(refused) > 40
    assert not {text for text in refused if text.isprintable()} & {key.text for key in keys}
    assert all(
        any(part in key for key in refused) for part in ("..", "/", "\\", "%", "*", "?", "#", "\n", "\ud800")
    )

    # Each object has as many rows as its place in the list says.
    bodies = {key.text: parquet(trades([DAY_START + SECOND] * (n + 1))) for n, key in enumerate(keys)}
    (tmp_path / "lake").mkdir()
    with MotoServer() as cloud, RangeServer() as web:
        client = boto3.client(
            "s3",
            endpoint_url=cloud.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket="bucket")
        for text, body in bodies.items():
            client.put_object(Bucket="bucket", Key=tick_path(text), Body=body, ACL="public-read")
            path = tmp_path / "lake" / tick_path(text)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        web.objects = {tick_path(text): body for text, body in bodies.items()}
        options = {"endpoint": cloud.url, "anonymous": True}
        lakes = [
            Lake("s3://bucket", storage=StorageConfig(**options, region="us-east-1")),
            Lake("gs://bucket", storage=StorageConfig(**options)),
            Lake(web.url),
            Lake(tmp_path / "lake"),
        ]
        for lake in lakes:
            for number, key in enumerate(keys):
                table = lake.scan(key, "trades", Window.of_day(DATE)).to_table()
                assert (key, table.num_rows) == (key, number + 1)
        for lake in (lakes[0], lakes[1], lakes[3]):
            assert sorted(file.instrument for file in lake.list()) == sorted(bodies)


CONFIG = {"lake": {"ticks": "lake"}, "window": {"start": "2024-08-07", "end": "2024-08-08"}}


@pytest.mark.parametrize("url", ["gs://b/../x", "s3://b/a/./b", "az://c/a//b", "s3://b/.."])
def test_a_folder_of_a_bucket_is_below_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"empty, \. or \.\. part"):
        Lake(url)
