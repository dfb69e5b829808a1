import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper
from torch import nn

from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.int8.recipes import Recipe
from effxfer.deploy.int8.static import Feeds, prepare, write_candidate
from effxfer.train.fake_quant import FakeRange, fake_quantize, fake_weight
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net

matrices = arrays(np.float32, (4, 6), elements=st.floats(-100, 100, width=32))


@given(matrices, st.integers(2, 8))
def test_weights_keep_zeros_signs_and_stay_within_half_a_step(values, bits):
    weight = torch.from_numpy(values)
    got, levels = fake_weight(weight, bits), min(2 ** (bits - 1), 127)
    step = weight.abs().amax(1, keepdim=True) / levels
    assert (got[weight == 0] == 0).all()
    assert (got * weight >= 0).all()
    assert ((got - weight).abs() <= 0.501 * step + 1e-6).all()
    assert all(len(row.unique()) <= 2 * levels + 1 for row in got)


def test_gradients_pass_through_rounding_and_stop_outside_the_range():
    weight = torch.randn(3, 5, requires_grad=True)
    fake_weight(weight, 4).sum().backward()
    assert (weight.grad == 1).all()
    fake = FakeRange(0.9)
    fake(torch.tensor([-1.0, 2.0]))
    x = torch.tensor([-5.0, 0.3, 5.0], requires_grad=True)
    fake.eval()(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 0]


def test_a_range_follows_training_and_rests_otherwise():
    fake = FakeRange(0.75)
    x = torch.tensor([0.5, 4.0])
    assert fake.eval()(x).equal(x), "nothing was seen yet"
    fake.train()(torch.tensor([0.5, 4.0]))
    assert (fake.low.item(), fake.high.item()) == (0, 4)
    fake(torch.tensor([-4.0, 8.0]))
    assert (fake.low.item(), fake.high.item()) == (-1, 5)
    fake.eval()(torch.tensor([-100.0, 100.0]))
    assert (fake.low.item(), fake.high.item()) == (-1, 5)
    assert fake(torch.zeros(1)).item() == 0, "zero is exact, for padding's sake"


def test_nothing_of_it_stays():
    net = tiny_net()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    x = torch.randn(2, 3, 16, 16)
    exact = net(x)
    with fake_quantize(net) as faked:
        net.train()(x)
        assert len(faked.state_dict()) > len(before)
        assert dict(net.named_parameters()).keys() == dict(tiny_net().named_parameters()).keys()
    net.load_state_dict(before)
    assert net.eval()(x).equal(exact)
    assert not [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_an_error_leaves_the_weights_in_place():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with fake_quantize(net, skip=0):
        with pytest.raises(RuntimeError):
            net(torch.randn(1, 5, 8, 8))
        assert all(isinstance(layer.weight, nn.Parameter) for layer in net)


def test_claim_training_with_rounding_gives_back_what_rounding_takes():
    """A network that learnt 256 points by heart forgets most of them with 2-bit weights; trained with them, few."""
    torch.manual_seed(0)
    x, y = torch.randn(256, 8), torch.randint(0, 2, (256,))
    net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def train(lr, steps=300):
        optimizer = torch.optim.Adam(net.train().parameters(), lr)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()

    def wrong():
        return int((net.eval()(x).argmax(1) != y).sum())

    train(0.01)
    assert wrong() == 0
    with fake_quantize(net, bits=2, skip=0):
        net.train()(x)
        before = wrong()
        train(0.003)
        assert before > 20
        assert wrong() < before / 4


def test_its_weights_are_those_of_the_exported_file(tmp_path):
    """With BatchNorm folded by the exporter, the codes of every kernel are those that training saw."""
    net = tiny_net()
    file = export_onnx(net, tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
    prepared = prepare(file, tmp_path / "prepared.onnx")
    feeds = Feeds(name="images", rows=images(8), input=PREPROCESS)
    graph = load(write_candidate(prepared, tmp_path / "q.onnx", Recipe(), feeds, tmp_path)).graph
    held = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    made = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    modules = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == len(modules) == 3
    for node, module in zip(convolutions, modules, strict=True):
        codes = held[made[node.input[1]].input[0]]
        step = module.weight.detach().abs().flatten(1).amax(1).view(-1, 1, 1, 1) / 127
        ours = torch.round(fake_weight(module.weight.detach()) / step).numpy()
        assert np.abs(np.abs(codes.astype(int)) - np.abs(ours)).max() <= 1
        assert (np.abs(codes) == np.abs(ours)).mean() > 0.98
