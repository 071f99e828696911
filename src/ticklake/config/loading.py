"""Reading and validating configurations; the only reader of configuration files.

Every error names the key's path, what was found and what is allowed; all errors of a file are told at once.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ticklake.config.models import RunConfig, StorageConfig
from ticklake.errors import ConfigError

__all__ = ["load_config", "parse_config", "parse_storage", "read_values"]


class _Loader(yaml.SafeLoader):
    """`SafeLoader` that refuses duplicate keys and leaves times as text (PyYAML cuts them to us)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 (PyYAML's signature)
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_config(path: str | Path) -> RunConfig:
    """Read a run configuration from a YAML or JSON file.

    Raises:
        ConfigError: The file cannot be read, is not YAML or JSON, or does not validate; every problem is
            listed with its key's path.
    """
    return parse_config(read_values(path), source=str(path))


def read_values(path: str | Path) -> dict[str, Any]:
    """Read the keys and values of a YAML or JSON file without validating them; times stay text.

    Raises:
        ConfigError: The file cannot be read, or is not YAML or JSON with a mapping at its top.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read the config {path}: {exc}") from exc
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        # yaml.load with a SafeLoader subclass constructs plain values only.
        values = json.loads(text) if kind == "JSON" else yaml.load(text, Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, json.JSONDecodeError) as exc:
        raise ConfigError(f"{path} is not valid {kind}: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, not a mapping of config keys")
    return values


def parse_config(values: Mapping[str, Any], *, source: str = "the config") -> RunConfig:
    """Validate a run configuration given as plain values.

    Args:
        values: The keys and values of the file.
        source: What to call it in errors.

    Raises:
        ConfigError: It does not validate; every problem is listed with its key's path.
    """
    return _validate(RunConfig, values, source)


def parse_storage(values: Mapping[str, Any], *, source: str = "--storage") -> StorageConfig:
    """Validate store options given as plain values.

    Raises:
        ConfigError: They do not validate.
    """
    return _validate(StorageConfig, values, source)


def _validate[M: BaseModel](model: type[M], values: Mapping[str, Any], source: str) -> M:
    try:
        return model.model_validate(dict(values))
    except ValidationError as exc:
        # Pydantic's own text would show the inputs, secrets among them.
        raise ConfigError(_explain(exc, model, source)) from None


def _explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    problems: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        location = tuple(part for part in problem["loc"] if not _is_branch(part))
        secret = model is StorageConfig or "storage" in location
        where = ".".join(f"[{part}]" if isinstance(part, int) else part for part in location).replace(
            ".[", "["
        )
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key; allowed here: {', '.join(_allowed(model, location))}"
        elif problem["type"] == "missing":
            message = "is required"
        elif problem["type"] != "value_error":
            message = f"{message}, found {_shown(problem['input'], secret=secret)}"
        problems.setdefault(where or "(top)", []).append(message)
    lines = [f"  {where}: {', or '.join(messages)}" for where, messages in problems.items()]
    return f"{source} has {len(lines)} problem{'s' * (len(lines) > 1)}:\n" + "\n".join(lines)


def _is_branch(part: int | str) -> bool:
    """Tell whether this part of a location names the tag of a union's choice, not a key of the file."""
    return isinstance(part, str) and part.startswith("(")


def _shown(value: object, *, secret: bool) -> str:
    # What may be a secret must not be echoed, nor may what contains it.
    if secret or isinstance(value, dict | list):
        return f"a {type(value).__name__}"
    return repr(value)


def _allowed(model: Any, location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the model that holds an unknown key."""
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        if isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation)
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
