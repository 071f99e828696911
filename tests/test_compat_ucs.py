"""`UnifiedCloudService`: what such code calls, over real stores; pandas and Polars are the oracles."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat_support import BUCKET, client_of, day_file, day_of_trades, s3_of, served
from lake_support import DAY_START, SECOND, MotoServer, RangeServer, parquet
from ticklake.compat.ucs import CloudTarget, UnifiedCloudService
from ticklake.errors import ConfigError, LakeError, ObjectNotFoundError, SourceSchemaError

TARGET = CloudTarget(BUCKET, "market_tick_data")
DAY_PATH = (
    "raw_tick_data/by_date/day-2024-08-08/data_type-trades/BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN.parquet"
)
NOON = dt.datetime(2024, 8, 8, 12, tzinfo=dt.UTC)
FIVE_MINUTES = (NOON, NOON + dt.timedelta(minutes=5))
FRAME = pd.DataFrame(
    {
        "price": [60_000.1, 0.1 + 0.2, 1e-12],
        "id": [2**53 + 1, 2, 3],
        "side": ["buy", None, "sell"],
    }
)


@pytest.fixture(scope="module")
def day() -> bytes:
    return day_file()


@pytest.fixture(scope="module")
def server(day: bytes) -> Iterator[MotoServer]:
    with served({DAY_PATH: day}) as server:
        yield server


@pytest.fixture
def ucs(server: MotoServer) -> UnifiedCloudService:
    server.requests.clear()
    return UnifiedCloudService(s3_of(server))


def of_folder(folder: Path) -> UnifiedCloudService:
    return UnifiedCloudService({BUCKET: folder})


def stream(ucs: UnifiedCloudService, path: str = DAY_PATH, **how: Any) -> Any:
    return asyncio.run(ucs.download_from_gcs_streaming(TARGET, path, **how))


def polars_window(data: bytes, column: str, first: int, last: int) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(data)).filter(pl.col(column).is_between(first, last))


# Parts of objects


def test_five_minutes_of_a_day_move_less_than_two_percent_of_it(
    ucs: UnifiedCloudService, server: MotoServer, day: bytes
) -> None:
    got = stream(ucs, timestamp_range=FIVE_MINUTES, timestamp_column="ts_event")
    start = DAY_START + 12 * 3_600 * SECOND
    wanted = polars_window(day, "ts_event", start, start + 300 * SECOND)
    pd.testing.assert_frame_equal(got, wanted.to_pandas(), check_dtype=False)
    assert len(got) == 1_389, "both ends"
    assert server.requests.sent < 0.02 * len(day), f"{server.requests.sent} of {len(day)}"
    assert {request.status for request in server.requests.log} == {206}


def test_columns_and_row_groups_are_all_that_moves(
    ucs: UnifiedCloudService, server: MotoServer, day: bytes
) -> None:
    got = stream(ucs, columns=["price", "size"], row_groups=[3, 50], use_byte_range=False)
    whole = pl.read_parquet(io.BytesIO(day), columns=["price", "size"])
    wanted = pl.concat([whole[12_000:16_000], whole[200_000:204_000]])
    pd.testing.assert_frame_equal(got, wanted.to_pandas())
    footer, two_columns = server.requests.log[0].sent + server.requests.log[1].sent, server.requests.sent
    server.requests.clear()
    stream(ucs, row_groups=[3, 50])
    assert two_columns - footer < 0.5 * (server.requests.sent - footer) < 0.02 * len(day)
    narrow = stream(ucs, timestamp_range=FIVE_MINUTES, timestamp_column="ts_init", columns=["price"])
    assert list(narrow.columns) == ["price"]
    assert len(narrow) == 1_389


MILLIS = [DAY_START // 10**6 + n for n in (0, 1, 5, 5, 9)]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([n * 10**6 for n in MILLIS]),
        pa.array([n * 10**3 for n in MILLIS]),
        pa.array(MILLIS),
        pa.array(MILLIS, pa.uint64()),
        pa.array([n * 10**6 for n in MILLIS], pa.timestamp("ns", "UTC")),
        pa.array([n * 10**3 for n in MILLIS], pa.timestamp("us")),
        pa.array(MILLIS, pa.timestamp("ms", "Europe/Paris")),
    ],
    ids=lambda column: (
        str(column.type) + (f" {len(str(column[0]))}" if pa.types.is_int64(column.type) else "")
    ),
)
@pytest.mark.parametrize("statistics", [True, False])
def test_units_are_those_of_the_type_or_of_the_statistics(
    tmp_path: Path, column: pa.Array, statistics: bool
) -> None:
    table = pa.table({"timestamp": column, "n": list(range(5))})
    (tmp_path / "f.parquet").write_bytes(parquet(table, rows_per_group=2, write_statistics=statistics))
    ucs = of_folder(tmp_path)
    for first, last, wanted in ((1, 5, [1, 2, 3]), (2, 4, []), (0, 0, [0]), (9, 1_000, [4]), (100, 200, [])):
        ends = tuple(pd.Timestamp(DAY_START + n * 10**6, tz="UTC") for n in (first, last))
        got = stream(ucs, "f.parquet", timestamp_range=ends)
        assert got["n"].tolist() == wanted
        assert list(got.columns) == ["timestamp", "n"]


def test_seconds_as_arrow_timestamps_are_stored_in_another_unit(tmp_path: Path) -> None:
    seconds = pa.array([DAY_START // SECOND + n for n in range(4)], pa.timestamp("s"))
    (tmp_path / "f.parquet").write_bytes(parquet(pa.table({"timestamp": seconds}), rows_per_group=1))
    got = stream(
        of_folder(tmp_path), "f.parquet", timestamp_range=(DAY_START + SECOND, DAY_START + 2 * SECOND)
    )
    assert len(got) == 2


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=30),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(1, 7),
)
@settings(max_examples=60)
def test_any_range_of_any_rows_is_what_polars_takes(
    tmp_path: Path, offsets: list[int], a: int, b: int, rows: int
) -> None:
    """Rows in any order, ends that fall on rows and between them, three nanoseconds a step."""
    first, last = DAY_START + min(a, b), DAY_START + max(a, b)
    data = parquet(
        pa.table({"timestamp": [DAY_START + n for n in offsets], "n": list(range(len(offsets)))}),
        rows_per_group=rows,
    )
    (tmp_path / "f.parquet").write_bytes(data)
    got = stream(of_folder(tmp_path), "f.parquet", timestamp_range=(first, last))
    assert got["n"].tolist() == polars_window(data, "timestamp", first, last)["n"].to_list()


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    table = pa.table(
        {
            "timestamp": [1, 2],
            "mixed": [DAY_START, DAY_START // 1_000],
            "text": ["a", "b"],
            "ts": [DAY_START, DAY_START + 1],
        }
    )
    (tmp_path / "f.parquet").write_bytes(parquet(table))
    (tmp_path / "plain.parquet").write_bytes(parquet(table, write_statistics=False))
    ucs = of_folder(tmp_path)
    for name in ("f.parquet", "plain.parquet"):
        for column in ("timestamp", "mixed"):
            with pytest.raises(SourceSchemaError, match=f"integers of column '{column}' are no times"):
                stream(ucs, name, timestamp_range=FIVE_MINUTES, timestamp_column=column)
    with pytest.raises(SourceSchemaError, match="holds string"):
        stream(ucs, "f.parquet", timestamp_range=FIVE_MINUTES, timestamp_column="text")
    with pytest.raises(SourceSchemaError, match="these could hold times: timestamp, mixed, ts"):
        stream(ucs, "f.parquet", timestamp_range=FIVE_MINUTES, timestamp_column="time")
    with pytest.raises(SourceSchemaError, match="no columns nope"):
        stream(ucs, "f.parquet", columns=["nope"])
    with pytest.raises(ConfigError, match="row groups 0 to 0, and not 1"):
        stream(ucs, "f.parquet", row_groups=[1])
    with pytest.raises(ConfigError, match="has no time zone"):
        stream(ucs, timestamp_range=(NOON.replace(tzinfo=None), NOON))
    with pytest.raises(ConfigError, match="has no time zone"):
        stream(ucs, timestamp_range=(pd.Timestamp("2024-08-08"), NOON))
    with pytest.raises(ConfigError, match="before its start"):
        stream(ucs, timestamp_range=(FIVE_MINUTES[1], NOON))
    with pytest.raises(ConfigError, match="not a pair"):
        stream(ucs, timestamp_range=NOON)
    with pytest.raises(ConfigError, match="not one of dataframe, parquet, csv"):
        stream(ucs, output_format="feather")


def test_parts_as_files(tmp_path: Path, ucs: UnifiedCloudService, day: bytes) -> None:
    how = {"timestamp_range": FIVE_MINUTES, "timestamp_column": "ts_event"}
    target = tmp_path / "new" / "part.parquet"
    assert stream(ucs, **how, output_format="parquet", local_path=target) == str(target)
    start = DAY_START + 12 * 3_600 * SECOND
    assert pl.read_parquet(target).equals(polars_window(day, "ts_event", start, start + 300 * SECOND))
    assert [path.name for path in target.parent.iterdir()] == ["part.parquet"]
    named = stream(ucs, **how, output_format="csv")
    assert pl.read_csv(named).height == 1_389
    Path(named).unlink()
    with pytest.raises(ConfigError, match="a data frame is returned"):
        stream(ucs, local_path=target)


def test_an_object_that_is_overwritten_meanwhile_is_read_again(tmp_path: Path) -> None:
    old, new = (day_file(rows, 1_000) for rows in (50_000, 60_000))
    with RangeServer() as server:
        server.objects["d.parquet"] = old

        def overwrite(request: Any) -> None:
            if len(server.requests) == 2:
                server.objects["d.parquet"] = new

        server.before = overwrite
        got = stream(UnifiedCloudService({BUCKET: server.url}), "d.parquet")
    assert len(got) == 60_000


# Whole objects


@pytest.mark.parametrize("format_", ["parquet", "csv", "json"])
def test_frames_go_up_and_come_back(ucs: UnifiedCloudService, format_: str) -> None:
    async def both() -> pd.DataFrame:
        url = await ucs.upload_to_gcs(target=TARGET, gcs_path=f"out/f.{format_}", data=FRAME, format=format_)
        assert url == f"s3://{BUCKET}/out/f.{format_}"
        return await ucs.download_from_gcs(target=TARGET, gcs_path=f"out/f.{format_}", format=format_)

    got = asyncio.run(both())
    pd.testing.assert_frame_equal(got, FRAME, check_exact=format_ != "json", check_dtype=False, rtol=1e-14)


def test_bytes_text_and_json_values(ucs: UnifiedCloudService, server: MotoServer) -> None:
    async def use() -> None:
        summary = {"run_id": "BT-1", "pnl": {"net": 1.25}}
        await ucs.upload_to_gcs(TARGET, "out/summary.json", summary, format="json")
        await ucs.upload_to_gcs(TARGET, "out/text", "größer", format="text")
        assert await ucs.download_from_gcs(TARGET, "out/text", format="text") == "größer"
        assert await ucs.download_from_gcs(TARGET, "out/text", format="bytes") == "größer".encode()
        assert json.loads(await ucs.download_from_gcs(TARGET, "out/summary.json", "text")) == summary

    asyncio.run(use())
    body = client_of(server).get_object(Bucket=BUCKET, Key="out/summary.json")["Body"].read()
    assert json.loads(body)["pnl"] == {"net": 1.25}


@pytest.mark.parametrize("format_", ["pickle", "joblib"])
def test_formats_that_run_code_are_refused_with_the_reason(ucs: UnifiedCloudService, format_: str) -> None:
    with pytest.raises(ConfigError, match="runs whatever code the object holds"):
        asyncio.run(ucs.download_from_gcs(TARGET, "model", format=format_))
    with pytest.raises(ConfigError, match="runs whatever code the object holds"):
        asyncio.run(ucs.upload_to_gcs(TARGET, "model", {}, format=format_))


def test_what_is_not_of_its_format_is_an_error(tmp_path: Path) -> None:
    ucs = of_folder(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff{")
    for format_ in ("json", "text"):
        with pytest.raises(ConfigError, match=f"cannot be read as {format_}"):
            asyncio.run(ucs.download_from_gcs(TARGET, "x", format=format_))
    with pytest.raises(LakeError, match="not a Parquet file"):
        asyncio.run(ucs.download_from_gcs(TARGET, "x"))
    with pytest.raises(ConfigError, match="is not a format"):
        asyncio.run(ucs.download_from_gcs(TARGET, "x", format="xml"))
    for data, format_ in ((object(), "json"), ([1], "parquet"), (FRAME, "text")):
        with pytest.raises(ConfigError):
            asyncio.run(ucs.upload_to_gcs(TARGET, "y", data, format=format_))
    assert not (tmp_path / "y").exists()


def test_missing_objects_are_errors_and_logged_unless_expected(
    ucs: UnifiedCloudService, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        with pytest.raises(FileNotFoundError):
            asyncio.run(ucs.download_from_gcs(TARGET, "none.parquet", log_errors=False))
        assert not caplog.records
        with pytest.raises(ObjectNotFoundError, match=r"s3://market-data/none\.parquet"):
            asyncio.run(ucs.download_from_gcs(TARGET, "none.parquet"))
        assert "none.parquet" in caplog.text
    with pytest.raises(FileNotFoundError):
        stream(ucs, "none.parquet")


def test_listing_by_the_beginning_of_names(ucs: UnifiedCloudService, tmp_path: Path) -> None:
    names = ["a/b1.txt", "a/b2.txt", "a/c.txt", "ab.txt"]
    for each in (ucs, of_folder(tmp_path)):

        async def use(ucs: UnifiedCloudService = each) -> None:
            for name in names:
                await ucs.upload_to_gcs(TARGET, f"ls/{name}", name, format="text")
            for prefix, wanted in {
                "ls/a": names,
                "ls/a/": names[:3],
                "ls/a/b": names[:2],
                "ls/none/x": [],
            }.items():
                found = await ucs.list_gcs_files(TARGET, prefix)
                assert [item["name"] for item in found] == [f"ls/{name}" for name in wanted]
            (first,) = await ucs.list_gcs_files(TARGET, "ls/a/", max_results=1)
            assert (first["name"], first["size"]) == ("ls/a/b1.txt", 8)
            assert first["updated"].tzinfo is not None
            paths = ["ls/ab.txt", "ls/a", "none"]
            wanted_there = {"ls/ab.txt": True, "ls/a": False, "none": False}
            assert await ucs.check_gcs_files_exist_batch(TARGET, paths) == wanted_there
            assert await ucs.check_gcs_files_exist_batch(target=TARGET, gcs_paths=paths) == wanted_there
            with pytest.raises(ConfigError, match="give paths"):
                await ucs.check_gcs_files_exist_batch(TARGET)

        asyncio.run(use())


# Where buckets are


def test_buckets_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: MotoServer
) -> None:
    (tmp_path / "x.txt").write_text("here")
    monkeypatch.setenv("TICKLAKE_BUCKETS", f"other=gs://elsewhere, {BUCKET} = {tmp_path}")
    assert asyncio.run(UnifiedCloudService().download_from_gcs(TARGET, "x.txt", "text")) == "here"
    monkeypatch.setenv("TICKLAKE_BUCKETS", json.dumps(s3_of(server)))
    assert len(stream(UnifiedCloudService(), row_groups=[0])) == 4_000
    for wrong in ("{", "[1]", "a", "a=", f"{BUCKET}=x,{BUCKET}=y", '{"market-data": {"uri": "x"}}', "a=b,=c"):
        monkeypatch.setenv("TICKLAKE_BUCKETS", wrong)
        with pytest.raises(ConfigError, match="TICKLAKE_BUCKETS"):
            stream(UnifiedCloudService())
    secret = {"market-data": {"storage": {"secret_access_key": ["hush"]}}}
    monkeypatch.setenv("TICKLAKE_BUCKETS", json.dumps(secret))
    with pytest.raises(ConfigError, match="secret_access_key") as caught:
        stream(UnifiedCloudService())
    assert "hush" not in str(caught.value)


def test_a_bucket_is_one_of_google_by_default() -> None:
    from ticklake.compat.buckets import bucket_place

    assert bucket_place("b", {}).url == "gs://b"
    assert bucket_place("b", {"*": "s3://x-{bucket}"}).url == "s3://x-b"
    assert bucket_place("b", {"b": {"storage": {"endpoint": "http://localhost:1"}}}).options.endpoint
    with pytest.raises(ConfigError, match="not the name of a bucket"):
        bucket_place("gs://b", {})


def test_a_mount_is_read_where_it_holds_the_object(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ucs: UnifiedCloudService, server: MotoServer, day: bytes
) -> None:
    small = parquet(day_of_trades(10))
    for place in (tmp_path / BUCKET / DAY_PATH, tmp_path / "other" / DAY_PATH):
        place.parent.mkdir(parents=True)
        place.write_bytes(small)
    monkeypatch.setenv("GCS_FUSE_MOUNT_PATH", str(tmp_path))
    assert len(stream(ucs)) == 10
    assert asyncio.run(ucs.check_gcs_files_exist_batch(TARGET, [DAY_PATH])) == {DAY_PATH: True}
    monkeypatch.setenv("GCS_FUSE_MOUNT_PATH", str(tmp_path / "other"))
    assert len(stream(ucs)) == 10
    assert len(server.requests) == 0
    for elsewhere in (tmp_path / "none", tmp_path / "other" / "raw_tick_data"):
        monkeypatch.setenv("GCS_FUSE_MOUNT_PATH", str(elsewhere))
        assert len(stream(ucs, row_groups=[1])) == 4_000
    assert len(server.requests) > 0


# The event loop, and pandas


def test_the_event_loop_goes_on_meanwhile() -> None:
    with RangeServer() as server:
        server.objects["x"] = b"data"
        server.before = lambda _: time.sleep(0.3)
        ucs = UnifiedCloudService({BUCKET: server.url})

        async def use() -> int:
            download = asyncio.create_task(ucs.download_from_gcs(TARGET, "x", "bytes"))
            ticks = 0
            while not download.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert await download == b"data"
            return ticks

        assert asyncio.run(use()) > 5


def test_without_pandas_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(parquet(pa.table({"timestamp": [DAY_START]})))
    code = f"""
import asyncio, sys
class NoPandas:
    def find_spec(name, path, target=None):
        if name == "pandas":
            raise ImportError(name)
sys.meta_path.insert(0, NoPandas)
from ticklake.compat.ucs import CloudTarget, UnifiedCloudService
ucs, target = UnifiedCloudService({{"b": {str(tmp_path)!r}}}), CloudTarget("b")
print(len(asyncio.run(ucs.download_from_gcs(target, "x.parquet", "bytes"))) > 100)
part = ucs.download_from_gcs_streaming(
    target, "x.parquet", output_format="parquet", local_path={str(tmp_path / "y")!r}
)
asyncio.run(part)
try:
    asyncio.run(ucs.download_from_gcs(target, "x.parquet"))
except ValueError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'ticklake[compat]'" in done.stdout, done.stderr
    assert (tmp_path / "y").exists()
