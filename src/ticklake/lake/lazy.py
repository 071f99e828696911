"""A lake that is opened when it is first asked: a run that finds all in the catalog imports less."""

from __future__ import annotations

import datetime as dt
import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ticklake.config import DialectConfig, LakeConfig
from ticklake.lake.layout import Layout
from ticklake.lake.transfer import Transfer
from ticklake.lake.url import StoreUrl, check_endpoint
from ticklake.types import DataType, InstrumentKey, Window

if TYPE_CHECKING:
    import pyarrow as pa

    from ticklake.lake.lake import Lake, Scan
    from ticklake.lake.objects import SourceObject

__all__ = ["AnyLake", "LazyLake", "opened"]


class LazyLake:
    """The lake that a config describes, for a fetch. May be used by several threads.

    Args:
        config: Its config.

    Raises:
        ConfigError: As `Lake.from_config`.
    """

    def __init__(self, config: LakeConfig) -> None:
        storage = config.storage
        Layout.of(config.layout)
        self._url, *_ = (
            StoreUrl.parse(str(url), allow_http=storage.allow_http)
            for url in (config.ticks, config.instruments)
            if url is not None
        )
        if storage.endpoint is not None:
            check_endpoint(storage.endpoint, allow_http=storage.allow_http)
        self._config = config
        self._lock = threading.Lock()
        self._lake: Lake | None = None

    @property
    def opened(self) -> Lake:
        """The lake itself."""
        with self._lock:
            if self._lake is None:
                from ticklake.lake.lake import Lake

                self._lake = Lake.from_config(self._config)
            return self._lake

    @property
    def root(self) -> str:
        """As `Lake.root`."""
        return self._url.one_spelling

    @property
    def transfer(self) -> Transfer:
        """As `Lake.transfer`: nothing before it is opened."""
        return Transfer() if self._lake is None else self._lake.transfer

    def forget(self) -> None:
        """As `Lake.forget`."""
        if self._lake is not None:
            self._lake.forget()

    def stop_ahead(self) -> None:
        """As `Lake.stop_ahead`."""
        if self._lake is not None:
            self._lake.stop_ahead()

    def one_look(self) -> AbstractContextManager[None]:
        """As `Lake.one_look`."""
        return self.opened.one_look()

    def instruments(self, day: dt.date) -> tuple[pa.Table, SourceObject]:
        """As `Lake.instruments`."""
        return self.opened.instruments(day)

    def scan(
        self, key: InstrumentKey, data_type: DataType, window: Window, *, dialect: DialectConfig | None = None
    ) -> Scan:
        """As `Lake.scan`."""
        return self.opened.scan(key, data_type, window, dialect=dialect)


type AnyLake = Lake | LazyLake
"""A lake, opened or not."""


def opened(lake: AnyLake) -> Lake:
    """Return a lake opened."""
    return lake.opened if isinstance(lake, LazyLake) else lake
