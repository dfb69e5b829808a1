import dataclasses
import html.parser

import pytest

from effxfer.api.result import Reported, Result, report_html
from effxfer.report import Measurement, Report, Table

SCRIPT = "<script>alert('x')</script>"
NAUGHTY = Report(
    rows=(Measurement(name=SCRIPT, value=1.0, unit="%"),),
    notes=(SCRIPT,),
    tables=(Table(title=SCRIPT, rows=({SCRIPT: SCRIPT},)), Table(title="none", rows=())),
)


class Tags(html.parser.HTMLParser):
    """Every tag of a text."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_it_prints_as_the_command_line_does(call, dense, tmp_path):
    words = ["finetune", dense.path, "--out", tmp_path / "out", "--epochs", "0", "--device", "cpu"]
    from effxfer.artifact import Artifact

    printed = call(*words)
    result = Result.of(Artifact.load(tmp_path / "out"))
    assert printed.splitlines()[:-1] == str(result).splitlines()


def test_measurements_are_there_by_attribute_and_by_name(dense, exported):
    result = Result.of(dense)
    assert result.accuracy == result["accuracy/val"].value == result.get("accuracy/val")
    assert result.test_accuracy == result["accuracy/test"].value
    assert result.get("nothing") is None
    assert result.models == {}
    assert Result.of(exported).models == {"fp32": exported.path / "model.onnx"}
    assert Result.of(exported).accuracy == exported.manifest.report["accuracy/val/fp32"].value


def test_it_is_frozen_and_short_in_a_prompt(dense):
    result = Result.of(dense)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.artifact = None
    assert repr(result) == f"<Result model={dense.path} key={dense.manifest.key}>"


def test_a_notebook_shows_tables_in_which_all_is_escaped():
    text = report_html(NAUGHTY)
    assert "script" not in Tags(text).tags
    assert Tags(text).tags.count("table") == 3
    assert text.count("&lt;script&gt;") == 5


def test_a_notebook_shows_where_a_result_is(dense):
    assert f"<code>{dense.path}</code>" in Result.of(dense)._repr_html_()
    assert Reported(report=Report())._repr_html_() == ""
