import numpy as np
import pytest

from effxfer.benchmark.measure.profile import Kernel, profile, read_kernels, source_node
from effxfer.errors import ModelFileError, ResourceError
from tests.benchmark.models import linear


def event(name, dur, index=0, op="Conv", **args):
    about = {"op_name": op, "node_index": str(index), "activation_size": "8", "parameter_size": "4", "output_size": "2"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": dur, "args": {**about, **args}}


CALL = {"cat": "Session", "name": "model_run", "dur": 9}


def test_the_first_calls_do_not_count_and_the_rest_gives_a_median():
    events = [one for ms in (900, 800, 700, 10, 30, 20) for one in (event("a", ms), event("b", 5, 1), CALL)]
    first, second = read_kernels(events)
    assert (first.name, first.op, first.ms, first.bytes) == ("a", "Conv", 0.02, 14)
    assert second.ms == 0.005


def test_what_a_loop_runs_twice_counts_twice():
    events = [one for _ in range(6) for one in (event("a", 10), event("a", 10), CALL)]
    assert [kernel.ms for kernel in read_kernels(events)] == [0.02]


def test_a_profile_without_kernels_is_told():
    with pytest.raises(ResourceError, match="shows no kernels"):
        read_kernels([CALL])


def kernel(name):
    return Kernel(name=name, op="Conv", ms=1.0, inputs=(), types=(), outputs=(), bytes=0)


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("conv", "conv"),
        ("relu_out_nchwc", "relu"),
        ("conv_token_12", "conv"),
        ("relu_out_QuantizeLinear_token_3", "relu"),
        ("ReorderInput_token_4", "ReorderInput_token_4"),
    ],
)
def test_a_kernel_is_traced_back_to_the_file(name, node):
    assert source_node(kernel(name), ["conv", "relu"], {"relu_out": "relu"}) == node


def test_a_model_is_profiled(tmp_path):
    file = linear(tmp_path / "m.onnx", width=4, classes=3)
    found = profile(file, {"x": np.ones((2, 4), np.float32)}, seconds=0)
    assert all(kernel.ms >= 0 for kernel in found)
    assert found[-1].outputs == ((2, 3),)
    assert not list(tmp_path.glob("*.json"))


def test_a_feed_that_does_not_fit_is_told(tmp_path):
    file = linear(tmp_path / "m.onnx", width=4)
    with pytest.raises(ModelFileError, match="cannot run"):
        profile(file, {"x": np.ones((2, 5), np.float32)})
