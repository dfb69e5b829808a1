"""Every method takes anybody's module: no `Net`, no command line, no stage."""

import json
from copy import deepcopy

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.layers import trace
from effxfer.prune.channels.channel_lottery import find_structured_ticket
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.compact.compact import compact
from effxfer.prune.graph.sizes import apply_sizes
from effxfer.prune.network import example_of
from effxfer.prune.recovery.reconstruct import reconstruct_
from effxfer.prune.weights.lottery import find_ticket, report
from effxfer.prune.weights.mask import Mask

EXAMPLE = torch.zeros(4, 1, 8, 8)


class Digits(nn.Module):
    """Somebody's own classifier: a submodule called `body`, one input channel, its own head."""

    def __init__(self, width=12):
        super().__init__()
        self.width = width
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.hidden = nn.Linear(width, 24)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.body(x)
        return self.fc(self.hidden(x.mean((2, 3)).view(-1, self.width)).relu())


def digits(seed=0, width=12):
    torch.manual_seed(seed)
    return Digits(width).eval()


def images(n=16):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def rebuilt(net, record, new):
    """What somebody does who has the class, the record as a JSON file and the weights."""
    apply_sizes(new, json.loads(json.dumps(record)))
    new.load_state_dict(net.state_dict())
    return new.eval()


@settings(max_examples=12, deadline=None)
@given(st.floats(0.1, 0.8), st.sampled_from(["layer", "global"]), st.integers(1, 3), st.sampled_from([1, 2]))
def test_a_record_rebuilds_the_pruned_module(ratio, scope, steps, round_to):
    net = digits()
    result = remove_channels(net, example=EXAMPLE, ratio=ratio, scope=scope, steps=steps, round_to=round_to)
    assert net(images()).shape == (16, 10)
    assert torch.equal(rebuilt(net, result.record, Digits())(images()), net(images()))


def test_names_are_the_modules_own_and_outputs_for_the_caller_stay():
    net = digits()
    result = remove_channels(net, example=EXAMPLE, ratio=0.5)
    assert net.fc.out_features == 10
    assert net.width == net.stem.out_channels == net.body[0].out_channels == 6
    assert "fc" in result.kept_reasons
    assert {line["layer"] for line in result.report.tables[0].rows} == {"stem", "body.0", "hidden", "fc"}
    assert result.kept_outputs.keys() == {"stem", "body.0", "hidden"}
    assert result.report["parameters/ratio"].value < 0.5


def test_kept_outputs_name_the_same_channels_after_several_steps():
    dense, net = digits(), digits()
    result = remove_channels(net, example=EXAMPLE, ratio=0.6, steps=3)
    rows = result.kept_outputs["hidden"]
    assert torch.equal(net.hidden.bias, dense.hidden.bias[rows])


def test_an_optimizer_made_afterwards_trains_it_and_frozen_weights_stay_frozen():
    net = digits().train()
    net.stem.requires_grad_(False)
    remove_channels(net, example=EXAMPLE, ratio=0.5)
    assert net.training
    assert {n for n, p in net.named_parameters() if not p.requires_grad} == {"stem.weight", "stem.bias"}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    F.cross_entropy(net(images()), torch.arange(16) % 10).backward()
    before = net.fc.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(net.fc.weight, before)


def test_a_network_of_torchvision_is_pruned():
    net = torchvision.models.resnet18(weights=None, num_classes=4).eval()
    example = torch.rand(2, 3, 32, 32)
    result = remove_channels(net, example=example, ratio=0.5, round_to=8)
    assert result.report["macs/ratio"].value < 0.35
    new = rebuilt(net, result.record, torchvision.models.resnet18(weights=None, num_classes=4))
    assert torch.equal(new(example), net(example))


def test_a_module_without_an_example_is_refused():
    with pytest.raises(SettingsError, match="does not say what its input looks like"):
        remove_channels(digits(), ratio=0.5)


class Counting(Digits):
    """Computes something else with another number of channels."""

    def forward(self, x):
        return super().forward(x) * (1 if self.stem.out_channels == 12 else 2)


def test_layers_without_which_a_module_computes_something_else_are_kept():
    torch.manual_seed(0)
    net = Counting()
    result = remove_channels(net, example=EXAMPLE, ratio=0.5)
    assert result.kept_reasons["stem"] == "the network computes something else"
    assert (net.stem.out_channels, net.hidden.out_features) == (12, 12)


