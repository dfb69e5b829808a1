import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from effxfer.deploy.export.onnx import export_onnx
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.deploy.export.prototypes import exported_module
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.runtime.__main__ import main
from effxfer.runtime.images.preprocess import ImageError, Preprocess
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.predict import predict_files
from effxfer.runtime.support import learn, read_support
from tests.tiny_net import CLASSES, PREPROCESS, tiny_net

SEEN = Preprocess(size=16, crop_pct=0.8, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = Net({"source": "effxfer.net.conv4:conv4", "args": {"width": 8}}, SEEN)
    apply_edit(net, "set_head", spec={"kind": "prototypes"}, features=8, classes=["old", "older"])
    return net.eval()


@pytest.fixture(scope="module")
def files(net, tmp_path_factory):
    """A file that takes pixels, and one that takes whole images."""
    folder, (module, prototypes) = tmp_path_factory.mktemp("files"), exported_module(net)
    told = {"input": SEEN, "classes": net.classes, "key": "k", "prototypes": prototypes}
    pixels = export_onnx(module, folder / "pixels.onnx", **told)
    return {"pixels": pixels, "whole images": add_preprocessing(shutil.copy(pixels, folder / "whole.onnx"))}


@pytest.fixture(params=["pixels", "whole images"])
def file(request, files):
    return files[request.param]


@pytest.fixture(scope="module")
def support(tmp_path_factory):
    """Two images, of different sizes, of each of three new classes."""
    root, rng = tmp_path_factory.mktemp("support"), np.random.default_rng(0)
    for channel, name in enumerate(("rot", "grün", "blau")):
        (root / name).mkdir()
        for number in range(2):
            pixels = rng.integers(0, 60, (20 + number, 24, 3), dtype=np.uint8)
            pixels[..., channel] += np.uint8(180)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / ".hidden").mkdir()
    (root / "rot" / "notes.txt").write_text("no image")
    return root


def test_a_few_images_make_classes(file, support):
    images = sorted(support.glob("*/*.png"))
    rows = predict_files(file, images, support=support, top=3)
    assert [row["label"] for row in rows] == [image.parent.name for image in images]
    assert {one["label"] for one in rows[0]["top"]} == {"rot", "grün", "blau"}
    assert {row["label"] for row in predict_files(file, images)} <= {"old", "older"}


def test_a_prototype_is_the_mean_of_its_images(file, support):
    model = Model(file)
    known = learn(model, read_support(support))
    features = model.features(sorted((support / "grün").glob("*.png")))
    assert known.labels == ("blau", "grün", "rot")
    assert np.allclose(known._tables["prototypes"][1], features.mean(0), atol=1e-6)


def test_the_program_takes_support(file, support, capsys):
    image = next((support / "rot").glob("*.png"))
    assert main([str(file), str(image), "--support", str(support)]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "rot"
    assert main([str(file), str(image), "--support", str(support / "nothing")]) == 3
    assert "no folder" in capsys.readouterr().err


def test_other_models_say_that_they_take_none(support, tmp_path):
    plain = export_onnx(tiny_net(), tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="k")
    with pytest.raises(ModelError, match="has 5 fixed classes and takes no others"):
        predict_files(plain, [], support=support)
    with pytest.raises(ModelError, match="takes no others"):
        Model(plain).features([])
    assert main([str(plain), "x.png", "--support", str(support)]) == 4


def test_a_folder_without_classes_or_images_is_refused(tmp_path):
    with pytest.raises(ImageError, match="holds no class folder"):
        read_support(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"no images in .*empty"):
        read_support(tmp_path)


def test_a_broken_image_is_named(file, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "page.jpg").write_text("<html>")
    with pytest.raises(ImageError, match=r"page\.jpg: not an image"):
        learn(Model(file), read_support(tmp_path))


@pytest.mark.parametrize(("shape", "labels"), [((2, 7), "ab"), ((3, 8), "ab"), ((0, 8), "")])
def test_prototypes_must_fit(file, shape, labels):
    with pytest.raises(ModelError, match="need prototypes of shape"):
        Model(file).with_prototypes(np.zeros(shape, np.float32), labels)
