"""The examples run as they are, on data that comes with scikit-learn."""

import runpy
from pathlib import Path

import pytest
import torch

from effxfer.deploy.export.logits import onnx_outputs
from effxfer.prune.channels.layer_prices import MultiplyAdds
from effxfer.prune.channels.to_latency import modelled_ms

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def load(name):
    return runpy.run_path(str(EXAMPLES[0].parent / f"{name}.py"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_fits_a_screen_and_says_how_long_it_takes(file):
    text = file.read_text()
    assert 30 <= len(text.splitlines()) <= 60
    assert f"`python examples/{file.name}` takes about" in text


def test_an_own_module_is_pruned_trained_on_exported_and_built_again(tmp_path):
    found = load("prune_own_module")["main"](tmp_path)
    assert found["macs"] <= 0.25
    assert found["after"] > 0.85
    assert found["rebuilt"] == found["after"]
    assert onnx_outputs(tmp_path / "small.onnx", torch.rand(3, 1, 8, 8).numpy()).shape == (3, 10)


def test_a_sparse_ticket_is_found_with_an_own_loop():
    ticket = load("find_sparse_ticket")["main"]()
    assert ticket.number == 4
    assert ticket.mask.sparsity == pytest.approx(0.9, abs=0.001)
    assert "4.weight" not in ticket.mask.keep
    assert ticket.rounds[-1].score >= ticket.rounds[0].score - 0.03


def test_a_network_of_torchvision_meets_a_latency(tmp_path):
    prices = MultiplyAdds()

    def clock(net):
        return 2 * modelled_ms(net, torch.zeros(1, 3, 64, 64), prices.ms)

    result = load("latency_budget")["main"](tmp_path, clock=clock, prices=prices)
    assert result.report["latency/measured"].value == pytest.approx(0.5, rel=0.1)
    assert onnx_outputs(tmp_path / "fast.onnx", torch.rand(2, 3, 64, 64).numpy()).shape == (2, 10)
