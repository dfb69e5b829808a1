import math
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from effxfer.deploy.export import preprocessing
from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.onnx import BATCH, load, read_metadata, write_metadata
from effxfer.deploy.export.preprocessing import add_preprocessing, front_of, preprocessing_graph
from effxfer.errors import ModelFileError
from effxfer.runtime.images.crop import resize_crop
from effxfer.runtime.images.preprocess import Preprocess, normalize
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.softmax import softmax
from tests.tiny_net import CLASSES, PREPROCESS, images

SHAPES = [
    (size, share, how, crop)
    for size in (16, 33)
    for share in (1.0, 0.875)
    for how in ("bilinear", "bicubic")
    for crop in ("center", "squash", "letterbox")
]
sides = st.integers(1, 400)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copy(exported, tmp_path / "model.onnx")


def session_of(graph, opset=18):
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", opset)])
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def seen(size, share, how, crop):
    return Preprocess(size=size, crop_pct=share, interpolation=how, crop=crop)


FRONTS = {shape: session_of(preprocessing_graph(seen(*shape))) for shape in SHAPES}


def levels(session, image, preprocess):
    """How far the graph's input is from the trained one, in 1/255."""
    expected = normalize(resize_crop(Image.fromarray(image), preprocess)[None], preprocess)
    got = session.run(None, {"pixels": image[None]})[0]
    assert got.shape == expected.shape
    return 255 * np.abs(got - expected) * np.array(preprocess.std)[:, None, None]


@given(height=sides, width=sides, shape=st.sampled_from(SHAPES), seed=st.integers(0, 999), smooth=st.booleans())
def test_inputs_of_any_size_are_those_of_training(height, width, shape, seed, smooth):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if smooth:
        image = np.asarray(Image.fromarray(image[:4, :4]).resize((width, height), Image.Resampling.BICUBIC))
    off = levels(FRONTS[shape], image, seen(*shape))
    assert off.max() < 2.01
    few = 5 if min(height, width) < 3 else 1  # 5 in an image of 2 x 288, found by hypothesis
    assert (off > 1.01).sum() <= few + 1e-4 * off.size


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (7, 500), (159, 40), (531, 49), (240, 320)])
def test_black_and_white_noise_of_odd_sizes(shape, height, width):
    """Overshoots are cut off between the two axes, so that their order shows."""
    noise = np.random.default_rng(3).random((height, width, 1)) < 0.5
    image = (255 * noise).astype(np.uint8).repeat(3, 2)
    off = levels(FRONTS[shape], image, seen(*shape))
    assert (off > 1.01).sum() <= 1


def test_an_image_of_the_right_size_is_only_scaled():
    image = images(1, size=33)[0]
    assert levels(FRONTS[33, 1.0, "bicubic", "center"], image, Preprocess(size=33)).max() == 0


@pytest.mark.parametrize("first", [True, False])
def test_the_order_of_the_axes_is_asked_of_pillow(monkeypatch, first):
    resize = Image.Image.resize

    def in_order(image, size, *args, **more):
        between = (image.width, size[1]) if first and image.height > 2 * image.width else (size[0], image.height)
        return resize(resize(image, between, *args, **more), size, *args, **more)

    monkeypatch.setattr(Image.Image, "resize", in_order)
    assert preprocessing.tall_first() == first
    noise = np.random.default_rng(3).random((159, 40, 1)) < 0.5
    image, about = (255 * noise).astype(np.uint8).repeat(3, 2), Preprocess(size=33)
    assert levels(session_of(preprocessing_graph(about)), image, about).max() < 1.01


@pytest.mark.parametrize("opset", [20, 23, 26])
def test_every_operator_set(opset):
    preprocess, image = Preprocess(size=33, crop_pct=0.875), images(1, size=50)[0][:, :31]
    assert levels(session_of(preprocessing_graph(preprocess), opset), image, preprocess).max() < 1.01


