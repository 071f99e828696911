import copy
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from ticklake.config import DialectConfig, load_config, models, parse_config
from ticklake.errors import ConfigError
from ticklake.types import DataType, Window

ROOT = Path(__file__).resolve().parents[1]
CONFIG = {
    "lake": {"ticks": "gs://market-data-tick-cefi", "instruments": "gs://instruments-store-cefi"},
    "catalog": "catalog",
    "window": {"start": "2024-08-08T23:55:00Z", "end": "2024-08-09T00:00:00Z"},
    "instruments": [
        {
            "key": "BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN",
            "data": ["trades", "book_snapshot_5"],
            "book_as": "deltas",
        }
    ],
    "venues": {
        "BINANCE": {
            "account": "MARGIN",
            "oms": "NETTING",
            "book": "L2_MBP",
            "balances": ["1_000_000 USDT"],
            "fees": {"maker": "0.0002", "taker": 0.0005},
            "latency": "5ms",
        }
    },
    "strategies": [
        {"path": "package.module:Strategy", "config_path": "package.module:StrategyConfig", "config": {}}
    ],
    "runs": "runs",
}


def changed(path, value):
    values = copy.deepcopy(CONFIG)
    *parents, last = path
    node = values
    for part in parents:
        node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    node[last] = value
    return values


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_yaml_and_json_mean_the_same(tmp_path, suffix):
    path = tmp_path / f"run.{suffix}"
    path.write_text(json.dumps(CONFIG) if suffix == "json" else yaml.safe_dump(CONFIG))
    config = load_config(path)
    assert config == parse_config(CONFIG)
    assert config.window.as_window() == Window.parse("2024-08-08T23:55:00Z", "2024-08-09")
    venue = config.venues["BINANCE"]
    assert (venue.latency, venue.fees.taker) == (5_000_000, Decimal("0.0005"))


def test_unquoted_times_keep_their_nanoseconds(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "lake: {ticks: /lake}\n"
        "window: {start: 2024-08-08T23:55:00.123456789Z, end: 2024-08-09T00:00:00Z}\n"
        "instruments: [{key: 'A:B:C'}]\n"
    )
    assert load_config(path).window.start % 1_000_000_000 == 123_456_789


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("20240808", "1970-01-01T00:00:00.020240808Z"),
        ("2024", "1970-01-01T00:00:00.000002024Z"),
        ("20240808235500", "1970-01-01T05:37:20.8082355Z"),
        ("1723161300", "1970-01-01T00:00:01.7231613Z"),
        ("1723161300000", "1970-01-01T00:28:43.1613Z"),
        ("1723161300000000", "1970-01-20T22:39:21.3Z"),
        ("23:55:00", "1970-01-01T00:00:00.0000861Z"),  # to YAML that many seconds
    ],
)
def test_a_number_that_cannot_be_meant_as_nanoseconds_is_refused_as_a_time(tmp_path, written, read):
    path = tmp_path / "run.yaml"
    path.write_text(
        "lake: {ticks: /lake}\n"
        f"window: {{start: {written}, end: 2024-08-09}}\n"
        "instruments: [{key: 'A:B:C'}]\n"
    )
    with pytest.raises(ConfigError) as failed:
        load_config(path)
    assert (
        f"window.start: a whole number is nanoseconds since 1970, and {yaml.safe_load(written)} of them"
        in str(failed.value)
    )
    assert f" are {read}, before 2000; write a day like 2024-08-08" in str(failed.value)


