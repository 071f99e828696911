import copy
import json
from decimal import Decimal

import pytest
import yaml

from ticklake.config import load_config, parse_config
from ticklake.errors import ConfigError
from ticklake.types import DataType, Window

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
    ],
)
def test_a_wrong_value_is_named_with_its_path_what_was_found_and_what_is_allowed(path, value, words):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(path, value))
    text = str(caught.value)
    for word in words:
        assert word in text


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window: {start: 1", "not valid YAML"),
        ("- a\n- b\n", "list, not a mapping"),
        ("runs: a\nruns: b\n", "stands twice"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_files_that_are_no_config_are_refused(tmp_path, text, words):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_config(path)


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.yaml")


def test_one_mapping_serves_all_data_types_or_each_has_its_own():
    mapping = {"unit": "us", "ts_event": "t", "price": "px", "size": "qty"}
    one = parse_config(changed(("instruments", 0, "dialect"), mapping)).instruments[0]
    assert one.dialect_for(DataType("trades")).price == "px"
    each = parse_config(changed(("instruments", 0, "dialect"), {"trades": mapping})).instruments[0]
    assert each.dialect_for(DataType("trades")).price == "px"
    assert each.dialect_for(DataType("book_snapshot_5")) is None
