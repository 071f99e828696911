"""The user's strategy classes: importing, checking and guarding them.

A strategy path runs code by design; it comes from the user's own config or command line only.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from nautilus_trader.trading import Strategy
from nautilus_trader.trading import StrategyConfig as EngineStrategyConfig

from ticklake.backtesting.job import JobStrategy
from ticklake.errors import BacktestError, ConfigError

if TYPE_CHECKING:
    from ticklake.config import StrategyConfig

    type AnyStrategy = StrategyConfig | JobStrategy

__all__ = ["Failure", "check_strategies", "guard", "importable", "load_strategy", "source_of"]


_OUR_FILES = {__file__}
_CALLS_BETWEEN_REPORTS = 256


def check_strategies(
    strategies: Sequence[AnyStrategy],
    search_path: Sequence[str],
    on_import: Callable[[str, str], None] | None = None,
) -> None:
    """Import every strategy and construct its configuration, so that a mistake shows before anything moves.

    What the modules print goes to standard error. Modules under `search_path` are forgotten again, so that
    a later import sees a file as it is then.

    Args:
        strategies: The strategies of a run config.
        search_path: Folders from which they are imported, before those of `sys.path`.
        on_import: Called with the path (`package.module:Class`) and the file of each strategy, and of each
            configuration that is in another file, before any of them is imported; see `source_of`.

    Raises:
        ConfigError: There is none, a module or class is missing, is of the wrong kind, or its configuration
            does not accept the given keys; the error names the key's path in the config.
    """
    if not strategies:
        raise ConfigError(
            "strategies is empty; a backtest needs at least one",
            hint="Add one like {path: 'package.module:Strategy', config_path: 'package.module:Config'}.",
        )
    with importable(search_path, forget=True):
        if on_import is not None:
            for path, file in _sources(strategies).items():
                on_import(path, file)
        for index, strategy in enumerate(strategies):
            _load(strategy, f"strategies[{index}]", search_path)


def _sources(strategies: Sequence[AnyStrategy]) -> dict[str, str]:
    """Return what is going to be imported and from where, one path for each file and all strategies."""
    found = {strategy.path: source_of(strategy.path.partition(":")[0]) for strategy in strategies}
    for strategy in strategies:
        file = source_of(strategy.config_path.partition(":")[0])
        if file not in found.values():
            found[strategy.config_path] = file
    return found


def source_of(module: str) -> str:
    """Return the file that an import of a module would run, or what else it is, without importing anything.

    Unlike `importlib.util.find_spec`, which imports the packages that a module is in.
    """
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None) or "a built-in module"
    package, _, _ = module.rpartition(".")
    folders = _folders_of(package) if package else None
    spec = _find(module, folders) if folders or not package else None
    if spec is None:
        return "a module that is not found"
    return spec.origin or "a namespace package"


def _folders_of(package: str) -> Sequence[str] | None:
    """Return where the modules of a package are looked for, or None where there is no such package."""
    outer, _, _ = package.rpartition(".")
    folders = _folders_of(outer) if outer else None
    spec = _find(package, folders) if folders or not outer else None
    return spec.submodule_search_locations if spec else None


def _find(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    specs = (finder.find_spec(name, folders) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in specs if spec is not None), None)


def load_strategy(strategy: AnyStrategy, where: str, search_path: Sequence[str]) -> Strategy:
    """Return the strategy that a config names, constructed with its configuration.

    Args:
        strategy: Its paths and configuration.
        where: Path of the key in the config, for errors.
        search_path: Folders from which strategies are imported, for errors.

    Raises:
        ConfigError: As `check_strategies`.
        BacktestError: The strategy's `__init__` raised an exception.
    """
    strategy_class, config = _load(strategy, where, search_path)
    try:
        return strategy_class(config)
    except Exception as exc:
        raise BacktestError(f"{strategy.path} failed in __init__:\n{_user_traceback(exc)}") from exc


def _load(strategy: AnyStrategy, where: str, search_path: Sequence[str]) -> tuple[type[Strategy], Any]:
    strategy_class = _import_class(strategy.path, f"{where}.path", search_path, _trades)
    if not _trades(strategy_class):
        raise ConfigError(
            f"{where}.path: {strategy.path} is not a subclass of nautilus_trader.trading.Strategy",
            hint=_mixed_up(strategy_class),
        )
    config_class = _import_class(
        strategy.config_path, f"{where}.config_path", search_path, lambda each: not _trades(each)
    )
    return strategy_class, _construct(config_class, strategy, where)


def _trades(found: type) -> bool:
    return issubclass(found, Strategy)


def _mixed_up(found: type) -> str | None:
    if issubclass(found, EngineStrategyConfig):
        return "It is a configuration class; it belongs under config_path."
    return None


def _import_class(path: str, where: str, search_path: Sequence[str], fits: Callable[[type], bool]) -> type:
    module_name, _, name = path.partition(":")
    if module_name == "__main__":
        raise ConfigError(
            f"{where}: {path} is in the running script, which the engine's own process cannot import",
            hint="Move the class to a module of its own.",
        )
    module = _import_module(module_name, where, search_path)
    found = getattr(module, name, None)
    if not isinstance(found, type):
        # Without the engine's own, which a strategy imports by the dozen.
        classes = sorted(
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and not value.__module__.startswith("nautilus_trader") and fits(value)
        )
        what = f"has no {name!r}" if found is None else f"{name!r} is no class"
        raise ConfigError(f"{where}: {module_name} {what}{_near(name, classes)}")
    return found


def _import_module(name: str, where: str, search_path: Sequence[str]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        if isinstance(exc, ModuleNotFoundError) and f"{name}.".startswith(f"{exc.name}."):
            folders = ", ".join([*search_path, "PYTHONPATH"])
            raise ConfigError(
                f"{where}: there is no module {name!r}",
                hint=f"It is looked up in {folders} and the installed packages.",
            ) from exc
        # User code may raise anything while it is imported; its own traceback stays chained.
        raise ConfigError(f"{where}: importing {name} failed:\n{_user_traceback(exc)}") from exc


def _construct(config_class: type, strategy: AnyStrategy, where: str) -> Any:
    # The engine's base class swallows every key it does not know, so a typing error would stay unseen.
    allowed = _accepted_keys(config_class)
    for key in strategy.config:
        if key not in allowed:
            raise ConfigError(
                f"{where}.config.{key}: unknown key of {strategy.config_path}{_near(key, allowed)}"
            )
    try:
        return config_class(**strategy.config)
    except Exception as exc:
        raise ConfigError(
            f"{where}.config: {strategy.config_path} does not accept it: {type(exc).__name__}: {exc}",
            hint=f"Keys allowed: {', '.join(allowed)}.",
        ) from exc


def _accepted_keys(config_class: type) -> list[str]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    keys = [p.name for p in inspect.signature(config_class).parameters.values() if p.kind not in variable]
    takes_any = any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(config_class).parameters.values()
    )
    if takes_any and issubclass(config_class, EngineStrategyConfig):
        keys += [
            name for name in inspect.signature(EngineStrategyConfig).parameters if not name.startswith("_")
        ]
    return list(dict.fromkeys(keys))


def _near(name: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; allowed are {', '.join(allowed) or 'none'}"


@contextlib.contextmanager
def importable(search_path: Sequence[str], *, forget: bool = False) -> Iterator[None]:
    """Put folders in front of `sys.path` for a while, and send what is printed to standard error.

    Args:
        search_path: The folders.
        forget: Drop what was imported from them afterwards.
    """
    before, known = sys.path[:], set(sys.modules)
    # A file written since the last import must be seen.
    importlib.invalidate_caches()
    sys.path[:0] = [folder for folder in search_path if folder not in before]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path[:] = before
        if forget:
            for name in set(sys.modules) - known:
                if _comes_from(sys.modules[name], search_path):
                    del sys.modules[name]


def _comes_from(module: ModuleType, folders: Sequence[str]) -> bool:
    """Whether a module was found through one of the folders, and not through a package folder inside it."""
    if not getattr(module, "__file__", None):
        return False
    file = Path(str(module.__file__)).resolve()
    roots = {Path(folder).resolve() for folder in (*sys.path, *folders)}
    holders = [root for root in roots if file.is_relative_to(root)]
    closest = max(holders, key=lambda root: len(root.parts), default=None)
    return closest in {Path(folder).resolve() for folder in folders}


def _user_traceback(exc: BaseException) -> str:
    """Return an exception's traceback from the user's code on, without the frames that led there.

    There is nothing but those where the user's code could not even be parsed; the exception names its line.
    """
    inner = exc.__traceback__
    while inner is not None and (inner.tb_frame.f_code.co_filename in _OUR_FILES or _is_import(inner)):
        inner = inner.tb_next
    return "".join(traceback.format_exception(type(exc), exc, inner)).strip()


def _is_import(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_code.co_filename
    return name.startswith("<frozen importlib") or name == importlib.__file__


class Failure:
    """The first exception that a strategy raised; false while there is none."""

    def __init__(self) -> None:
        self.handler = ""
        self.traceback = ""

    def __bool__(self) -> bool:
        return bool(self.handler)

    def record(self, handler: str, exc: BaseException) -> None:
        """Keep an exception, unless an earlier one is kept."""
        if not self:
            self.handler = handler
            self.traceback = _user_traceback(exc)


def guard(strategy: Strategy, failure: Failure, on_progress: Callable[[int], None] | None = None) -> None:
    """Make the first exception in one of a strategy's handlers end the run.

    The engine logs an exception of a handler and goes on with the next event, as if nothing had happened.

    Args:
        strategy: What to guard.
        failure: Gets the exception.
        on_progress: Called every few hundred calls of a handler with the engine's time, in nanoseconds.
    """
    for name in dir(strategy):
        if name.startswith("on_") and getattr(type(strategy), name) is not getattr(Strategy, name, None):
            setattr(strategy, name, _guarded(strategy, getattr(strategy, name), failure, on_progress))


def _guarded(
    strategy: Strategy,
    handler: Callable[..., Any],
    failure: Failure,
    on_progress: Callable[[int], None] | None,
) -> Callable[..., Any]:
    calls = itertools.count(1)

    @wraps(handler)
    def guarded(*args: Any) -> Any:
        if failure:
            return None
        if on_progress is not None and next(calls) % _CALLS_BETWEEN_REPORTS == 0:
            on_progress(strategy.clock.timestamp_ns())
        try:
            return handler(*args)
        except BaseException as exc:  # noqa: BLE001 (the run ends with it, whatever it is)
            # Not raised again: the engine would print it, and it is told when the run has ended.
            failure.record(f"{type(strategy).__name__}.{handler.__name__}", exc)
            strategy.shutdown_system(f"{handler.__name__} raised {type(exc).__name__}")
            return None

    return guarded
