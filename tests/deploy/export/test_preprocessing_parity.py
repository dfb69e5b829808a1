import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

from effxfer.data.task import Split
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.onnx import load
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.deploy.export.preprocessing_parity import check_preprocessing, run_split
from effxfer.errors import DataError, GateError
from effxfer.runtime.images.crop import resize_crop
from tests.tiny_net import PREPROCESS, images


@pytest.fixture(scope="module")
def split():
    """24 images of as many sizes, which the network is right about (see `expected`)."""
    whole = [image[: 20 + i, : 43 - i] for i, image in enumerate(images(24, size=44))]
    pixels = np.stack([resize_crop(Image.fromarray(image), PREPROCESS) for image in whole])
    return Split(rows=pixels, labels=np.zeros(24, np.int64), names=[], decode_row=whole.__getitem__)


@pytest.fixture
def made(exported, split, tmp_path):
    """A file with preprocessing inside, the logits without, and the split labelled by them."""
    file = shutil.copy(exported, tmp_path / "m.onnx")
    expected = onnx_logits(file, split.rows)
    return add_preprocessing(file), expected, replace(split, labels=expected.argmax(1))


def test_a_faithful_file_passes(made):
    file, expected, split = made
    report = check_preprocessing(file, split, expected, threads=1)
    assert [row.name for row in report.rows] == [
        "preprocessing/input", "preprocessing/agreement", "accuracy/pixels", "accuracy/whole",
    ]  # fmt: skip
    assert report["preprocessing/input"].value < 1.01
    assert report["accuracy/whole"].value == report["accuracy/pixels"].value == 100
    assert report.notes == ("preprocessing inside the graph: 24 images of 24 sizes",)
    assert file.exists()


@pytest.mark.parametrize(("name", "value"), [("cubic_coeff_a", -0.75), ("exclude_outside", 0), ("mode", b"linear")])
def test_another_filter_is_rejected_with_figures(made, name, value):
    file, expected, split = made
    model = load(file)
    for node in model.graph.node:
        if node.op_type == "Resize":
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
    onnx.save(model, file)
    with pytest.raises(GateError, match=r"an input differs by \d+\.\d/255, .* allowed is 1") as caught:
        check_preprocessing(file, split, expected, max_drop=100)
    assert (caught.value.code, caught.value.exit_code) == ("E602", 6)
    assert [p.name for p in file.parent.iterdir()] == ["m.onnx.rejected"]


def test_lost_accuracy_is_rejected_with_figures(made):
    file, expected, split = made
    wrong = expected.copy()
    wrong[:3] = -wrong[:3]
    split = replace(split, labels=wrong.argmax(1))
    with pytest.raises(
        GateError, match=r"fell by 12.50 points, from 100.00 % to 87.50 % of 24 images, allowed are 0.1"
    ):
        check_preprocessing(file, split, wrong)
    assert not file.exists()


def test_nan_is_rejected(made):
    file, expected, split = made
    model = load(file)
    std = next(n for n in model.graph.node if n.output[0] == "preprocessing/std")
    std.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), np.nan, np.float32)))
    onnx.save(model, file)
    with pytest.raises(GateError, match="an input differs by nan/255"):
        check_preprocessing(file, split, expected, max_drop=100)


def test_images_must_be_at_hand(made):
    file, _, split = made
    with pytest.raises(DataError, match="images are not at hand"):
        run_split(file, replace(split, decode_row=None))
