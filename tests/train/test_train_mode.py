from effxfer.train.train_mode import train_mode
from tests.train.test_fit import make


def test_training_mode_spares_frozen_modules():
    net = make()
    net[1].requires_grad_(False)
    train_mode(net)
    assert net.training
    assert net[3].training
    assert not net[1].training
