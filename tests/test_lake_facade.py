"""The lake as a whole: instrument lists, what is in it, and how it is told apart from others."""

from __future__ import annotations

import datetime as dt
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake_support import DAY, DAY_START, PERP, SECOND, RangeServer, parquet, tick_path, trades
from ticklake.config import LakeConfig, StorageConfig
from ticklake.errors import ConfigError, ObjectNotFoundError
from ticklake.lake import Lake, Store, StoreUrl, Transfer
from ticklake.types import NANOS_PER_DAY, Window

NEXT_DAY = DAY + dt.timedelta(1)
NOON = Window(DAY_START + NANOS_PER_DAY // 2, DAY_START + NANOS_PER_DAY // 2 + 60 * SECOND)


def memory() -> tuple[Lake, Store]:
    """Return an empty lake in memory, and the store to fill it through."""
    url = f"memory://{uuid.uuid4()}"
    return Lake(url), Store(StoreUrl.parse(url), StorageConfig(), Transfer())


class TestInstruments:
    def test_the_list_of_a_day_is_read_once(self, real_lake: Path) -> None:
        folder = real_lake / "instruments-store-cefi"
        lake = Lake(real_lake / "market-data-tick-cefi", folder)
        table, source = lake.instruments(DAY)
        path = folder / f"instrument_availability/by_date/day-{DAY}/instruments.parquet"
        assert table.equals(pq.read_table(path))
        assert (source.rows, source.size, source.url) == (6, path.stat().st_size, path.as_uri())
        assert lake.instruments(DAY)[0] is table
        assert lake.instruments("2024-08-08")[0] is table
        assert lake.transfer.requests == 1
        lake.forget()
        assert lake.instruments(DAY)[0].equals(table)
        assert lake.transfer.requests == 2
        with pytest.raises(ValueError, match="ISO 8601"):
            lake.instruments("yesterday")

    def test_a_day_without_list_and_a_lake_without_lists(self, tmp_path: Path) -> None:
        with pytest.raises(ObjectNotFoundError) as caught:
            Lake(tmp_path, tmp_path).instruments(DAY)
        assert caught.value.url is not None
        assert caught.value.url.endswith(
            "/instrument_availability/by_date/day-2024-08-08/instruments.parquet"
        )
        with pytest.raises(ConfigError, match="no instrument lists"):
            Lake(tmp_path).instruments(DAY)


class TestFacade:
    def test_nothing_is_opened_before_it_is_needed(self) -> None:
        with RangeServer() as server:
            config = LakeConfig(ticks=f"{server.url}/t", instruments=f"{server.url}/i", layout="hive")
            lake = Lake.from_config(config)
            lake.scan(PERP, "trades", NOON)
            assert len(server.requests) == 0
            assert repr(lake) == f"Lake('{server.url}/t', instruments='{server.url}/i')"
            lake.scan(PERP, "trades", NOON).plan()
            assert server.requests.log[0].path.startswith("t/raw_tick_data/by_date/day=2024-08-08/")
        Lake("gs://no-such-bucket", storage=StorageConfig(service_account=Path("/nowhere")))
        Lake("/no/such/folder")

    def test_bad_arguments_are_refused_at_once(self) -> None:
        for bad in ("ftp://x", "gs://", "s3://user:password@host"):
            with pytest.raises(ConfigError):
                Lake(bad)
            with pytest.raises(ConfigError):
                Lake("gs://b", bad)
        with pytest.raises(ConfigError):
            Lake("gs://b", layout="unknown")
        with pytest.raises(ConfigError):
            Lake("gs://b", storage=StorageConfig(endpoint="nonsense"))
        with pytest.raises(ValueError, match="not an instrument key"):
            Lake("gs://b").scan("BTC", "trades", NOON)
        with pytest.raises(ValueError, match="not a data type"):
            Lake("gs://b").scan(PERP, "quotes", NOON)
        with pytest.raises(TypeError, match="start and end"):
            Lake("gs://b").scan(PERP, "trades", "2024-08-08")  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(ConfigError, match="ts_event"):
            Lake("gs://b").scan(PERP, "trades", NOON, dialect={"unit": "us"})

    def test_plain_values_do(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(pa.table({"px": [1.0], "qty": [1.0], "t": [NOON.start]})))
        dialect = {"price": "px", "size": "qty", "ts_event": "t", "unit": "ns"}
        scan = lake.scan(PERP, "trades", ("2024-08-08T12:00:00Z", NOON.end), dialect=dialect)
        assert scan.window == NOON
        assert scan.to_table().num_rows == 1

    def test_a_listing_is_in_the_order_of_paths(self, tmp_path: Path) -> None:
        paths = [tick_path(f"A:SPOT:{name}", day) for day in (DAY, NEXT_DAY) for name in "ABCDEF"]
        for path in reversed(paths):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        assert [file.path for file in Lake(tmp_path).list()] == paths

    def test_reprs_are_short_and_exact(self) -> None:
        lake, store = memory()
        store.put(tick_path(), parquet(trades([NOON.start])))
        scan = lake.scan(PERP, "trades", NOON)
        assert repr(scan) == f"Scan({PERP}, trades, 2024-08-08T12:00:00Z/2024-08-08T12:01:00Z)"
        assert repr(scan.plan()) == (
            f"ScanPlan({PERP}, trades, 2024-08-08T12:00:00Z/2024-08-08T12:01:00Z: 1 objects, 1 row groups, "
            "0 bytes in 0 requests, 0 days absent)"
        )
        secret = StorageConfig.model_validate({"secret_access_key": "CANARY", "sas_token": "CANARY"})
        assert "CANARY" not in repr(Lake("s3://b", storage=secret)) + repr(
            vars(Lake("s3://b", storage=secret))
        )

    def test_a_missing_folder_is_no_lake_of_holes(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="does not exist"):
            Lake(tmp_path / "typo").scan(PERP, "trades", NOON).plan()
