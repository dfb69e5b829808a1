"""What a bundle's page gets before it is written."""

from dataclasses import replace

import numpy as np
import pytest

from effxfer.data.task import Split, Task
from effxfer.deploy.bundle.web_library import ORT_WEB, TOKENIZERS_WEB, WebFiles
from effxfer.deploy.settings import ExportSettings
from effxfer.errors import ResourceError, SettingsError
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.rows import Ragged
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.stages.deliver import bundle
from effxfer.stages.deliver.bundle import check_page, find_libraries, validation_texts
from tests.runtime.text.tiny_tokenizers import tokens
from tests.tiny_net import PREPROCESS

LIBRARIES = tuple(WebFiles(library=library, version="1", files={}) for library in (ORT_WEB, TOKENIZERS_WEB))


TOKENS = tokens()


def task_of(sources):
    empty = Split(rows=Ragged.of([]), labels=np.zeros(0, np.int64), names=[])
    val = Split(
        rows=Ragged.of([]), labels=np.zeros(len(sources), np.int64), names=[], decode_row=lambda row: sources[row]
    )
    return Task(
        name="t", output=SingleLabel(classes=("a", "b")), train=empty, val=val, test=empty, input=TOKENS, digest="d"
    )


def test_validation_texts_are_texts_pairs_and_words_by_field():
    assert validation_texts(task_of(["a b", ("c", "d"), ["e", "f"]])) == [("a b",), ("c", "d"), ("e f",)]
    task = task_of(["a"])
    assert validation_texts(replace(task, val=replace(task.val, decode_row=None))) == []


def test_a_page_that_tokenizes_otherwise_is_left_out_with_the_reason(monkeypatch):
    asked = []

    def differ(input, texts, library, kind):
        asked.append((texts, library, kind))
        return "it tokenizes 1 of 2 texts otherwise"

    monkeypatch.setattr(bundle, "find_difference", differ)
    page = check_page(tokens(), task_of(["a", "b"]), LIBRARIES)
    assert asked == [([("a",), ("b",)], LIBRARIES[1], "single")]
    assert page.libraries == ()
    assert page.note == "There is no web page: Tokenizers.js cannot be used, it tokenizes 1 of 2 texts otherwise"


def test_a_page_whose_ids_are_equal_needs_no_note(monkeypatch):
    monkeypatch.setattr(bundle, "find_difference", lambda *_: None)
    page = check_page(tokens(), task_of(["a"]), LIBRARIES)
    assert (page.libraries, page.note) == (LIBRARIES, "")


def test_a_page_that_cannot_be_checked_says_so(monkeypatch):
    def absent(*_):
        raise FileNotFoundError("node")

    monkeypatch.setattr(bundle, "find_difference", absent)
    page = check_page(tokens(), task_of(["a"]), LIBRARIES)
    assert page.libraries == LIBRARIES
    assert "was not checked" in page.note


def test_images_need_no_tokenizer(tmp_path):
    for name in ORT_WEB.files:
        (tmp_path / name).write_bytes(b"x")
    settings = ExportSettings(bundle=True, ort_web=str(tmp_path), tokenizers_web=str(tmp_path))
    assert [one.library for one in find_libraries(PREPROCESS, settings)] == [ORT_WEB]
    with pytest.raises(ResourceError, match="is no @huggingface/tokenizers") as caught:
        find_libraries(tokens(), settings)
    assert "`tokenizers_web`" in caught.value.hint


def test_vectors_are_refused_before_anything_is_looked_for():
    with pytest.raises(SettingsError, match="this network takes vectors"):
        find_libraries(Vectors(size=3), ExportSettings(bundle=True))
