"""Reading and validating configurations; the only reader of configuration files.

Every error names the key's path, what was found and what is allowed; all errors of a file are told at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ticklake.config.models import DialectConfig, InstrumentDefinition, RunConfig, StorageConfig
from ticklake.display import refused
from ticklake.errors import ConfigError

__all__ = ["load_config", "parse_config", "parse_definition", "parse_dialect", "parse_storage", "read_values"]


_EXAMPLE = "Begin it with lake, window and instruments; docs/config.md lists all keys"
_MOST_KEYS = 5
# `strategy` is like `strategies`, and `max_drawdown` is not like `max_bad_rows`.
_ALIKE = 0.75


class _Loader(yaml.SafeLoader):
    """`SafeLoader` that refuses tags and duplicate keys and leaves times as text (PyYAML cuts them to us)."""

    def fetch_tag(self) -> None:
        raise yaml.scanner.ScannerError(
            None, None, "a value that begins with ! must stand in quotes", self.get_mark()
        )

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Keys are looked at as they are written: merge keys (`<<`) put more of them into the node later.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be text, not a list or a mapping", key_node.start_mark
                )
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, _twice(key), key_node.start_mark)
            seen.add(key)
        return node


def _twice(key: object) -> str:
    return f"key {key!r} stands twice"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the mapping of a JSON object."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(_twice(key))
        values[key] = value
    return values


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
    text = _text_of(path)
    kind = "JSON" if path.suffix == ".json" else "YAML"
    problem = ""
    try:
        values = (
            json.loads(text, object_pairs_hook=_without_duplicates)
            if kind == "JSON"
            else _Loader(text).get_single_data()
        )
    except yaml.MarkedYAMLError as exc:
        problem = _marked(exc)
    except (yaml.YAMLError, ValueError) as exc:
        problem = str(exc)
    if problem:
        # Raised here and not above: the cause shows the line, and a secret in it.
        raise ConfigError(f"{path} is not valid {kind}: {problem}")
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {_kind(values)}, not a mapping of config keys", hint=_EXAMPLE)
    return values


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        hint = "Check the path, which starts at the current folder; `ticklake init` writes a first config."
        raise ConfigError(f"there is no config {path}", hint=hint) from exc
    except IsADirectoryError as exc:
        raise ConfigError(f"{path} is a folder, not a config", hint="Name a YAML or JSON file.") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"the config {path} is no text in UTF-8", hint="Save it as UTF-8.") from exc
    except OSError as exc:
        raise ConfigError(
            f"the config cannot be read: {refused(exc)}", hint="Check its permissions."
        ) from exc


def _marked(error: yaml.MarkedYAMLError) -> str:
    # PyYAML's own text would show the line.
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + ", ".join(_NAMED.sub(r"\1", text) for text in (error.context, error.problem) if text)


# What begins with * or & names an alias or an anchor; but a secret may begin so, too.
_NAMED = re.compile(r"\b(alias|anchor) ['\"].*['\"]")


def parse_config(values: Mapping[str, Any], *, source: str = "the config") -> RunConfig:
    """Validate a run configuration given as plain values.

    Args:
        values: The keys and values of the file.
        source: What to call it in errors.

    Raises:
        ConfigError: It does not validate; every problem is listed with its key's path.
    """
    return _validate(RunConfig, values, source)


def parse_definition(values: Mapping[str, Any]) -> InstrumentDefinition:
    """Validate the definition of an instrument given as plain values.

    Raises:
        ConfigError: It does not validate.
    """
    return _validate(InstrumentDefinition, values, "the definition")


def parse_dialect(values: Mapping[str, Any]) -> DialectConfig:
    """Validate a column mapping given as plain values.

    Raises:
        ConfigError: It does not validate.
    """
    return _validate(DialectConfig, values, "the dialect")


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
        problems = _explain(exc, model, source)
    # Not in the handler: pydantic's error knows the inputs, secrets among them.
    raise ConfigError(problems)


def _explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    problems: dict[str, list[str]] = {}
    strange: dict[tuple[str, ...], list[str]] = {}
    for problem in error.errors(include_url=False):
        location = tuple(part for part in problem["loc"] if not _is_branch(part))
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
        where = where.removeprefix(".") or "(top)"
        if problem["type"] != "extra_forbidden":
            problems.setdefault(where, []).append(_message(problem, model, location))
        elif near := _near(str(location[-1]), allowed := _allowed(model, location)):
            problems[where] = [f"unknown key; did you mean {near}?"]
        else:
            strange.setdefault(tuple(allowed), []).append(where)
    lines = [f"  {where}: {', or '.join(messages)}" for where, messages in problems.items()]
    # Of a file that is something else there may be many, and they are told together.
    lines += [
        f"  {_some(keys)}: unknown key{'s' * (len(keys) > 1)}; allowed here: {', '.join(allowed)}"
        for allowed, keys in strange.items()
    ]
    return f"{source} has {len(lines)} problem{'s' * (len(lines) > 1)}:\n" + "\n".join(lines)


def _near(key: str, allowed: Sequence[str]) -> str:
    """Return the key that a misspelt one was meant to be, empty where there is none like it."""
    import difflib

    return next(iter(difflib.get_close_matches(key, allowed, n=1, cutoff=_ALIKE)), "")


def _some(keys: Sequence[str]) -> str:
    left = len(keys) - _MOST_KEYS
    return ", ".join(keys[:_MOST_KEYS]) + (f" and {left} more" if left > 0 else "")


# Pydantic speaks of Python's types; a config has these. What is not here says "Input should be ...".
_WANTED = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "invalid_key": "a key must be text",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
}


def _message(problem: ErrorDetails, model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    kind, text = problem["type"], problem["msg"]
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    # A scalar where a mapping belongs may be anything, a URL with credentials among them.
    secret = (
        model is StorageConfig
        or not {"storage", "runs_storage"}.isdisjoint(location)
        or kind in ("model_type", "dict_type")
    )
    known = _WANTED.get(kind)
    wanted = known.format_map(problem.get("ctx", {})) if known else text.replace("Input should", "must", 1)
    return f"{wanted}, found {_shown(problem['input'], secret=secret)}"


def _is_branch(part: int | str) -> bool:
    """Tell whether this part of a location names the tag of a union's choice, not a key of the file."""
    return isinstance(part, str) and part.startswith("(")


def _shown(value: object, *, secret: bool) -> str:
    # What may be a secret must not be echoed, nor may what contains it.
    return _kind(value) if secret or value is None or isinstance(value, dict | list) else repr(value)


def _kind(value: object) -> str:
    """Return what a value of a file is, in the file's words."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


_KINDS: dict[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


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
