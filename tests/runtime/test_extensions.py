"""What else a runtime would read or run because a file says so: libraries of operators, weights elsewhere, settings."""

import ast
import json
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from effxfer.benchmark.untrusted.vet import vet
from effxfer.deploy.export.external_data import write_sealed
from effxfer.errors import ModelFileError
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.model_file.seal import SEAL
from tests.tiny_net import images

ROOT = Path(__file__).parents[2] / "effxfer"
CALLS = {
    "register_custom_ops_library",
    "register_custom_ops",
    "add_external_initializers",
    "register_execution_provider_library",
}


@pytest.fixture
def file(model_file, tmp_path):
    """A model in a folder of its own, to be changed."""
    (tmp_path / "models").mkdir()
    return Path(shutil.copy(model_file, tmp_path / "models"))


def changed(file, edit):
    """Change a model, and give it the seal of what it says now, as its author could."""
    model = onnx.load(file, load_external_data=False)
    kept = [entry for entry in model.metadata_props if entry.key != SEAL]
    helper.set_model_props(model, {entry.key: entry.value for entry in kept})
    edit(model)
    return write_sealed(file, model.SerializeToString())


def test_no_module_registers_operators_or_providers_of_a_library():
    for module in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            assert not (isinstance(node, ast.Attribute) and node.attr in CALLS), f"{module}: {node.attr}"


@pytest.mark.parametrize(
    ("domain", "kind", "more"),
    [
        ("ai.onnx.contrib", "PyOp", {"module": "os", "compute": "system"}),
        ("ai.onnx.contrib", "PyCustomOp", {}),
        ("com.microsoft", "EPContext", {"ep_cache_context": "/etc/passwd", "embed_mode": 0, "main_context": 1}),
        ("com.microsoft", "EPContext", {"ep_cache_context": "../x.bin", "embed_mode": 0, "source": "OpenVINO"}),
        ("evil.corp", "Run", {"library": "./evil.so"}),
    ],
)
def test_operators_of_libraries_are_refused(file, domain, kind, more):
    def edit(model):
        node = helper.make_node(kind, [model.graph.input[0].name], ["more"], domain=domain, **more)
        model.graph.node.append(node)
        model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
        model.opset_import.append(helper.make_opsetid(domain, 1))

    changed(file, edit)
    with pytest.raises(ModelFileError) as caught:
        vet(file)
    assert caught.value.code in {"E426", "E427"}
    with pytest.raises(ModelError) as refused:
        Model(file, threads=1)
    assert refused.value.code != "E404", "its seal is right"


@pytest.mark.parametrize("place", ["../secret.bin", "absolute", "link", "folder/../../secret.bin"])
def test_weights_elsewhere_are_not_read(file, tmp_path, place):
    secret = tmp_path / "secret.bin"
    (file.parent / "folder").mkdir()
    (file.parent / "link.bin").symlink_to(secret)

    def edit(model):
        tensor = model.graph.initializer[0]
        secret.write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        location = {"absolute": str(secret), "link": "link.bin"}.get(place, place)
        tensor.external_data.add(key="location", value=location)

    changed(file, edit)
    with pytest.raises(ModelFileError) as caught:
        vet(file)
    assert caught.value.code == "E420"
    with pytest.raises(ModelError) as refused:
        Model(file, threads=1)
    assert "seal is not" not in refused.value.problem


def test_settings_in_a_file_are_not_heeded(file, tmp_path, monkeypatch):
    """ONNX Runtime would take a session's settings from a file where an environment variable says so."""
    profile = tmp_path / "profile"
    told = {"session_options": {"enable_profiling": str(profile), "intra_op_num_threads": 7}}
    changed(file, lambda model: model.metadata_props.add(key="ort_config", value=json.dumps(told)))
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    Model(file, threads=1).predict([images(1)[0]])
    assert set(tmp_path.rglob("*")) == before
