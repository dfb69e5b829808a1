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
    from effxfer.deploy.export.parity import onnx_logits

    return onnx_logits(exported, pixels, threads=1).argmax(1).astype(np.int64)
