"""What strategies that adapt a frozen body promise, beside the contracts that every strategy keeps."""

import pytest
import torch
from torch import nn

from effxfer.errors import SettingsError
from effxfer.net.merge import adapter_parameters, adapters
from effxfer.net.net import Net
from effxfer.transfer import STRATEGIES
from effxfer.transfer.adapters.attach import match_names
from tests.transfer.tasks import PREPROCESS, accuracy, adapt, body, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}
VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
NULL = {"houlsby": {"rank": 0}, "lora": {"rank": 0}, "parallel_adapter": {"rank": 0}, "prompts": {"tokens": 0}}
ZERO = ("bitfit", "houlsby", "ia3", "lora", "parallel_adapter", "ssf")


def vit():
    torch.manual_seed(0)
    return Net({"source": "timm:vit_tiny_patch16_224", "args": VIT}, PREPROCESS)


def dim():
    """A body of 16 channels whose stem lets little through, so that fixed features hardly know orientation."""
    torch.manual_seed(0)
    net = Net({"source": "effxfer.net.cifar:resnet20", "args": {"width": 16}}, PREPROCESS)
    nn.init.uniform_(net.body.stem[1].weight, 0.2, 1.0)
    nn.init.uniform_(net.body.stem[1].bias, -0.5, 0.2)
    return net


@pytest.mark.parametrize("make", [body, vit])
@pytest.mark.parametrize("name", ZERO)
def test_before_training_the_network_is_the_base(make, name):
    net = make().eval()
    with torch.no_grad():
        before = net(IMAGES)
        STRATEGIES[name]().prepare(net, [])
        assert torch.equal(net.eval()(IMAGES), before)
        trained = [p for p in net.body.parameters() if p.requires_grad]
        assert 0 < sum(p.numel() for p in trained) < sum(p.numel() for p in net.body.parameters()) / 2
    STRATEGIES[name]().finish(net, [])
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", sorted(NULL))
def test_nothing_to_put_on_trains_the_head_alone(name):
    net = vit()
    STRATEGIES[name](**NULL[name]).prepare(net, [])
    assert (net.edits, adapter_parameters(net)) == ([], [])
    assert not any(p.requires_grad for p in net.body.parameters())


@pytest.mark.parametrize("name", ["lora", "ssf", "bitfit"])
def test_what_is_frozen_stays_bit_for_bit_with_its_statistics(name):
    options = {"merge": False} if name != "bitfit" else {}
    net, before, after, _ = adapt(STRATEGIES[name](**PLAIN, **options), task(), epochs=1)
    moved = {n for n in before if n.startswith("body.") and n in after and not torch.equal(before[n], after[n])}
    assert moved == (
        {n for n in before if n.startswith("body.") and n.endswith(".bias")} if name == "bitfit" else set()
    )
    assert net.body.stem[1].num_batches_tracked == 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("lora", {"rank": 1, "merge": False}), ("houlsby", {"rank": 4})])
def test_it_learns_what_fixed_features_do_not_tell(name, options):
    """The claim, against the null setting, rank 0: with at most 4 % of the parameters, features change as they must."""
    given, told = task(), {"epochs": 8, "lr": 0.02}
    null, *_ = adapt(STRATEGIES[name](**PLAIN, rank=0), given, net=dim(), **told)
    net, *_ = adapt(STRATEGIES[name](**PLAIN, **options), given, net=dim(), **told)
    assert accuracy(net, given) >= accuracy(null, given) + 15
    trained = sum(p.numel() for p in (*adapter_parameters(net), *net.head.parameters()))
    assert trained <= 0.04 * sum(p.numel() for p in net.parameters())


def test_depthwise_convolutions_are_left_out_unless_named():
    torch.manual_seed(0)
    net = Net({"source": "timm:mobilenetv2_035", "args": {}}, PREPROCESS)
    chosen = STRATEGIES["lora"](rank=1).weights(net)
    assert chosen
    assert not any(net.raw_weight(name).shape[1] == 1 for name in chosen)
    named = STRATEGIES["lora"](rank=1, layers=("*.conv_dw",)).weights(net)
    assert named
    assert all(net.raw_weight(name).shape[1] == 1 for name in named)


def test_places_and_patterns():
    for name, where in (("houlsby", ["attn", "mlp"]), ("parallel_adapter", ["mlp"])):
        net = vit()
        STRATEGIES[name]().prepare(net, [])
        (edit,) = adapters(net)
        assert list(edit["sites"]) == [f"body.blocks.{i}.{part}" for i in range(2) for part in where]
    with pytest.raises(SettingsError, match="no layer is named like 'nowhere'"):
        match_names(["body.a"], ["nowhere"], "layer")
    assert match_names(["body.a.b", "body.c"], ["a.*"], "layer") == ["body.a.b"]


@pytest.mark.parametrize("deep", [True, False])
def test_prompts_change_what_attention_sees_and_leave_as_many_tokens(deep):
    net = vit().eval()
    with torch.no_grad():
        before = net.body.forward_features(IMAGES)
        STRATEGIES["prompts"](tokens=3, deep=deep).prepare(net, [])
        after = net.eval().body.forward_features(IMAGES)
    assert after.shape == before.shape
    assert not torch.allclose(after, before)
    assert sum(p.numel() for p in adapter_parameters(net)) == 3 * 24 * (2 if deep else 1)


def test_prompts_are_refused_where_nothing_attends():
    with pytest.raises(SettingsError, match="prompts need a transformer"):
        STRATEGIES["prompts"]().prepare(body(), [])
