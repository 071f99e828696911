"""Where things lie in a lake: path templates that map (data type, day, instrument) to an object key and back.

Pure: knows nothing of stores.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

from ticklake.config import LayoutConfig
from ticklake.errors import ConfigError
from ticklake.types import DataType, InstrumentKey

__all__ = ["LAYOUTS", "DayFolder", "Layout", "TickFile"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# What a placeholder's value looks like in a path; none crosses a `/`.
_VALUES = {"date": r"\d{4}-\d{2}-\d{2}", "data_type": r"[a-z0-9_]+", "instrument": r"[^/]+"}
# Nothing between these two tells where the first ends and the second begins.
_AMBIGUOUS = re.compile(r"\{instrument\}[a-z0-9_]*\{data_type\}|\{data_type\}[a-z0-9_]*\{instrument\}")


@dataclass(frozen=True, slots=True)
class TickFile:
    """A tick file of a lake, as its path tells.

    Names are kept as found: a lake may hold data types and instruments that ticklake cannot read (yet).

    Attributes:
        path: Object key, relative to the lake's URL.
        data_type: For example `trades`.
        day: The UTC day that its rows are filed under.
        instrument: The instrument key in the path, with or without its `@…` suffix.
        size: Bytes, where it comes from a listing.
        last_modified: When it was written, where it comes from a listing.
    """

    path: str
    data_type: str
    day: dt.date
    instrument: str
    size: int | None = None
    last_modified: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class DayFolder:
    """A folder whose children (folders or files) are named after days.

    Attributes:
        prefix: The folder's path; empty is the root.
        pattern: Matches the whole path of a child, with the day as the group `date`.
    """

    prefix: str
    pattern: re.Pattern[str]

    def day(self, child: str) -> dt.date | None:
        """Return the day of a child's path, or None where it is something else."""
        match = self.pattern.fullmatch(child)
        return _parse_date(match["date"]) if match else None


@dataclass(frozen=True, slots=True)
class Layout:
    """Path templates of a lake.

    Args:
        ticks: Object key of a tick file, with `{date}` (YYYY-MM-DD), `{data_type}` and `{instrument}`.
        instruments: Object key of a day's instrument list, with `{date}`.

    Raises:
        ConfigError: A template misses a placeholder or has one that is not known, is not a relative path,
            or cannot be read backwards.
    """

    ticks: str
    instruments: str
    _tick_pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check("layout.ticks", self.ticks, ("date", "data_type", "instrument"))
        _check("layout.instruments", self.instruments, ("date",))
        if _AMBIGUOUS.search(self.ticks):
            raise ConfigError(
                f"layout.ticks {self.ticks!r} cannot be read backwards: nothing tells where {{instrument}} "
                "and {data_type} meet",
                hint="Put a / between them.",
            )
        object.__setattr__(self, "_tick_pattern", re.compile(_as_regex(self.ticks)))

    @classmethod
    def of(cls, layout: str | LayoutConfig | Layout) -> Layout:
        """Return a layout from its name (`default`, `hive`), from the config, or as it is.

        Raises:
            ConfigError: The name is unknown, or a template is not valid.
        """
        if isinstance(layout, Layout):
            return layout
        if isinstance(layout, LayoutConfig):
            return cls(layout.ticks, layout.instruments)
        if layout not in LAYOUTS:
            raise ConfigError(
                f"layout {layout!r} is not known; known are {', '.join(LAYOUTS)}",
                hint="Or give path templates: layout: {ticks: ..., instruments: ...}.",
            )
        return LAYOUTS[layout]

    def tick_paths(self, data_type: DataType, day: dt.date, key: InstrumentKey) -> tuple[str, ...]:
        """Return where a tick file may lie, best first: with the key's `@…` suffix, then without it."""
        return tuple(
            _fill(self.ticks, date=day.isoformat(), data_type=data_type.name, instrument=name)
            for name in _names(key)
        )

    def instruments_path(self, day: dt.date) -> str:
        """Return where the instrument list of a day lies."""
        return _fill(self.instruments, date=day.isoformat())

    def parse_tick_path(self, path: str) -> TickFile | None:
        """Return what a path says, None where it is no tick file's: the inverse of `tick_paths`."""
        match = self._tick_pattern.fullmatch(path)
        day = _parse_date(match["date"]) if match else None
        if match is None or day is None:
            return None
        return TickFile(path, match["data_type"], day, match["instrument"])

    @property
    def tick_prefix(self) -> str:
        """The folder that holds all tick files; empty is the root."""
        return _folder(self.ticks[: self.ticks.index("{")])

    def day_prefix(self, day: dt.date) -> str:
        """Return the folder that holds all tick files of a day, and little else; empty is the root."""
        head = self.ticks.replace("{date}", day.isoformat())
        return _folder(head[: head.index("{")])

    @property
    def days_folder(self) -> DayFolder | None:
        """The folder whose children tell all days that there are; None where the layout has none such."""
        head, _, rest = self.ticks.partition("{date}")
        if "{" in head:
            return None
        return DayFolder(_folder(head), re.compile(_as_regex(f"{head}{{date}}{rest.partition('/')[0]}")))

    def day_folders(self, data_type: DataType, key: InstrumentKey) -> tuple[DayFolder, ...]:
        """Return the folders whose children tell for which days there may be a file."""
        head, _, _ = self.ticks.partition("{date}")
        prefix = _folder(head)
        level = self.ticks[: len(head) + len(self.ticks[len(head) :].split("/")[0])]
        fills = ({"data_type": data_type.name, "instrument": name} for name in _names(key))
        return tuple(
            dict.fromkeys(
                DayFolder(_fill(prefix, **fill), re.compile(_as_regex(level, **fill))) for fill in fills
            )
        )


