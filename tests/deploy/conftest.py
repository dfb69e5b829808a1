import numpy as np
import pytest

from effxfer.deploy.export.onnx import export_onnx
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net


@pytest.fixture(scope="session")
def net():
    return tiny_net()


@pytest.fixture(scope="session")
def pixels():
    return images(300)


@pytest.fixture(scope="session")
def exported(net, tmp_path_factory):
    """The network as one file; tests that change or reject it work on a copy."""
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    return export_onnx(net, file, input=PREPROCESS, classes=CLASSES, key="k1", extra={"task": "toys"})


@pytest.fixture(scope="session")
def labels(exported, pixels):
    """What the float file says: it is right about every image."""
    from effxfer.deploy.export.logits import onnx_logits

    return onnx_logits(exported, pixels, threads=1).argmax(1).astype(np.int64)


@pytest.fixture(scope="session")
def text_net():
    pytest.importorskip("tokenizers", reason="texts need the package tokenizers")
    from tests.tiny_text import text_net

    return text_net()


@pytest.fixture(scope="session")
def text_file(text_net, tmp_path_factory):
    """A network of texts as one file, with its tokenizer beside it; not to be changed."""
    file = tmp_path_factory.mktemp("text") / "model.onnx"
    return export_onnx(text_net, file, input=text_net.input, output=text_net.output, key="k1")
