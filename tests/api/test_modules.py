import copy

import numpy as np
import pytest
import torch
from torch import nn

import effxfer as ex
from effxfer.api.modules import is_module
from effxfer.errors import SettingsError
from effxfer.prune.graph.sizes import apply_sizes
from tests.deploy.int8.test_search import timings

INPUTS = torch.linspace(-1, 1, 64 * 8).sin().view(64, 8)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)).eval()


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@torch.inference_mode()
def difference(module, other):
    return float((module(INPUTS) - other(INPUTS)).square().mean())


def test_a_module_is_told_from_a_name():
    assert is_module(network())
    assert not is_module("timm:resnet18")


def test_prune_channels_changes_a_module_in_place_and_records_its_sizes():
    module = network()
    result = ex.prune_channels(module, example=INPUTS, ratio=0.5)
    assert result.module is module
    assert parameters(module) < parameters(network())
    other = network()
    apply_sizes(other, result.record)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(INPUTS), module(INPUTS))


def test_reconstruct_brings_outputs_closer_to_what_they_were():
    module, dense = network(), network()
    pruned = ex.prune_channels(module, example=INPUTS, ratio=0.25)
    before = difference(module, dense)
    solved = ex.reconstruct(pruned, dense=dense, batches=[INPUTS])
    assert solved.module is module
    assert difference(module, dense) < before


def test_find_ticket_takes_a_loop_of_the_callers():
    rounds = []

    def train(module, mask, number):
        rounds.append(number)
        return 1.0

    result = ex.find_ticket(network(), train=train, sparsity=0.5, rounds=2)
    assert rounds == [0, 1, 2]
    assert result.mask.sparsity == pytest.approx(0.5, abs=0.01)


def test_compact_removes_units_without_weights():
    module = network()
    with torch.no_grad():
        module[0].weight[:8] = 0
        module[0].bias[:8] = 0
    expected = copy.deepcopy(module)(INPUTS)
    result = ex.compact(module, example=INPUTS)
    assert module[0].out_features == 24
    assert torch.allclose(module(INPUTS), expected, atol=1e-5)
    assert "parameters" in str(result)


def test_prune_to_latency_takes_a_loss():
    with pytest.raises(SettingsError, match="latency_ratio"):
        ex.prune_to_latency(network(), example=INPUTS, loss=lambda module: 0.0)


def test_export_writes_one_checked_file(tmp_path):
    exported = ex.export(network(), out=tmp_path / "module.onnx", example=INPUTS)
    assert exported.path.is_file()
    assert exported["parity/example"].value < 1e-4
    assert str(exported).startswith(f"file: {exported.path}")


def test_quantize_writes_an_int8_file(tmp_path):
    labels = network()(INPUTS).argmax(1)
    arrays = {"calibration": INPUTS.numpy(), "inputs": INPUTS.numpy(), "labels": np.asarray(labels)}
    accepted = ex.quantize(
        network(),
        out=tmp_path / "int8.onnx",
        example=INPUTS,
        recipes=["u8s8"],
        max_drop=10,
        compare=timings(u8s8=0.5),
        **arrays,
    )
    assert accepted.path.is_file()
    assert accepted["accuracy/int8"].value >= 90
