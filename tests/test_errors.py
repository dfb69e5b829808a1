import pytest

from effxfer import errors
from effxfer.errors import (
    EffxferError,
    ResourceError,
    SettingsError,
    did_you_mean,
    memory_full,
    missing_package,
    out_of_memory,
)

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
    assert tree == CODES
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


ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    " 10000000000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError(ALLOCATOR), "the memory is full: 10,000.000 GB more were requested"),
        (RuntimeError("std::bad_alloc"), "the memory is full"),
        (RuntimeError("can't start new thread"), "the memory is full"),
        (MemoryError(), "the memory is full"),
        (MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000, 10**9)"), "8,004.445 GB more"),
        (OSError(12, "Cannot allocate memory"), "the memory is full"),
        (RuntimeError("could not execute a primitive"), "the memory is full"),
        (ImportError("\n\nIMPORTANT: READ\n* /a/libx.so.13: failed to map segment from it"), "to load libx.so.13"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "too small to load libtorch_cpu.so"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB"), "GPU's"),
    ],
)
def test_a_lack_of_memory_is_recognised_however_it_is_said(error, text):
    assert out_of_memory(error)
    full = memory_full(error)
    assert full.exit_code == 5
    assert text in full.problem
    assert full.hint


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes do not match"), ImportError("no module"), ResourceError("out of memory"), OSError(28)],
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not out_of_memory(error)
