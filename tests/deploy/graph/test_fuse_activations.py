import numpy as np
import pytest

from effxfer.deploy.graph.fuse_activations import KNOWN, POINTS, fuse
from tests.deploy.graphs import Maker, ops, plain, same


def network(activation, **options):
    made = Maker(**options)
    made.conv(8)
    activation(made)
    made.conv(8)
    activation(made)
    made.head()
    return made


def tanh_gelu(made):
    x = made.at
    cube = made.add("Pow", x, made.const(3.0))
    scaled = made.add("Mul", cube, made.const(0.044715))
    inner = made.add("Add", x, scaled)
    made.add("Mul", inner, made.const((2 / np.pi) ** 0.5))
    made.add("Tanh")
    one = made.add("Add", made.at, made.const(1.0))
    half = made.add("Mul", made.const(0.5), x)
    made.add("Mul", half, one)


def mish(made):
    x = made.at
    made.add("Softplus")
    made.add("Tanh")
    made.add("Mul", x, made.at)


def sigmoid(made):
    made.add("Neg")
    made.add("Exp")
    made.add("Add", made.at, made.const(1.0))
    made.add("Reciprocal")


def hard_sigmoid(made):
    made.add("Add", made.at, made.const(3.0))
    made.add("Clip", made.at, made.const(0.0), made.const(6.0))
    made.add("Div", made.at, made.const(6.0))


@pytest.mark.parametrize(
    ("activation", "op"),
    [
        (Maker.hardswish, "HardSwish"),
        (Maker.gelu, "Gelu"),
        (tanh_gelu, "Gelu"),
        (mish, "Mish"),
        (sigmoid, "Sigmoid"),
        (hard_sigmoid, "HardSigmoid"),
    ],
)
def test_an_activation_in_pieces_becomes_one_node(activation, op):
    made = network(activation)
    rewrite = fuse(made.graph())
    assert ops(rewrite.model) == ["Conv", op, "Conv", op, "ReduceMean", "Reshape", "Gemm"]
    assert len(rewrite.nodes) == len(made.nodes) - 5
    assert same(made.model(), rewrite.model)


def test_an_older_operator_set_is_raised():
    made = network(Maker.hardswish, opset=13)
    made.nodes = [n for n in made.nodes if n.op_type not in {"ReduceMean", "Reshape", "Gemm"}]
    made.at = made.nodes[-1].output[0]
    rewrite = fuse(made.graph())
    assert "HardSwish" in ops(rewrite.model)
    assert rewrite.model.opset_import[0].version == 14
    assert same(made.model(), rewrite.model)


def test_what_is_read_elsewhere_keeps_its_pieces():
    made = Maker()
    made.conv(8)
    x = made.at
    clipped = made.add("Clip", made.add("Add", x, made.const(3.0)), made.const(0.0), made.const(6.0))
    made.add("Div", made.add("Mul", x, clipped), made.const(6.0))
    made.add("Add", made.at, clipped)
    made.head()
    assert fuse(made.graph()) is None


def test_other_functions_are_left_alone():
    def swish_of_another_slope(made):
        x = made.at
        made.add("Mul", x, made.const(1.702))
        made.add("Sigmoid")
        made.add("Mul", x, made.at)

    assert fuse(network(swish_of_another_slope).graph()) is None
    assert fuse(plain().graph()) is None


def test_the_known_functions_can_be_told_apart():
    x = POINTS.astype(np.float64)
    with np.errstate(over="ignore"):
        values = [activation.function(x) for activation in KNOWN]
    for i, one in enumerate(values):
        assert not any(np.allclose(one, other, rtol=1e-4, atol=2e-5) for other in values[i + 1 :])
