from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.data.labels.strata import DECILES, cover_labels, stratify
from effxfer.data.listing import SPLITS, Item


def items(labels):
    return [Item(f"{n}.jpg", label, sha256=f"s{n}") for n, label in enumerate(labels)]


def test_classes_are_strata_and_several_labels_are_one():
    assert {name: len(members) for name, members in stratify("single", items("aabc"), 0.1).items()} == {
        "a": 2,
        "b": 1,
        "c": 1,
    }
    assert list(stratify("multi", items(["10", "01"]), 0.1)) == [""]


def test_values_have_tenths_of_the_first_value():
    values = np.random.default_rng(0).permutation(200).astype(float)
    strata = stratify("value", items([f"{value} 1.0" for value in values]), 0.1)
    assert [len(strata[name]) for name in sorted(strata)] == [20] * DECILES
    first = [float(item.label.split()[0]) for name in sorted(strata) for item in strata[name]]
    assert [sorted(first[start : start + 20]) for start in range(0, 200, 20)] == np.arange(200).reshape(10, 20).tolist()


@pytest.mark.parametrize(("count", "share", "strata"), [(5, 0.1, 1), (25, 0.1, 2), (60, 0.05, 3), (9, 0.5, 4)])
def test_few_values_have_fewer_strata_than_ten(count, share, strata):
    groups = stratify("value", items([f"{value}.0" for value in range(count)]), share)
    assert len(groups) == strata
    assert min(map(len, groups.values())) >= min(count, 1 / share)


def test_equal_values_share_a_stratum_and_unknown_ones_have_their_own():
    groups = stratify("value", items(["0.0"] * 90 + ["5.0"] * 30 + ["nan 1.0"] * 20), 0.1)
    assert sorted(Counter(item.label for item in members).most_common() for members in groups.values()) == [
        [("0.0", 90)], [("5.0", 30)], [("nan 1.0", 20)],
    ]  # fmt: skip
    assert len(stratify("value", items(["nan 1.0"] * 3), 0.1)) == 1


def covered(labels, places, fixed=(), splits=SPLITS):
    placed = {f"s{n}": splits[place] for n, place in enumerate(places)}
    after = cover_labels(placed, items(labels), splits, fixed)
    assert list(after) == list(placed)
    return [splits.index(split) for split in after.values()]


def test_what_is_covered_stays():
    assert covered(["1", "1", "1", "0"], [0, 1, 2, 0]) == [0, 1, 2, 0]


def test_a_label_that_val_and_test_lack_comes_there_from_train_in_exchange():
    assert covered(["1", "1", "1", "1", "0", "0"], [0, 0, 0, 0, 1, 2]) == [1, 2, 0, 0, 0, 0]
    assert covered(["1", "1", "1", "1"], [0, 0, 0, 0]) == [1, 2, 0, 0], "nothing to exchange"


def test_a_label_of_one_image_goes_to_train_and_of_two_to_train_and_val():
    assert covered(["1", "0", "0"], [2, 0, 1]) == [0, 2, 1]
    assert covered(["1", "1", "0", "0"], [2, 2, 0, 1]) == [0, 1, 2, 2]


def test_a_split_does_not_lose_its_last_image():
    assert covered(["10", "01"], [0, 1]) == [0, 1]
    assert covered(["00", "01"], [0, 1]) == [1, 0]


def test_an_image_is_not_moved_if_a_split_would_lose_another_label():
    assert covered(["11", "10", "00"], [0, 0, 1]) == [0, 1, 0]


def test_fixed_images_stay():
    assert covered(["1", "1", "1"], [0, 0, 0], fixed=("s0", "s2")) == [0, 1, 0]
    assert covered(["1", "1"], [1, 1], fixed=("s0", "s1")) == [1, 1]


def test_halves_of_a_validation_split_are_covered():
    assert covered(["1", "1", "0"], [1, 1, 0], splits=("val", "test")) == [0, 1, 1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("01", min_size=4, max_size=4), st.integers(0, 2)), min_size=1, max_size=30))
def test_no_label_and_no_split_is_lost(rows):
    labels, places = [label for label, _ in rows], [place for _, place in rows]
    after = covered(labels, places)

    def present(where):
        return {(c, p) for label, p in zip(labels, where, strict=True) for c, flag in enumerate(label) if flag == "1"}

    assert {(c, p) for c, p in present(places) if p == 0} <= present(after)
    assert set(places) <= set(after)
    if len(set(places)) == 3 and "0000" in {label for label, place in rows if place == 0}:
        assert {c for c, _ in present(after)} == {c for c, p in present(after) if p == 0}, "train has every label"
