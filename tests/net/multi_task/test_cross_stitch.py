"""Copies of a body that are mixed: separate networks at the identity, what is refused, and where mixing pays."""

import pytest
import torch
from torch import nn

from effxfer.errors import SettingsError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.multi_task.cross_stitch import StitchUnit, stitched_stages
from effxfer.net.net import Net
from tests.net.nets import SMALL, WIDE


def tiny_net():
    torch.manual_seed(0)
    return Net(WIDE, SMALL)


def stitch(net, start=0.9, tasks=2):
    apply_edit(net, "cross_stitch", tasks=tasks, stages=stitched_stages(net), start=start)
    return net


def test_at_the_identity_it_is_a_network_for_each_task_to_the_bit():
    net, x = tiny_net().eval(), torch.rand(3, 3, 16, 16)
    alone = net.body(x)
    both = stitch(net, start=1.0).eval().body(x)
    assert torch.equal(both, torch.cat([alone, alone], 1))


def test_a_unit_mixes_maps_by_its_rows():
    unit, xs = StitchUnit(3, 0.8), [torch.randn(2, 4, 3, 3) for _ in range(3)]
    torch.testing.assert_close(unit(xs)[1], 0.1 * xs[0] + 0.8 * xs[1] + 0.1 * xs[2])


def test_it_is_rebuilt_from_its_edits():
    net, x = stitch(tiny_net()).eval(), torch.rand(3, 3, 16, 16)
    again = rebuild(net.backbone, net.edits, net.input)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval().body(x), net.body(x))
    with pytest.raises(SettingsError, match="it has 2 copies already"):
        apply_edit(net, "cross_stitch", tasks=2, stages=["parts.1"], start=0.9)


def test_grey_images_reach_every_copy():
    net, x = tiny_net(), torch.rand(2, 3, 16, 16)
    apply_edit(net, "grey")
    net.body.stem[0] = nn.Conv2d(1, 8, 3, padding=1)
    alone = net.eval().body(x)
    assert torch.equal(stitch(net, start=1.0).eval().body(x), torch.cat([alone, alone], 1))


class Branches(nn.Module):
    """Two stages, the second of which reads more than what the first gives."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Conv2d(3, 4, 3, stride=2)
        self.stage2 = nn.Conv2d(4, 4, 3, stride=2)

    def forward(self, x):
        return self.stage2(self.stage1(x)) + x.mean()


def test_a_body_that_is_no_chain_and_a_ticket_are_refused_by_name():
    net = tiny_net()
    net.body = Branches()
    with pytest.raises(SettingsError, match="its layers are no chain"):
        apply_edit(net, "cross_stitch", tasks=2, stages=["stage1", "stage2"], start=0.9)
    ticket = tiny_net()
    apply_edit(ticket, "sparsify", weights=["body.stem.0.weight"])
    with pytest.raises(SettingsError, match="it is a ticket"):
        stitch(ticket)
