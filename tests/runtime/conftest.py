"""An exported model, and photographs."""

import pytest
from PIL import Image

from effxfer.deploy.export.onnx import export_onnx
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Not to be changed."""
    target = tmp_path_factory.mktemp("model") / "model.onnx"
    return export_onnx(tiny_net(), target, input=PREPROCESS, classes=CLASSES, key="k1")


@pytest.fixture(scope="module")
def file(model_file):
    return model_file


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(images(5, size=40)):
        Image.fromarray(pixels[: 24 + 3 * i]).save(folder / f"{i} ü.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """A network of single labels that reads texts, with its tokenizer beside it; not to be changed."""
    pytest.importorskip("tokenizers", reason="texts need the package tokenizers")
    from tests.tiny_text import text_net

    net = text_net()
    file = tmp_path_factory.mktemp("text") / "model.onnx"
    return export_onnx(net, file, input=net.input, output=net.output, key="k1")
