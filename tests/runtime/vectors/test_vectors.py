import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.inputs import INPUTS, input_from_json
from effxfer.runtime.vectors.vector_error import VectorError
from effxfer.runtime.vectors.vectors import VectorRow, Vectors, read_vectors
from tests.tiny_vectors import WIDTH, vector_input, vectors


def test_it_is_one_of_the_inputs():
    assert INPUTS["vector"] is Vectors
    assert (Vectors.name, Vectors.unit, dict(Vectors.free)) == ("features", "vectors", {0: "batch"})


def test_training_rows_have_mean_0_and_deviation_1():
    rows = vectors(300)[0]
    fed = vector_input().feed(rows)
    assert fed.dtype == np.float32
    np.testing.assert_allclose(fed.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(fed.std(0), 1, atol=1e-5)
    assert Vectors(size=WIDTH).feed(rows) is rows


def test_a_constant_column_is_only_shifted():
    rows = np.full((5, 2), 1e6, np.float32)
    rows[:, 1] = np.arange(5)
    fitted = Vectors(size=2, standardize=True).fit(rows)
    assert fitted.std[0] == 1
    assert (fitted.feed(rows)[:, 0] == 0).all()


def test_what_was_fitted_stays_for_other_rows():
    fitted = vector_input()
    assert fitted.fit(vectors(10, seed=5, shift=9.0)[0]) is fitted
    assert Vectors(size=WIDTH).fit(vectors(10)[0]).mean == ()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6))
def test_values_travel_through_json_and_give_the_same_numbers(row):
    fitted = vector_input()
    copy = input_from_json(json.loads(json.dumps(fitted.to_json())))
    assert copy == fitted
    rows = np.array([row], np.float32)
    assert copy.feed(rows).tobytes() == fitted.feed(rows).tobytes()


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0}, {"size": True}, {"size": "6"}, {"size": 10**6}, {"mean": [0.0]}, {"std": [0.0] * 6},
        {"std": [float("nan")] * 6}, {"mean": "x"}, {"more": 1}, {"standardize": 1},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=r"input|vectors|mean|std"):
        Vectors.from_json({**vector_input().to_json(), **change})


def test_the_width_is_fixed():
    assert vector_input().with_size(WIDTH) == vector_input()
    with pytest.raises(VectorError, match="E219 the network takes vectors of 6 numbers, not 7"):
        vector_input().with_size(7)


@pytest.mark.parametrize("source", [[0, 1, 2, 3, 4, 5], np.arange(6), VectorRow("a.npy", 0, np.arange(6.0))])
def test_an_example_is_any_list_of_its_numbers(source):
    assert vector_input().decode(source).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("source", "code"),
    [([1, 2], "E361"), ("text", "E361"), (np.zeros((1, 6)), "E361"), ([0, 0, 0, 0, 0, float("nan")], "E363"),
     ([0, 0, 0, 0, 0, 1e39], "E363")],
)  # fmt: skip
def test_another_example_is_refused(source, code):
    with pytest.raises(VectorError) as caught:
        vector_input().decode(source)
    assert caught.value.code == code


def test_files_of_vectors_are_read_row_by_row(tmp_path):
    rows = vectors(4)[0]
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", features=rows.astype(np.float64), labels=np.arange(4))
    np.save(tmp_path / "one.npy", rows[0])
    for name in ("a.npy", "a.npz"):
        read = read_vectors(tmp_path / name)
        assert [(each.file.name, each.row) for each in read] == [(name, row) for row in range(4)]
        np.testing.assert_array_equal([each.values for each in read], rows)
    assert len(read_vectors(tmp_path / "one.npy")) == 1
    np.savez(tmp_path / "b.npz", other=rows)
    np.save(tmp_path / "b.npy", rows[None])
    for name in ("b.npz", "b.npy"):
        with pytest.raises(VectorError, match="E361"):
            read_vectors(tmp_path / name)


def test_examples_for_tracing():
    assert (vector_input().example(3) == 0).all()
    assert vector_input().example(3, seed=0).shape == (3, WIDTH)
    assert vector_input().example(3, seed=0).tolist() == vector_input().example(3, seed=0).tolist()


def test_it_needs_neither_torch_nor_pillow():
    code = "import sys, effxfer.runtime.vectors.vectors; print({'torch', 'PIL'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"
