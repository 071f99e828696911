"""The error tree: every failure a caller can see is a `TicklakeError`.

Errors carry what failed (instrument, data type, object URL) and a `hint` that says what to do next.
They are picklable, so that they survive the way from a worker process to its parent.
"""

from __future__ import annotations

__all__ = [
    "AccessDeniedError",
    "BacktestError",
    "CatalogConflictError",
    "CatalogCorruptError",
    "CatalogError",
    "ConfigError",
    "ConversionError",
    "CorruptObjectError",
    "LakeError",
    "MissingDataError",
    "NotCachedError",
    "NotListedError",
    "ObjectChangedError",
    "ObjectNotFoundError",
    "PrecisionError",
    "SourceSchemaError",
    "TicklakeError",
    "TransientLakeError",
]


class TicklakeError(Exception):
    """Base of all errors raised by ticklake.

    Args:
        message: What went wrong, in one sentence.
        instrument: The lake key or Nautilus id concerned, if one is.
        data_type: The lake data type concerned, if one is.
        url: The URL of the object concerned, without credentials, if one is.
        hint: What the user can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        instrument: str | None = None,
        data_type: str | None = None,
        url: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.instrument = instrument
        self.data_type = data_type
        self.url = url
        self.hint = hint

    def __str__(self) -> str:
        context = [
            f"{name} {value}"
            for name, value in (
                ("instrument", self.instrument),
                ("data type", self.data_type),
                ("object", self.url),
            )
            if value is not None and value not in self.message
        ]
        text = self.message
        if context:
            text = f"{text} ({', '.join(context)})"
        if self.hint:
            # A list of several lines is followed by a line of its own.
            text += f"\n{self.hint}" if "\n" in text else f"{'' if text.endswith('.') else '.'} {self.hint}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive BaseException's own pickling, the instance dict does.
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))


def _rebuild(cls: type[TicklakeError], message: str, state: dict[str, object]) -> TicklakeError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class ConfigError(TicklakeError, ValueError):
    """The configuration or an argument is not usable; nothing was read or written."""


class NotListedError(ConfigError, LookupError):
    """The lake's instrument list of a day has no such instrument."""


class LakeError(TicklakeError, OSError):
    """Reading from the lake failed."""

    # OSError.__str__ would ignore ours when it is found first in the MRO of a subclass.
    __str__ = TicklakeError.__str__


class ObjectNotFoundError(LakeError, FileNotFoundError):
    """The object does not exist."""


class MissingDataError(LakeError, LookupError):
    """The lake does not have days that the request needs ("holes"), and `on_hole` is `stop`.

    Args:
        message: What is missing.
        holes: One line for each hole: instrument, data type, window.
        hint: What the user can do about it.
    """

    def __init__(self, message: str, *, holes: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.holes = holes


class AccessDeniedError(LakeError, PermissionError):
    """The store refused the credentials, or wants some."""


class ObjectChangedError(LakeError):
    """The object was overwritten while it was being read."""


class CorruptObjectError(LakeError, ValueError):
    """The object is not what its name or its footer says: truncated, damaged, or no Parquet file at all."""


class TransientLakeError(LakeError, ConnectionError):
    """The store did not answer properly even after retries; trying again later may help."""


class ConversionError(TicklakeError, ValueError):
    """Source rows could not be converted."""


class SourceSchemaError(ConversionError):
    """The columns of a source file match no known dialect, or have the wrong types."""


class PrecisionError(ConversionError):
    """A price or size is not a multiple of the instrument's precision, or does not fit the engine's range."""


class CatalogError(TicklakeError):
    """The catalog could not be read or written."""


class NotCachedError(CatalogError, LookupError):
    """The request needs windows that the catalog does not hold, and the lake may not be asked (`offline`).

    Args:
        message: What is missing.
        missing: One line for each missing window: instrument, data type, window.
        hint: What the user can do about it.
    """

    def __init__(self, message: str, *, missing: tuple[str, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.missing = missing


class CatalogConflictError(CatalogError, ValueError):
    """The catalog holds something that contradicts the request (other source, precision or overlap)."""


class CatalogCorruptError(CatalogError):
    """A catalog file is not what its name and provenance say."""


class BacktestError(TicklakeError, RuntimeError):
    """The engine could not run the backtest, or a strategy failed in it."""
