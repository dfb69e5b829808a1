import zlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from effxfer.benchmark.measure.size import compressed_size, measure_size
from effxfer.errors import ModelFileError
from tests.benchmark.models import linear, save


def test_bytes_parameters_and_nonzeros_are_counted(tmp_path):
    file = linear(tmp_path / "m.onnx", width=10, classes=4, zeros=15)
    size = measure_size(file)
    assert (size.params, size.nonzero) == (44, 29)
    assert size.bytes == file.stat().st_size
    assert size.mb == size.bytes / 1e6


def test_compressed_is_what_zlib_gives(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(np.random.default_rng(0).integers(0, 7, 3_000_000, dtype=np.uint8).tobytes())
    assert compressed_size(file) == len(zlib.compress(file.read_bytes(), 6))


def test_zeros_compress_but_do_not_shrink_the_file(tmp_path):
    dense = measure_size(linear(tmp_path / "a.onnx", width=100, classes=100))
    sparse = measure_size(linear(tmp_path / "b.onnx", width=100, classes=100, zeros=9000))
    assert sparse.bytes == dense.bytes
    assert sparse.compressed_bytes < dense.compressed_bytes / 4


def test_scales_and_zero_points_are_no_parameters(tmp_path):
    tensors = [
        numpy_helper.from_array(np.array([[1, 0], [2, 3]], np.int8), "W"),
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["W", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    size = measure_size(save(tmp_path / "q.onnx", nodes, tensors, value))
    assert (size.params, size.nonzero) == (4, 3)


@pytest.mark.parametrize("points", [np.uint8(128), np.array([128, 7], np.uint8)], ids=["tensor", "channels"])
def test_what_stands_for_zero_counts_as_zero(tmp_path, points):
    tensors = [
        numpy_helper.from_array(np.array([[128, 128, 9], [7, 0, 7]], np.uint8), "W"),
        numpy_helper.from_array(np.full(points.shape, 0.1, np.float32), "scale"),
        numpy_helper.from_array(points, "zero"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["W", "scale", "zero"], ["w"], axis=0),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    size = measure_size(save(tmp_path / "q.onnx", nodes, tensors, value))
    assert (size.params, size.nonzero) == ((6, 2) if points.shape else (6, 4))
    assert size.zeros == pytest.approx(100 * (1 - size.nonzero / 6))


def test_weights_beside_the_file_count(tmp_path):
    file = linear(tmp_path / "m.onnx", width=100, classes=100, sidecar="m.onnx.data")
    size = measure_size(file)
    assert size.params == 10_100
    assert size.bytes == file.stat().st_size + (tmp_path / "m.onnx.data").stat().st_size


@pytest.mark.parametrize("location", ["../outside.data", "/etc/passwd", "absent.data"])
def test_weights_elsewhere_are_refused(tmp_path, location):
    file = linear(tmp_path / "m.onnx", sidecar="m.onnx.data")
    model = onnx.load(file, load_external_data=False)
    next(e for e in model.graph.initializer[0].external_data if e.key == "location").value = location
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="refers to weights in"):
        measure_size(file)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x0a\x12"])
def test_what_is_no_model_is_refused(tmp_path, content):
    file = tmp_path / "m.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        measure_size(file)
    with pytest.raises(ModelFileError, match="no model file"):
        measure_size(tmp_path / "absent.onnx")
