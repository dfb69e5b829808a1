"""A body that knows stripes, for the strategies that are about what was learnt before."""

import pytest

from effxfer.train.state import clone
from effxfer.transfer.fine_tuning.full import Full
from tests.transfer.tasks import adapt, body, task


@pytest.fixture(scope="session")
def known():
    net, *_ = adapt(Full(batch=12, augment={"crop": "none", "flip": False}), task(), epochs=4)
    return clone(net.body)


@pytest.fixture
def pretrained(known):
    """Makes networks of that body, without a head."""

    def make():
        net = body()
        net.body.load_state_dict(known)
        return net

    return make
