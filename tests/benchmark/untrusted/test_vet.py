import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from effxfer.benchmark.untrusted import vet as foreign
from effxfer.benchmark.untrusted.vet import SUMS, has_valid_seal, is_untrusted, locate, note_unverified, seal_fault, vet
from effxfer.benchmark.untrusted.vet_child import RefusedError, check_numbers, check_structure
from effxfer.errors import ModelFileError
from effxfer.files import sha256
from effxfer.runtime.model_file.seal import remove_seal
from tests.benchmark.models import linear, photo, save


@pytest.fixture
def good(tmp_path):
    return linear(tmp_path / "m.onnx")


@pytest.fixture
def split(tmp_path):
    """A model whose weights, 48 + 12 bytes, lie beside it in `w.bin`."""
    return linear(tmp_path / "m.onnx", sidecar="w.bin")


def refused(file):
    with pytest.raises(RefusedError) as caught:
        check_structure(file)
    code, problem, _hint = caught.value.args
    assert "\n" not in problem
    return code, problem


def change(file, edit):
    model = onnx.load(file, load_external_data=False)
    edit(model)
    file.write_bytes(model.SerializeToString())
    return file


def point(file, **fields):
    """Make the outside data of the first tensor what `fields` say."""

    def edit(model):
        entries = {e.key: e.value for e in model.graph.initializer[0].external_data} | fields
        del model.graph.initializer[0].external_data[:]
        for key, value in entries.items():
            model.graph.initializer[0].external_data.add(key=key, value=value)

    return change(file, edit)


def test_a_good_file_is_described(tmp_path):
    found = vet(photo(tmp_path / "m.onnx", size_stated=9))
    assert found.inputs == {"image": ["tensor(uint8)", ["batch", "height", "width", 3]]}
    assert list(found.outputs) == ["y"]
    assert (found.opsets, found.operators, found.outside_bytes) == ({"ai.onnx": 18}, 2, 0)
    assert found.metadata == {"preprocess": '{"size": 9}'}


def test_weights_beside_it_are_counted_and_used(split):
    assert check_structure(split)[2] == 60
    found = vet(split)
    assert found.outside_bytes == 60
    assert list(found.inputs) == ["x"]


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "/etc/passwd", "sub/w.bin", "..", "", ".", "a\\w.bin", "w.bin\0", "C:\\w.bin", "./../w.bin"],
)
def test_weights_elsewhere_are_refused_before_anything_reads_them(split, location):
    shutil.copy(split.with_name("w.bin"), split.parent.parent / "w.bin")
    code, problem = refused(point(split, location=location))
    assert (code in ("E420", "E423"), "weights" in problem) == (True, True)


def test_links_are_refused(split):
    data = split.with_name("w.bin")
    data.rename(split.with_name("real.bin"))
    data.symlink_to("real.bin")
    assert refused(split)[0] == "E420"
    data.unlink()
    os.link(split.with_name("real.bin"), data)
    assert refused(split) == ("E420", "its weights 'w.bin' are a hard link to another file")


def test_missing_or_renamed_weights_are_named(split):
    split.with_name("w.bin").rename(split.with_name("v.bin"))
    assert refused(split) == ("E423", "its weights 'w.bin' are missing")


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": "-4"}, {"length": "-1"}, {"length": "99999999999999"}, {"length": "8"}, {"offset": "1000"},
        {"offset": "x"}, {"length": "1e3"}, {"offset": "9" * 4000}, {"length": "٤٨"},
    ],
)  # fmt: skip
def test_impossible_places_are_refused(split, fields):
    assert refused(point(split, **fields))[0] == "E422"


def test_short_weights_are_refused(split):
    data = split.with_name("w.bin")
    data.write_bytes(data.read_bytes()[:50])
    assert refused(split)[0] == "E422"


def test_unknown_fields_of_external_data_are_refused(split):
    code, problem = refused(point(split, __class__="os.system"))
    assert (code, "__class__" in problem) == ("E421", True)


@pytest.mark.parametrize("dims", [[1 << 40, 1 << 20], [4, 4], [-4, 3], [0]])
def test_tensors_that_claim_more_than_they_hold_are_refused(good, dims):
    def edit(model):
        model.graph.initializer[0].dims[:] = dims

    assert refused(change(good, edit))[0] == "E422"


