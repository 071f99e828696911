"""Scans of real ticks, in a folder and in buckets of an object store, against other readers."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake_support import DAY, DAY_START, PERP, SECOND, MotoServer, tick_path
from ticklake.config import StorageConfig
from ticklake.errors import AccessDeniedError, ConfigError
from ticklake.lake import Lake
from ticklake.lake.footers import FOOTER_GUESS
from ticklake.types import NANOS_PER_DAY, Window

NEXT_DAY = DAY + dt.timedelta(1)
MIDNIGHT = DAY_START + NANOS_PER_DAY


# Real stores


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


def upload(moto: MotoServer, folder: Path, *, public: bool) -> str:
    """Put a folder into a new bucket and return the bucket's name."""
    bucket = f"ticks-{uuid.uuid4()}"
    client = boto3.client(
        "s3",
        endpoint_url=moto.url,
        aws_access_key_id="me",
        aws_secret_access_key="me",
        region_name="us-east-1",
    )
    acl = "public-read" if public else "private"
    client.create_bucket(Bucket=bucket, ACL=acl)
    for path in folder.rglob("*.parquet"):
        key = f"pre/{path.relative_to(folder)}"
        client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes(), ACL=acl)
    client.close()
    moto.requests.clear()
    return bucket


ACROSS_MIDNIGHT = Window.parse("2024-08-08T23:59:00Z", "2024-08-09T00:01:00Z")
SPOT = "BINANCE:SPOT_PAIR:BTC-USDT"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_over_http(moto: MotoServer, real_lake: Path, scheme: str) -> None:
    folder = real_lake / "market-data-tick-cefi"
    bucket = upload(moto, folder, public=scheme == "gs")
    storage = StorageConfig.model_validate(
        {"endpoint": moto.url, "anonymous": True}
        if scheme == "gs"
        else {"endpoint": moto.url, "access_key_id": "me", "secret_access_key": "me", "region": "us-east-1"}
    )
    lake = Lake(f"{scheme}://{bucket}/pre", storage=storage)
    scan = lake.scan(SPOT, "trades", ACROSS_MIDNIGHT)
    plan = scan.plan()
    assert [(r.method, r.range, r.status) for r in moto.requests.log] == [
        ("GET", f"bytes=-{FOOTER_GUESS}", 206)
    ] * 2
    moto.requests.clear()
    got = scan.to_table()
    assert len(moto.requests) == plan.requests
    assert moto.requests.sent == plan.bytes
    assert got.equals(Lake(folder).scan(SPOT, "trades", ACROSS_MIDNIGHT).to_table())
    assert plan.objects[0].source.url == f"{scheme}://{bucket}/pre/{tick_path(SPOT)}"

    moto.requests.clear()
    lake.scan(SPOT, "trades", ACROSS_MIDNIGHT).plan()
    assert len(moto.requests) == 0

    assert len(list(lake.list())) == 11
    assert lake.days(SPOT, "trades") == (DAY, NEXT_DAY)
    assert lake.days(PERP, "trades") == (DAY,)
    moto.requests.clear()
    assert lake.scan(PERP, "trades", Window.of_day(NEXT_DAY + dt.timedelta(3))).plan().absent_days
    assert [r.status for r in moto.requests.log] == [404] * 6, "three days, two names each, no repeats"


def test_buckets_that_are_closed_or_not_there(moto: MotoServer, real_lake: Path) -> None:
    bucket = upload(moto, real_lake / "market-data-tick-cefi", public=False)
    anonymous = StorageConfig(endpoint=moto.url, anonymous=True)
    noon = Window(DAY_START + 20 * SECOND, DAY_START + 30 * SECOND)
    with pytest.raises(AccessDeniedError, match=r"access denied \(403"):
        Lake(f"gs://{bucket}/pre", storage=anonymous).scan(SPOT, "trades", noon).plan()
    assert [r.status for r in moto.requests.log] == [403]
    with pytest.raises(ConfigError, match=r"gs://no-such-bucket does not exist \(404 NoSuchBucket\)"):
        Lake("gs://no-such-bucket", storage=anonymous).scan(SPOT, "trades", noon).plan()
    assert len(moto.requests) == 2


# Real ticks


def real_files(real_lake: Path) -> list[Path]:
    files = sorted((real_lake / "market-data-tick-cefi").rglob("*.parquet"))
    assert len(files) == 11
    return files


