import pytest

from effxfer.data.checks.coverage import check_coverage
from effxfer.data.listing import Item


def items(**labels):
    return [Item(f"{split}/{n}", label, split) for split, several in labels.items() for n, label in enumerate(several)]


def found(kind, classes=("dog", "sea"), **labels):
    return [(f.code, f.severity, f.text) for f in check_coverage(items(**labels), kind, classes)]


def test_labels_that_occur_in_every_split_are_fine():
    assert found("multi", train=["10", "01"], val=["11"], test=["11"]) == []
    assert found("multi", train=["10", "01"], val=["11"]) == []


def test_labels_that_apply_to_no_image_of_a_split_are_named():
    assert found("multi", train=["10", "00"], val=["00"], test=["01"]) == [
        ("W313", "warning", "labels that apply to no image of train: 'sea'"),
        ("W313", "warning", "labels that apply to no image of val: 'dog', 'sea'"),
        ("W313", "warning", "labels that apply to no image of test: 'dog'"),
    ]


@pytest.mark.parametrize("gap", ["?", "1"])
def test_a_label_without_any_zero_is_an_error_where_it_may_be_unknown(gap):
    (code, severity, text) = found("multi", train=["11", f"0{gap}"], val=["11"], test=["11"])[0]
    assert "'sea'" in text
    assert (code, severity) == (("E343", "error") if gap == "?" else ("W342", "warning"))


def test_images_of_which_nothing_is_known_are_counted():
    assert found("multi", train=["10", "01", "??", "??"], val=["11"], test=["11"]) == [
        ("W342", "warning", "images of which no label is known: 2 (train/2 ...)")
    ]


def test_values_that_vary_are_fine():
    assert found("value", train=["1 2", "2 3", "nan 4"], val=["1 2", "2 3"], test=["1 2", "2 3"]) == []


@pytest.mark.parametrize("column", [["5", "5", "5"], ["nan", "nan", "nan"], ["nan", "5", "5"]])
def test_a_value_that_does_not_vary_in_train_is_an_error(column):
    labels = [f"{n} {cell}" for n, cell in enumerate(column)]
    ((code, severity, text),) = found("value", train=labels, val=["1 2", "2 3"])
    assert (code, severity) == ("E343", "error")
    assert text == "'sea' has fewer than two different values in train"


def test_a_value_that_does_not_vary_in_val_cannot_be_judged():
    assert found("value", train=["1 2", "2 3"], val=["1 2", "1 3"], test=["nan 1", "1 2"]) == [
        ("W313", "warning", "fewer than two different values in val, so that R2 says nothing: 'dog'"),
        ("W313", "warning", "fewer than two different values in test, so that R2 says nothing: 'dog'"),
    ]


def test_single_labels_and_no_images_are_not_looked_at():
    assert found("single", train=["a"], val=["b"]) == []
    assert found("value") == found("multi") == []
