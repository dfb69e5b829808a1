import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper

from effxfer.deploy.int8.equalize import TINY, channel_divisors, equalize, find_pairs
from effxfer.deploy.int8.static import Feeds
from tests.tiny_net import PREPROCESS, images

CHANNELS = 6
FEEDS = Feeds(name="images", rows=images(16), input=PREPROCESS)


def chain(activation="Relu", seed=0, uneven=100.0, branch=False, masked=False):
    """Pointwise, depthwise and pointwise convolutions whose channels differ in size by a factor of `uneven`."""
    rng = np.random.default_rng(seed)
    factor = np.geomspace(1, 1 / uneven, CHANNELS)[:, None, None, None]
    kernels = {
        "a": rng.standard_normal((CHANNELS, 3, 1, 1)) * factor,
        "b": rng.standard_normal((CHANNELS, 1, 3, 3)),
        "c": rng.standard_normal((4, CHANNELS, 1, 1)),
    }
    if masked:
        kernels = {name: kernel * (rng.random(kernel.shape) > 0.5) for name, kernel in kernels.items()}
    biases = {f"{name}_bias": rng.standard_normal(len(kernel)) * 0.01 for name, kernel in kernels.items()}
    held = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in {**kernels, **biases}.items()]
    limits = [helper.make_tensor("low", 1, [], [0.0]), helper.make_tensor("high", 1, [], [6.0])]
    extra = ["low", "high"] if activation == "Clip" else []
    nodes, at = [], "images"
    for name in "abc":
        more = {"group": CHANNELS, "pads": [1, 1, 1, 1]} if name == "b" else {}
        nodes.append(helper.make_node("Conv", [at, name, f"{name}_bias"], [f"{name}_out"], name=name, **more))
        at = f"{name}_out"
        if name != "c" and activation:
            nodes.append(helper.make_node(activation, [at, *extra], [f"{name}_active"], name=f"{name}_act"))
            at = f"{name}_active"
    outputs = [helper.make_tensor_value_info(n, 1, None) for n in (at, *(["a_active"] if branch else []))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", 1, ["N", 3, 16, 16])], outputs, [*held, *limits]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, feeds=FEEDS):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds.feed(0, len(feeds.rows)))[0]


def inner(model, name):
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    wider.graph.output.insert(0, helper.make_tensor_value_info(name, 1, None))
    return run(wider)


def kernels(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(1, 1000), st.sampled_from(["Relu", ""]))
def test_answers_do_not_change(seed, uneven, activation):
    model = chain(activation, seed, uneven)
    before = run(model)
    assert equalize(model, FEEDS) == 2
    assert np.abs(run(model) - before).max() <= 1e-4 * max(1.0, np.abs(before).max())


def test_channels_use_the_same_range():
    model = chain()
    before = inner(model, "a_active").max((0, 2, 3))
    equalize(model, FEEDS)
    after = inner(model, "a_active").max((0, 2, 3))
    assert before.max() > 20 * before.min()
    assert after.max() < 1.01 * after.min()
    assert after.max() == pytest.approx(before.max(), rel=1e-4)


def test_relu6_answers_as_before_on_these_images_and_its_cut_keeps_its_distance():
    model = chain("Clip", uneven=30.0)
    for tensor in model.graph.initializer:
        if tensor.name == "a":
            tensor.CopyFrom(numpy_helper.from_array(10 * numpy_helper.to_array(tensor), "a"))
    before, active = run(model), inner(model, "a_active").max((0, 2, 3))
    assert (active == 6).any()
    assert (active < 1).any()
    old = kernels(model)["a"]
    assert equalize(model, FEEDS) == 2
    assert np.abs(run(model) - before).max() <= 1e-4 * np.abs(before).max()
    ratio = np.abs(kernels(model)["a"]).max((1, 2, 3)) / np.abs(old).max((1, 2, 3))
    assert ratio[active == 6] == pytest.approx(1)
    assert (ratio[active < 1] > 1.5).all()
    assert (inner(model, "a_active").max((0, 2, 3))[active < 6] <= 3.001 * active.max() / 6 + 3).all()


def test_zeros_of_a_ticket_stay():
    model = chain(masked=True)
    before = kernels(model)
    equalize(model, FEEDS)
    after = kernels(model)
    assert all(((before[n] == 0) == (after[n] == 0)).all() for n in "abc")
    assert any((before[n] != after[n]).any() for n in "abc")


def test_what_others_read_or_clips_below_zero_is_left():
    assert [p.second.name for p in find_pairs(chain())] == ["b", "c"]
    assert [p.second.name for p in find_pairs(chain(branch=True))] == ["c"]
    assert find_pairs(chain("Sigmoid")) == []
    model = chain("Clip")
    next(t for t in model.graph.initializer if t.name == "low").CopyFrom(helper.make_tensor("low", 1, [], [-1.0]))
    assert find_pairs(model) == []
    assert equalize(model, FEEDS) == 0


def test_a_shared_kernel_is_left():
    model = chain()
    for node in model.graph.node:
        if node.name == "c":
            node.input[1] = "a"
    assert all("c" not in (p.first.name, p.second.name) for p in find_pairs(model))


highs = arrays(float, 5, elements=st.floats(0, 6))


@given(highs, st.none() | arrays(float, 5, elements=st.floats(0, 10)), st.sampled_from([6.0, np.inf]))
def test_scales_are_positive_and_nothing_reaches_a_bound_that_did_not(high, weight, bound):
    found = channel_divisors(high, weight, bound)
    assert (found > 0).all()
    assert np.isfinite(found).all()
    assert (found[(high <= TINY) | (high >= bound)] == 1).all()
    assert (high / found <= max(high.max(), 1e-300) * (1 + 1e-9)).all()
    if np.isfinite(bound):
        grown = found < 1
        assert (high[grown] / found[grown] <= bound / 2 + 1e-9).all()
