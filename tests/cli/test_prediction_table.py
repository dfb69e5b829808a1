import csv

import pytest

from effxfer.cli.prediction_table import answer, name, require_all, write_predictions
from effxfer.errors import DataError

RANKED = [{"label": "cat", "probability": 0.75}, {"label": "dög", "probability": 0.25}]
SINGLE = {"file": "a.jpg", "label": "cat", "probability": 0.75, "top": RANKED}
SEVERAL = {"text": "x", "labels": RANKED, "top": RANKED[:1]}
NONE = {"text": "=1+1", "labels": [], "top": RANKED[:1]}
VALUES = {"file": "b.jpg", "values": {"age": 31.25, "=length": -0.5}}
ERROR = {"text": "bad\n" * 99, "error": "E350 not a text"}


def table(rows, tmp_path):
    write_predictions(rows, tmp_path / "all.csv")
    return list(csv.reader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()))


def test_a_prediction_in_a_line():
    assert answer(SINGLE) == "cat 75.0 %\tdög 25.0 %"
    assert answer(SEVERAL) == "cat 75.0 %\tdög 25.0 %"
    assert answer(NONE) == "no label"
    assert answer(VALUES) == "age 31.25\t=length -0.5"
    assert answer(ERROR) == "E350 not a text"


def test_a_long_text_is_cut_in_a_line_and_a_file_is_not():
    assert name({"text": "x" * 99, "other": "a\nb"}) == "x" * 57 + "... | a\\nb"
    assert name({"file": "x" * 99}) == "x" * 99


def test_a_table_of_several_labels(tmp_path):
    assert table([NONE, SEVERAL], tmp_path) == [
        ["text", "label", "probability", "label 2", "probability 2", "error"],
        ["'=1+1", "", "", "", "", ""],
        ["x", "cat", "0.75", "dög", "0.25", ""],
    ]


def test_a_table_of_values(tmp_path):
    assert table([VALUES], tmp_path) == [["file", "age", "'=length", "error"], ["b.jpg", "31.25", "-0.5", ""]]


def test_a_table_of_pairs(tmp_path):
    assert table([{"text": "a", "other": "b", **SINGLE, "file": "c"}, {"text": "a", "error": "E"}], tmp_path) == [
        ["file", "text", "other", "label", "probability", "label 2", "probability 2", "error"],
        ["c", "a", "b", "cat", "0.75", "dög", "0.25", ""],
        ["", "a", "", "", "", "", "", "E"],
    ]


def test_a_table_of_nothing_but_errors(tmp_path):
    assert table([{"file": "a", "error": "E"}], tmp_path) == [
        ["file", "label", "probability", "error"],
        ["a", "", "", "E"],
    ]


def test_the_first_failure_is_named():
    require_all([SINGLE, VALUES])
    with pytest.raises(DataError, match="1 of 2 texts failed") as caught:
        require_all([SEVERAL, ERROR])
    assert (caught.value.code, "bad" in caught.value.hint) == ("E350", True)


def test_an_example_of_no_class_is_unknown_and_has_no_label_in_the_table(tmp_path):
    row = {"file": "a.png", "label": None, "top": [{"label": "cat", "probability": 0.9}]}
    assert answer(row) == "unknown, nearest is cat"
    rows = write_predictions([row], tmp_path / "t.csv").read_text().splitlines()
    assert rows[1].strip(",") == "a.png"
