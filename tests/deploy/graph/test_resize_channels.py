import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.deploy.graph.graph import Graph
from effxfer.deploy.graph.resize_channels import drop_dead, infer, widen
from tests.deploy.graphs import FEED, Maker, plain, same


def residual(width, dead=0):
    """Depthwise, squeeze-and-excite, BatchNormalization, and a sum around them."""
    keep = (np.arange(width) >= dead).astype(float)
    made = Maker()
    made.conv(width, stride=2, keep=keep)
    made.add("Relu")
    before = made.at
    made.conv(2 * width + 1, 1)
    made.batchnorm()
    made.add("HardSwish")
    made.conv(2 * width + 1, groups=2 * width + 1)
    made.squeeze_excite(9)
    made.conv(width, 1, keep=keep)
    made.add("Add", made.at, before)
    made.head()
    return made


def widths(model):
    graph = Graph(model)
    return [graph.constants[node.input[1]].shape[0] for node in graph.nodes if node.op_type in {"Conv", "Gemm"}]


def test_channels_are_filled_up_and_the_answer_stays():
    made = residual(13)
    rewrite = widen(made.graph(), infer(made.graph(), FEED))
    assert widths(made.model()) == [13, 27, 27, 9, 27, 13, 5]
    assert widths(rewrite.model) == [16, 32, 32, 16, 32, 16, 5]
    assert same(made.model(), rewrite.model)
    assert len(rewrite.nodes) == 6


@settings(max_examples=10, deadline=None)
@given(width=st.integers(9, 40), unit=st.sampled_from([4, 8, 16]))
def test_filling_up_never_changes_the_answer(width, unit):
    made = residual(width)
    rewrite = widen(made.graph(), infer(made.graph(), FEED), unit)
    assert all(w % unit == 0 or w <= unit for w in widths(rewrite.model)[:-1])
    assert same(made.model(), rewrite.model)


def test_dead_channels_go_and_the_answer_stays():
    made = residual(16, dead=6)
    rewrite = drop_dead(made.graph(), infer(made.graph(), FEED), unit=1)
    assert widths(rewrite.model) == [10, 33, 33, 9, 33, 10, 5]
    assert same(made.model(), rewrite.model)


@pytest.mark.parametrize(("dead", "left"), [(3, None), (8, 8), (9, 8), (15, 8)])
def test_multiples_of_8_stay_such(dead, left):
    made = residual(16, dead=dead)
    rewrite = drop_dead(made.graph(), infer(made.graph(), FEED))
    if left is None:
        assert rewrite is None
    else:
        assert widths(rewrite.model) == [left, 33, 33, 9, 33, left, 5]
        assert same(made.model(), rewrite.model)


def test_a_channel_that_nobody_reads_goes():
    made = Maker()
    made.conv(8)
    made.add("Sigmoid")
    made.conv(8)
    made.head()
    model = made.model()
    weight = made.tensors[2]
    value = np.frombuffer(weight.raw_data, np.float32).reshape(8, 8, 3, 3).copy()
    value[:, 3] = 0
    next(t for t in model.graph.initializer if t.name == weight.name).raw_data = value.tobytes()
    rewrite = drop_dead(Graph(model), infer(Graph(model), FEED), unit=1)
    assert widths(rewrite.model) == [7, 8, 5]
    assert same(model, rewrite.model)


def test_a_channel_of_zeros_that_becomes_something_stays():
    made = Maker()
    made.conv(8, keep=np.array([0] * 3 + [1] * 5))
    made.add("Sigmoid")
    made.conv(8)
    made.head()
    assert drop_dead(made.graph(), infer(made.graph(), FEED)) is None


@pytest.mark.parametrize("mix", ["Concat", "Transpose", "twice"])
def test_channels_that_are_mixed_stay_as_they_are(mix):
    made = Maker()
    made.conv(13)
    if mix == "Concat":
        made.add("Concat", made.at, made.at, axis=1)
        made.channels = 26
    elif mix == "Transpose":
        made.add("Transpose", made.at, perm=[0, 2, 1, 3])
        made.add("Transpose", made.at, perm=[0, 2, 1, 3])
    else:
        made.conv(13)
        made.conv(13)
        made.nodes[-1].input[1] = made.nodes[-2].input[1]
    made.head()
    rewrite = widen(made.graph(), infer(made.graph(), FEED))
    assert rewrite is None or same(made.model(), rewrite.model)
    assert mix == "twice" or rewrite is None


def test_a_plain_network_has_nothing_to_change():
    graph = plain(16).graph()
    assert widen(graph, infer(graph, FEED)) is None
    assert drop_dead(graph, infer(graph, FEED)) is None


def test_without_shapes_nothing_is_changed():
    assert widen(residual(13).graph(), {}) is None