def test_nanoseconds_of_our_time_are_a_time():
    start = CONFIG["window"] | {"start": 1_723_161_300_000_000_000}
    assert parse_config({**CONFIG, "window": start}) == parse_config(CONFIG)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("venues", "BINANCE", "latncy"), "5ms", ["venues.BINANCE.latncy", "unknown key", "latency"]),
        (("lakes",), {}, ["lakes", "unknown key", "lake"]),
        (("lake", "storage"), {"max_retry": 1}, ["lake.storage.max_retry", "max_retries"]),
        (("instruments", 0, "definition"), {"tick": 1}, ["instruments[0].definition.tick:", "tick_size"]),
        (("window", "end"), "2024-08-08", ["window", "not after its start"]),
        (("window", "start"), "2024-08-08T23:55:00", ["window.start", "time zone"]),
        (("window", "start"), "noon", ["window.start", "ISO 8601", "'noon'"]),
        (("instruments", 0, "key"), "BTCUSDT", ["instruments[0].key", "VENUE:TYPE:SYMBOL"]),
        (("instruments", 0, "data"), ["quotes"], ["instruments[0].data[0]", "book_snapshot_N"]),
        (("instruments", 0, "data"), ["trades", "trades"], ["instruments[0]", "twice"]),
        (("instruments", 0, "data"), ["book_snapshot_5", "book_snapshot_25"], ["more than one book"]),
        (("instruments",), [], ["instruments", "empty"]),
        (("instruments",), CONFIG["instruments"] * 2, ["more than once"]),
        (("instruments", 0, "book_as"), "bars", ["instruments[0].book_as", "'deltas'", "'depth'", "'bars'"]),
        (("venues", "BINANCE", "latency"), 5, ["venues.BINANCE.latency", "5ms"]),
        (("venues", "BINANCE", "fees"), {"maker": 0}, ["venues.BINANCE.fees.taker", "required"]),
        (("strategies", 0, "path"), "package.module", ["strategies[0].path", "package.module:Name"]),
        (("lake", "layout"), "hiv", ["lake.layout", "'default' or 'hive'", "'hiv'"]),
        (("lake", "layout"), {"ticks": "x"}, ["lake.layout.instruments", "required"]),
        (
            ("instruments", 0, "dialect"),
            {"unit": "weeks", "ts_event": "t"},
            ["instruments[0].dialect.unit", "'weeks'"],
        ),
        (("on_hole",), "ignore", ["on_hole", "'stop' or 'skip'"]),
        (("instruments",), None, ["instruments: must be a list, found nothing"]),
        (("instruments", 0, "data"), [], ["instruments[0].data: is empty; name at least one"]),
        (("venues", "BINANCE", "balances"), [], ["venues.BINANCE.balances: is empty"]),
        (("venues", "BINANCE", "book"), "L3_MBO", ["venues.BINANCE.book", "'L1_MBP' or 'L2_MBP'"]),
        (("max_bad_rows",), -1, ["max_bad_rows: must be 0 or more, found -1"]),
        (("max_bad_rows",), 1.5, ["max_bad_rows: must be a whole number, found 1.5"]),
        (("lake",), "gs://bucket", ["lake: must be a mapping, found text"]),
        (("runs",), 5, ["runs: must be a path, found 5"]),
        (("catalog",), "~no-such-user/x", ["catalog", "home folder"]),
        (("catalog",), "s3://bucket/catalog", ["catalog", "folder of this machine"]),
        (("runs",), "gs://user:secret@bucket/runs", ["runs: ", "carries user info"]),
        (("runs",), Path("gs://bucket/runs"), ["runs", "folder of this machine"]),
        (("runs_storage",), {"endpont": "x"}, ["runs_storage.endpont: unknown key", "endpoint"]),
        (("engine",), {"chunk_size": 999}, ["engine.chunk_size: must be 1000 or more"]),
        (
            ("engine",),
            {"equity_interval": "1us"},
            ["engine.equity_interval: 1us is too short; 1ms is the least"],
        ),
        (("lake", "partition_slack"), "25h", ["lake.partition_slack: 25h is too long; 24h is the most"]),
        ((5,), "x", ["a key must be text, found 5"]),
        (
            ("instruments",),
            [{"key": f"A:B:{symbol}", "nautilus_id": "X.Y"} for symbol in "CD"],
            ["nautilus_id X.Y more than once"],
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_path_what_was_found_and_what_is_allowed(path, value, words):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(path, value))
    text = str(caught.value)
    for word in words:
        assert word in text


