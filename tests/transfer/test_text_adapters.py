"""Every adapter fits a text encoder, and leaves the answers of a text independent of its batch."""

import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.net.edits import rebuild
from effxfer.train.optim.param_groups import blocks_of
from effxfer.transfer.fine_tuning.freeze import Freeze
from effxfer.transfer.strategies import STRATEGIES
from tests.net.text.nets import VARIANTS, text_net, texts

ADAPTERS = {
    "bitfit": {},
    "houlsby": {},
    "ia3": {},
    "lora": {},
    "parallel_adapter": {},
    "prompts": {"tokens": 3},
    "ssf": {},
}
MERGED = ("ia3", "lora", "ssf")


@pytest.mark.parametrize("variant", ["bert", "electra", "pre-norm"])
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_train_merge_and_know_padding(name, variant):
    net, ids = text_net(variant), texts()
    strategy = STRATEGIES[name](**ADAPTERS[name])
    strategy.prepare(net, [])
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    net.body(ids)[ids != 0].square().sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in trained)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1 * torch.randn_like(parameter))
        tokens, alone = net.body(ids), net.body(ids[3][ids[3] != 0][None])
        assert torch.allclose(alone[0], tokens[3][ids[3] != 0], rtol=0, atol=1e-5)
        strategy.finish(net, [])
        assert torch.allclose(net.body(ids)[ids != 0], tokens[ids != 0], rtol=0, atol=1e-5)
    assert [edit["kind"] for edit in net.edits] == ([] if name in (*MERGED, "bitfit") else [name])


def test_prompts_that_go_through_all_blocks_know_padding():
    net, ids = text_net(), texts()
    STRATEGIES["prompts"](tokens=3, deep=False).prepare(net, [])
    with torch.no_grad():
        tokens, alone = net.body(ids), net.body(ids[3][ids[3] != 0][None])
    assert tokens.shape[1] == ids.shape[1]
    assert torch.allclose(alone[0], tokens[3][ids[3] != 0], rtol=0, atol=1e-5)


def test_prompts_have_no_distance_to_tokens_so_relative_positions_are_refused():
    with pytest.raises(SettingsError, match="prompts need attention over all tokens"):
        STRATEGIES["prompts"](tokens=3).prepare(text_net("mpnet"), [])


@pytest.mark.parametrize("name", ["houlsby", "lora"])
def test_an_adapted_text_encoder_is_rebuilt(name):
    net, ids = text_net(), texts()
    STRATEGIES[name](**ADAPTERS[name], **({"merge": False} if name == "lora" else {})).prepare(net, [])
    again = rebuild(net.backbone, net.edits, net.input)
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval().body(ids), net.body(ids))


@pytest.mark.parametrize("variant", VARIANTS)
def test_layer_decay_and_freezing_know_the_blocks_from_bottom_to_top(variant):
    net = text_net(variant)
    blocks = blocks_of(name for name, _ in net.named_parameters())
    assert [block for block in blocks if block != "relative"][:4] == ["embeddings", "blocks.0", "blocks.1", "blocks.2"]
    Freeze(until="blocks.0").prepare(net, [])
    trained = {name.split(".")[2] for name, p in net.body.named_parameters(prefix="body") if p.requires_grad}
    assert trained - {"weight", "bias"} == {"1", "2"}