def test_probabilities_are_the_softmax_of_the_logits(copy):
    image = images(1, size=50)[0][:, :31]
    expected = softmax(onnx_logits(copy, resize_crop(Image.fromarray(image), PREPROCESS)[None]))
    np.testing.assert_allclose(Model(add_preprocessing(copy)).probabilities([image]), expected, atol=0.01)


def test_the_file_says_what_it_takes_and_gives(copy):
    before = read_metadata(copy)
    model = load(add_preprocessing(copy))
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"pixels": [BATCH, "height", "width", 3], "probabilities": [BATCH, len(CLASSES)]}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    about = read_metadata(copy)
    assert about.with_preprocessing
    assert not before.with_preprocessing
    assert (about.labels, about.input, about.extra) == (before.labels, before.input, before.extra)
    assert {t.name for t in model.graph.initializer} == {t.name for t in load(copy).graph.initializer}


def test_a_batch_of_one_size(copy):
    many = images(5, size=40)[:, :25]
    session = onnxruntime.InferenceSession(add_preprocessing(copy), providers=["CPUExecutionProvider"])
    together = session.run(None, {"pixels": many})[0]
    np.testing.assert_allclose(together, Model(copy).probabilities(list(many)), atol=1e-5)
    assert together.sum(1) == pytest.approx(1)


def test_the_front_alone_is_small(copy):
    front = front_of(add_preprocessing(copy))
    assert front.ByteSize() < 8000
    assert [v.name for v in front.graph.output] == ["images"]


def test_twice_is_refused(copy):
    with pytest.raises(ModelFileError, match="preprocessing inside already"):
        add_preprocessing(add_preprocessing(copy))


@pytest.mark.parametrize("how", ["lanczos", "nearest"])
def test_filters_that_onnx_lacks_are_refused(copy, how):
    before, model = copy.read_bytes(), load(copy)
    write_metadata(model, resized_by(copy, how))
    onnx.save(model, copy)
    changed = copy.read_bytes()
    with pytest.raises(ModelFileError, match=f"no ONNX operator resizes as {how} does") as caught:
        add_preprocessing(copy)
    assert caught.value.code == "E426"
    assert copy.read_bytes() == changed != before


def resized_by(file, how):
    about = read_metadata(file)
    return replace(about, input=replace(about.input, interpolation=how))


def test_the_resized_side_is_rounded_down():
    graph = preprocessing_graph(Preprocess(size=33, crop_pct=0.875))
    short = next(node for node in graph.node if node.output[0] == "preprocessing/short")
    assert list(short.attribute[0].ints) == [math.floor(33 / 0.875)] == [37]


@pytest.mark.parametrize(
    "output",
    [
        MultiLabel(classes=CLASSES, thresholds=(0.5, -0.5, 0.0, 1.0, -1.0)),
        Regression(classes=CLASSES, mean=(100.0, 0.0, 1.0, 2.0, -3.0), deviation=(20.0, 1.0, 0.1, 1.0, 1.0)),
    ],
    ids=lambda output: output.kind,
)
def test_several_labels_end_in_sigmoid_and_values_in_their_units(output, copy):
    model = load(copy)
    write_metadata(model, replace(read_metadata(copy), output=output))
    write_model(model, copy)
    photos = [image[:31] for image in images(9, size=50)]
    plain = Model(copy, threads=1)
    expected, predictions = output.to_answers(plain.outputs(photos)), plain.predict(photos, top=9)
    whole = Model(add_preprocessing(copy), threads=1)
    answers = whole.outputs(photos)
    np.testing.assert_allclose(answers, expected, atol=0.01 * np.ptp(expected))
    np.testing.assert_allclose(output.to_answers(output.from_answers(answers)), answers, rtol=1e-3)
    shapes = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in load(copy).graph.output}
    assert shapes == {"values" if output.kind == "value" else "probabilities": len(CLASSES)}
    for mine, theirs in zip(whole.predict(photos, top=9), predictions, strict=True):
        if output.kind == "value":
            assert mine.values == pytest.approx(theirs.values, abs=0.01 * np.ptp(expected))
        else:
            assert mine.labels == tuple(pytest.approx(pair, abs=0.01) for pair in theirs.labels)
