import pytest

from effxfer.data.labels import names
from effxfer.data.labels.names import index_names
from effxfer.errors import DataError


@pytest.mark.parametrize("separator", ["|", ";"])
def test_bars_and_semicolons_are_found(separator):
    cells = [f"sea{separator} beach", "", "beach", f"beach{separator}sea{separator}", f"beach{separator}beach"]
    texts, classes, findings = index_names(cells, None)
    assert classes == ("beach", "sea")
    assert [texts[cell] for cell in cells] == ["11", "00", "10", "11", "10"]
    assert not findings


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n"])
def test_another_separator_is_given(separator):
    cells = [f"beach{separator}sea|dog", "sea|dog"]
    assert index_names(cells, separator).classes == ("beach", "sea|dog")


def test_both_separators_are_refused_with_an_example_of_each():
    with pytest.raises(DataError, match=r"both '\|' and ';': 'a\|b' and 'c;d'") as caught:
        index_names(["c;d", "e", "a|b"], None)
    assert caught.value.code == "E342"
    assert index_names(["c;d", "a|b"], "|").classes == ("a", "b", "c;d")


@pytest.mark.parametrize("cells", [["beach, dog", "sea"], ["haze primary", "clear"], ["beach", "dog", ""]])
def test_a_separator_that_was_not_found_is_a_warning(cells):
    texts, classes, (warning,) = index_names(cells, None)
    assert (warning.code, warning.severity) == ("W342", "warning")
    assert repr(max(cells, key=len)) in warning.text
    assert classes == tuple(sorted(cell for cell in cells if cell))
    assert all(texts[cell].count("1") == bool(cell) for cell in cells)


def test_a_column_without_any_label_is_refused():
    with pytest.raises(DataError, match="all cells of the label column are empty") as caught:
        index_names(["", "|", " "], None)
    assert caught.value.code == "E342"


def test_equal_labels_share_their_text():
    texts = index_names([f"{'|' * n}a|b" for n in range(50)] + ["b|a"], "|").texts
    assert len({id(text) for text in texts.values()}) == 1


def test_labels_that_would_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(names, "MAX_BYTES", 99)
    index_names([f"a{n}" for n in range(9)] + [""], None)
    with pytest.raises(DataError, match="10 labels of 10 images take more than 2 GB: a0, a1") as caught:
        index_names([f"a{n}" for n in range(10)], None)
    assert caught.value.code == "E330"
