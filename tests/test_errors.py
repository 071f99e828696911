import builtins
import pickle

import pytest

from ticklake import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_survives_pickling_and_is_a_ticklake_error(name):
    cls = getattr(errors, name)
    error = cls("no such object", hint="Look again")
    error.instrument, error.url = "A:B:C", "gs://bucket/key"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert isinstance(again, errors.TicklakeError)
    assert str(again) == str(error) == "no such object (instrument A:B:C, object gs://bucket/key). Look again"
    assert (again.hint, again.url) == ("Look again", "gs://bucket/key")


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ConfigError", "ValueError"),
        ("LakeError", "OSError"),
        ("ObjectNotFoundError", "FileNotFoundError"),
        ("AccessDeniedError", "PermissionError"),
        ("TransientLakeError", "ConnectionError"),
        ("MissingDataError", "LookupError"),
        ("SourceSchemaError", "ValueError"),
        ("PrecisionError", "ValueError"),
        ("NotCachedError", "LookupError"),
        ("CatalogConflictError", "ValueError"),
        ("BacktestError", "RuntimeError"),
    ],
)
def test_errors_can_be_caught_as_the_builtin_that_fits(name, builtin):
    assert issubclass(getattr(errors, name), getattr(builtins, builtin))


def test_what_the_message_already_names_is_not_said_twice():
    assert str(errors.LakeError("gs://b/k is torn", url="gs://b/k")) == "gs://b/k is torn"


def test_holes_and_missing_windows_survive_pickling():
    assert pickle.loads(pickle.dumps(errors.MissingDataError("x", holes=("a", "b")))).holes == ("a", "b")
    assert pickle.loads(pickle.dumps(errors.NotCachedError("x", missing=("a",)))).missing == ("a",)
