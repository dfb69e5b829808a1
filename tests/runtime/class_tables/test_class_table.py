import numpy as np
import pytest

from effxfer.runtime.class_tables.class_table import ClassTable, read_class_table
from effxfer.runtime.class_tables.class_table_error import ClassTableError
from effxfer.runtime.class_tables.stacking import lower


@pytest.mark.parametrize("head", ["", "class,furry,wild\n", "animal,furry,wild\n", "Class,1,2\n", "\n\n"])
def test_a_line_of_names_is_no_class(tmp_path, head):
    (tmp_path / "t.csv").write_text(head + 'zebra,0.5,1\n\n"polar bear",-1,2e-1\n', encoding="utf-8-sig")
    table = read_class_table(tmp_path / "t.csv")
    assert table.names == ("zebra", "polar bear")
    assert table.values.tolist() == np.float32([[0.5, 1], [-1, 0.2]]).tolist()


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "E370", "holds no class"),
        ("class,a\n", "E370", "holds no class"),
        ('"zebra,1\n', "E370", "is no table"),
        ("zebra\nhorse\n", "E373", "has 1 cells"),
        ("zebra,1,2\nhorse,1\n", "E373", "line 2 of .* has 2 cells, the first class has 3"),
        ("zebra,1\n ,2\n", "E373", "line 2"),
        ("zebra,1\nhorse,nan\n", "E373", "'nan', which is no finite number"),
        ("zebra,1\nhorse,1e39\n", "E373", "no finite number"),
        ("zebra,1\nhorse,tall\n", "E373", "line 2 of .*'tall'"),
        ("zebra,1\nzebra,2\n", "E372", "two rows for 'zebra'"),
        ("zebra,1\nZebra,2\n", "E372", "differ in case alone: 'Zebra', 'zebra'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, code, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ClassTableError, match=words) as raised:
        read_class_table(tmp_path / "t.csv")
    assert raised.value.code == code
    assert raised.value.exit_code == 3


def test_files_that_are_none(tmp_path):
    for file, content in (("absent.csv", None), ("folder.csv", ""), ("latin.csv", b"z\xe9bra,1\n")):
        path = tmp_path / file
        if content == "":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        with pytest.raises(ClassTableError) as raised:
            read_class_table(path)
        assert raised.value.code == "E370"


def test_a_class_without_a_row_is_named_with_one_that_differs_in_case():
    table = ClassTable(names=("zebra", "horse"), values=np.eye(2, dtype=np.float32))
    assert table.select(["horse"]).values.tolist() == [[0, 1]]
    with pytest.raises(ClassTableError, match="no row for 'Zebra', 'whale'") as raised:
        table.select(["Zebra", "whale", "horse"])
    assert raised.value.hint.startswith("it has 'zebra'")


def test_probabilities_are_lowered_as_logits_are():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    lowered = np.float32([2, 2, 0, 0])

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(1, keepdims=True)

    expected = lower(logits, lowered, probabilities=False)
    assert np.allclose(expected, logits - lowered)
    assert np.allclose(lower(softmax(logits), lowered, probabilities=True), softmax(expected), atol=1e-6)
    assert np.allclose(lower(softmax(logits), np.full(4, 3, np.float32), probabilities=True), softmax(logits))