def test_a_misspelt_key_is_told_with_the_one_that_was_meant():
    values = {("windw" if key == "window" else key): value for key, value in CONFIG.items()}
    values["venues"] = {"BINANCE": {**CONFIG["venues"]["BINANCE"], "latncy": "5ms"}}
    with pytest.raises(ConfigError) as failed:
        parse_config(values)
    assert str(failed.value).splitlines()[1:] == [
        "  window: is required",
        "  venues.BINANCE.latncy: unknown key; did you mean latency?",
        "  windw: unknown key; did you mean window?",
    ]


def test_the_keys_of_another_file_are_told_together():
    others = {f"figure_{number}": number for number in range(29)} | {"max_drawdown": 1}
    instruments = [{**CONFIG["instruments"][0], "foo": 1, "bar": 2}]
    with pytest.raises(ConfigError) as failed:
        parse_config({**CONFIG, **others, "instruments": instruments})
    first, *lines = str(failed.value).splitlines()
    assert first == "the config has 2 problems:"
    assert sorted(line.partition("; allowed here: ")[0] for line in lines) == [
        "  figure_0, figure_1, figure_2, figure_3, figure_4 and 25 more: unknown keys",
        "  instruments[0].foo, instruments[0].bar: unknown keys",
    ]
    assert str(failed.value).count("catalog_format") == 1


def test_a_wrong_entry_of_a_list_does_not_make_it_empty():
    with pytest.raises(ConfigError) as failed:
        parse_config(changed(("instruments", 0, "data"), ["trade"]))
    assert str(failed.value).startswith("the config has 1 problem:\n  instruments[0].data[0]: 'trade' is not")


def test_all_problems_are_told_at_once():
    values = changed(("foo",), 1)
    values["window"]["start"] = "x"
    values["instruments"][0]["bar"] = 2
    with pytest.raises(ConfigError, match="3 problems"):
        parse_config(values)


