from pathlib import Path

import numpy as np
import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.vectors.npz_source import read_labelled
from effxfer.errors import DataError
from tests.tiny_vectors import write_npz


def read(file, **options):
    return read_labelled(DataSettings(source=str(file), **options), Path())


def test_names_in_a_cell_are_several_labels(tmp_path):
    cells = np.array(["a|b", "b", ""] * 30)
    arrays = read(write_npz(tmp_path / "a.npz", labels=cells), labels="multi")
    assert arrays.classes == ("a", "b")
    assert arrays.labels[:3] == ["11", "01", "00"]


def test_floats_may_mark_labels_and_nan_that_one_is_unknown(tmp_path):
    flags = np.tile(np.array([[1.0, np.nan], [0.0, 1.0], [np.nan, np.nan]]), (30, 1))
    arrays = read(write_npz(tmp_path / "a.npz", labels=flags), labels="multi")
    assert arrays.classes == ("0", "1")
    assert arrays.labels[:3] == ["1?", "01", ""]


def test_values_have_the_names_of_their_columns(tmp_path):
    values = np.tile(np.array([[0.5, np.nan], [1e-3, 2]]), (45, 1))
    arrays = read(write_npz(tmp_path / "a.npz", labels=values, classes=np.array(["x", "y"])), labels="value")
    assert arrays.classes == ("x", "y")
    assert arrays.labels[:2] == ["0.5 nan", "0.001 2"]


def test_bytes_are_texts_in_utf_8(tmp_path):
    names = np.array(["käfer".encode(), b"cat", b"dog"] * 30)
    assert read(write_npz(tmp_path / "a.npz", labels=names)).labels[0] == "käfer"
    with pytest.raises(DataError, match="no UTF-8 text"):
        read(write_npz(tmp_path / "b.npz", labels=np.array([b"\xff"] * 90)))


def test_rows_with_nan_are_marked(tmp_path):
    features = np.zeros((90, 3))
    features[2, 1] = np.nan
    assert np.flatnonzero(read(write_npz(tmp_path / "a.npz", features=features)).bad).tolist() == [2]
