"""The text of a first run config: values that were found in a lake, with comments on what they mean."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import yaml

from ticklake.cli.options import example_strategies
from ticklake.config import StorageConfig, parse_config
from ticklake.display import counted
from ticklake.errors import ConfigError
from ticklake.fetching.proposal import Proposal
from ticklake.instruments import nautilus_id, venue_of
from ticklake.types import format_nanos

__all__ = ["check_free", "config_text", "copy_strategy", "write_new"]

_STRATEGY = "trade_momentum.py"
_NOTIONAL = 10_000
"""About how much an order of the example is worth, in the quote currency."""

_OTHERS = 10
"""How many other instruments the comments name."""


def check_free(file: Path) -> None:
    """Check that a config can be written, before anything else is done.

    Raises:
        ConfigError: There is such a file, or no such folder.
    """
    if file.exists() or file.is_symlink():
        raise ConfigError(
            f"{file} is there already and is left as it is", hint="Name another file as second argument."
        )
    if not file.parent.is_dir():
        raise ConfigError(f"there is no folder {file.parent} for {file.name}", hint="Make it first.")


def write_new(file: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        ConfigError: It is there by now, or cannot be written.
    """
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as exc:
        raise ConfigError(f"{file} cannot be written: {exc.strerror}", hint="Name another file.") from exc


def copy_strategy(folder: Path) -> Path | None:
    """Return the example strategy in a folder, copied if it is not there yet; None without a checkout."""
    examples, target = example_strategies(), folder / _STRATEGY
    if examples is None:
        return None
    if not target.exists():
        shutil.copyfile(examples / _STRATEGY, target)
    return target


def config_text(
    found: Proposal, ticks: str, storage: Mapping[str, str], *, file: Path, strategy: Path | None
) -> str:
    """Return a run config with comments.

    Args:
        found: What was found in the lake.
        ticks: URL of the ticks, as it was given.
        storage: Store options that were given; secrets are not written.
        file: What the config will be called.
        strategy: The example strategy beside it, if there is one.

    Raises:
        ConfigError: A value that was found cannot stand in a config.
    """
    has_book = any(data_type.is_book for data_type in found.data_types)
    venue, spot = venue_of(found.key), "SPOT" in found.key.instrument_type
    name = _id(found)
    text = f"""\
# A run config, written by `ticklake init` from what was in the lake. Look it through, change it, and run it:
#   ticklake backtest {file}
# docs/config.md lists all keys. Times are UTC, and the end of a window is exclusive. Relative paths start at
# the folder in which ticklake is run.

# Where the ticks are: {counted(len(found.days), "day")}, {found.days[0]} to {found.days[-1]}.
lake:
  ticks: {_scalar(_place(ticks, file))}
{_lists(found, file)}
  layout: {found.layout}
{_storage(storage)}
# What is fetched is kept here; the next run of the window reads nothing from the lake.
catalog: catalog

# Five minutes with {counted(found.trades, "trade")}. It may be as long as the lake has days.
window:
  start: {format_nanos(found.window.start)}
  end: {format_nanos(found.window.end)}

# What is replayed. {found.day} also has:
{_others(found)}
instruments:
  - key: {_scalar(found.key.text)}
    data: [{", ".join(data_type.name for data_type in found.data_types)}]
{"    book_as: deltas  # or depth: one row a snapshot" if has_book else "    # The lake has no book of it."}
    # The engine calls it {name}.

# A day that the lake does not have stops the run before it begins; skip goes on and reports it.
on_hole: stop

# The simulated exchange. Balances, fees and latency are examples: put in your own.
venues:
  {venue}:
    account: {"CASH  # MARGIN can sell what it does not have" if spot else "MARGIN"}
    oms: NETTING
    book: {"L2_MBP  # fills come from the book" if has_book else "L1_MBP  # fills come from trades alone"}
    balances: [{", ".join(f'"{amount}"' for amount in _balances(found, spot=spot))}]
    fees: {{maker: "0.0002", taker: "0.0005"}}  # fractions of the notional
    latency: 5ms

# What trades: Python classes from beside this file, the current directory, or sys.path.
{_strategies(name, _size(found), strategy)}
# Each run gets a folder of its own in here, with its tables and report.html.
runs: runs
"""
    parse_config(yaml.safe_load(text), source="what was found in the lake")
    return text