def test_every_real_file_comes_back_whole(real_lake: Path, facts: dict[str, dict[str, object]]) -> None:
    lake = Lake(real_lake / "market-data-tick-cefi")
    for path, file in zip(real_files(real_lake), sorted(lake.list(), key=lambda f: f.path), strict=True):
        whole = pq.read_table(path)
        clock = "ts_init" if "ts_init" in whole.column_names else "local_timestamp"
        unit = 1 if clock == "ts_init" else 1_000
        times = whole[clock].to_pylist()
        window = Window(min(times) * unit, (max(times) + 1) * unit)
        scan = lake.scan(file.instrument, file.data_type, window)
        batches = [batch for batch in scan.batches() if batch.source.url.endswith(file.path)]
        got = pa.concat_tables(batch.table for batch in batches)
        assert got.equals(whole.select(got.column_names).replace_schema_metadata(None))
        facts_of = facts[f"{file.instrument} {file.day} {file.data_type}"]
        assert sum(batch.table.num_rows for batch in batches) == facts_of["rows"] == batches[0].source.rows
        assert file.size == path.stat().st_size
        assert scan.plan().notes == ()


@pytest.mark.parametrize("data_type", ["trades", "book_snapshot_5"])
@pytest.mark.parametrize("key", [SPOT, PERP, "BINANCE-FUTURES:PERPETUAL:ETH-USDT@LIN"])
def test_real_windows_are_what_duckdb_finds(real_lake: Path, key: str, data_type: str) -> None:
    folder = real_lake / "market-data-tick-cefi"
    files = [
        str(path) for path in real_files(real_lake) if path.match(f"*data_type-{data_type}/{key}.parquet")
    ]
    lake = Lake(folder)
    for window in (
        ACROSS_MIDNIGHT,
        Window.parse("2024-08-08T23:57:00Z", "2024-08-08T23:57:30.5Z"),
        Window.parse("2024-08-08T23:59:58Z", "2024-08-09T00:00:00Z"),
        Window.parse("2024-08-09T00:00:00Z", "2024-08-09T00:00:01Z"),
    ):
        got = lake.scan(key, data_type, window).to_table(on_hole="skip")
        clock = got.column_names[0]
        unit = 1 if clock == "ts_init" else 1_000
        relation = duckdb.sql(
            f'SELECT * FROM read_parquet(?) WHERE "{clock}" * ? >= ? AND "{clock}" * ? < ?',
            params=[files, unit, window.start, unit, window.end],
        )
        assert relation is not None
        expected = relation.to_arrow_table()
        rows = expected.select(got.column_names).to_pylist()
        assert sorted(map(repr, got.to_pylist())) == sorted(map(repr, rows))
        times = got[clock].to_pylist()
        assert times == sorted(times)


def test_a_window_before_midnight_sees_rows_filed_under_the_next_day(real_lake: Path) -> None:
    lake = Lake(real_lake / "market-data-tick-cefi")
    scan = lake.scan(SPOT, "trades", Window(MIDNIGHT - 2 * SECOND, MIDNIGHT))
    plan = scan.plan()
    assert [item.day for item in plan.objects] == [DAY, NEXT_DAY]
    assert all(item.row_groups for item in plan.objects)
    assert plan.absent_days == ()
    ids = scan.to_table()["trade_id"].to_pylist()
    files = [path for path in real_files(real_lake) if path.match(f"*trades/{SPOT}.parquet")]
    by_day = [set(pq.read_table(path)["trade_id"].to_pylist()) for path in files]
    assert set(ids) & by_day[0]
    assert set(ids) & by_day[1]
    # Without slack the rows of the next day's file would be missed, and that is noted.
    strict = Lake(real_lake / "market-data-tick-cefi", partition_slack=0).scan(
        SPOT, "trades", ACROSS_MIDNIGHT
    )
    assert len(strict.plan().notes) == 1


def test_an_absent_neighbour_is_no_hole(real_lake: Path) -> None:
    lake = Lake(real_lake / "market-data-tick-cefi")
    before = lake.scan(PERP, "trades", Window.parse("2024-08-08T23:55:00Z", "2024-08-09T00:00:00Z"))
    assert before.plan().absent_days == ()
    assert before.to_table().num_rows > 0
    beyond = lake.scan(PERP, "trades", Window.parse("2024-08-08T23:55:00Z", "2024-08-09T00:00:01Z"))
    assert beyond.plan().absent_days == (NEXT_DAY,)