def test_tensors_in_subgraphs_are_checked_too(good):
    def edit(model):
        bad = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
        bad.dims[:] = [1 << 50]
        inner = helper.make_graph([helper.make_node("Identity", ["hidden"], ["z"])], "g", [], [], [bad])
        model.graph.node.add().CopyFrom(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))

    code, problem = refused(change(good, edit))
    assert (code, "'hidden'" in problem) == ("E422", True)


def test_strange_operators_are_listed(good):
    def edit(model):
        model.graph.node[0].domain = "evil.corp"

    assert refused(change(good, edit)) == ("E426", "operators of unknown domains: evil.corp.MatMul")


def test_nan_is_refused_and_inf_is_not(good, tmp_path):
    tensor = numpy_helper.from_array(np.array([1, np.inf], np.float32), "mask")
    check_numbers(tensor, tmp_path)
    with pytest.raises(RefusedError) as caught:
        check_numbers(numpy_helper.from_array(np.array([1, np.nan], np.float16), "w"), tmp_path)
    assert caught.value.args[:2] == ("E425", "NaN among the weights 'w'")


@pytest.mark.parametrize("content", [None, b"", b"<html>404</html>", "half", "graphless"])
def test_what_is_no_model_is_named(good, content):
    match content:
        case None:
            good.unlink()
        case "half":
            good.write_bytes(good.read_bytes()[:90])
        case "graphless":
            good.write_bytes(helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString())
        case _:
            good.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        vet(good)
    assert (caught.value.code, caught.value.exit_code) == ("E424", 4)
    assert str(good) in caught.value.problem


def test_a_memory_bomb_is_stopped(tmp_path):
    shape = numpy_helper.from_array(np.array([1 << 18, 1 << 18], np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["big"]), helper.make_node("ReduceSum", ["big"], ["s"])]
    nodes.append(helper.make_node("Add", ["s", "x"], ["y"]))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    with pytest.raises(ModelFileError, match=r"takes more than 4\.0 GB of memory") as caught:
        vet(save(tmp_path / "m.onnx", nodes, [shape], value))
    assert caught.value.code == "E427"


def test_a_version_that_the_runtime_lacks_is_named_to_the_end(good):
    def edit(model):
        model.ir_version = 99

    with pytest.raises(ModelFileError, match=r"ONNX Runtime 1\.\S+ refuses it \(IR version 99, opset 1") as caught:
        vet(change(good, edit))
    assert "Unsupported model IR version: 99, max supported IR version" in caught.value.problem


def test_operators_that_the_runtime_lacks_are_named(good):
    def edit(model):
        model.graph.node[0].op_type = "Quantum"

    with pytest.raises(ModelFileError, match="Quantum") as caught:
        vet(change(good, edit))
    assert caught.value.code in ("E426", "E427")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended the process: signal 11"),
        ("import time; time.sleep(60)", "did not open within 1 s"),
        ("import sys; sys.exit('no room')", "ended the process: no room"),
        ("print('hello')", "ended the process: exit status 0"),
    ],
)
def test_a_crash_or_a_hang_of_the_child_is_an_error_of_the_file(good, tmp_path, monkeypatch, script, said):
    child = tmp_path / "child.py"
    child.write_text(script)
    monkeypatch.setattr(foreign, "CHILD", child)
    with pytest.raises(ModelFileError, match=said) as caught:
        vet(good, seconds=1 if "sleep" in script else 60)
    assert caught.value.code == "E427"


