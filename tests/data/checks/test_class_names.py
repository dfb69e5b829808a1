import json

import pytest

from effxfer.data.checks.class_names import check_names
from effxfer.data.load import scan, survey
from effxfer.data.settings import DataSettings
from effxfer.documents.fields import LONGEST_NAME
from effxfer.errors import DataError


def said(names, kind="single"):
    return [(finding.code, finding.severity) for finding in check_names(names, kind)]


@pytest.mark.parametrize("names", [[], ["a", "b"], ["1", "2"], ["n" * LONGEST_NAME, "😀", "of a day", "a\nb"]])
def test_other_names_are_taken(names):
    assert said(names) == []


@pytest.mark.parametrize(
    ("names", "code"), [(["1", "01", "1.0"], "W337"), (["Pos", "pos"], "W318"), (["caf\u00e9", "cafe\u0301"], "W318")]
)
def test_names_that_are_taken_for_one_another_are_noted(names, code):
    assert said(names) == [(code, "warning")]
    assert said(names, "value") == []  # columns of numbers are named by people, and stand beside each other


@pytest.mark.parametrize("name", ["n" * (LONGEST_NAME + 1), "half\ud800"])
@pytest.mark.parametrize("kind", ["single", "multi", "tags", "value"])
def test_a_name_that_no_manifest_can_hold_is_an_error(name, kind):
    assert said(["a", name], kind) == [("E334", "error")]


def lines(tmp_path, labels):
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps({"text": f"w{n}", "label": label}) + "\n" for n, label in enumerate(labels)))
    return DataSettings(source=str(file))


def test_texts_are_refused_before_a_network_is_trained_for_such_a_name(tmp_path):
    with pytest.raises(DataError, match="half of a character") as caught:
        scan(lines(tmp_path, ["a", "b\udc80"] * 10))
    assert caught.value.code == "E334"


def test_names_of_texts_are_compared_like_those_of_images(tmp_path):
    notes = survey(lines(tmp_path, ["Pos", "pos", "1", "01"] * 10)).notes
    assert [note[:4] for note in notes if note[:4] in ("W318", "W337")] == ["W337", "W318"]
