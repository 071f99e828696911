"""From flags to configuration: a config file, if any, with the flags laid over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ticklake.config import RunConfig, StorageConfig, parse_config, parse_storage, read_values
from ticklake.errors import ConfigError

if TYPE_CHECKING:
    from ticklake.catalog import Catalog

__all__ = ["catalog_at", "example_strategies", "no_target", "overlay", "storage_config", "storage_from"]


def example_strategies() -> Path | None:
    """Return the folder of the example strategies, which lies in a checkout of the project, or None."""
    folder = Path(__file__).resolve().parents[3] / "examples"
    return folder if folder.is_dir() else None


def no_target(path: Path) -> ConfigError:
    """Return the error for what should be the folder of a catalog or a run config, and is not there."""
    return ConfigError(
        f"there is no catalog folder {path}, and no run config either",
        hint="Check the path, which starts at the current folder; `ticklake init` writes a first config.",
    )


def catalog_at(path: Path) -> Catalog:
    """Return the catalog in a folder, which may hold nothing yet, but nothing else.

    Raises:
        ConfigError: There is no such folder, or what is in it is no catalog's.
    """
    from ticklake.catalog import Catalog

    if not path.is_dir():
        hint = "`ticklake fetch` or `ticklake backtest` makes it from a run config."
        raise ConfigError(f"there is no catalog folder {path}", hint=hint)
    names = sorted(child.name for child in path.iterdir())
    others = [name for name in names if not name.startswith(".")]
    if others and not {"data", ".ticklake"} & {*names}:
        raise ConfigError(
            f"{path} is no catalog: it has no folder data, but {others[0]}",
            hint="Name the folder that the run config calls catalog; `ticklake ls` lists a lake.",
        )
    return Catalog(path)


def storage_from(options: Iterable[str] | None) -> dict[str, str]:
    """Split repeated `key=value` options.

    Raises:
        ConfigError: An option has no `=`.
    """
    pairs = {}
    for option in options or ():
        key, separator, value = option.partition("=")
        if not separator:
            # Not what was found: it may be a secret.
            raise ConfigError("--storage wants KEY=VALUE, found a text without =", hint=_storage_hint())
        pairs[key.strip().replace("-", "_")] = value
    return pairs


def storage_config(options: Iterable[str] | None) -> StorageConfig:
    """Return the store options given as repeated `key=value` flags."""
    return parse_storage(storage_from(options))


def overlay(
    path: Path | None,
    *,
    ticks: str | None,
    instrument_lists: str | None,
    layout: str | None,
    storage: list[str] | None,
    keys: list[str] | None,
    data: str | None,
    book_as: str | None,
    start: str | None,
    end: str | None,
    catalog: str | None,
    on_hole: str | None,
    keep: str | None,
) -> RunConfig:
    """Return the config of a file with the flags that were given laid over it.

    Flags on data types and the book's form apply to every instrument.

    Raises:
        ConfigError: The result does not validate.
    """
    values: dict[str, Any] = dict(read_values(path)) if path else {}
    _lay(values, "lake", {"ticks": ticks, "instruments": instrument_lists, "layout": layout})
    options = storage_from(storage)
    if isinstance(lake := values.get("lake"), dict):
        _lay(lake, "storage", options)
    _lay(values, "window", {"start": start, "end": end})
    listed = values.get("instruments")
    if keys:
        values["instruments"] = listed = [_known(listed, key) for key in keys]
    if isinstance(listed, list):
        given = _given({"data": None if data is None else _names(data), "book_as": book_as})
        values["instruments"] = [{**entry, **given} if isinstance(entry, dict) else entry for entry in listed]
    values |= _given({"catalog": catalog, "on_hole": on_hole, "keep": keep})
    if path is None:
        _require(values)
    return parse_config(values, source=str(path) if path else "the command line")


def _require(values: Mapping[str, Any]) -> None:
    needed = {
        "--ticks": values.get("lake", {}).get("ticks"),
        "--instrument": values.get("instruments"),
        "--start": values.get("window", {}).get("start"),
        "--end": values.get("window", {}).get("end"),
    }
    if missing := [flag for flag, value in needed.items() if not value]:
        raise ConfigError(f"without a config file, {', '.join(missing)} must be given")


def _known(listed: object, key: str) -> dict[str, Any]:
    """Return what the file says of an instrument, or a new entry."""
    entries = listed if isinstance(listed, list) else []
    return next(
        (entry for entry in entries if isinstance(entry, dict) and entry.get("key") == key), {"key": key}
    )


def _names(data: str) -> list[str]:
    return [name.strip() for name in data.split(",")]


def _lay(values: dict[str, Any], name: str, given: Mapping[str, Any]) -> None:
    section, flags = values.get(name), _given(given)
    if flags and (section is None or isinstance(section, dict)):
        values[name] = {**(section or {}), **flags}


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _storage_hint() -> str:
    return f"Known keys: {', '.join(StorageConfig.model_fields)}"