CONTENT = {}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8), cut=st.integers(0, 400))
def test_damaged_bytes_are_refused_by_name_or_still_a_model(tmp_path, changes, cut):
    if not CONTENT:
        CONTENT["good"] = linear(tmp_path / "seed.onnx", sidecar="w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(bytes(60))
    content = bytearray(CONTENT["good"][: len(CONTENT["good"]) - cut // 2])
    for place, value in changes:
        content[place % len(content)] = value
    file = tmp_path / "m.onnx"
    file.write_bytes(bytes(content))
    try:
        model, _tensors, outside = check_structure(file)
    except RefusedError as error:
        code = error.args[0]
    else:
        code, found = "E42 was not raised", outside
        assert model.graph.node
        assert 0 <= found <= 120
    assert code.startswith("E42")


def test_only_what_a_result_lists_is_known(exported, good, tmp_path):
    assert not is_untrusted(exported.path / "model.onnx")
    assert is_untrusted(good)
    assert is_untrusted(tmp_path / "absent.onnx")
    there = shutil.copytree(exported.path, tmp_path / "copy")
    assert not is_untrusted(there / "model.onnx")
    shutil.copy(good, there / "other.onnx")
    assert is_untrusted(there / "other.onnx")


@pytest.mark.parametrize("damage", ["byte", "another", "short", "manifest cut", "manifest empty", "seal"])
def test_what_a_result_lists_otherwise_is_refused(exported, good, tmp_path, damage):
    there = shutil.copytree(exported.path, tmp_path / "copy")
    file, manifest = there / "model.onnx", there / "manifest.json"
    content = file.read_bytes()
    damaged = {
        "byte": content[:900] + bytes([content[900] ^ 1]) + content[901:], "another": good.read_bytes(),
        "short": content[:-1], "seal": remove_seal(content),
    }  # fmt: skip
    file.write_bytes(damaged.get(damage, content))
    if damage.startswith("manifest"):
        manifest.write_bytes(manifest.read_bytes()[: 900 if damage == "manifest cut" else 0])
    else:
        with pytest.raises(ModelFileError) as caught:
            is_untrusted(file)
        assert caught.value.code == "E404"
        assert str(file) in caught.value.problem
    with pytest.raises(ModelFileError) as caught:
        locate(there)
    assert caught.value.code == "E404"


def test_a_result_without_an_exported_model_says_so(dense, exported, tmp_path):
    with pytest.raises(ModelFileError, match="holds no exported model"):
        locate(dense.path)
    assert locate(exported.path) == exported.path / "model.onnx"
    shutil.copy(exported.path / "model.onnx", tmp_path)
    assert locate(tmp_path) == tmp_path / "model.onnx"
    assert locate(tmp_path, ("model.int8.onnx", "model.onnx")) == tmp_path / "model.onnx"


def test_a_bundle_lists_its_files_and_a_seal_vouches_alone(exported, good, tmp_path):
    file = Path(shutil.copy(exported.path / "model.onnx", tmp_path / "model.onnx"))
    assert (note_unverified([file]), is_untrusted(file)) == ((), True)
    assert [note.partition(":")[0] for note in note_unverified([good])] == [f"nothing vouches for {good}"]
    (tmp_path / SUMS).write_text(f"{sha256(good)}  {good.name}\n{'0' * 64}  model.onnx\n")
    assert note_unverified([good]) == ()
    with pytest.raises(ModelFileError, match=f"is not the file that .*{SUMS} lists") as caught:
        is_untrusted(file)
    assert caught.value.code == "E404"


def test_what_another_tool_made_of_an_exported_file_is_of_unknown_origin(exported, tmp_path):
    model = onnx.load(exported.path / "model.onnx")
    model.producer_name = "another tool"
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    assert is_untrusted(file)
    (note,) = note_unverified([file])
    assert note.startswith(f"{file} was changed since it was written: SHA-256 is ")
    assert note.endswith("; it was measured as a file of unknown origin")
    assert note == f"{seal_fault(file)}; it was measured as a file of unknown origin"
    with pytest.raises(ModelFileError, match="was changed since it was written"):
        has_valid_seal(file)
    there = shutil.copytree(exported.path, tmp_path / "copy")
    shutil.copy(file, there / "model.onnx")
    with pytest.raises(ModelFileError, match=r"is not the file that .* lists"):
        is_untrusted(there / "model.onnx")


@pytest.mark.parametrize("make", [os.mkfifo, lambda file: file.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_list_of_digests_is_not_waited_for(tmp_path, make):
    """It lies beside a file that somebody else made: a pipe would hang, a device fill the memory."""
    (tmp_path / "m.onnx").write_bytes(b"x")
    make(tmp_path / SUMS)
    assert is_untrusted(tmp_path / "m.onnx")
