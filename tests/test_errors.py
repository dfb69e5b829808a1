import pytest

from effxfer import errors
from effxfer.errors import EffxferError, SettingsError, did_you_mean, missing_package

CODES = {
    "SettingsError": 2,
    "DataError": 3,
    "ModelFileError": 4,
    "ResourceError": 5,
    "GateError": 6,
    "LockedError": 7,
}


def test_every_error_has_its_own_exit_code_and_the_tree_is_one_deep():
    tree = {cls.__name__: cls.exit_code for cls in EffxferError.__subclasses__()}
    assert {name: tree.get(name) for name in CODES} == CODES
    assert EffxferError.exit_code == 1
    assert all(not getattr(errors, name).__subclasses__() for name in CODES)
    assert all(f"x {name}" in (errors.__doc__ or "") for name in CODES), "the docstring draws the tree"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SettingsError("no x"), "no x"),
        (SettingsError("no x", "try y"), "no x\n  hint: try y"),
        (SettingsError("no x", code="E201"), "E201 no x"),
        (SettingsError("no x", "try y", code="E201"), "E201 no x\n  hint: try y"),
    ],
)
def test_reads_as_code_problem_and_hint(error, text):
    assert str(error) == text


def test_a_missing_package_names_the_command_that_brings_it():
    error = missing_package("pyarrow", "table", "Parquet tables")
    assert error.exit_code == 5
    assert "pip install 'effxfer[table]'" in str(error)


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("epoch", ["epochs", "seed"], " (did you mean 'epochs'?)"),
        ("zzz", ["epochs"], ""),
        ("", [], ""),
        ("lr", {"lr": 1}, " (did you mean 'lr'?)"),
    ],
)
def test_suggests_only_what_is_near(name, known, text):
    assert did_you_mean(name, known) == text
