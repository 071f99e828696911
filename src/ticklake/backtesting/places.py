"""Where runs lie: in a folder of this machine, or in an object store. A run is there whole or not at all.

A folder gets its name when everything in it is written. A store has no folders to rename, but an object is
there at once: `summary.json` is written last, and only what has one is a run. What a killed process leaves is
told from that: a folder `.<run id>.tmp`, or objects of a run without `summary.json`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ticklake.config import StorageConfig
from ticklake.config.urls import is_folder
from ticklake.display import refused
from ticklake.errors import BacktestError, ConfigError, LakeError, TicklakeError

if TYPE_CHECKING:
    from ticklake.lake.store import Store
    from ticklake.lake.url import StoreUrl

__all__ = ["MARKER", "RUN_ID", "RunFolder", "RunObjects", "check_runs", "place_of", "run_folder"]

MARKER = "summary.json"
"""The file that is written last: what has none is no run."""

RUN_ID = re.compile(r"\d{8}T\d{6}Z-.+")
"""What the name of a run looks like."""

_DEFAULT_STORAGE = StorageConfig()
# Says that runs may be written here, once and for all runs.
_PROBE = ".ticklake"
_DISK = "Check its permissions and the free space of its disk."
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".yaml": "application/yaml",
}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder of this machine that holds a run, or runs."""

    path: Path

    @property
    def location(self) -> str:
        """The folder as it may be shown."""
        return str(self.path)

    def __truediv__(self, name: str) -> RunFolder:
        return RunFolder(self.path / name)

    def names(self) -> list[str]:
        """Return the names of the files and folders in it, in order; none where it does not exist."""
        return sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: It cannot be read; `FileNotFoundError` where there is none.
        """
        return (self.path / name).read_bytes()

    def read_all(self, names: list[str]) -> list[bytes | Exception]:
        """Return the contents of files, or why they cannot be read."""
        found: list[bytes | Exception] = []
        for name in names:
            try:
                found.append(self.read(name))
            except OSError as exc:
                found.append(exc)
        return found

    def write(self, name: str, data: bytes) -> None:
        """Write a file.

        Raises:
            OSError: It cannot be written.
        """
        (self.path / name).write_bytes(data)


@dataclass(frozen=True)
class RunObjects:
    """A folder in an object store that holds a run, or runs. Nothing is opened before it is needed.

    What asks stores is imported here alone: it takes time, and most runs lie in folders of this machine.

    A pickle holds no secrets: where it is read, they come from the environment.
    """

    url: StoreUrl
    storage: StorageConfig = field(default=_DEFAULT_STORAGE, repr=False, compare=False)

    @property
    def location(self) -> str:
        """The URL as it may be shown."""
        return self.url.text

    @cached_property
    def _store(self) -> Store:
        return _opened(self.url, self.storage)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url, self.storage)

    def __truediv__(self, name: str) -> RunObjects:
        return RunObjects(_parsed(f"{self.url.text}/{name}", self.storage), self.storage)

    def names(self) -> list[str]:
        """Return the names of the objects and folders in it, in order; none where there is nothing.

        Raises:
            LakeError: The store could not be asked.
        """
        from ticklake.lake.loop import run

        return sorted(name for name in run(self._store.children("")) if name != _PROBE)

    def read(self, name: str) -> bytes:
        """Return the content of an object.

        Raises:
            LakeError: It cannot be read; `ObjectNotFoundError` where there is none.
        """
        from ticklake.lake.loop import run

        return bytes(run(self._store.read_all(name)).data)

    def read_all(self, names: list[str]) -> list[bytes | Exception]:
        """Return the contents of objects, or why they cannot be read; several are asked for at once."""
        from ticklake.lake.loop import gather, run

        async def one(name: str) -> bytes | Exception:
            try:
                return bytes((await self._store.read_all(name)).data)
            except LakeError as exc:
                return exc

        return run(gather(one(name) for name in names))

    def write(self, name: str, data: bytes) -> None:
        """Write an object.

        Raises:
            LakeError: It cannot be written.
        """
        from ticklake.lake.loop import run

        run(self._store.write(name, data, content_type=_content_type(name)))

    def check(self) -> None:
        """Check that objects can be written here. It leaves one, `.ticklake`, for good.

        Raises:
            ConfigError: The store does not exist, or cannot be used like this.
            LakeError: It refused, or could not be asked.
        """
        from ticklake.lake.loop import run

        run(self._store.create(_PROBE, b"Runs of ticklake.\n"))

    def publish(self, folder: Path) -> None:
        """Write the files of a folder into this one, `summary.json` last.

        Where that fails, what was written is deleted again as far as the store lets us, unless `summary.json`
        may be there.

        Raises:
            LakeError: The store refused, or could not be asked.
        """
        from ticklake.lake.loop import gather, run

        files = sorted(path for path in folder.iterdir() if path.is_file())
        others = [path for path in files if path.name != MARKER]
        try:
            run(gather(self._put(path) for path in others))
        except BaseException:
            self._withdraw([path.name for path in others])
            raise
        # From here on nobody knows whether it is there, unless the store says so: what it completes stays.
        run(self._put(folder / MARKER))

    async def _put(self, path: Path) -> None:
        await self._store.write(path.name, path, content_type=_content_type(path.name))

    def _withdraw(self, names: list[str]) -> None:
        from ticklake.lake.loop import gather, run

        # Once only: the store has been asked long enough.
        store = _opened(self.url, self.storage.model_copy(update={"max_retries": 0}))

        async def one(name: str) -> None:
            with contextlib.suppress(TicklakeError):
                await store.delete(name)

        run(gather(one(name) for name in names))


def _content_type(name: str) -> str | None:
    return _CONTENT_TYPES.get(Path(name).suffix)


def _parsed(url: str, storage: StorageConfig) -> StoreUrl:
    from ticklake.lake.failure import of_owner
    from ticklake.lake.url import StoreUrl

    try:
        return StoreUrl.parse(url, allow_http=storage.allow_http)
    except ConfigError as exc:
        raise of_owner(exc, "runs") from exc


def _opened(url: StoreUrl, storage: StorageConfig) -> Store:
    from ticklake.lake.failure import of_owner
    from ticklake.lake.store import Store
    from ticklake.lake.transfer import Transfer

    try:
        return Store(url, storage, Transfer(), owner="runs")
    except ConfigError as exc:
        raise of_owner(exc, "runs") from exc


def place_of(place: str | Path, storage: StorageConfig | None = None) -> RunFolder | RunObjects:
    """Return the place of a run, or of runs; nothing is opened.

    Args:
        place: A folder, or a URL: `gs://`, `s3://`, `az://`, `file://`, `http(s)://`, `memory://`.
        storage: How to reach an object store; by default as the environment says.

    Raises:
        ConfigError: It is no URL of a store that ticklake knows, or has credentials in it.
    """
    if isinstance(place, str) and "://" in place:
        url = _parsed(place, storage or _DEFAULT_STORAGE)
        return RunFolder(url.folder) if url.folder else RunObjects(url, storage or _DEFAULT_STORAGE)
    path = Path(place)
    if not is_folder(path):
        raise ConfigError(f"{path} is a URL that was made a path", hint="Give URLs as text.")
    return RunFolder(path)


def check_runs(runs: str | Path, storage: StorageConfig | None = None) -> None:
    """Check that runs can be written, before anything else moves.

    A folder is left as it is; a store keeps one small object.

    Raises:
        ConfigError: They cannot.
        LakeError: The store refused, or could not be asked.
    """
    place = place_of(runs, storage)
    if isinstance(place, RunObjects):
        place.check()
        return
    home = place.path.absolute()
    while not home.exists():
        home = home.parent
    try:
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(bytes(4_096))
    except OSError as exc:
        raise ConfigError(
            f"runs: no folder can be written at {runs}: {exc.strerror} ({home})", hint="Name another one."
        ) from exc


@contextlib.contextmanager
def run_folder(runs: str | Path, run_id: str, storage: StorageConfig | None = None) -> Iterator[Path]:
    """Give a folder to write a run into; it becomes one of `runs` when all went well, else it goes.

    Where only its way into the store failed, the folder stays, and the error names it.

    Raises:
        BacktestError: There is a run of that name, or it cannot be written.
    """
    place = place_of(runs, storage)
    if isinstance(place, RunObjects):
        with _published(place / run_id) as folder:
            yield folder
        return
    final, temporary = place.path / run_id, place.path / f".{run_id}.tmp"
    try:
        place.path.mkdir(parents=True, exist_ok=True)
        if final.exists():
            raise BacktestError(f"there is a run {final} already")
        temporary.mkdir()
        try:
            yield temporary
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as exc:
        raise BacktestError(f"the run folder {final} cannot be written: {refused(exc)}", hint=_DISK) from exc


@contextlib.contextmanager
def _published(target: RunObjects) -> Iterator[Path]:
    try:
        there = target.names()
    except LakeError as exc:
        raise BacktestError(f"the run {target.location} cannot be written: {exc}") from exc
    if there:
        raise BacktestError(f"there is a run {target.location} already")
    try:
        folder = Path(tempfile.mkdtemp(prefix="ticklake-run-"))
    except OSError as exc:
        raise BacktestError(
            f"the run cannot be written before it goes to its store: {refused(exc)}", hint=_DISK
        ) from exc
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        target.publish(folder)
    except (TicklakeError, OSError) as exc:
        raise BacktestError(
            f"the run is complete, but could not be written to {target.location}: {exc}",
            hint=f"It is kept in {folder}: copy it there with the cloud's own tool, summary.json last.",
        ) from exc
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