def _scalar(text: str) -> str:
    """Return a text as a YAML value on one line."""
    written: str = yaml.safe_dump(text, width=math.inf, allow_unicode=True)
    return written.removesuffix("\n").removesuffix("\n...")


def _place(url: str, file: Path) -> str:
    """Return a URL or path as it stands in a config: in full where the config lies in another folder."""
    if "://" in url or file.parent.resolve() == Path.cwd():
        return url
    return str(Path(url).expanduser().absolute())


def _lists(found: Proposal, file: Path) -> str:
    if found.lists is None:
        return "  # instruments: URL of the instrument lists, which say precisions and currencies"
    return f"  instruments: {_scalar(_place(found.lists, file))}"


def _storage(storage: Mapping[str, str]) -> str:
    secret = {name for name, field in StorageConfig.model_fields.items() if "Secret" in str(field.annotation)}
    lines = [f"    {name}: {_scalar(value)}" for name, value in storage.items() if name not in secret]
    if left := sorted(secret & storage.keys()):
        lines.append(
            f"    # {', '.join(left)}: left out, as they are secret; --storage and the environment give them"
        )
    return "  storage:\n" + "\n".join(lines) + "\n" if lines else ""


def _others(found: Proposal) -> str:
    kinds: dict[str, list[str]] = {}
    for file in found.files:
        kinds.setdefault(file.instrument, []).append(file.data_type)
    del kinds[found.key.text]
    lines = [f"#   {instrument}: {', '.join(sorted(types))}" for instrument, types in sorted(kinds.items())]
    if len(lines) > _OTHERS:
        lines[_OTHERS:] = [f"#   and {len(lines) - _OTHERS:,} more; `ticklake ls` lists them"]
    return "\n".join(lines) or "#   nothing else"


def _id(found: Proposal) -> str:
    if found.instrument is not None:
        return str(found.instrument.id.value)
    return nautilus_id(
        found.key,
        exchange_raw_symbol=found.key.symbol.replace("-", ""),
        inverse=found.key.margin == "INV",
    )


def _size(found: Proposal) -> Decimal:
    """Return the size of an order that is worth about `_NOTIONAL`, with one digit that is not 0."""
    instrument, price = found.instrument, Decimal(str(found.price or _NOTIONAL))
    step = Decimal(str(instrument.size_increment)) if instrument else Decimal("0.001")
    contract = Decimal(str(instrument.multiplier)) if instrument else Decimal(1)
    worth = contract if instrument is not None and _inverse(found) else contract * price
    wanted = Decimal(f"{_NOTIONAL / worth:.0e}")
    return max(step, wanted // step * step).normalize()


def _inverse(found: Proposal) -> bool:
    return bool(getattr(found.instrument, "is_inverse", found.key.margin == "INV"))


def _balances(found: Proposal, *, spot: bool) -> list[str]:
    instrument = found.instrument
    base, _, quote = found.key.symbol.rpartition("-")
    if instrument is not None:
        base, quote = instrument.base_currency.code, instrument.quote_currency.code
    held = min(10**9, max(1, round(100 * _NOTIONAL / (found.price or _NOTIONAL))))
    if spot:
        return [f"1_000_000 {quote}", f"{held} {base}"]
    return [f"{held} {base}"] if _inverse(found) else [f"1_000_000 {quote}"]


def _strategies(name: str, size: Decimal, strategy: Path | None) -> str:
    lines = f"""\
strategies:
  - path: "trade_momentum:TradeMomentum"
    config_path: "trade_momentum:TradeMomentumConfig"
    config:
      instrument_id: {_scalar(name)}
      size: "{size:f}"
"""
    if strategy is not None:
        return lines
    return "".join(f"# {line}\n" for line in lines.splitlines())
