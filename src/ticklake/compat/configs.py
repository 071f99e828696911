"""The JSON configs of such code as run configs: what each key becomes, and which keys have no equivalent.

Pure, but for the bucket places that the environment names. `docs/migrating.md` lists the keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from ticklake.compat.buckets import Buckets, bucket_place
from ticklake.errors import ConfigError
from ticklake.instruments import venue_of
from ticklake.types import InstrumentKey, Moment

__all__ = ["DataSource", "SnapshotMode", "Translation", "translate"]

type DataSource = Literal["gcs", "local", "auto"]
type SnapshotMode = Literal["trades", "book", "both"]

_TICKS = "raw_tick_data/by_date/day-{date}/data_type-{data_type}/{instrument}.parquet"
_INSTRUMENTS = "instrument_availability/by_date/day-{date}/instruments.parquet"
_KINDS = {"PERPETUAL": "perpetual", "SPOT": "spot", "SPOT_PAIR": "spot"}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}|(?<=day[-=])\*")
_DATA_TYPE = re.compile(r"trades|book_snapshot_\d+")
# What such code assumes where its config is silent.
_MAKER_FEE, _TAKER_FEE = "0.0002", "0.0004"
# Switches for what ticklake does in any case, and the setting that says so.
_SWITCHES = {
    "UNIFIED_CLOUD_SERVICES_USE_PARQUET": True,
    "UNIFIED_CLOUD_SERVICES_USE_DIRECT_GCS": True,
    "USE_GCS_FUSE": False,
}


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of a config.

    Attributes:
        values: The run config, for `ticklake.parse_config`.
        without_equivalent: The keys that have none, each with its value's kind or why.
        notes: What else a user should know, in sentences.
    """

    values: dict[str, Any]
    without_equivalent: tuple[str, ...]
    notes: tuple[str, ...]


