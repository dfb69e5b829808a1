import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.logits import onnx_logits, torch_logits
from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.export.parity import agreement, check, compare_alone, drop_faults, parity
from effxfer.errors import GateError, ModelFileError
from effxfer.report import Measurement, Report
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from tests.tiny_net import CLASSES, PREPROCESS, TinyNet, tiny_net
from tests.tiny_text import rows


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copy(exported, tmp_path / "model.onnx")


def test_a_faithful_file_passes(copy, net, pixels, labels):
    report = check(copy, net, pixels, labels, PREPROCESS, threads=1)
    assert [row.name for row in report.rows] == [
        *(f"parity/batch{b}" for b in (1, 2, 7, 32)),
        "parity/split", "parity/scale", "parity/agreement", "accuracy/torch", "accuracy/onnx",
    ]  # fmt: skip
    assert report["parity/split"].value < 1e-4
    assert report["accuracy/onnx"].value == 100
    assert report["accuracy/onnx"].n == len(labels)
    assert copy.exists()


def test_known_logits_are_used_instead_of_the_module(copy, net, pixels, labels):
    expected = torch_logits(net, pixels, PREPROCESS)
    expected[0] += 1
    with pytest.raises(GateError, match="a logit differs by 1 at split"):
        check(copy, net, pixels, labels, PREPROCESS, expected=expected)


def test_another_network_is_rejected_with_figures(copy, pixels, labels):
    with pytest.raises(GateError, match=r"a logit differs by .* at split, allowed are") as caught:
        check(copy, tiny_net(seed=1), pixels, labels, PREPROCESS)
    assert caught.value.exit_code == 6
    assert [p.name for p in copy.parent.iterdir()] == ["model.onnx.rejected"]


def test_a_drop_in_accuracy_is_rejected_with_figures(copy, pixels, labels):
    other = tiny_net(seed=1)
    right = torch_logits(other, pixels, PREPROCESS).argmax(1)
    after = 100 * float((labels == right).mean())
    with pytest.raises(GateError, match=rf"from 100.00 % to {after:.2f} % of 300 images, allowed are 0.5"):
        check(copy, other, pixels, right, PREPROCESS, max_drop=0.5, tolerance=1e9)
    assert not copy.exists()


class NoColdImages(TinyNet):
    def forward(self, x):
        return super().forward(x) + x.mean((1, 2, 3), keepdim=False).sqrt()[:, None]


def test_nan_outputs_are_rejected(pixels, tmp_path):
    net = NoColdImages().eval()
    file = export_onnx(net, tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
    labels = np.zeros(len(pixels), np.int64)
    with pytest.raises(GateError, match=r"NaN or inf for \d+ of 300 images"):
        check(file, net, pixels, labels, PREPROCESS, tolerance=1e9, max_drop=100)
    assert not file.exists()


def test_a_file_of_one_size_alone_is_set_aside_where_sides_shall_be_free(copy, net, pixels, labels):
    with pytest.raises(ModelFileError, match=r"does not take images of 48 x 80, which the network takes"):
        check(copy, net, pixels, labels, PREPROCESS, sizes=[(48, 80)])
    assert not copy.exists()


def test_a_damaged_file_is_set_aside(copy, net, pixels, labels):
    copy.write_bytes(copy.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"ONNX Runtime \S+ refuses"):
        check(copy, net, pixels, labels, PREPROCESS)
    assert not copy.exists()


def test_parity_needs_no_more_than_one_image(exported, net, pixels):
    report = parity(exported, net, pixels[:1], PREPROCESS, (1, 3))
    assert [(row.name, row.n) for row in report.rows] == [("parity/batch1", 1), ("parity/batch3", 3)]
    assert all(row.value < 1e-4 for row in report.rows)


def test_accuracy_of_the_whole_split_at_any_batch_size(exported, pixels, labels):
    wrong = labels.copy()
    wrong[:30] = (wrong[:30] + 1) % len(CLASSES)
    scores = [SINGLE_LABEL.score(onnx_logits(exported, pixels, batch=b, threads=1), wrong) for b in (1, 7, 300)]
    assert [score.value for score in scores] == [pytest.approx(90.0)] * 3
    assert {score.n for score in scores} == {300}


def test_torch_logits_do_not_depend_on_the_batch(net, pixels):
    np.testing.assert_allclose(
        torch_logits(net, pixels[:9], PREPROCESS, batch=2), torch_logits(net, pixels[:9], PREPROCESS), atol=1e-5
    )
    assert torch.is_grad_enabled()


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_the_gate_opens_exactly_up_to_the_allowed_drop(before, after, allowed):
    rows = [Measurement(name="accuracy/torch", value=before), Measurement(name="accuracy/onnx", value=after)]
    faults = drop_faults(Report(rows=tuple(rows)), allowed)
    assert bool(faults) == (before - after > allowed + 1e-9)


@pytest.fixture
def text_copy(text_file, tmp_path):
    shutil.copy(text_file.with_name("tokenizer.json"), tmp_path)
    return shutil.copy(text_file, tmp_path / "model.onnx")


def text_labels(net, texts):
    return torch_logits(net, texts, net.input).argmax(1)


def test_texts_are_compared_in_batches_of_unequal_lengths_at_several_lengths_and_alone(text_copy, text_net):
    texts = rows(60)
    report = check(text_copy, text_net, texts, text_labels(text_net, texts), text_net.input, threads=1)
    assert [row.name for row in report.rows] == [
        *(f"parity/batch{b}" for b in (1, 2, 7, 32)), *(f"parity/length{n}" for n in (8, 33, 40)), "parity/alone",
        "parity/split", "parity/scale", "parity/agreement", "accuracy/torch", "accuracy/onnx",
    ]  # fmt: skip
    worst = max(row.value for row in report.rows if row.name.startswith("parity/") and row.unit != "%" and row.n != 60)
    assert worst < 1e-4
    assert report["parity/agreement"].value == report["accuracy/onnx"].value == 100
    assert {row.of for row in report.rows if row.of} == {"texts"}


def test_a_file_whose_answers_depend_on_padding_is_rejected(text_copy, text_net):
    """As if the mask had been lost (onnxruntime#6044): texts alone are right, beside longer ones they are wrong."""
    model = load(text_copy)
    comparison = next(node for node in model.graph.node if node.op_type == "Equal" and "ids" in node.input)
    none = numpy_helper.from_array(np.array(-1, np.int64), "no_padding")
    model.graph.initializer.append(none)
    comparison.input[:] = ["ids", "no_padding"]
    write_model(model, text_copy)
    texts = rows(60)
    with pytest.raises(GateError, match=r"a logit differs by .* at ") as caught:
        check(text_copy, text_net, texts, text_labels(text_net, texts), text_net.input, max_drop=100)
    assert caught.value.code == "E601"
    model = Model(shutil.move(f"{text_copy}.rejected", text_copy), threads=1)
    assert compare_alone(model, texts, 32)["parity/alone"].value > 1e-2


def test_several_labels_are_judged_by_all_of_them(copy, net, pixels):
    output = MultiLabel(classes=CLASSES)
    raw = torch_logits(net, pixels, PREPROCESS)
    report = check(copy, net, pixels, output.decide(raw).astype(np.uint8), PREPROCESS, output=output)
    assert report["mAP/torch"].value == report["mAP/onnx"].value == pytest.approx(100)
    other = raw.copy()
    other[0, 0] *= -1
    assert agreement(output, raw, other, output.decide(raw)) == pytest.approx(100 * (len(raw) - 1) / len(raw))
