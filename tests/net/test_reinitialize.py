import pytest
import torch
from torch import nn

from effxfer.errors import SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.reinitialize import initial_weights
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.weights.mask import Mask
from tests.prune.nets import make, without_smallest


def test_depends_on_the_seed_alone_and_leaves_the_rest_of_the_world_as_it_is():
    net = make()
    before, state = {n: t.clone() for n, t in net.state_dict().items()}, torch.get_rng_state()
    one, again, other = (initial_weights(net, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, net.state_dict()[n]) for n, t in before.items())
    assert all(torch.equal(t, again[n]) for n, t in one.items())
    kernel = "body.conv2.weight"
    assert not torch.equal(one[kernel], other[kernel])
    assert not torch.equal(one[kernel], net.state_dict()[kernel])


def test_has_everything_but_masks():
    net = make()
    plain = set(net.state_dict())
    without_smallest(net, Mask.full(net), sparsity=0.5).store_(net)
    assert set(initial_weights(net, 0)) == plain


def test_layers_that_lost_channels_are_drawn_too():
    net = make()
    remove_channels(net, ratio=0.5)
    fresh = initial_weights(net, 0)
    assert {n: t.shape for n, t in fresh.items()} == {n: t.shape for n, t in net.state_dict().items()}
    assert fresh["body.conv2.weight"].std() > 0.01
    assert torch.equal(fresh["body.bn2.weight"], torch.ones_like(fresh["body.bn2.weight"]))
    assert torch.equal(fresh["body.bn2.running_var"], torch.ones_like(fresh["body.bn2.running_var"]))
    net.load_state_dict(fresh)


class Scaled(nn.Module):
    """Holds a parameter of its own, which nothing can draw anew."""

    default_cfg = {"input_size": (3, 8, 8)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x.mean((2, 3)) * self.scale[:3].mean()


def test_what_cannot_be_drawn_is_named():
    net = make("tests.net.test_reinitialize:Scaled")
    initial_weights(net, 0)
    apply_edit(net, "resize", shapes={"body.scale": [3]}, sizes={})
    with pytest.raises(SettingsError, match=r"body\.scale lost channels"):
        initial_weights(net, 0)
