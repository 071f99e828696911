"""Definitions in the catalog: the engine finds them, and so do we without the lake."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nautilus_trader.model import NautilusInstrumentType
from nautilus_trader.persistence import ParquetDataCatalog

from catalog_support import engine_read
from ticklake.catalog import Catalog
from ticklake.config import InstrumentConfig
from ticklake.errors import CatalogCorruptError, CatalogError
from ticklake.instruments import carried_from, carry, from_config, from_lake, load, save, store
from ticklake.types import NANOS_PER_DAY, InstrumentKey, Window

DAY = dt.date(2024, 8, 8)
NEXT = dt.date(2024, 8, 9)
WINDOW = Window.of_day(DAY)
PERP = InstrumentKey("BINANCE-FUTURES:PERPETUAL:BTC-USDT@LIN")
SPOT = InstrumentKey("BINANCE:SPOT_PAIR:BTC-USDT")
COIN = InstrumentKey("BINANCE-DELIVERY:PERPETUAL:BTC-USD@INV")
PERP_ID = "BTCUSDT-PERP.BINANCE"
KINDS = {PERP: "CryptoPerpetual", SPOT: "CurrencyPair", COIN: "CryptoPerpetual"}


@pytest.fixture
def real(real_lake: Path) -> pa.Table:
    name = f"instruments-store-cefi/instrument_availability/by_date/day-{DAY}/instruments.parquet"
    return pq.read_table(real_lake / name, partitioning=None)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog")


def data_files(catalog: Catalog) -> set[Path]:
    return set((catalog.path / "data").rglob("*.parquet"))


def changed(table: pa.Table, tick_size: str) -> pa.Table:
    index = table.column_names.index("tick_size")
    return table.set_column(index, "tick_size", pa.array([tick_size] * len(table)))


def test_the_engine_finds_what_was_saved_at_any_time_of_the_day(catalog: Catalog, real: pa.Table) -> None:
    made = [from_lake(real, key, DAY) for key in KINDS]
    paths = save(catalog, made, DAY)
    assert [path.parent.parent.name for path in paths] == [
        "crypto_perpetual",
        "currency_pair",
        "crypto_perpetual",
    ]
    everything = {one.id.value: one.to_dict() for one in made}
    for start, end in [
        (None, None),
        (WINDOW.start, WINDOW.start),
        (WINDOW.start, WINDOW.end - 1),
        (WINDOW.start + 1, WINDOW.start + 2),
        (WINDOW.start + NANOS_PER_DAY // 2, WINDOW.end - 1),
        (WINDOW.end - 1, WINDOW.end - 1),
    ]:
        found = engine_read(catalog.path, "instruments", start=start, end=end)
        assert {one["id"]: one for one in found} == everything
        (one,) = engine_read(catalog.path, "instruments", instrument_ids=[PERP_ID], start=start, end=end)
        assert one == everything[PERP_ID]
    engine = ParquetDataCatalog(str(catalog.path))
    assert engine.get_intervals(NautilusInstrumentType.CryptoPerpetual, PERP_ID) == [WINDOW.closed]


@pytest.mark.parametrize("key", list(KINDS))
def test_what_was_saved_is_loaded_without_the_lake(
    catalog: Catalog, real: pa.Table, key: InstrumentKey
) -> None:
    assert load(catalog, key, DAY) is None
    made = from_lake(real, key, DAY)
    save(catalog, [made], DAY)
    for spelling in (key, InstrumentKey(key.bare)):
        found = load(catalog, spelling, DAY)
        assert type(found).__name__ == KINDS[key]
        assert found == made
        assert found is not None
        assert found.to_dict() == made.to_dict()
    assert load(catalog, key, NEXT) is None
    others = [other for other in KINDS if other != key]
    assert [load(catalog, other, DAY) for other in others] == [None, None]


def test_a_bare_key_keeps_what_the_list_says_of_the_margin(catalog: Catalog, real: pa.Table) -> None:
    save(catalog, [from_lake(real, InstrumentKey(PERP.bare), DAY)], DAY)
    assert load(catalog, PERP, DAY) is not None
    assert load(catalog, InstrumentKey(f"{PERP.bare}@INV"), DAY) is None


def test_an_id_from_the_config_counts_only_with_it(catalog: Catalog, real: pa.Table) -> None:
    save(catalog, [from_lake(real, PERP, DAY, nautilus_id="X.SIM")], DAY)
    assert load(catalog, PERP, DAY) is None
    assert load(catalog, PERP, DAY, nautilus_id="OTHER.SIM") is None
    assert load(catalog, SPOT, DAY, nautilus_id="X.SIM") is None
    found = load(catalog, PERP, DAY, nautilus_id="X.SIM")
    assert found is not None
    assert found.id.value == "X.SIM"


def test_a_definition_of_the_config_is_not_taken_for_the_lakes(catalog: Catalog) -> None:
    definition = {"type": "spot", "base": "BTC", "quote": "USDT", "raw_symbol": "BTCUSDT"}
    sizes = {"tick_size": "0.01", "min_size": "0.001"}
    config = InstrumentConfig.model_validate({"key": SPOT.text, "definition": definition | sizes})
    made = from_config(config, DAY)
    save(catalog, [made], DAY)
    assert engine_read(catalog.path, "instruments") == [made.to_dict()]
    assert load(catalog, SPOT, DAY) is None


def test_saving_again_changes_nothing(catalog: Catalog, real: pa.Table) -> None:
    (path,) = save(catalog, [from_lake(real, PERP, DAY)], DAY)
    before = path.stat()
    assert save(catalog, [from_lake(real, PERP, DAY)], DAY) == [path]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_definition_replaces_that_of_the_day(catalog: Catalog, real: pa.Table) -> None:
    save(catalog, [from_lake(real, PERP, DAY)], DAY)
    (path,) = save(catalog, [from_lake(changed(real, "0.5"), PERP, DAY)], DAY)
    assert data_files(catalog) == {path}
    found = load(catalog, PERP, DAY)
    assert found is not None
    assert str(found.price_increment) == "0.5"


def test_each_day_has_its_own_definition(catalog: Catalog, real: pa.Table) -> None:
    save(catalog, [from_lake(real, PERP, DAY)], DAY)
    save(catalog, [from_lake(changed(real, "0.01"), PERP, NEXT)], NEXT)
    precisions = []
    for day in (DAY, NEXT):
        found = load(catalog, PERP, day)
        assert found is not None
        precisions.append(found.price_precision)
        noon = Window.of_day(day).start + NANOS_PER_DAY // 2
        (one,) = engine_read(catalog.path, "instruments", start=noon, end=noon)
        assert one == found.to_dict()
    assert precisions == [1, 2]
    assert len(engine_read(catalog.path, "instruments")) == 2


def test_files_that_the_engine_consolidated_are_still_found(catalog: Catalog, real: pa.Table) -> None:
    save(catalog, [from_lake(real, PERP, DAY)], DAY)
    save(catalog, [from_lake(changed(real, "0.01"), PERP, NEXT)], NEXT)
    ParquetDataCatalog(str(catalog.path)).consolidate_catalog()
    assert len(data_files(catalog)) == 1
    found = [load(catalog, PERP, day) for day in (DAY, NEXT)]
    assert [one and one.price_precision for one in found] == [1, 2]


def test_a_definition_of_another_time_is_refused(catalog: Catalog, real: pa.Table) -> None:
    with pytest.raises(ValueError, match="2024-08-09"):
        save(catalog, [from_lake(real, PERP, DAY)], NEXT)


def test_the_engines_own_definitions_are_left_alone(catalog: Catalog, real: pa.Table) -> None:
    catalog.path.mkdir()
    made = from_lake(real, PERP, DAY)
    theirs = ParquetDataCatalog(str(catalog.path)).write_instruments([made])
    before = [(catalog.path / path).read_bytes() for path in theirs]
    assert load(catalog, PERP, DAY) is None
    (ours,) = save(catalog, [made], DAY)
    assert load(catalog, PERP, DAY) == made
    assert [(catalog.path / path).read_bytes() for path in theirs] == before
    assert data_files(catalog) == {ours, *(catalog.path / path for path in theirs)}
    assert engine_read(catalog.path, "instruments") == [made.to_dict()] * 2


def test_a_definition_of_another_type_replaces_that_of_the_day(catalog: Catalog) -> None:
    size = {"tick_size": "0.01", "min_size": "0.001"}
    kinds = {
        kind: InstrumentConfig.model_validate(
            {
                "key": SPOT.text,
                "nautilus_id": "X.SIM",
                "definition": {"type": kind, "base": "BTC", "quote": "USDT", "raw_symbol": "X"} | size,
            }
        )
        for kind in ("spot", "perpetual")
    }
    for kind in ("spot", "perpetual", "spot"):
        made, later = from_config(kinds[kind], DAY), from_config(kinds["perpetual"], NEXT)
        save(catalog, [made], DAY)
        save(catalog, [later], NEXT)
        found = engine_read(catalog.path, "instruments")
        assert sorted(found, key=lambda one: int(one["ts_init"])) == [made.to_dict(), later.to_dict()]


def test_a_definition_that_goes_while_it_is_read_is_no_damage(
    catalog: Catalog, real: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [from_lake(real, key, DAY, nautilus_id="X.SIM") for key in (PERP, SPOT)]
    save(catalog, [made[0]], DAY)
    read = store._read

    def replaced_first(path: Path) -> list[dict[str, Any]]:
        monkeypatch.setattr(store, "_read", read)
        save(catalog, [made[1]], DAY)
        raise FileNotFoundError(path)

    monkeypatch.setattr(store, "_read", replaced_first)
    found = load(catalog, SPOT, DAY, nautilus_id="X.SIM")
    assert found is not None
    assert found.to_dict() == made[1].to_dict()


@pytest.mark.parametrize("nautilus_id", ["币安人生USDT.BINANCE", "BTC~USDT.X", "BTC#1.X", "A%20B.X"])
def test_ids_that_need_encoding_are_kept(catalog: Catalog, real: pa.Table, nautilus_id: str) -> None:
    made = from_lake(real, PERP, DAY, nautilus_id=nautilus_id)
    save(catalog, [made], DAY)
    assert load(catalog, PERP, DAY, nautilus_id=nautilus_id) == made
    assert engine_read(catalog.path, "instruments") == [made.to_dict()]


def test_saving_what_is_there_locks_nothing(catalog: Catalog, real: pa.Table) -> None:
    save(catalog, [from_lake(real, PERP, DAY)], DAY)
    shutil.rmtree(catalog.path / ".ticklake")
    save(catalog, [from_lake(real, PERP, DAY)], DAY)
    assert not (catalog.path / ".ticklake").exists()


def test_a_carried_definition_is_that_of_another_day_and_says_so(catalog: Catalog, real: pa.Table) -> None:
    made = from_lake(real, PERP, DAY)
    carried = carry(made, NEXT)
    midnight = Window.of_day(NEXT).start
    expected = made.to_dict() | {"ts_event": midnight, "ts_init": midnight}
    assert carried.to_dict() == expected | {"info": made.info | {"carried_from": str(DAY)}}
    save(catalog, [carried], NEXT)
    found = load(catalog, PERP, NEXT)
    assert found is not None
    assert (carried_from(made), carried_from(found)) == (None, str(DAY))
    assert carried_from(carry(found, NEXT + dt.timedelta(days=1))) == str(DAY)


def test_ids_that_the_engine_mixes_up_are_kept_apart(catalog: Catalog, real: pa.Table) -> None:
    for nautilus_id in ("BTC/USD.KRAKEN", "BTCUSD.KRAKEN", "BTC\\USD.KRAKEN"):
        made = from_lake(real, PERP, DAY, nautilus_id=nautilus_id)
        save(catalog, [made], DAY)
        found = load(catalog, PERP, DAY, nautilus_id=nautilus_id)
        assert found is not None
        assert found.to_dict() == made.to_dict()


def test_an_id_that_cannot_be_a_folder_is_refused(catalog: Catalog, real: pa.Table) -> None:
    with pytest.raises(CatalogError, match="is the limit"):
        save(catalog, [from_lake(real, PERP, DAY, nautilus_id=f"{'A' * 240}.KRAKEN")], DAY)


def test_a_broken_definition_is_corrupt(catalog: Catalog, real: pa.Table) -> None:
    (path,) = save(catalog, [from_lake(real, PERP, DAY)], DAY)
    path.write_bytes(b"junk")
    with pytest.raises(CatalogCorruptError, match=r"is damaged: .* --repair"):
        load(catalog, PERP, DAY)


def test_new_currencies_are_known_in_a_fresh_process(catalog: Catalog, real: pa.Table) -> None:
    index = real.column_names.index("base_asset")
    table = real.set_column(index, "base_asset", pa.array(["BRANDNEW2"] * len(real)))
    made = from_lake(table, PERP, DAY)
    save(catalog, [made], DAY)
    (found,) = engine_read(catalog.path, "instruments")
    assert found == made.to_dict()


def test_the_engine_is_imported_only_when_it_is_needed() -> None:
    code = """
import sys, ticklake.catalog, ticklake.instruments
from ticklake.types import InstrumentKey
assert ticklake.instruments.venue_of(InstrumentKey("OKX:SPOT:A-B")) == "OKX"
assert not any(name.startswith("nautilus_trader") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
