import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.model_file.seal import add_seal
from effxfer.runtime.openvino import openvino_session
from effxfer.runtime.openvino.openvino_session import compile_model, error_summary
from tests.runtimes import require_openvino
from tests.tiny_net import images


@pytest.fixture
def pair(file):
    require_openvino()
    return Model(file, threads=1), Model(file, threads=1, runtime="openvino")


@pytest.mark.parametrize("count", [1, 3, 32])
def test_it_answers_like_onnx_runtime(pair, count):
    expected, answers = (model.logits(images(count)) for model in pair)
    assert np.abs(expected - answers).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    assert np.array_equal(expected.argmax(1), answers.argmax(1))
    assert pair[1].labels == pair[0].labels
    assert pair[1].runs_in.startswith("OpenVINO 2")


def test_predictions_of_photographs_are_the_same(pair, photos):
    expected, answers = (model.predict(photos) for model in pair)
    assert [each.label for each in answers] == [each.label for each in expected]


def test_threads_that_share_it_get_their_own_answers(pair):
    batches = [images(2, seed=seed) for seed in range(8)]
    expected = [pair[1].logits(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(pair[1].logits, batches * 5))
    assert all(np.array_equal(a, e) for a, e in zip(answers, expected * 5, strict=True))


def test_an_answer_is_not_overwritten_by_the_next(pair):
    first = pair[1].run(images(1, seed=1))
    copy = first.copy()
    pair[1].run(images(1, seed=2))
    assert np.array_equal(first, copy)


def test_nothing_is_left_to_its_own_choice(file):
    require_openvino()
    compiled = compile_model(file, 1)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"


def test_it_reports_nothing_home_and_needs_no_onnxruntime(file, photos, tmp_path):
    require_openvino()
    code = (
        "import sys, json; from effxfer.runtime.model import Model; "
        f"Model({str(file)!r}, threads=1, runtime='openvino').predict([{str(photos[0])!r}]); "
        "print(json.dumps([n for n in ('onnxruntime', 'openvino_telemetry', 'torch') if n in sys.modules]))"
    )
    home = {**os.environ, "HOME": str(tmp_path), "CI": "", "TF_BUILD": "", "JENKINS_URL": ""}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=home)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert list(tmp_path.rglob("*openvino*")) == []


def test_an_absent_openvino_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match="E424 OpenVINO is not installed") as caught:
        Model(file, runtime="openvino")
    assert "ONNX Runtime" in caught.value.hint
    assert openvino_session.REPORTS_HOME not in sys.modules


def test_another_runtime_is_refused(file):
    with pytest.raises(ModelError, match="E424 there is no runtime 'tvm'") as caught:
        Model(file, runtime="tvm")
    assert caught.value.hint == "it is onnxruntime or openvino"


def test_a_file_that_it_cannot_read_is_refused(tmp_path):
    require_openvino()
    node = helper.make_node("Nonsense", ["x"], ["y"], domain="nobody")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    (tmp_path / "m.onnx").write_bytes(add_seal(helper.make_model(graph).SerializeToString()))
    with pytest.raises(ModelError, match=r"E424 OpenVINO \S+ refuses .*Nonsense") as caught:
        Model(tmp_path / "m.onnx", runtime="openvino")
    assert "src/" not in caught.value.problem


def test_classes_at_run_time_are_refused(tmp_path):
    require_openvino()
    table = numpy_helper.from_array(np.ones((4, 2), np.float32), "prototypes")
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 4]), ("prototypes", [4, 2]), ("y", ["N", 2]))
    ]
    node = helper.make_node("MatMul", ["x", "prototypes"], ["y"])
    graph = helper.make_graph([node], "g", value[:2], value[2:], [table])
    (tmp_path / "m.onnx").write_bytes(add_seal(helper.make_model(graph).SerializeToString()))
    with pytest.raises(ModelError, match=r"E424 .* takes classes at run time \(prototypes\)"):
        Model(tmp_path / "m.onnx", runtime="openvino")


def test_places_in_its_source_are_no_part_of_a_message():
    error = RuntimeError("Exception from src/core.cpp:105:\nException from src/a.cpp:1:\nCannot\n  read it\n\n")
    assert error_summary(error) == "Cannot read it"
    assert error_summary(RuntimeError("")) == "RuntimeError"
