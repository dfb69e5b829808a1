import numpy as np
import onnxruntime
import pytest

pytest.importorskip("tokenizers", reason="texts need the package tokenizers")

from effxfer.deploy.export import hf_parity
from effxfer.deploy.export.few_shot.prototypes import exported_module
from effxfer.deploy.export.hf_inputs import hf_feed, write_hf_inputs
from effxfer.deploy.export.hf_parity import HfFile, check_hf_inputs
from effxfer.deploy.export.onnx import export_onnx
from effxfer.errors import GateError, ModelFileError
from effxfer.runtime.checked_session import join_tasks
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.single_label import SingleLabel
from tests.tiny_text import ENCODER, TOKENS, rows, text_net

SEPARATOR = ENCODER["separator"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    net, folder = text_net(), tmp_path_factory.mktemp("hf")
    file = export_onnx(net, folder / "m.onnx", input=net.input, output=net.output, key="k")
    return file, write_hf_inputs(file, folder / "m.hf.onnx", TOKENS)


def test_its_inputs_are_those_of_hugging_face_with_free_axes(files):
    session = onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        (name, "tensor(int64)", ["batch", "length"]) for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    assert session.get_outputs()[0].name == Model(files[0])._file.session.get_outputs()[0].name


def test_unequal_texts_in_a_batch_have_the_outputs_of_the_other_file(files):
    texts, labels = rows(40, seed=3), np.zeros(40, np.int64)
    report = check_hf_inputs(
        files[1], files[0], texts, labels, SEPARATOR, output=text_net().output, precision="fp32", tolerance=1e-5
    )
    assert {"hf/batch1/fp32", "hf/batch32/fp32", "hf/length8/fp32"} <= {row.name for row in report.rows}
    alone, together = (HfFile(files[1], TOKENS, SEPARATOR).logits(texts, batch) for batch in (1, 40))
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)


def test_several_tasks_have_an_output_each_and_the_worst_one_decides(tmp_path, monkeypatch):
    output = TaskOutputs(
        outputs={"tone": SingleLabel(classes=("good", "bad")), "stars": MultiLabel(classes=("a", "b"))}
    )
    net = text_net(output)
    module, _ = exported_module(net)
    file = export_onnx(module, tmp_path / "m.onnx", input=net.input, output=output, key="k")
    hf_file = write_hf_inputs(file, tmp_path / "m.hf.onnx", TOKENS)
    assert [each.name for each in onnxruntime.InferenceSession(hf_file).get_outputs()] == ["tone", "stars"]
    texts = rows(40, seed=3)
    tone = Model(file).logits(texts)[:, :2].argmax(1)
    labels = np.column_stack([tone, np.tile([[0, 1], [1, 0]], (20, 1))]).astype(np.float32)
    check = {"output": output, "precision": "fp32", "tolerance": 1e-5}
    report = check_hf_inputs(hf_file, file, texts, labels, SEPARATOR, **check)
    assert report["accuracy/hf/tone/fp32"].value == report["accuracy/ids/tone/fp32"].value == 100
    monkeypatch.setattr(hf_parity, "join_tasks", lambda output, results, path: -join_tasks(output, results, path))
    with pytest.raises(GateError, match=r"task 'tone': accuracy fell by 100\.00 points"):
        check_hf_inputs(hf_file, file, texts, labels, SEPARATOR, **check)


def test_segments_are_those_that_are_passed(files):
    session = onnxruntime.InferenceSession(files[1], providers=["CPUExecutionProvider"])
    ids = TOKENS.feed(rows(4))
    feed = hf_feed(ids, TOKENS, SEPARATOR)
    other = {**feed, "token_type_ids": 1 - feed["token_type_ids"]}
    assert np.abs(session.run(None, feed)[0] - session.run(None, other)[0]).max() > 1e-3


def test_what_a_tokenizer_passes_for_a_pair():
    ids = np.array([[2, 10, SEPARATOR, 11, SEPARATOR, 0], [2, 10, SEPARATOR, 0, 0, 0]])
    feed = hf_feed(ids, TOKENS, SEPARATOR)
    assert feed["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    assert feed["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0], [0] * 6]
    assert hf_feed(ids, TOKENS, -1).keys() == {"input_ids", "attention_mask"}


def test_a_file_that_answers_otherwise_is_renamed(files, tmp_path, monkeypatch):
    copy = tmp_path / "m.hf.onnx"
    copy.write_bytes(files[1].read_bytes())

    def wrong_feed(ids, tokens, separator):
        return {**hf_feed(ids, tokens, separator), "token_type_ids": np.ones_like(ids)}

    monkeypatch.setattr(hf_parity, "hf_feed", wrong_feed)
    with pytest.raises(GateError, match=r"m\.hf\.onnx differs from m\.onnx: a logit differs"):
        check_hf_inputs(
            copy, files[0], rows(8), np.zeros(8, np.int64), SEPARATOR, output=text_net().output, precision="fp32"
        )
    assert [file.name for file in tmp_path.iterdir()] == ["m.hf.onnx.rejected"]


def test_the_runtime_names_the_file_that_it_runs(files):
    with pytest.raises(ModelError, match="has the inputs of Hugging Face") as caught:
        Model(files[1])
    assert caught.value.code == "E428"
    with pytest.raises(ModelFileError, match="has no input 'ids'"):
        write_hf_inputs(files[1], files[1], TOKENS)
