"""Names of catalog files and folders: reversible, and the engine's own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from nautilus_trader.model import (
    AggressorSide,
    InstrumentId,
    NautilusDataType,
    Price,
    Quantity,
    TradeId,
    TradeTick,
)
from nautilus_trader.persistence import ParquetDataCatalog

from ticklake.catalog.naming import (
    engine_dir,
    file_name,
    instrument_dir,
    other_spelling,
    parse_file_name,
    parse_instrument_dir,
)
from ticklake.errors import CatalogError
from ticklake.types import Window

LAST = 2**63 - 1
points = st.integers(0, LAST)
windows = st.tuples(points, points).filter(lambda p: p[0] != p[1]).map(lambda p: Window(min(p), max(p)))


def tick(nautilus_id: str, nanos: int) -> TradeTick:
    return TradeTick(
        InstrumentId.from_str(nautilus_id),
        Price.from_str("1.1"),
        Quantity.from_str("0.001"),
        AggressorSide.BUY,
        TradeId("1"),
        nanos,
        nanos,
    )


def test_a_name_is_the_closed_interval_of_its_window() -> None:
    window = Window.parse("2023-05-25T00:00:00Z", "2023-05-25T01:00:00Z")
    name = "2023-05-25T00-00-00-000000000Z_2023-05-25T00-59-59-999999999Z.parquet"
    assert file_name(window) == name
    assert parse_file_name(name) == window


@given(windows)
@example(Window(0, 1))
@example(Window(0, LAST))
def test_names_are_reversible(window: Window) -> None:
    assert parse_file_name(file_name(window)) == window


@given(windows)
@settings(max_examples=50)
def test_the_engine_reads_our_names(window: Window) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "data", "trades", "A.B")
        folder.mkdir(parents=True)
        (folder / file_name(window)).touch()
        assert ParquetDataCatalog(root).get_intervals(NautilusDataType.TradeTick, "A.B") == [window.closed]


@given(st.lists(st.integers(0, LAST - 1), min_size=1, max_size=3).map(sorted))
@settings(max_examples=50)
def test_we_read_the_names_that_the_engine_writes(times: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        written = ParquetDataCatalog(root).write_trade_ticks([tick("A.B", time) for time in times])
        window = Window.from_closed(times[0], times[-1])
        assert Path(written).name == file_name(window)
        assert parse_file_name(Path(written).name) == window


GOOD = "2023-05-25T00-00-00-000000000Z_2023-05-25T00-59-59-999999999Z.parquet"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "foo.parquet",
        "part-0.parquet",
        f"{GOOD}.tmp",
        f".{GOOD}",
        GOOD.replace(".parquet", ".PARQUET"),
        GOOD.replace(".parquet", "_1.parquet"),
        GOOD.replace("000000000Z", "0Z"),
        GOOD.replace("-000000000Z", "Z"),
        GOOD.replace("T", "t"),
        GOOD.replace("_", "__"),
        GOOD + "\n",
        GOOD.replace("00-59-59", "00-59-60"),
        GOOD.replace("00-59-59", "24-00-00"),
        GOOD.replace("2023-05-25T00-59", "2023-02-30T00-59"),
        GOOD.replace("2023-05-25T00-59", "2022-05-25T00-59"),
        GOOD.replace("2023-05-25T00-00", "1969-05-25T00-00"),
        GOOD.replace("2023-05-25T00-59", "2300-05-25T00-59"),
        GOOD.replace("2023", "٢٠٢٣"),
    ],
)
def test_foreign_names_are_none(name: str) -> None:
    assert parse_file_name(name) is None


@given(
    st.text()
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9-]{18}Z_2262-01-01T00-00-00-000000000Z\.parquet\Z")
)
def test_no_window_has_a_second_name(name: str) -> None:
    window = parse_file_name(name)
    assert window is None or file_name(window) == name


ids = st.tuples(
    st.text(min_size=1, max_size=12), st.text(st.characters(codec="ascii"), min_size=1, max_size=6)
).map(".".join)


@given(ids)
@example("BTCUSDT-PERP.BINANCE")
@example("A%2FB.X")
@example('A*?[1]{2}<3>|~`#".X')
@example("A B@C:D&E.X")
@example("..X.Y")
@example("日本-Ä.X")
@example("BTC/USD.KRAKEN")
@example("^SPX.CBOE")
@example("../../etc.X")
@settings(max_examples=80)
def test_the_engine_finds_what_lies_in_its_folder(nautilus_id: str) -> None:
    """Its own spelling is ours but where it would be that of another id as well."""
    try:
        valid = InstrumentId.from_str(nautilus_id).value == nautilus_id
    except ValueError:
        valid = False
    assume(valid)
    try:
        folder = engine_dir(nautilus_id)
    except CatalogError:
        assert "\\" in nautilus_id or not nautilus_id.isprintable() or not nautilus_id.strip("/.")
        return
    with tempfile.TemporaryDirectory() as root:
        catalog = ParquetDataCatalog(root)
        catalog.write_trade_ticks([tick(nautilus_id, 5)])
        assert [path.name for path in Path(root, "data", "trades").iterdir()] == [folder]
        assert len(catalog.query_trade_ticks([nautilus_id])) == 1
        listed = catalog.list_instruments(NautilusDataType.TradeTick)
        ours = instrument_dir(nautilus_id)
        assert listed == [nautilus_id] or ours != folder
        assert (ours == folder) == (not set("/^") & set(nautilus_id))
        Path(root, "data", "trades", folder).rename(Path(root, "data", "trades", ours))
        assert [each.instrument_id.value for each in catalog.query_trade_ticks()] == [nautilus_id]


@given(st.text(max_size=12), st.text(max_size=12))
@example("BTC/USD", "BTCUSD")
@example("A%2FB", "A/B")
@example("A\\B", "A/B")
@example("^A", "_A")
@example("é", "e\u0301")
def test_every_id_has_a_folder_of_its_own(one: str, other: str) -> None:
    folders = {}
    for nautilus_id in (f"{one}.X", f"{other}.X"):
        try:
            folders[instrument_dir(nautilus_id)] = nautilus_id
        except CatalogError:
            assert nautilus_id == ".X" or not nautilus_id.isprintable()
            return
    assert len(folders) == len({one, other})
    assert {folder: parse_instrument_dir(folder) for folder in folders} == folders
    assert all(folder.isascii() and folder.isprintable() and "/" not in folder for folder in folders)


@pytest.mark.parametrize(
    "nautilus_id", ["A", ".X", "A.", "", "..", ".", "...", "A" * 240 + ".X", "日" * 30 + ".X", "\ud800.X"]
)
def test_what_can_be_no_folder_is_refused(nautilus_id: str) -> None:
    with pytest.raises(CatalogError) as caught:
        instrument_dir(nautilus_id)
    assert caught.value.hint


@pytest.mark.parametrize("nautilus_id", ["A\\B.X", "A\nB.X", "A\x7fB.X", "/./", "/../"])
def test_what_the_engine_does_not_find_is_refused_where_it_would_look(nautilus_id: str) -> None:
    with pytest.raises(CatalogError, match="cannot find"):
        engine_dir(nautilus_id)


def test_the_engine_does_mix_up_what_has_folders_of_its_own_here(tmp_path: Path) -> None:
    catalog = ParquetDataCatalog(str(tmp_path))
    catalog.write_trade_ticks([tick("BTC/USD.KRAKEN", 5)])
    assert len(catalog.query_trade_ticks(["BTCUSD.KRAKEN"])) == 1
    assert engine_dir("BTC/USD.KRAKEN") == engine_dir("BTCUSD.KRAKEN")


def test_one_folder_under_two_names_is_seen(tmp_path: Path) -> None:
    """A file system that takes upper for lower case gives such names; here a link stands for it."""
    (tmp_path / "btc.X").mkdir()
    (tmp_path / "eth.X").mkdir()
    (tmp_path / "nowhere").symlink_to("nothing")
    assert other_spelling(tmp_path / "btc.X") is None
    assert other_spelling(tmp_path / "sol.X") is None
    (tmp_path / "BTC.X").symlink_to("btc.X")
    assert other_spelling(tmp_path / "BTC.X") == "btc.X"
    assert other_spelling(tmp_path / "btc.X") == "BTC.X"
    assert other_spelling(tmp_path / "eth.X") is None


@given(st.text(max_size=20))
def test_no_id_leaves_the_catalog(text: str) -> None:
    try:
        folder = instrument_dir(text)
    except CatalogError:
        return
    assert Path("/srv/data/trades", folder).resolve() == Path("/srv/data/trades") / folder
    assert "/" not in folder


@pytest.mark.parametrize("name", ["A%2.X", "A%ff.X", "A%41.X", "A*.X", "BTCUSDT", "A%FF.X", ".", "A~.X"])
def test_foreign_folders_are_none(name: str) -> None:
    assert parse_instrument_dir(name) is None
