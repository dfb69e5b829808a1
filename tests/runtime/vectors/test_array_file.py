import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib import format as npy

from effxfer.runtime.vectors.array_file import read_arrays
from effxfer.runtime.vectors.vector_error import VectorError

DTYPES = ["<f4", ">f4", "<f8", "<i4", ">i8", "|b1", "|u1", "<U3", "|S4"]


def header(shape, dtype="<f4") -> bytes:
    """The header of an array file that states a shape."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive(file: Path, entries: dict[str, bytes], compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as written:
        for name, content in entries.items():
            written.writestr(name, content)
    return file


def refusal(file: Path, **options) -> VectorError:
    with pytest.raises(VectorError) as caught:
        read_arrays(file, ("features",), **options)
    return caught.value


@settings(max_examples=30, deadline=None)
@given(array=st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(max_dims=3))),
       columns_first=st.booleans(), compressed=st.booleans())  # fmt: skip
def test_arrays_are_read_as_numpy_wrote_them(tmp_path_factory, array, columns_first, compressed):
    folder = tmp_path_factory.mktemp("arrays")
    stored = np.asfortranarray(array) if columns_first else array
    (np.savez_compressed if compressed else np.savez)(folder / "a.npz", features=stored, other=np.zeros(3))
    np.save(folder / "a.npy", stored)
    for file in ("a.npz", "a.npy"):
        (read,) = read_arrays(folder / file, ("features",)).values()
        assert read.dtype == array.dtype.newbyteorder("=")
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, array)


def test_only_the_arrays_that_are_asked_for_are_read(tmp_path):
    file = archive(tmp_path / "a.npz", {"features.npy": header((2,)) + bytes(8), "other.npy": b"anything"})
    assert list(read_arrays(file, ("features", "labels"))) == ["features"]
    assert read_arrays(file, ("labels",)) == {}


class Danger:
    def __reduce__(self):
        return os.mkdir, ("pickle-ran",)


def test_pickles_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "o.npy", np.array([Danger()], object), allow_pickle=True)
    assert "objects could run code" in refusal(tmp_path / "o.npy").problem
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Danger()))
    assert refusal(tmp_path / "p.npy").code == "E360"
    archive(tmp_path / "p.npz", {"features.npy": pickle.dumps(Danger())})
    assert refusal(tmp_path / "p.npz").code == "E360"
    assert not (tmp_path / "pickle-ran").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (header((2**40, 2**40)), "E362"),  # numpy's product of the sides would wrap around to 0
        (header((2**30,)), "E360"),  # 4 GB are stated, none are there
        (header((3,)) + bytes(8), "E360"),
        (header((3, -1)) + bytes(12), "E360"),
        (header((2,), [("x", "<f4")]) + bytes(8), "E361"),
        (header((2,), "<M8[s]") + bytes(16), "E361"),
        (header((2**40,), "<U0"), "E361"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 20) + b"{'descr': __import__", "E360"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{", "E360"),
        (b"\x93NUMPY\x09\x00", "E360"),
        (b"\x93NUMPY", "E360"),
        (b"", "E360"),
        (b"PK\x03\x04", "E360"),
    ],
)
def test_hostile_headers_are_refused(tmp_path, content, code):
    (tmp_path / "a.npy").write_bytes(content)
    assert refusal(tmp_path / "a.npy").code == code
    archive(tmp_path / "a.npz", {"features.npy": content})
    assert refusal(tmp_path / "a.npz").code == code


def test_a_small_archive_cannot_fill_the_memory(tmp_path):
    file = archive(tmp_path / "bomb.npz", {"features.npy": header((2**22,)) + bytes(2**24)})
    assert file.stat().st_size < 2**16
    assert refusal(file, limit=2**20).code == "E362"
    # The archive's own table states less than there is.
    content = bytearray(file.read_bytes())
    size = struct.pack("<I", len(header((2**22,))) + 2**24)
    for place in (content.find(size), content.rfind(size)):
        content[place : place + 4] = struct.pack("<I", 200)
    file.write_bytes(content)
    assert refusal(file).code == "E360"


def test_damaged_archives_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", features=np.random.default_rng(0).random(500))
    content = (tmp_path / "a.npz").read_bytes()
    for damaged in (content[:-30], content[:300] + b"x" + content[301:]):
        (tmp_path / "b.npz").write_bytes(damaged)
        assert refusal(tmp_path / "b.npz").code == "E360"


def test_two_arrays_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as written:
        written.writestr("features.npy", header((1,), "|u1") + b"0")
        with pytest.warns(UserWarning, match="Duplicate"):
            written.writestr("features.npy", header((1,), "|u1") + b"1")
    assert "of different names" in refusal(tmp_path / "a.npz").problem


def test_what_is_no_file_is_refused(tmp_path):
    assert refusal(tmp_path / "absent.npz").code == "E360"
    assert refusal(tmp_path).code == "E360"
    os.mkfifo(tmp_path / "pipe.npz")
    assert "named pipe" in refusal(tmp_path / "pipe.npz").problem


def test_a_small_file_does_not_take_much_memory(tmp_path):
    """Zeros are compressed a thousandfold; without compression as many bytes are allowed as the file has."""
    content = header((2**28 + 2**20,), "|u1") + bytes(2**28 + 2**20)
    bomb = archive(tmp_path / "bomb.npz", {"features.npy": content})
    assert bomb.stat().st_size < 2**20
    error = refusal(bomb)
    assert (error.code, "grows from 0.3 to 269 MB" in str(error)) == ("E362", True)
    whole = archive(tmp_path / "whole.npz", {"features.npy": content}, zipfile.ZIP_STORED)
    assert read_arrays(whole, ("features",))["features"].nbytes == 2**28 + 2**20
