import pytest
import torch
from torch import nn

from effxfer.net.hooks import as_evaluated, hooks


def test_each_submodule_gets_its_own_mode_back_whatever_happens():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    net[0].eval()
    with pytest.raises(KeyError), as_evaluated(net):
        assert not any(module.training for module in net.modules())
        raise KeyError
    assert [module.training for module in net.modules()] == [True, False, True]


def test_hooks_leave_whatever_happens():
    net, seen = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), []
    note = lambda module, _inputs, _output: seen.append(type(module).__name__)  # noqa: E731
    with pytest.raises(KeyError), hooks(module.register_forward_hook(note) for module in net):
        net(torch.zeros(1, 2))
        raise KeyError
    net(torch.zeros(1, 2))
    assert seen == ["Linear", "ReLU"]
