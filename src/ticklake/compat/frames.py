"""pandas, where it is installed: frames from and to the formats that objects have."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, Literal, get_args

from ticklake.errors import ConfigError

__all__ = ["Format", "check_format", "decoded", "encoded", "is_frame", "pandas"]

type Format = Literal["parquet", "csv", "json", "bytes", "text"]

_RUN_CODE = ("pickle", "joblib")


def pandas() -> Any:
    """Return the module.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import pandas as pd
    except ImportError as exc:
        raise ConfigError(
            "data frames need pandas, which is not installed",
            hint="pip install 'ticklake[compat]', or pip install pandas.",
        ) from exc
    return pd


def check_format(name: str) -> None:
    """Check that objects of that format are read and written.

    Raises:
        ConfigError: They are not.
    """
    known = get_args(Format.__value__)
    if name in _RUN_CODE:
        raise ConfigError(
            f"{name} is refused: loading it runs whatever code the object holds",
            hint="Keep frames as parquet, and models in a format of data; bytes brings any object as it is.",
        )
    if name not in known:
        raise ConfigError(f"{name!r} is not a format; known are {', '.join(known)}")


def is_frame(data: object) -> bool:
    """Tell whether something is a pandas data frame; where pandas is not installed nothing is."""
    try:
        return isinstance(data, pandas().DataFrame)
    except ConfigError:
        return False


def decoded(data: bytes, name: Format, url: str) -> Any:
    """Return what an object of a format other than Parquet holds: a frame, bytes or text.

    Args:
        data: The object.
        name: Its format.
        url: Where it is, for errors.

    Raises:
        ConfigError: It is not of that format.
    """
    readers: dict[str, Callable[[], Any]] = {
        "bytes": lambda: data,
        "text": lambda: data.decode("utf-8"),
        "csv": lambda: pandas().read_csv(io.BytesIO(data)),
        "json": lambda: pandas().read_json(io.BytesIO(data), precise_float=True),
    }
    try:
        return readers[name]()
    except ConfigError:
        raise
    except ValueError as exc:
        hint = (
            "Take it as text and parse that with the json module." if name == "json" else "Take it as bytes."
        )
        raise ConfigError(f"{url} cannot be read as {name}: {exc}", hint=hint) from exc


def encoded(data: object, name: Format) -> bytes:
    """Return the bytes of an object: of a frame in a format, of text, of JSON values, or bytes as they are.

    Raises:
        ConfigError: Such data have no such format.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if isinstance(data, str):
        return data.encode()
    if is_frame(data):
        return _frame_encoded(data, name)
    if name == "json":
        try:
            return json.dumps(data, allow_nan=False).encode()
        except (TypeError, ValueError) as exc:
            raise ConfigError(f"a {type(data).__name__} is no JSON: {exc}") from exc
    raise ConfigError(
        f"a {type(data).__name__} cannot be uploaded as {name}",
        hint="Give a data frame, bytes, text, or (as json) plain values.",
    )


def _frame_encoded(frame: Any, name: Format) -> bytes:
    match name:
        case "parquet":
            return bytes(frame.to_parquet(index=False, engine="pyarrow", compression="snappy"))
        case "csv":
            return str(frame.to_csv(index=False)).encode()
        case "json":
            # By default pandas cuts digits and nanoseconds off.
            text = frame.to_json(orient="records", double_precision=15, date_format="iso", date_unit="ns")
            return str(text).encode()
        case _:
            raise ConfigError(
                f"a data frame cannot be uploaded as {name}", hint="Choose parquet, csv or json."
            )
