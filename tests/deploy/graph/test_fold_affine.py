import numpy as np
import pytest

from effxfer.deploy.graph.fold_affine import fold
from tests.deploy.graphs import Maker, ops, plain, same


def pieces(made, which):
    for step in which:
        if step == "bn":
            made.batchnorm()
        elif step == "scalar":
            made.add("Mul", made.at, made.const(0.7))
        elif step == "from":
            made.add("Sub", made.per_channel(), made.at)
        else:
            made.add(step, made.at, made.per_channel())


@pytest.mark.parametrize("which", [["bn"], ["Sub", "Div", "Mul", "Add"], ["scalar", "from", "bn"]])
def test_what_scales_and_shifts_channels_goes_into_the_convolution(which):
    made = Maker()
    made.conv(8)
    pieces(made, which)
    made.add("Relu")
    made.conv(8)
    pieces(made, which)
    made.head()
    rewrite = fold(made.graph())
    assert ops(rewrite.model) == ["Conv", "Relu", "Conv", "ReduceMean", "Reshape", "Gemm"]
    assert len(rewrite.nodes) == 2 * len(which)
    assert rewrite.exact
    assert same(made.model(), rewrite.model)


def test_a_linear_layer_takes_them_too():
    made = plain()
    made.add("Mul", made.at, made.const(np.arange(1, 6)))
    made.add("Add", made.at, made.const(np.arange(5)))
    rewrite = fold(made.graph())
    assert ops(rewrite.model)[-1] == "Gemm"
    assert same(made.model(), rewrite.model)


def test_what_others_read_stays():
    made = Maker()
    inner = made.conv(8)
    made.batchnorm()
    made.add("Add", made.at, inner)
    made.head()
    assert fold(made.graph()) is None
    alone = Maker()
    shown = alone.conv(8)
    alone.batchnorm()
    alone.head()
    assert fold(alone.graph(outputs=[shown])) is None


def test_what_differs_along_the_image_stays():
    made = Maker()
    made.conv(8)
    made.add("Mul", made.at, made.const(np.ones((1, 1, 16, 16)) * 2))
    made.head()
    assert fold(made.graph()) is None


def test_a_plain_network_has_nothing_to_fold():
    assert fold(plain().graph()) is None
