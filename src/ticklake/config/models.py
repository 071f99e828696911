"""What a configuration may say: frozen pydantic models, with units and defaults."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    StrictBool,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ticklake.config.urls import is_folder, public_host
from ticklake.types import BookAs, DataType, InstrumentKey, Moment, Window, format_nanos, parse_nanos

__all__ = [
    "DialectConfig",
    "EngineConfig",
    "FeesConfig",
    "InstrumentConfig",
    "InstrumentDefinition",
    "LakeConfig",
    "LayoutConfig",
    "RunConfig",
    "StorageConfig",
    "StrategyConfig",
    "VenueConfig",
    "WindowConfig",
]

_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ns|us|ms|s|min|h)")
_UNIT_NANOS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def _parse_duration(value: object) -> int:
    if isinstance(value, dt.timedelta):
        if value < dt.timedelta(0):
            raise ValueError(f"{value} is negative")
        return round(value / dt.timedelta(microseconds=1)) * 1_000
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a number and ns, us, ms, s, min or h, like 5ms")
    nanos = Decimal(match["number"]) * _UNIT_NANOS[match["unit"]]
    if nanos != nanos.to_integral_value():
        raise ValueError(f"{value!r} is finer than a nanosecond")
    return int(nanos)


def _format_duration(nanos: int) -> str:
    unit = next(u for u in ("h", "min", "s", "ms", "us", "ns") if nanos % _UNIT_NANOS[u] == 0)
    return "0s" if nanos == 0 else f"{nanos // _UNIT_NANOS[unit]}{unit}"


# No integer that means something else reaches it: 20240808, and seconds, milliseconds and microseconds of
# our time, are all within the first weeks of 1970. Nor do ticks: such exchanges came later.
_FIRST_NANOS = parse_nanos("2000-01-01")


def _parse_time(value: Moment) -> int:
    nanos = parse_nanos(value)
    if isinstance(value, int) and nanos < _FIRST_NANOS:
        raise ValueError(
            f"a whole number is nanoseconds since 1970, and {value} of them are {format_nanos(nanos)}, "
            "before 2000; write a day like 2024-08-08 or a time like 2024-08-08T23:55:00Z"
        )
    return nanos


def _as_decimal(value: object) -> object:
    # A YAML float 0.0002 means the text 0.0002, not its binary neighbour.
    return str(value) if isinstance(value, float) else value


def _at_least(shortest: str, longest: str | None = None) -> AfterValidator:
    """Return a check of a duration, whose bounds are told as durations."""
    low, high = _parse_duration(shortest), None if longest is None else _parse_duration(longest)

    def check(nanos: int) -> int:
        if nanos < low:
            raise ValueError(f"{_format_duration(nanos)} is too short; {shortest} is the least")
        if high is not None and nanos > high:
            raise ValueError(f"{_format_duration(nanos)} is too long; {longest} is the most")
        return nanos

    return AfterValidator(check)


def _at_home(path: Path) -> Path:
    if not is_folder(path):
        raise ValueError("this has to be a folder of this machine, not a URL")
    try:
        return path.expanduser()
    except RuntimeError as exc:
        raise ValueError(f"{path} names a home folder that is not known") from exc


def _runs_place(value: object) -> Path | str:
    """Return a folder, or the URL of one in an object store."""
    if not isinstance(value, str | Path):
        raise PydanticCustomError("path_type", "must be a path")
    if isinstance(value, Path) or "://" not in value:
        return _at_home(Path(value))
    public_host(value)
    scheme, _, rest = value.partition("://")
    if scheme.lower() == "file":
        return Path(unquote(urlsplit(value).path))
    return f"{scheme.lower()}://{rest}".rstrip("/")


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    # Not `min_length`, which counts the valid ones: a wrong one alone would be told as none, too.
    if not values:
        raise ValueError("is empty; name at least one")
    return values


def _positive(value: Decimal) -> Decimal:
    if not value.is_finite() or value <= 0:
        raise ValueError(f"{value} is not a positive number")
    return value


def _key_text(value: str) -> str:
    return InstrumentKey(value).text


def _data_type_text(value: str) -> str:
    return DataType(value).name


def _id_text(value: str) -> str:
    symbol, _, venue = value.rpartition(".")
    if not symbol or not venue:
        raise ValueError(f"{value!r} is not a Nautilus instrument id (SYMBOL.VENUE)")
    return value


def _object_path(value: str) -> str:
    if ":" not in value or not all(value.split(":", 1)):
        raise ValueError(f"{value!r} is not an import path; write it like package.module:Name")
    return value


def _public_url(value: str) -> str:
    if "://" in value:
        public_host(value)
    return value


def _sendable(secret: SecretStr) -> SecretStr:
    # The client ends the request, and not with an error, where one of these goes into a header.
    value = secret.get_secret_value()
    if not (value.isascii() and value.isprintable()):
        raise ValueError("holds a line break or another character that no request can carry")
    return secret


def _key_file(path: Path) -> Path:
    if str(path).lstrip().startswith("{"):
        raise ValueError("is the content of a key file; give its path")
    return path


Nanos = Annotated[
    int,
    BeforeValidator(_parse_duration),
    PlainSerializer(_format_duration, return_type=str),
]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Secret = Annotated[SecretStr, AfterValidator(_sendable)]
UserPath = Annotated[Path, AfterValidator(_at_home)]
RunsPlace = Annotated[Path | str, PlainValidator(_runs_place), PlainSerializer(str, return_type=str)]
Timestamp = Annotated[
    int,
    BeforeValidator(_parse_time),
    PlainSerializer(format_nanos, return_type=str),
]
Number = Annotated[Decimal, BeforeValidator(_as_decimal)]
PositiveNumber = Annotated[Decimal, BeforeValidator(_as_decimal), AfterValidator(_positive)]
Key = Annotated[str, AfterValidator(_key_text)]
DataTypeName = Annotated[str, AfterValidator(_data_type_text)]
NautilusId = Annotated[str, AfterValidator(_id_text)]
ObjectPath = Annotated[str, AfterValidator(_object_path)]


class _Model(BaseModel):
    # What is not valid may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class StorageConfig(_Model):
    """How to reach an object store. What is not given comes from the cloud's standard environment.

    A pickle leaves the secrets out: where it is read, they come from the environment.

    Attributes:
        endpoint: Base URL of the service instead of the cloud's own (an emulator, a proxy, MinIO).
        region: AWS region.
        anonymous: Send no credentials (public buckets).
        allow_http: Allow plain http to hosts other than this machine.
        access_key_id, secret_access_key, session_token: AWS credentials.
        service_account: Path of a Google service account key file.
        account_name, account_key, sas_token: Azure credentials.
        bearer_token: A ready OAuth token (Google, Azure).
        timeout: The whole of one request, its body included.
        connect_timeout: Until a connection stands.
        max_retries: How often one request is sent again after a passing failure.
        retry_timeout: No retry is begun later than this after the first try: a request with all its retries
            ends within this and `timeout`.
        retry_wait: The most that is waited before the first retry; doubles with each one, up to 32 s.
        max_concurrency: Requests under way at once.
    """

    endpoint: PublicUrl | None = None
    region: str | None = None
    anonymous: bool = False
    allow_http: bool = False
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    service_account: Annotated[Path, AfterValidator(_key_file)] | None = None
    account_name: str | None = None
    account_key: Secret | None = None
    sas_token: Secret | None = None
    bearer_token: Secret | None = None
    timeout: Annotated[Nanos, _at_least("1ms")] = 30 * 1_000_000_000
    connect_timeout: Annotated[Nanos, _at_least("1ms")] = 5 * 1_000_000_000
    max_retries: int = Field(default=5, ge=0, le=100)
    retry_timeout: Nanos = 60 * 1_000_000_000
    retry_wait: Nanos = 1_000_000_000
    max_concurrency: int = Field(default=8, ge=1, le=256)

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        secret = {name for name, value in state["__dict__"].items() if isinstance(value, SecretStr)}
        state["__dict__"] = state["__dict__"] | dict.fromkeys(secret)
        state["__pydantic_fields_set__"] = state["__pydantic_fields_set__"] - secret
        return state


class LayoutConfig(_Model):
    """Path templates of a lake.

    Attributes:
        ticks: Object key of a tick file, with `{date}` (YYYY-MM-DD), `{data_type}` and `{instrument}`.
        instruments: Object key of a day's instrument list, with `{date}`.
    """

    ticks: str
    instruments: str


class LakeConfig(_Model):
    """Where the lake is.

    Attributes:
        ticks: URL of the bucket (or folder in it) that holds the ticks.
        instruments: URL of the one that holds the instrument lists; None where instruments are defined in
            the config.
        layout: A named layout (`default`, `hive`) or path templates.
        storage: Store options, the same for both buckets.
        partition_slack: How far `ts_init` may lie outside the UTC day that a row is filed under.
    """

    ticks: PublicUrl
    instruments: PublicUrl | None = None
    layout: Annotated[
        Annotated[Literal["default", "hive"], Tag("(name)")] | Annotated[LayoutConfig, Tag("(templates)")],
        Discriminator(lambda value: "(name)" if isinstance(value, str) else "(templates)"),
    ] = "default"
    storage: StorageConfig = StorageConfig()
    partition_slack: Annotated[Nanos, _at_least("0s", "24h")] = 10 * 1_000_000_000


class WindowConfig(_Model):
    """The half-open window `[start, end)` on the `ts_init` axis, UTC."""

    start: Timestamp
    end: Timestamp

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        self.as_window()
        return self

    def as_window(self) -> Window:
        """Return the window as a value."""
        return Window(self.start, self.end)


class DialectConfig(_Model):
    """A column mapping for source files in no known dialect; only what the file has is named.

    Attributes:
        unit: Unit of the integer time columns.
        ts_event, ts_init: Exchange time and receive time; without `ts_init` it equals `ts_event`.
        price, size, side, trade_id: Columns of a trades file.
        buy, sell: The values of `side` that mean an aggressive buyer or seller; others are no aggressor.
            `true` and 1 are the same, and so are `false` and 0.
        bid_price, bid_size, ask_price, ask_size: Column templates of a book file with `{level}`.
        first_level: The number of the best level in those templates (0 or 1).
    """

    unit: Literal["ns", "us", "ms", "s"]
    ts_event: str
    ts_init: str | None = None
    price: str | None = None
    size: str | None = None
    side: str | None = None
    trade_id: str | None = None
    buy: StrictBool | int | str = "buy"
    sell: StrictBool | int | str = "sell"
    bid_price: str | None = None
    bid_size: str | None = None
    ask_price: str | None = None
    ask_size: str | None = None
    first_level: Literal[0, 1] = 0


class InstrumentDefinition(_Model):
    """An instrument defined in the config instead of the lake's instrument list.

    Attributes:
        type: `perpetual` (CryptoPerpetual) or `spot` (CurrencyPair).
        base, quote, settle: Currency codes; `settle` defaults to base (inverse) or quote.
        raw_symbol: The exchange's own symbol.
        tick_size, min_size: Price and size increments; they define the precisions.
        contract_size: Multiplier of one contract.
        inverse: Whether the contract is inverse (perpetuals only).
        margin_init, margin_maint: Margins as fractions of the notional, before leverage; 0 asks for none.
    """

    type: Literal["perpetual", "spot"]
    base: str
    quote: str
    settle: str | None = None
    raw_symbol: str
    tick_size: PositiveNumber
    min_size: PositiveNumber
    contract_size: PositiveNumber = Decimal(1)
    inverse: bool = False
    margin_init: Number = Field(default=Decimal(0), ge=0)
    margin_maint: Number = Field(default=Decimal(0), ge=0)

    @model_validator(mode="after")
    def _spot_is_linear(self) -> Self:
        if self.type == "spot" and self.inverse:
            raise ValueError("inverse: true is for perpetuals; a spot pair is never inverse")
        return self


def _dialect_form(value: object) -> str:
    by_type = (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(v, Mapping | DialectConfig) for v in value.values())
    )
    return "(by data type)" if by_type else "(one)"


class InstrumentConfig(_Model):
    """One instrument of a run and what is read of it.

    Attributes:
        key: The lake's instrument key.
        data: Lake data types to read.
        book_as: Whether book snapshots become deltas or depth rows.
        nautilus_id: The Nautilus id, where it shall differ from the live adapter's.
        definition: The instrument itself, where the lake has no instrument list.
        dialect: Column mappings by data type, for files in no known dialect; a single mapping serves all.
    """

    key: Key
    data: Annotated[tuple[DataTypeName, ...], AfterValidator(_some)] = ("trades",)
    book_as: BookAs = BookAs.DELTAS
    nautilus_id: NautilusId | None = None
    definition: InstrumentDefinition | None = None
    dialect: (
        Annotated[
            Annotated[DialectConfig, Tag("(one)")]
            | Annotated[dict[DataTypeName, DialectConfig], Tag("(by data type)")],
            Discriminator(_dialect_form),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.data)) != len(self.data):
            raise ValueError(f"data names a type twice: {', '.join(self.data)}")
        if sum(DataType(name).is_book for name in self.data) > 1:
            raise ValueError(
                f"data names more than one book: {', '.join(self.data)}; an engine has one a venue"
            )
        return self

    def dialect_for(self, data_type: DataType) -> DialectConfig | None:
        """Return the mapping declared for a data type, or None."""
        if isinstance(self.dialect, dict):
            return self.dialect.get(data_type.name)
        return self.dialect


class FeesConfig(_Model):
    """Fee rates as fractions of notional; negative is a rebate."""

    maker: Number
    taker: Number


class VenueConfig(_Model):
    """A simulated venue.

    Attributes:
        account: Account type.
        oms: Order management: one net position an instrument, or one a trade.
        book: Order book that fills are simulated against.
        balances: Starting balances, like `1_000_000 USDT`.
        fees: Maker and taker rates.
        latency: Added to every order command.
        base_currency: Single-currency accounts only.
        leverage: Default leverage of a margin account.
    """

    account: Literal["CASH", "MARGIN"]
    oms: Literal["NETTING", "HEDGING"] = "NETTING"
    book: Literal["L1_MBP", "L2_MBP"] = "L2_MBP"
    balances: Annotated[tuple[str, ...], AfterValidator(_some)]
    fees: FeesConfig
    latency: Nanos = 0
    base_currency: str | None = None
    leverage: PositiveNumber = Decimal(1)


class StrategyConfig(_Model):
    """A strategy class and its configuration.

    Attributes:
        path: `package.module:Class` of a `nautilus_trader.trading.Strategy`.
        config_path: `package.module:Class` of its configuration.
        config: Keyword arguments of the configuration.
    """

    path: ObjectPath
    config_path: ObjectPath
    config: dict[str, Any] = Field(default_factory=dict)


class EngineConfig(_Model):
    """How the engine runs.

    Attributes:
        chunk_size: Events (data points) held at once; results do not depend on it, memory does.
        log_level: What the engine prints on standard error.
        equity_interval: Spacing of the equity curve; None picks one that suits the window.
    """

    chunk_size: int = Field(default=10_000, ge=1_000, le=1_000_000)
    log_level: Literal["OFF", "ERROR", "WARNING", "INFO", "DEBUG"] = "ERROR"
    equity_interval: Annotated[Nanos, _at_least("1ms")] | None = None


class RunConfig(_Model):
    """Everything of a run: what to read, where to keep it, how to simulate, what to trade.

    `fetch` uses the part above `venues` and needs no more of it.

    Attributes:
        lake: Where the ticks come from.
        catalog: Folder of the NautilusTrader catalog, relative to the current directory.
        catalog_format: What reads it: `v2`, or `v1` for NautilusTrader 1.231. With `v1` what is fetched is
            kept in `.ticklake/v2` of the folder, and converted from there; runs are of 2.x all the same.
        window: What to replay.
        instruments: What to read.
        on_hole: Whether a day that the lake does not have stops the run or is skipped and reported.
        on_bad_row: Whether a row that cannot be converted fails the run or is put in quarantine.
        max_bad_rows: With `quarantine`, more bad rows than this fail the fetch all the same.
        keep: Whether the rows around the window that were read with it are kept too, as far as they are known
            to be complete, or those of the window alone.
        venues: Simulated venues by Nautilus name.
        strategies: What trades.
        engine: How the engine runs.
        runs: Folder of the run folders, relative to the current directory, or the URL of one in an object
            store (`gs://`, `s3://`, `az://`, or `http(s)://` where the server takes and lists files).
        runs_storage: How that store is reached. Nothing of `lake.storage` goes there.
    """

    lake: LakeConfig
    catalog: UserPath = Path("catalog")
    catalog_format: Literal["v1", "v2"] = "v2"
    window: WindowConfig
    instruments: tuple[InstrumentConfig, ...]
    on_hole: Literal["stop", "skip"] = "stop"
    on_bad_row: Literal["fail", "quarantine"] = "quarantine"
    max_bad_rows: int = Field(default=1_000, ge=0)
    keep: Literal["row_groups", "window"] = "row_groups"
    venues: dict[str, VenueConfig] = Field(default_factory=dict)
    strategies: tuple[StrategyConfig, ...] = ()
    engine: EngineConfig = EngineConfig()
    runs: RunsPlace = Path("runs")
    runs_storage: StorageConfig = StorageConfig()

    @property
    def store(self) -> Path:
        """Folder of the 2.x catalog, which `fetch` writes and runs read."""
        return self.catalog if self.catalog_format == "v2" else self.catalog / ".ticklake" / "v2"

    @model_validator(mode="after")
    def _format_holds_the_book(self) -> Self:
        if self.catalog_format == "v1" and any(each.book_as is BookAs.DEPTH for each in self.instruments):
            raise ValueError("catalog_format: v1 holds books as deltas; an instrument has book_as: depth")
        return self

    @model_validator(mode="after")
    def _instruments_distinct(self) -> Self:
        if not self.instruments:
            raise ValueError("instruments is empty; name at least one")
        keys = [instrument.key for instrument in self.instruments]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"instruments lists {', '.join(twice)} more than once")
        ids = [instrument.nautilus_id for instrument in self.instruments if instrument.nautilus_id]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"instruments gives the nautilus_id {', '.join(twice)} more than once")
        return self
