import json

import pytest

from effxfer.runtime.model_file.metadata import Metadata, ModelError
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from tests.runtime.text.tiny_tokenizers import WHOLE_WORDS, WORDPIECE, tokens
from tests.tiny_net import CLASSES, PREPROCESS

SINGLE = SingleLabel(classes=CLASSES)
OUTPUTS = (
    SINGLE,
    MultiLabel(classes=("rain", "snöw"), thresholds=(0.25, -1.5)),
    Regression(classes=("age",), mean=(31.5,), deviation=(0.1,)),
)


def read(properties, folder):
    return Metadata.from_properties(properties, "m.onnx", folder)


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.kind)
@pytest.mark.parametrize("input", [PREPROCESS, tokens(size=24, pattern="{text}{sep}{other}")], ids=["image", "text"])
def test_what_is_written_is_read_back(input, output, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(WORDPIECE)
    written = Metadata(input=input, output=output, key="k", version="v", precision="int8 u8", extra={"task": "x"})
    assert read(written.to_properties(), tmp_path) == written


def test_a_classifier_of_images_has_the_entries_of_the_first_version():
    properties = Metadata(
        input=PREPROCESS, output=SINGLE, key="k", version="0.1.0", extra={"task": "x"}
    ).to_properties()
    assert list(properties.items()) == [
        ("task", "x"),
        ("labels", '["ant", "bée", "cat", "dog", "e\\"f"]'),
        (
            "preprocess",
            '{"crop_pct": 1.0, "interpolation": "bicubic", "mean": [0.4, 0.5, 0.6], "size": 16, '
            '"std": [0.2, 0.25, 0.3]}',
        ),
        ("key", "k"),
        ("effxfer", "0.1.0"),
        ("precision", "fp32"),
        ("with_preprocessing", "false"),
    ]


@pytest.mark.parametrize("output", OUTPUTS[1:], ids=lambda output: output.kind)
def test_the_first_version_finds_no_preprocessing_in_files_that_it_would_misread(output):
    properties = Metadata(input=PREPROCESS, output=output).to_properties()
    assert "preprocess" not in properties
    assert json.loads(properties["labels"]) == list(output.classes)


def test_a_text_file_names_its_tokenizer_and_reads_it_from_its_folder(tmp_path):
    properties = Metadata(input=tokens(), output=SINGLE).to_properties()
    assert json.loads(properties["input"])["tokenizer"] == tokens().digest
    with pytest.raises(ModelError, match=r"E441 m\.onnx: there is no tokenizer.json"):
        read(properties, tmp_path)
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(ModelError, match=r"E441 .*is a folder, no regular file"):
        read(properties, tmp_path)
    (tmp_path / "tokenizer.json").rmdir()
    (tmp_path / "tokenizer.json").write_bytes(WHOLE_WORDS)
    with pytest.raises(ModelError, match=r"E446 m\.onnx: tokenizer.json has the digest") as caught:
        read(properties, tmp_path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"input": '{"kind": "audio", "size": 3}'}, "an input of kind 'audio', none of image, text"),
        (
            {"output": '{"kind": "boxes", "classes": ["a"]}'},
            "an output of kind 'boxes', none of multi, single, span, tags, value",
        ),
    ],
)
def test_a_kind_of_a_later_version_is_refused_by_name(change, problem, tmp_path):
    properties = Metadata(input=PREPROCESS, output=OUTPUTS[1]).to_properties() | change
    with pytest.raises(ModelError, match=problem) as caught:
        read(properties, tmp_path)
    assert (caught.value.code, "newer" in caught.value.hint) == ("E428", True)


@pytest.mark.parametrize(
    "change",
    [
        {"input": "{"},
        {"input": "[]"},
        {"input": '{"kind": ["image"]}'},
        {"input": '{"kind": "image", "mean": [0, 0, 0]}'},
        {"input": '{"kind": "text", "size": 0, "pad": 0, "tokenizer": "' + "0" * 64 + '"}'},
        {"output": "null"},
        {"output": '{"kind": "multi", "classes": []}'},
        {"output": '{"kind": "multi", "classes": ["a", "b"], "thresholds": [0.5]}'},
        {"output": '{"kind": "single", "classes": ["a"], "thresholds": [0.5]}'},
    ],
)
def test_unreadable_entries_are_refused(change, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(WORDPIECE)
    properties = Metadata(input=PREPROCESS, output=OUTPUTS[1]).to_properties() | change
    with pytest.raises(ModelError, match=r"m\.onnx has unreadable effxfer metadata") as caught:
        read(properties, tmp_path)
    assert caught.value.code == "E428"


@pytest.mark.parametrize("absent", ["input", "output", "labels"])
def test_a_file_without_an_entry_is_not_effxfers(absent, tmp_path):
    properties = Metadata(input=PREPROCESS, output=OUTPUTS[1]).to_properties()
    del properties[absent]
    with pytest.raises(ModelError, match=r"m\.onnx has no effxfer metadata"):
        read(properties, tmp_path)


def test_the_stated_size_is_that_of_either_input():
    image, text = Metadata(input=PREPROCESS, output=SINGLE), Metadata(input=tokens(size=24), output=SINGLE)
    assert [Metadata.stated_size(each.to_properties()) for each in (image, text)] == [16, 24]
    assert Metadata.stated_size({"input": "{"}) is None


@pytest.mark.parametrize(
    ("stated", "lengths"),
    [
        ("[24, 46]", (24, 46)),
        (None, ()),
        ("[]", ()),
        ("{", ()),
        ("7", ()),
        ('["a"]', ()),
        ("[0, 3]", ()),
        ("[9, true]", ()),
    ],
)
def test_lengths_of_texts_are_read_where_they_are_stated(stated, lengths):
    extra = {} if stated is None else {"lengths": stated}
    assert Metadata(input=tokens(), output=SINGLE, extra=extra).lengths == lengths