def test_secrets_are_neither_shown_nor_echoed_in_errors():
    secret = "canary-4711"
    config = parse_config(changed(("lake", "storage"), {"secret_access_key": secret, "account_key": secret}))
    assert secret not in repr(config) + str(config) + config.model_dump_json()
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(("lake", "storage"), {"secret_access_key": [secret], "max_retries": secret}))
    assert secret not in str(caught.value)
    assert "lake.storage.secret_access_key" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse_config({**CONFIG, "lake": f"s3://key:{secret}@bucket"})
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window: {start: 1", "not valid YAML"),
        ("- a\n- b\n", "list, not a mapping"),
        ("", "holds nothing, not a mapping"),
        ("? [a, b]\n: c\n", "line 1, column 3: a key must be text"),
        ("{[a]: 1}", "a key must be text"),
        ("<<: 5", "not valid YAML"),
        ("runs: a\nruns: b\n", "stands twice"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_files_that_are_no_config_are_refused(tmp_path, text, words):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_a_json_file_with_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"runs": "a", "runs": "b"}')
    with pytest.raises(ConfigError, match="'runs' stands twice"):
        load_config(path)


@pytest.mark.parametrize("line", ["secret_access_key: canary-4711", "secret_access_key: [canary-4711"])
def test_a_line_that_is_no_yaml_is_named_but_not_shown(tmp_path, line):
    path = tmp_path / "run.yaml"
    path.write_text(f"secret_access_key: canary-4711\n{line}\n")
    with pytest.raises(ConfigError, match=r"line \d") as caught:
        load_config(path)
    assert "canary" not in str(caught.value)


def test_merge_keys_are_laid_under_a_mapping_s_own(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "lake: {ticks: /lake}\n"
        "window: {start: 2024-08-08, end: 2024-08-09}\n"
        # The second is used before it is constructed, and merges two levels.
        "instruments:\n"
        "  - &first {key: 'A:B:C', definition: &coin {<<: &base {type: spot, base: C, quote: D,\n"
        "      raw_symbol: CD, tick_size: 1, min_size: 1}, min_size: 2}}\n"
        "  - {<<: *first, key: 'A:B:E', definition: {<<: *coin, base: E}}\n"
    )
    first, second = load_config(path).instruments
    assert (first.key, second.key) == ("A:B:C", "A:B:E")
    assert (first.definition.base, first.definition.min_size) == ("C", 2)
    assert (second.definition.base, second.definition.min_size, second.definition.quote) == ("E", 2, "D")


def test_folders_under_the_user_s_home_are_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = parse_config({**CONFIG, "catalog": "~/catalog", "runs": "~/runs"})
    assert (config.catalog, config.runs) == (tmp_path / "catalog", tmp_path / "runs")


def test_a_spot_pair_is_never_inverse():
    definition = {
        "type": "spot",
        "base": "BTC",
        "quote": "USDT",
        "raw_symbol": "BTCUSDT",
        "tick_size": "0.01",
        "min_size": "0.001",
    }
    parse_config(changed(("instruments", 0, "definition"), definition))
    with pytest.raises(ConfigError, match=r"instruments\[0\]\.definition: inverse"):
        parse_config(changed(("instruments", 0, "definition"), {**definition, "inverse": True}))


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no config .*none\.yaml\. Check the path"):
        load_config(tmp_path / "none.yaml")


def test_what_cannot_be_a_config_is_told_without_numbers_of_errors(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"lake: \xff")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, told in (
        (".", "is a folder, not a config. Name a YAML or JSON file."),
        ("run.yaml", "is no text in UTF-8. Save it as UTF-8."),
        ("loop.yaml", "cannot be read: too many levels of symbolic links ("),
    ):
        with pytest.raises(ConfigError) as failed:
            load_config(tmp_path / name)
        assert told in str(failed.value)
        assert "Errno" not in str(failed.value)


YAML_BLOCKS = [
    pytest.param(text, id=f"{page.name}-{index}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for index, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("text", YAML_BLOCKS)
def test_yaml_in_the_docs_is_valid(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    load_config(path)


def documented_defaults():
    """The keys of the tables in docs/config.md that have a default, and the default."""
    text = (ROOT / "docs" / "config.md").read_text()
    run, storage = text.split("## Store options")
    for prefix, section in (("", run), ("lake.storage.", storage)):
        for keys, defaults in re.findall(r"^\| (`[^|]+`) \| (`[^|]+`) \|", section, re.MULTILINE):
            names, values = re.findall(r"`(.*?)`", keys), re.findall(r"`(.*?)`", defaults)
            yield from zip((prefix + name for name in names), values, strict=True)


def test_the_defaults_in_the_docs_are_those_of_the_code():
    minimal = {
        "lake": {"ticks": "x"},
        "window": CONFIG["window"],
        "instruments": [{"key": "A:B:C"}],
        "venues": {"NAME": {"account": "CASH", "balances": ["1 USDT"], "fees": {"maker": 0, "taker": 0}}},
        "strategies": [{"path": "a:B", "config_path": "a:C"}],
    }
    documented = dict(documented_defaults())
    assert {"engine.chunk_size", "venues.NAME.latency", "lake.storage.connect_timeout"} <= documented.keys()
    values = parse_config(minimal).model_dump(mode="json")
    for path, default in documented.items():
        value = values
        for part in path.split("."):
            value = value[part.removesuffix("[]")]
            value = value[0] if part.endswith("[]") else value
        assert value == type(value)(yaml.safe_load(default)), path


def test_every_key_is_in_the_docs():
    text = (ROOT / "docs" / "config.md").read_text()
    # Those of dialects are in a page of their own.
    for model in {getattr(models, name) for name in models.__all__} - {DialectConfig}:
        for name in model.model_fields:
            assert re.search(rf"[`.]{name}[`.\[]", text), f"{model.__name__}.{name}"


def test_one_mapping_serves_all_data_types_or_each_has_its_own():
    mapping = {"unit": "us", "ts_event": "t", "price": "px", "size": "qty"}
    one = parse_config(changed(("instruments", 0, "dialect"), mapping)).instruments[0]
    assert one.dialect_for(DataType("trades")).price == "px"
    each = parse_config(changed(("instruments", 0, "dialect"), {"trades": mapping})).instruments[0]
    assert each.dialect_for(DataType("trades")).price == "px"
    assert each.dialect_for(DataType("book_snapshot_5")) is None
