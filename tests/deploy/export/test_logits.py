import numpy as np
import pytest

from effxfer.deploy.export.logits import is_decoded, onnx_logits, onnx_outputs, torch_logits
from effxfer.errors import ModelFileError
from tests.tiny_net import PREPROCESS, images
from tests.tiny_text import rows


def test_images_are_run_alike(exported, net, pixels):
    np.testing.assert_allclose(
        onnx_logits(exported, pixels[:9], batch=4), torch_logits(net, pixels[:9], PREPROCESS, batch=5), atol=1e-4
    )


def test_texts_are_run_alike_whatever_the_batch(text_file, text_net):
    texts = rows(40)
    expected = torch_logits(text_net, texts, text_net.input, batch=1)
    np.testing.assert_allclose(torch_logits(text_net, texts, text_net.input, batch=16), expected, atol=1e-5)
    np.testing.assert_allclose(onnx_logits(text_file, texts, batch=7), expected, atol=1e-5)


def test_other_arrays_are_the_input_itself(exported):
    feed = PREPROCESS.feed(images(3))
    assert [is_decoded(rows, exported) for rows in (images(1), feed)] == [True, False]
    np.testing.assert_allclose(onnx_outputs(exported, feed), onnx_logits(exported, images(3)), atol=1e-6)


def test_a_model_without_its_tokenizer_is_named(text_file, tmp_path):
    (tmp_path / "m.onnx").write_bytes(text_file.read_bytes())
    with pytest.raises(ModelFileError) as caught:
        onnx_logits(tmp_path / "m.onnx", rows(1))
    assert caught.value.code == "E441"
