import pytest

from effxfer.data.checks.leaks import find_class_gaps, find_contradictions, find_imbalance, find_leaks
from effxfer.data.listing import Item, notes_of, raise_errors
from effxfer.data.settings import DataSettings

ITEMS = [
    Item("1", "a", "train", sha256="x"),
    Item("2", "a", "train", sha256="x"),
    Item("3", "b", "val", sha256="x"),
    Item("4", "b", "test", sha256="y"),
    Item("5", "a", "train", sha256="z"),
]


def test_pairs_across_splits_only():
    found = find_leaks(ITEMS, {item.path: item.sha256 for item in ITEMS}, "same file", "warning")
    assert [(f.path, f.text) for f in found] == [("3", "same file as 1: in train and val")]
    assert find_leaks(ITEMS, {}, "same file", "warning") == []


def test_contents_with_two_labels():
    assert [f.path for f in find_contradictions(ITEMS)] == ["1", "2", "3"]


def test_gaps_in_both_directions():
    texts = [f.text for f in find_class_gaps(ITEMS, DataSettings(source="x"))]
    assert texts == [
        "classes in val that train lacks: 'b'",
        "classes in train that val lacks: 'a'",
        "classes in test that train lacks: 'b'",
        "classes in train that test lacks: 'a'",
    ]
    assert find_class_gaps([item._replace(split="") for item in ITEMS], DataSettings(source="x")) == []


@pytest.mark.parametrize("kind", ["multi", "value"])
def test_labels_that_are_no_classes_have_no_gaps_but_need_training_images(kind):
    table = DataSettings(source="x.csv", labels=kind)
    assert find_class_gaps(ITEMS, table) == []
    (error,) = find_class_gaps([item._replace(split="val") for item in ITEMS], table)
    assert (error.code, error.severity) == ("E310", "error")


def test_labels_of_a_content_are_described():
    texts = {f.text for f in find_contradictions(ITEMS, lambda label: f"<{label}>")}
    assert texts == {"the same content has two labels: <a> and <b>"}


def test_many_names_are_cut_short():
    items = [Item(str(n), f"{n:02d}", "train" if n < 30 else "val") for n in range(60)]
    assert find_class_gaps(items, DataSettings(source="x"))[0].text.endswith("'39' and 20 more")


def test_summing_up():
    warnings = find_leaks(ITEMS, {item.path: item.sha256 for item in ITEMS}, "same file", "warning")
    raise_errors(warnings, "here")
    assert notes_of(warnings) == ("E320 same file in train and val: 1 (3)",)


@pytest.mark.parametrize(("rare", "warned"), [(9, True), (10, True), (11, False)])
def test_a_class_with_a_tenth_of_anothers_images_is_warned_of(rare, warned):
    items = [Item(f"{i}.png", "a", "train") for i in range(100)]
    items += [Item(f"b{i}.png", "b", "train") for i in range(rare)] + [Item("c.png", "b", "val")]
    found = find_imbalance(items)
    assert [finding.code for finding in found] == (["W341"] if warned else [])
    assert all(f"100 training images of 'a' against {rare} of 'b'" in finding.text for finding in found)


def test_a_content_under_thousands_of_labels_takes_no_thousands_of_sentences():
    items = [Item(f"{n}.jpg", f"class {n:05d}", "train", sha256="same") for n in range(20_000)]
    found = find_contradictions(items)
    assert len(found) == len(items)
    assert max(len(finding.text) for finding in found) < 150
    assert found[0].text.endswith("class 00003, class 00004 and 19995 more")