class _Old:
    """An old config, whose keys are struck off as they are taken."""

    def __init__(self, values: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.notes: list[str] = []
        self._environ = environ
        self._left = {
            (section, key): value
            for section, content in values.items()
            for key, value in (content.items() if isinstance(content, Mapping) else [("", content)])
        }

    def take(self, section: str, *keys: str) -> Any:
        """Return the value of the first of some keys that is there, and strike all of them off."""
        found = [self._left.pop((section, key), None) for key in keys]
        return next((value for value in found if value is not None), None)

    def look(self, section: str, key: str) -> str:
        """Return the text of a value without striking it off; empty where there is none."""
        return str(self._left.get((section, key)) or "")

    def environment(self, key: str) -> Any:
        """Return what the environment says, or else the config's section of that name."""
        told = self.take("environment", key)
        return self._environ.get(key) or told

    @property
    def left(self) -> tuple[str, ...]:
        """The keys that nobody took."""
        return tuple(f"{section}.{key}".removesuffix(".") for section, key in self._left)


def translate(
    old: Mapping[str, Any],
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    snapshot_mode: SnapshotMode | None = None,
    data_source: DataSource = "auto",
    buckets: Buckets | None = None,
    environ: Mapping[str, str] | None = None,
) -> Translation:
    """Return the run config that a config of such code amounts to.

    Args:
        old: Its keys and values.
        start: Start of the window, inclusive; by default the config's.
        end: End of the window, exclusive; by default the config's.
        snapshot_mode: What is replayed; by default both where the config names a book, or else trades.
        data_source: `gcs` reads the bucket, `local` the folder that the config names, `auto` the bucket if it
            names one.
        buckets: Where buckets are; None asks the environment.
        environ: Variables that count more than the config's section `environment`.

    Raises:
        ConfigError: What is needed is missing, or contradicts itself. Values are not validated yet.
    """
    taken = _Old(old, environ or {})
    paths = _paths(taken)
    key = _key(taken, paths)
    data, has_book = _data(paths, snapshot_mode)
    lake = _lake(taken, paths, data_source, buckets)
    instrument: dict[str, Any] = {"key": key.text, "data": data}
    if nautilus_id := _nautilus_id(taken):
        instrument["nautilus_id"] = nautilus_id
    if has_book:
        instrument["book_as"] = "deltas"
    definition = _definition(taken, key)
    if "instruments" in lake:
        taken.notes.append("instrument: precisions and increments are those of the lake's instrument list")
    else:
        instrument["definition"] = definition
    name = nautilus_id.rpartition(".")[2] if nautilus_id else venue_of(key)
    window = {
        "start": start if start is not None else taken.take("time_window", "start"),
        "end": end if end is not None else taken.take("time_window", "end"),
    }
    taken.take("time_window", "start", "end")
    values = {
        "lake": lake,
        "catalog": str(_catalog(taken)),
        "window": window,
        "instruments": [instrument],
        "venues": {name: _venue(taken, name, has_book=has_book)},
        "strategies": _strategies(taken, nautilus_id),
    }
    if level := taken.take("environment", "log_level", "LOG_LEVEL"):
        values["engine"] = {"log_level": str(level).upper()}
    for switch, usual in _SWITCHES.items():
        if _truth(said := taken.take("environment", switch)) not in (None, usual):
            taken.notes.append(f"environment.{switch}: {said} has no equivalent; ticklake goes by {usual}")
    return Translation(values, taken.left, tuple(taken.notes))


def _truth(value: Any) -> bool | None:
    return None if value is None else str(value).lower() in ("true", "1", "yes")


def _paths(old: _Old) -> dict[str, str]:
    found = {
        name: old.take("data_catalog", key)
        for name, key in (("trades", "trades_path"), ("book", "book_snapshot_5_path"))
    }
    pattern = old.take("data_catalog", "instrument_file_pattern")
    old.take("data_catalog", "auto_discover")  # days are found by their names in any case
    if pattern:
        found["pattern"] = pattern
    return {name: str(path) for name, path in found.items() if path}


def _key(old: _Old, paths: Mapping[str, str]) -> InstrumentKey:
    """Return the lake's key: of the instrument, or of the names of its files."""
    texts = [old.take("instrument", "key", "lake_key", "instrument_key"), old.look("instrument", "id")]
    texts += [path.rpartition("/")[2].removesuffix(".parquet") for path in paths.values()]
    keys: list[InstrumentKey] = []
    for text in texts:
        try:
            keys.append(InstrumentKey(str(text or "")))
        except ValueError:
            continue
    if not keys:
        raise ConfigError(
            "nothing in the config is the lake's key of the instrument",
            hint="Set instrument.key to it, like BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN.",
        )
    if other := next((key for key in keys if not key.matches(keys[0])), None):
        raise ConfigError(f"the config speaks of two instruments: {keys[0]} and {other}")
    return next((key for key in keys if key.margin), keys[0])


def _nautilus_id(old: _Old) -> str | None:
    for text in (old.take("instrument", "nautilus_id"), old.take("instrument", "id")):
        symbol, _, venue = str(text or "").rpartition(".")
        if symbol and venue and ":" not in str(text):
            return str(text)
    return None


def _data(paths: Mapping[str, str], mode: SnapshotMode | None) -> tuple[list[str], bool]:
    """Return what is replayed, and whether a book is."""
    if mode not in (None, "trades", "book", "both"):
        raise ConfigError(f"snapshot_mode is {mode!r}, not one of trades, book, both")
    mode = mode or ("both" if "book" in paths else "trades")
    named = re.search(r"book_snapshot_\d+", paths.get("book", ""))
    book = named[0] if named else "book_snapshot_5"
    return {"trades": ["trades"], "book": [book], "both": ["trades", book]}[mode], mode != "trades"


def _lake(old: _Old, paths: Mapping[str, str], source: DataSource, buckets: Buckets | None) -> dict[str, Any]:
    if source not in ("gcs", "local", "auto"):
        raise ConfigError(f"data_source is {source!r}, not one of gcs, local, auto")
    bucket = old.take("data_catalog", "gcs_bucket", "bucket")
    bucket = old.environment("UNIFIED_CLOUD_SERVICES_GCS_BUCKET") or bucket
    lists = old.take("data_catalog", "instruments_bucket")
    lists = old.environment("INSTRUMENTS_BUCKET") or lists
    folder = old.environment("UNIFIED_CLOUD_LOCAL_PATH")
    key_file = old.take("environment", "GOOGLE_APPLICATION_CREDENTIALS")
    root, layout = _layout(paths)
    if source == "local" or (source == "auto" and not bucket):
        lake: dict[str, Any] = {"ticks": _local(folder, root)}
    elif not bucket:
        raise ConfigError(
            "the config names no bucket to read ticks from",
            hint="Set data_catalog.gcs_bucket (or environment.UNIFIED_CLOUD_SERVICES_GCS_BUCKET), or read "
            "from the folder with data_source local.",
        )
    else:
        lake = _of_buckets(str(bucket), None if lists is None else str(lists), buckets)
        if root:
            lake["ticks"] = f"{lake['ticks'].rstrip('/')}/{root}"
        if key_file and lake["ticks"].startswith("gs://"):
            lake["storage"] = {"service_account": str(key_file), **lake.get("storage", {})}
    if layout != _TICKS:
        lake["layout"] = {"ticks": layout, "instruments": _INSTRUMENTS}
    return lake


def _local(folder: Any, root: str) -> str:
    if root.startswith("/"):
        return root
    if not folder:
        raise ConfigError(
            "the config names no folder to read ticks from",
            hint="Set environment.UNIFIED_CLOUD_LOCAL_PATH, or read from a bucket with data_source gcs.",
        )
    return f"{str(folder).rstrip('/')}/{root}".rstrip("/")


def _of_buckets(bucket: str, lists: str | None, buckets: Buckets | None) -> dict[str, Any]:
    place = bucket_place(bucket.removeprefix("gs://").rstrip("/"), buckets)
    lake: dict[str, Any] = {"ticks": place.url}
    if lists is not None:
        other = bucket_place(lists.removeprefix("gs://").rstrip("/"), buckets)
        if other.storage != place.storage:
            raise ConfigError(
                f"the buckets {bucket} and {lists} are reached in different ways; a lake has one",
                hint="Define the instrument in the config instead, and name no instruments bucket.",
            )
        lake["instruments"] = other.url
    if place.storage:
        lake["storage"] = dict(place.storage)
    return lake


def _layout(paths: Mapping[str, str]) -> tuple[str, str]:
    """Return the folder and the template that paths of tick files have in common."""
    found = {_template(paths[name]) for name in ("trades", "book") if "/" in paths.get(name, "")}
    if len(found) > 1:
        raise ConfigError(
            f"trades and books lie in different layouts: {' and '.join(t for _, t in sorted(found))}"
        )
    return found.pop() if found else ("", _TICKS)


def _template(path: str) -> tuple[str, str]:
    folder, _, _ = path.removeprefix("data_downloads/").removeprefix("gs://").rpartition("/")
    template = _DATA_TYPE.sub("{data_type}", _DAY.sub("{date}", folder)) + "/{instrument}.parquet"
    head, usual, rest = template.partition("raw_tick_data/")
    if usual and usual + rest == _TICKS:
        return head.rstrip("/"), _TICKS
    return "", template.lstrip("/")


def _definition(old: _Old, key: InstrumentKey) -> dict[str, Any]:
    def increment(precision: str, *names: str) -> str | None:
        given, digits = old.take("instrument", *names), old.take("instrument", precision)
        return str(given) if given is not None else None if digits is None else _power(digits, precision)

    parts = key.symbol.split("-")
    base = old.take("instrument", "base_currency", "base") or parts[0]
    quote = old.take("instrument", "quote_currency", "quote") or parts[-1]
    values = {
        "type": _KINDS.get(key.instrument_type, key.instrument_type.lower()),
        "base": base,
        "quote": quote,
        "settle": old.take("instrument", "settlement_currency", "settle"),
        "raw_symbol": old.take("instrument", "raw_symbol") or f"{base}{quote}",
        "tick_size": increment("price_precision", "price_increment", "tick_size"),
        "min_size": increment("size_precision", "size_increment", "min_size"),
        "contract_size": old.take("instrument", "multiplier", "contract_size"),
        "inverse": old.take("instrument", "is_inverse", "inverse") or key.margin == "INV" or None,
        "margin_init": old.take("instrument", "margin_init"),
        "margin_maint": old.take("instrument", "margin_maint"),
    }
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _power(digits: Any, name: str) -> str:
    try:
        return f"{Decimal(1).scaleb(-int(digits)):f}"
    except (ValueError, TypeError, InvalidOperation) as exc:
        raise ConfigError(f"instrument.{name} is {digits!r}, not a number of decimals") from exc


def _plain(value: Any) -> Any:
    # A JSON number 0.1 means the text 0.1.
    return str(value) if isinstance(value, float) else value


def _venue(old: _Old, name: str, *, has_book: bool) -> dict[str, Any]:
    named = old.take("venue", "name")
    if named not in (None, name):
        old.notes.append(f"venue.name: {named} is {name}, as the engine's live adapters call it")
    currency = old.take("venue", "base_currency", "currency")
    amounts = old.take("venue", "starting_balances")
    balance = old.take("venue", "starting_balance")
    if amounts is None and balance is not None and currency is not None:
        amounts = [f"{_plain(balance)} {currency}"]
    book = old.take("venue", "book_type", "book") or "L2_MBP"
    if not has_book and book != "L1_MBP":
        old.notes.append(f"venue.book_type: {book} needs a book; L1_MBP is simulated from trades alone")
        book = "L1_MBP"
    fees = {}
    for fee, usual in (("maker", _MAKER_FEE), ("taker", _TAKER_FEE)):
        given = old.take("venue", f"{fee}_fee")
        if given is None:
            old.notes.append(f"venue.{fee}_fee is not given; {usual} is assumed, as such code does")
        fees[fee] = usual if given is None else _plain(given)
    latency = old.take("venue", "latency_ms")
    values = {
        "account": old.take("venue", "account_type", "account"),
        "oms": old.take("venue", "oms_type", "oms"),
        "book": book,
        "balances": amounts,
        "fees": fees,
        "latency": old.take("venue", "latency") or (None if latency is None else f"{latency}ms"),
        "leverage": _plain(old.take("venue", "default_leverage", "leverage")),
    }
    return {key: value for key, value in values.items() if value is not None}


def _strategies(old: _Old, nautilus_id: str | None) -> list[dict[str, Any]]:
    path = old.take("strategy", "path", "strategy_path")
    if path is None and ":" in old.look("strategy", "name"):
        path = old.take("strategy", "name")
    config_path = old.take("strategy", "config_path")
    config = dict(old.take("strategy", "config", "params") or {})
    if path is None:
        return []
    if nautilus_id and "instrument_id" not in config:
        config = {"instrument_id": nautilus_id, **config}
    return [{"path": path, "config_path": config_path or f"{path}Config", "config": config}]


def _catalog(old: _Old) -> Any:
    folder = old.take("data_catalog", "catalog_path", "path")
    return old.environment("DATA_CATALOG_PATH") or folder or "catalog"
