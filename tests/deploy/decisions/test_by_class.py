import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.deploy.decisions.by_class import MATRIX, SHOWN_CONFUSIONS, ClassCounts, confusions
from effxfer.runtime.outputs.single_label import SingleLabel

THREE = SingleLabel(classes=("ant", "bee", "wasp"))
LABELS = np.array([0, 0, 0, 0, 1, 1])  # no wasp


def logits(predicted, width=3):
    return np.eye(width, dtype=np.float32)[np.asarray(predicted)]


def counts(**predicted):
    return ClassCounts.of(THREE, LABELS, {name: logits(each) for name, each in predicted.items()})


def test_a_class_without_examples_is_never_the_worst():
    counted = counts(fp32=[0, 0, 0, 1, 1, 1])
    assert counted.counts.tolist() == [4, 2, 0]
    assert counted.hits["fp32"].tolist() == [3, 2, 0]
    assert counted.classes[counted.worst("fp32")] == "ant"
    (worst,) = counted.worst_rows("val", "images")
    assert (worst.value, worst.n, worst.of) == (75, 4, "images of ant")
    assert worst.low < 75 < worst.high


def test_the_class_that_loses_most_is_found_where_the_mean_stays():
    counted = counts(fp32=[0, 0, 0, 0, 0, 1], int8=[0, 0, 0, 1, 1, 1])
    assert counted.hits["fp32"].sum() == counted.hits["int8"].sum()
    assert counted.largest_drop("fp32", "int8") == (25.0, 0)
    assert counted.largest_drop("int8", "fp32") == (50.0, 1)


def test_the_table_begins_with_the_lowest_class_and_has_no_empty_one():
    table = counts(fp32=[0, 0, 0, 0, 1, 1], int8=[0, 0, 0, 0, 1, 2]).table("val", "images")
    assert [row["class"] for row in table.rows] == ["bee", "ant"]
    assert table.rows[0] == {"class": "bee", "images": 2, "fp32 %": 100, "int8 %": 50, "drop, points": 50}


def test_a_row_with_nan_is_wrong():
    raw = logits([0, 0, 0, 0, 1, 1])
    raw[0, 2] = np.nan
    assert ClassCounts.of(THREE, LABELS, {"fp32": raw}).hits["fp32"].tolist() == [3, 2, 0]


@pytest.mark.parametrize("change", [
    {"right": {"fp32": [5, 0, 0]}}, {"right": {"fp32": [-1, 0, 0]}}, {"right": {"fp32": [1]}}, {"classes": ["ant"]},
])  # fmt: skip
def test_numbers_that_cannot_be_are_refused(change):
    plain = json.loads(json.dumps(counts(fp32=[0, 0, 0, 1, 1, 1]).to_json()))
    assert ClassCounts.from_json(plain).hits["fp32"].tolist() == [3, 2, 0]
    with pytest.raises(ValueError, match="fp32"):
        ClassCounts.from_json(plain | change)


def test_few_classes_have_their_whole_matrix_also_with_equal_names():
    table = confusions(("ant", "bee", "ant"), LABELS, np.array([0, 1, 2, 0, 1, 0]), "Confusions", "images")
    assert table.rows[0] == {"class": "ant", "as ant (0)": 2, "as bee": 1, "as ant (2)": 1}
    assert table.rows[1] == {"class": "bee", "as ant (0)": 1, "as bee": 1, "as ant (2)": 0}


@given(st.integers(MATRIX + 1, 60), st.integers(0, 200), st.integers(0, 99))
def test_many_classes_have_their_most_frequent_confusions(width, n, seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, width, n), rng.integers(0, width, n)
    table = confusions(tuple(map(str, range(width))), labels, predicted, "Confusions", "images")
    found = [row["images"] for row in table.rows]
    assert found == sorted(found, reverse=True)
    assert len(found) <= SHOWN_CONFUSIONS
    for row in table.rows:
        assert row["class"] != row["taken for"]
        assert row["images"] == ((labels == int(row["class"])) & (predicted == int(row["taken for"]))).sum() > 0