def test_where_pruning_fails_the_module_is_unchanged():
    net = digits()
    before = deepcopy(net.state_dict())
    with pytest.raises(SettingsError, match="cannot be reached"):
        remove_channels(net, example=EXAMPLE, macs_ratio=0.001)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_record_of_another_class_is_refused_in_words():
    record = remove_channels(digits(), example=EXAMPLE, ratio=0.5).record
    with pytest.raises(ModelFileError, match="does not fit this Linear"):
        apply_sizes(nn.Linear(3, 3), record)
    with pytest.raises(ModelFileError, match="cannot hold 'set_head'"):
        apply_sizes(digits(), [{"kind": "set_head"}])


def test_examples_of_whole_numbers_are_taken_as_they_are():
    tokens = torch.tensor([[3, 1, 2], [0, 0, 0]])
    assert example_of(nn.Embedding(5, 2), tokens).tolist() == [[3, 1, 2]]
    drawn = example_of(digits(), EXAMPLE.double())
    assert drawn.shape == (1, 1, 8, 8)
    assert drawn.dtype == torch.double
    assert drawn.std() > 0.1


def train(net, mask, _number, steps=5):
    """Somebody's own loop."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(images()), torch.arange(16) % 10).backward()
        optimizer.step()
        mask.apply_(net)
    return float((net(images()).argmax(1) == torch.arange(16) % 10).float().mean())


def test_a_ticket_of_a_module_adds_nothing_to_its_state():
    net = digits()
    names = list(net.state_dict())
    ticket = find_ticket(net, train, sparsity=0.75, rounds=2, exclude=["fc"])
    assert list(net.state_dict()) == names
    assert "fc.weight" not in ticket.mask.keep
    assert ticket.mask.sparsity == pytest.approx(0.75, abs=0.001)
    ticket.mask.check_zero(net)
    assert [r.remaining for r in ticket.rounds] == pytest.approx([1, 0.5, 0.25], abs=0.001)
    assert report(net, ticket)["sparsity/prunable"].value == pytest.approx(75, abs=0.1)


def test_rounds_rewind_to_the_weights_that_were_passed():
    net, starts = digits(), []

    def watch(net, mask, number):
        starts.append((net.stem.weight.detach().clone(), mask.keep["stem.weight"]))
        return train(net, mask, number)

    first = net.stem.weight.detach().clone()
    find_ticket(net, watch, sparsity=0.5, rounds=2)
    assert all(torch.equal(weight, first * keep) for weight, keep in starts)


def test_a_training_that_lets_weights_grow_back_is_told_what_to_call():
    def careless(net, _mask, _number):
        with torch.no_grad():
            net.stem.weight.add_(1)
        return 0.0

    with pytest.raises(Exception, match="revived") as caught:
        find_ticket(digits(), careless, sparsity=0.5, rounds=1, scope="layer")
    assert "mask.apply_" in caught.value.hint


def test_a_ticket_of_channels_becomes_smaller_layers():
    net = digits()
    ticket = find_structured_ticket(net, train, example=EXAMPLE, ratio=0.5, rounds=2)
    expected = net.eval()(images())
    result = compact(net, example=EXAMPLE)
    assert ticket.mask.sparsity > 0
    assert net.hidden.out_features < 24
    assert torch.allclose(net(images()), expected, atol=1e-5)
    assert torch.equal(rebuilt(net, result.record, Digits())(images()), net(images()))


def test_compaction_of_dead_channels_with_a_constant_is_recorded_with_its_new_bias():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3, bias=False)

        def forward(self, x):
            return self.last(self.first(x).relu())

    torch.manual_seed(0)
    net = Plain().eval()
    with torch.no_grad():
        net.first.weight[:2] = 0
        net.first.bias[:2] = 0.5
    expected = net(images())
    result = compact(net, example=EXAMPLE)
    assert [edit["kind"] for edit in result.record] == ["add_bias", "resize"]
    assert net.first.out_channels == 4
    assert torch.allclose(net(images()), expected, atol=1e-5)
    assert torch.equal(rebuilt(net, result.record, Plain())(images()), net(images()))


def test_weights_of_a_pruned_module_are_solved_for_the_outputs_that_it_had():
    dense = digits()
    net = deepcopy(dense)
    result = remove_channels(net, example=EXAMPLE, ratio=0.5)

    @torch.no_grad()
    def error():
        return float((net(images(64)) - dense(images(64))).square().mean())

    before = error()
    table = reconstruct_(net, dense, lambda: images(64).split(32), result.kept_outputs).tables[0]
    assert any(not row["left alone"] for row in table.rows)
    assert error() < before


def test_layers_are_traced_for_any_example():
    assert [layer.name for layer in trace(digits(), EXAMPLE)] == ["stem", "body.0", "hidden", "fc"]


def test_a_full_mask_of_a_module_covers_all_of_its_layers():
    assert Mask.full(digits()).keep.keys() == {"stem.weight", "body.0.weight", "hidden.weight", "fc.weight"}
