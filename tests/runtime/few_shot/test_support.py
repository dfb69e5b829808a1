import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from effxfer.deploy.export.few_shot.prototypes import exported_module
from effxfer.deploy.export.onnx import export_onnx
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.runtime.__main__ import main
from effxfer.runtime.few_shot.rejection import ENTRY, Rejection
from effxfer.runtime.few_shot.support import enroll, learn, open_classes, read_support
from effxfer.runtime.images.preprocess import ImageError, Preprocess
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.predict import predict_files
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
    assert np.allclose(known._class_rows.tables["prototypes"][1], features.mean(0), atol=1e-6)


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


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x/Cat/1.png", "x/cat/1.png"], "'Cat' and 'cat' in .* differ only in spelling"),
        (["x/cat/notes.txt"], r"no images in .*cat, only notes\.txt"),
        (["x/photo.png"], r"holds no class folder, only photo\.png"),
    ],
)
def test_a_folder_that_cannot_be_meant_is_refused(tmp_path, names, words):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ImageError, match=words):
        read_support(tmp_path / "x")


def test_one_grey_image_of_each_class_is_enough(file, tmp_path):
    for name, level in (("dark", 20), ("light", 230)):
        (tmp_path / name).mkdir()
        Image.new("L", (24, 20), level).save(tmp_path / name / "1.png")
    rows = predict_files(file, sorted(tmp_path.glob("*/*.png")), support=tmp_path)
    assert [row["label"] for row in rows] == ["dark", "light"]


def test_classes_are_saved_beside_the_model_and_opened_again(file, support, tmp_path):
    model = Model(shutil.copy(file, tmp_path))
    images, table = sorted(support.glob("*/*.png")), enroll(model, support)
    assert table == model.path.with_suffix(".classes.npz")
    opened = open_classes(Model(model.path), table)
    assert opened.enrolled.shots == (2, 2, 2)
    assert opened.predict(images, top=3) == learn(model, read_support(support)).predict(images, top=3)
    assert predict_files(model.path, images, support=table) == predict_files(model.path, images, support=support)
    assert open_classes(opened, support).labels == opened.labels, "classes can be learned anew"
    assert opened.with_prototypes(np.zeros((1, 8), np.float32), ["x"]).labels == ("x",)


def test_classes_of_another_model_are_refused(net, file, support, tmp_path):
    module, prototypes = exported_module(net)
    other = export_onnx(
        module, tmp_path / "other.onnx", input=SEEN, classes=net.classes, key="another", prototypes=prototypes
    )
    table = enroll(Model(other), support, tmp_path / "mine.npz")
    with pytest.raises(ModelError, match="enrolled with another model"):
        open_classes(Model(file), table)


def test_the_program_enrols(file, support, tmp_path, capsys):
    model = str(shutil.copy(file, tmp_path))
    image = str(next((support / "rot").glob("*.png")))
    assert main([model, "--support", str(support), "--enroll"]) == 0
    assert capsys.readouterr().err.endswith(".classes.npz\n")
    assert main([model, image, "--support", str(next(tmp_path.glob("*.npz")))]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == "rot"
    with pytest.raises(SystemExit):
        main([model, "--enroll"])


def test_what_is_near_to_no_class_is_unknown(file, support):
    images, black = sorted(support.glob("*/*.png")), np.zeros((20, 24, 3), np.uint8)
    model = learn(Model(file), read_support(support))
    assert {one.label for one in model.predict([*images, black])} == {"blau", "grün", "rot"}
    features, black_features = model.features(images), model.features([black])
    own = [np.linalg.norm(features - prototype, axis=1).min() for prototype in model.enrolled.prototypes]
    assert np.linalg.norm(black_features - model.enrolled.prototypes, axis=1).min() > 2 * max(own)
    limit = -float(max(np.linalg.norm(features[i] - model.enrolled.prototypes[i // 2]) for i in range(6))) * 1.01
    object.__setattr__(model.metadata, "extra", {ENTRY: Rejection("euclidean", {1: limit}).to_json()})
    known = learn(model, read_support(support))
    *labels, unknown = known.predict([*images, black], top=2)
    assert [one.label for one in labels] == [image.parent.name for image in images]
    assert unknown.label is None
    assert len(unknown.top) == 2
    assert unknown.to_json()["label"] is None
