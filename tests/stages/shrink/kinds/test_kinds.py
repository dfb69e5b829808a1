"""What every kind promises: a network within the latency that rebuilds from its record, or a reason."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from effxfer.net.compression.low_rank_layer import largest_rank
from effxfer.net.edits import apply_edit
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.saved_net import net_from_state, net_state
from effxfer.stages.runner.tasks import load_task
from effxfer.stages.settings.shrink_settings import Kind
from effxfer.stages.shrink.kinds import KINDS, NEED_TRAINED_HEAD
from effxfer.stages.shrink.kinds.kind import Refusal, Sized
from tests.stages.shrink.counted import bench, count_layers


@pytest.fixture(scope="module")
def task(data, dense, tmp_path_factory):
    return load_task(data, dense.net().input, RunContext(out=tmp_path_factory.mktemp("none") / "out"))


def test_the_settings_name_them_all():
    assert set(KINDS) == set(get_args(Kind))
    assert set(KINDS) >= NEED_TRAINED_HEAD


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"larger images"}))
def test_it_meets_the_latency_and_rebuilds(kind, dense, task, monkeypatch):
    count_layers(monkeypatch)
    net, limit = dense.net().eval(), 0.7
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    sized = KINDS[kind](net, bench(net, task, limit))
    assert isinstance(sized, Sized)
    assert limit / 4 < sized.timing.ratio <= limit * 1.1
    assert sized.detail
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items()), "it is a copy"
    rebuilt = net_from_state(net_state(sized.net.eval()))
    x = torch.from_numpy(sized.net.input.example(2, seed=0))
    with torch.inference_mode():
        assert torch.equal(rebuilt(x), sized.net(x))


@pytest.mark.parametrize("kind", ["exit", "images", "uniform channels", pytest.param("blocks", marks=pytest.mark.slow)])
def test_it_says_why_it_cannot(kind, dense, task):
    net = dense.net().eval()
    refused = KINDS[kind](net, bench(net, task, 1e-6))
    assert isinstance(refused, Refusal)
    assert "x remains at least" in refused.reason
    assert refused.nearest.ratio > 1e-6


def test_a_network_with_time_left_takes_larger_images(dense, task):
    net = dense.net().eval()
    larger = KINDS["larger images"](net, replace(bench(net, task, 0.5), limit=3.0))
    assert larger.net.input.size == 24
    assert 1.0 < larger.timing.ratio <= 3.0
    refused = KINDS["larger images"](net, replace(bench(net, task, 0.5), limit=1.01))
    assert isinstance(refused, Refusal)


@pytest.mark.parametrize(
    ("kind", "is_trained", "kept"), [("images", True, False), ("images", False, True), ("larger images", False, True)]
)
def test_statistics_of_images_of_another_side_are_new_where_the_body_knows_the_task(
    kind, is_trained, kept, dense, task
):
    net = dense.net().eval()
    each = replace(bench(net, task, 0.7), limit=3.0 if kind == "larger images" else 0.7, is_trained=is_trained)
    before, after = net.state_dict(), KINDS[kind](net, each).net.state_dict()
    means = [name for name in before if name.endswith("running_mean")]
    assert all(torch.equal(before[name], after[name]) for name in means) == kept


def test_excluded_and_masked_layers_keep_their_rank(dense, task, monkeypatch):
    count_layers(monkeypatch)
    net = dense.net().eval()
    ranks = {name: largest_rank(module) for name, module in net.named_modules()}
    excluded, masked, *_ = sorted(ranks, key=ranks.get, reverse=True)
    apply_edit(net, "sparsify", weights=[f"{masked}.weight"])
    sized = KINDS["low rank"](net, bench(net, task, 0.75, exclude=[excluded]))
    (edit,) = [edit for edit in sized.net.edits if edit["kind"] == "factorize"]
    assert edit["ranks"]
    assert not {excluded, masked} & set(edit["ranks"])
    assert all(rank % 8 == 0 for rank in edit["ranks"].values())
    shapes = {name: tuple(tensor.shape) for name, tensor in sized.net.state_dict().items()}
    assert sum(f"{name}.second.weight" in shapes for name in edit["ranks"]) == len(edit["ranks"])


def test_a_network_without_large_layers_has_no_candidate_of_low_rank(dense, task, monkeypatch):
    count_layers(monkeypatch)
    net = dense.net().eval()
    refused = KINDS["low rank"](net, bench(net, task, 0.7, exclude=["body.*"]))
    assert refused == Refusal(reason="no layer is cheaper as two")
