from dataclasses import dataclass, replace

import pytest
import torch

from effxfer.errors import ModelFileError
from effxfer.signed_safetensors import Kind, SignedFile


@dataclass(frozen=True)
class Facts:
    title: str
    tensors: str = ""
    schema: int = 3


class Examples(SignedFile[Facts]):
    kind = Kind(
        name="example", document="test.example", make="make an example", facts=Facts,
        find_mistake=lambda document: "" if document["title"] else "it has no title",
    )  # fmt: skip


@pytest.fixture
def examples():
    return Examples.pack(Facts("digits"), {"x": torch.arange(6.0), "y": torch.ones(2, dtype=torch.uint8)})


def test_a_file_comes_back_from_the_disk(examples, tmp_path):
    examples.save(tmp_path / "deep" / "file")
    again = Examples.read(tmp_path / "deep" / "file")
    assert (again.facts, again.content) == (examples.facts, examples.content)
    assert again.tensors()["x"].tolist() == [0, 1, 2, 3, 4, 5]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["file"]


def test_packing_again_gives_the_same_bytes(examples):
    assert Examples.pack(replace(examples.facts, tensors="anything"), examples.tensors()).content == examples.content


@pytest.mark.parametrize(
    ("old", "new", "text", "code"),
    [
        (b"digits", b"digitz", "the example was changed since it was written: its document is not", "E404"),
        (b"test.example", b"test.exampla", "the example is not an example: it has no document 'test.example'", ""),
        (b'"y"', b'"z"', "the example was changed since it was written: SHA-256 of its tensors is", "E404"),
        (b"\x01\x01", b"\x01\x02", "the example was changed since it was written: SHA-256 of its tensors is", "E404"),
        (b"\x01\x01", b"\x01", "the example is not a complete safetensors file: ", "E403"),
    ],
)
def test_a_change_of_document_or_tensors_is_named(examples, old, new, text, code):
    assert examples.content.count(old) == 1
    with pytest.raises(ModelFileError) as caught:
        Examples.unpack(examples.content.replace(old, new))
    assert caught.value.problem.startswith(text)
    assert caught.value.code == code


def test_a_document_of_another_schema_or_with_a_mistake_is_refused(examples):
    newer = Examples.pack(replace(examples.facts, schema=4), {})
    with pytest.raises(ModelFileError, match="mine has schema 4, this effxfer reads 3"):
        Examples.unpack(newer.content, "mine")
    with pytest.raises(ModelFileError, match="mine is damaged: it has no title"):
        Examples.unpack(Examples.pack(Facts(""), {}).content, "mine")


def test_facts_that_json_cannot_hold_are_not_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Examples.pack(Facts(float("nan")), {})


def test_a_file_cut_short_is_refused_by_its_size(examples, tmp_path):
    (tmp_path / "file").write_bytes(examples.content[:-1])
    with pytest.raises(ModelFileError, match=f"it has {len(examples.content) - 1} bytes, not {len(examples.content)}"):
        Examples.read(tmp_path / "file")
