import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import ticklake


def test_all_lists_exactly_the_names_that_can_be_imported():
    assert sorted(ticklake.__all__) == ticklake.__all__ == dir(ticklake)
    assert len(set(ticklake.__all__)) == len(ticklake.__all__)


@pytest.mark.parametrize("name", ticklake.__all__)
def test_every_public_name_is_what_it_says_and_documented(name):
    value = getattr(ticklake, name)
    assert not isinstance(value, ModuleType)
    assert value.__name__ == name
    assert value.__doc__


def test_the_version_and_all_errors_are_at_hand():
    assert ticklake.__version__ == version("ticklake")
    assert issubclass(ticklake.errors.MissingDataError, ticklake.TicklakeError)
    assert ticklake.DialectConfig(unit="ns", ts_event="t").unit == "ns"
    assert "InstrumentDefinition" in ticklake.__all__


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ticklake.nonsense


def test_importing_the_package_or_asking_for_help_loads_no_engine():
    code = (
        "import sys, ticklake, ticklake.cli.app; "
        "heavy = {'nautilus_trader', 'pyarrow', 'plotly', 'obstore', 'pydantic', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
