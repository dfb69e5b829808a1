from effxfer.data.checks.across_splits import check_items, find_single_class
from effxfer.data.history import NONE
from effxfer.data.listing import Finding, Item
from effxfer.data.settings import DataSettings

ITEMS = [
    Item("1", "a", "train", "", "x"), Item("2", "b", "train", "", "y"), Item("3", "b", "train", "", "x"),
    Item("4", "a", "test", "", "y"),
]  # fmt: skip


def codes(**options):
    settings = DataSettings(source="x", **options)
    return [(f.code, f.severity, f.path) for f in check_items(ITEMS, settings, ("a", "b"), NONE, "same text", "text")]


def test_contradictions_and_leaks_are_found():
    both = [("W336", "warning", path) for path in "1234"]
    assert codes() == [*both, ("E320", "error", "4")]
    assert codes(allow_leakage=True) == [*both, ("E320", "warning", "4")]


def test_labels_that_a_split_lacks_go_by_the_kind_of_label():
    items = [Item("1", "10", "train", "", "x"), Item("2", "11", "val", "", "y")]
    settings = DataSettings(source="x.csv", labels="multi", label_columns=("a", "b"))
    texts = [f.text for f in check_items(items, settings, ("a", "b"), NONE, "same text", "text") if f.code == "W313"]
    assert texts == ["labels that apply to no text of train: 'b'"]


def test_a_single_class_is_refused_once():
    (finding,) = find_single_class(("a",), hint="give others")
    assert (finding.code, finding.hint) == ("E312", "give others")
    assert find_single_class(("a", "b")) == []
    assert (
        find_single_class(("a",), [Finding(code="E312", severity="error", path="", text="one folder too high")]) == []
    )