def _names(key: InstrumentKey) -> tuple[str, ...]:
    return tuple(dict.fromkeys((key.text, key.bare)))


def _folder(head: str) -> str:
    """Return the folder part of the beginning of a path."""
    return head.rpartition("/")[0]


def _fill(template: str, **values: str) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def _as_regex(template: str, **values: str) -> str:
    """Return a regular expression for a template; a placeholder without a value is a named group."""
    parts: list[str] = []
    seen: set[str] = set()
    for position, text in enumerate(_PLACEHOLDER.split(template)):
        if position % 2 == 0:
            parts.append(re.escape(text))
        elif text in values:
            parts.append(re.escape(values[text]))
        else:
            parts.append(f"(?P={text})" if text in seen else f"(?P<{text}>{_VALUES[text]})")
            seen.add(text)
    return "".join(parts)


def _parse_date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def _check(name: str, template: str, needed: tuple[str, ...]) -> None:
    def refuse(why: str) -> ConfigError:
        placeholders = ", ".join(f"{{{placeholder}}}" for placeholder in needed)
        return ConfigError(
            f"{name} {template!r} {why}",
            hint=f"It is a relative path with {placeholders}, like {_EXAMPLES[name]}.",
        )

    found = _PLACEHOLDER.findall(template)
    if unknown := sorted(set(found) - set(needed)):
        raise refuse(f"has unknown placeholders: {', '.join(f'{{{text}}}' for text in unknown)}")
    if missing := [placeholder for placeholder in needed if placeholder not in found]:
        raise refuse(f"misses {', '.join(f'{{{placeholder}}}' for placeholder in missing)}")
    if set(_PLACEHOLDER.sub("", template)) & set("{}"):
        raise refuse("has a brace that belongs to no placeholder")
    if not template.isprintable() or "\\" in template:
        raise refuse("has a backslash or a control character")
    segments = template.split("/")
    if segments[0] == "":
        raise refuse("begins with /")
    if {"", ".", ".."} & set(segments):
        raise refuse("has an empty, . or .. part")


_EXAMPLES = {
    "layout.ticks": "day-{date}/data_type-{data_type}/{instrument}.parquet",
    "layout.instruments": "day-{date}/instruments.parquet",
}

LAYOUTS = {
    "default": Layout(
        "raw_tick_data/by_date/day-{date}/data_type-{data_type}/{instrument}.parquet",
        "instrument_availability/by_date/day-{date}/instruments.parquet",
    ),
    "hive": Layout(
        "raw_tick_data/by_date/day={date}/data_type={data_type}/{instrument}.parquet",
        "instrument_availability/by_date/day={date}/instruments.parquet",
    ),
}
"""The named layouts: `default`, and the same in Hive's spelling."""
