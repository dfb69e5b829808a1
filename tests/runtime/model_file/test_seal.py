"""Exported files vouch for themselves: any byte that is changed is found, by readers with and without protobuf."""

import random

import numpy as np
import onnx
import onnxruntime
import pytest

from effxfer.deploy.export import external_data
from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.onnx import load, read_metadata
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.errors import ModelFileError
from effxfer.runtime.model import Model
from effxfer.runtime.model_file.metadata import ModelError
from effxfer.runtime.model_file.seal import add_seal, is_sealed, remove_seal
from effxfer.runtime.model_file.wire import properties, versions
from tests.tiny_net import images


@pytest.fixture
def file(model_file, tmp_path):
    copy = tmp_path / "m.onnx"
    copy.write_bytes(model_file.read_bytes())
    return copy


def test_an_exported_file_vouches_for_itself_and_every_reader_takes_it(file):
    assert Model(file).sealed
    about = {p.key: p.value for p in onnx.load(file).metadata_props}
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert properties(file.read_bytes()) == about == session.get_modelmeta().custom_metadata_map
    assert about["effxfer.format"] == "1"
    onnx.checker.check_model(file, full_check=True)
    assert not set(read_metadata(file).extra)
    assert versions(file.read_bytes()) == "IR version 10, opset 20"


@pytest.mark.parametrize("seed", range(16))
def test_one_flipped_byte_is_found_wherever_it_is(file, seed):
    content = bytearray(file.read_bytes())
    place = len(content) - 1 - 5 * seed if seed < 8 else random.Random(seed).randrange(len(content))
    content[place] ^= 1 << seed % 8
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx was changed since it was written") as caught:
        Model(file)
    assert (caught.value.code, caught.value.exit_code) == ("E404", 4)


@pytest.mark.parametrize(("cut", "code"), [(1, "E404"), (20, "E404"), (84, "E404"), (100, "E424"), (1000, "E424")])
def test_a_file_without_its_end_is_refused(file, cut, code):
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(ModelError) as caught:
        Model(file)
    assert caught.value.code == code


def test_files_of_before_open_and_nothing_vouches_for_them(file):
    expected = Model(file).predict([images(1)[0]])
    file.write_bytes(remove_seal(file.read_bytes()))
    model = Model(file)
    assert not model.sealed
    assert model.predict([images(1)[0]]) == expected
    assert remove_seal(file.read_bytes()) == file.read_bytes()
    assert add_seal(add_seal(file.read_bytes())) == add_seal(file.read_bytes())


def test_a_file_that_another_program_wrote_anew_is_changed(file):
    proto = onnx.load(file)
    proto.doc_string = "better"
    onnx.save(proto, file)
    with pytest.raises(ModelFileError, match="changed since it was written"):
        read_metadata(file)


def test_a_file_that_is_changed_on_purpose_is_sealed_anew(file):
    add_preprocessing(file)
    assert Model(file).sealed
    assert [p.key for p in load(file).metadata_props if p.key.startswith("effxfer.")] == []


def test_weights_beside_a_file_are_covered(file, monkeypatch):
    expected = Model(file).logits(images(2))
    monkeypatch.setattr(external_data, "LIMIT", 100)
    monkeypatch.setattr(external_data, "SMALL", 64)
    write_model(load(file), file)
    data = file.with_name("m.onnx.data")
    assert Model(file).sealed
    np.testing.assert_array_equal(Model(file).logits(images(2)), expected)
    content = bytearray(data.read_bytes())
    content[7] ^= 4
    data.write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx\.data, the weights of .*, were changed since they were written"):
        Model(file)
    data.unlink()
    with pytest.raises(ModelError, match=r"the weights 'm\.onnx\.data' of .* are missing") as caught:
        Model(file)
    assert caught.value.code == "E404"


@pytest.mark.parametrize(
    "content", [b"", b"\x72", b"\x72\xff" * 40, b"\xff" * 999, b"\x72\x04\x0a\xff\xff\xff", b"\x08" * 7]
)
def test_what_is_no_model_has_no_metadata(content, tmp_path):
    assert properties(content) in ({}, {"": ""})
    assert not is_sealed(content, tmp_path / "x")
