"""A small network whose weights are found again in files."""

import pytest
import torch

from tests.net.nets import Flat


@pytest.fixture
def trained():
    torch.manual_seed(1)
    net = Flat(5)
    net.norm.running_mean.uniform_(-1, 1)
    return net
