import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from effxfer.data.labels.arrays import describe_label, label_array, output_of
from effxfer.data.labels.cells import label_reader
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.single_label import SingleLabel

NAMES = ("age", "weight")


def test_single_labels_are_indices_and_none_is_minus_one():
    labels = label_array("single", ["dog", "cat", ""], ("cat", "dog"))
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 0, -1]


def test_several_labels_are_flags_and_unknown_is_255():
    labels = label_array("multi", ["10?", "", "010"], ("a", "b", "c"))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 0, 255], [255, 255, 255], [0, 1, 0]]


def test_values_are_float32_and_unknown_is_nan():
    labels = label_array("value", ["3.5 -1e-05", "", "nan 2.0"], NAMES)
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, np.array([[3.5, -1e-5], [np.nan, np.nan], [np.nan, 2]], np.float32))


@pytest.mark.parametrize(("kind", "shape"), [("single", (0,)), ("multi", (0, 2)), ("value", (0, 2))])
def test_no_images_have_labels_of_the_same_width(kind, shape):
    assert label_array(kind, [], NAMES).shape == shape


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(2)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_values_of_a_table_come_back_to_the_bit(values):
    read = label_reader(DataSettings(source="t.csv", labels="value", label_columns=NAMES))
    texts = [read([str(number) for number in row]) for row in values]
    np.testing.assert_array_equal(label_array("value", texts, NAMES), values)


def test_the_output_of_classes_and_labels_has_their_names():
    assert output_of("single", NAMES, np.zeros(3, np.int64)) == SingleLabel(classes=NAMES)
    assert output_of("multi", NAMES, np.zeros((3, 2), np.uint8)) == MultiLabel(classes=NAMES)


def test_mean_and_deviation_are_of_known_values():
    train = np.array([[1, np.nan], [3, 10], [np.nan, 20], [5, 60]], np.float32)
    output = output_of("value", NAMES, train)
    assert output.classes == NAMES
    np.testing.assert_allclose(output.mean, np.nanmean(train, 0))
    np.testing.assert_allclose(output.deviation, np.nanstd(train, 0))


def test_a_deviation_does_not_suffer_from_a_large_mean():
    output = output_of("value", ("year",), np.array([[2**24], [2**24 - 1], [2**24 - 2]], np.float32))
    assert output.mean == (2**24 - 1,)
    assert output.deviation[0] == pytest.approx((2 / 3) ** 0.5)


@pytest.mark.parametrize("column", [[7, 7, 7], [np.nan, np.nan, np.nan], [np.nan, 7, np.nan]])
def test_a_value_that_is_constant_or_unknown_is_named(column):
    train = np.array([[1, column[0]], [2, column[1]], [3, column[2]]], np.float32)
    with pytest.raises(DataError, match="'weight' has fewer than two different values in train") as caught:
        output_of("value", NAMES, train)
    assert caught.value.code == "E343"


def test_a_label_is_described_as_people_write_it():
    assert describe_label("single", "cat", ()) == "cat"
    assert describe_label("multi", "1?01", ("a", "b", "c", "d")) == "a, ?b, d"
    assert describe_label("multi", "00", ("a", "b")) == "no label"
    assert describe_label("value", "3.5 nan", NAMES) == "3.5 nan"
