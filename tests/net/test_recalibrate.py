import pytest
import torch

from effxfer.errors import DataError
from effxfer.net.recalibrate import recalibrate_
from effxfer.prune.channels.remove import remove_channels
from effxfer.train.state import clone
from tests.prune.nets import accuracy, learn, make, stripes


def test_statistics_are_plain_averages_over_batches():
    net, batches = make(), stripes(96)[0].split(32)
    with torch.no_grad():
        seen = [net.body.conv1(b) for b in batches]
    assert recalibrate_(net, batches) == 96
    means = torch.stack([s.mean((0, 2, 3)) for s in seen]).mean(0)
    variances = torch.stack([s.var((0, 2, 3)) for s in seen]).mean(0)
    torch.testing.assert_close(net.body.bn1.running_mean, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.body.bn1.running_var, variances, rtol=1e-4, atol=1e-5)


def test_only_statistics_change():
    net = make()
    before = clone(net)
    recalibrate_(net, stripes(64)[0].split(32))
    changed = {n.rpartition(".")[2] for n, t in net.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_momentum_come_back(training):
    net = make().train(training)
    net.body.bn1.eval()
    recalibrate_(net, stripes(64)[0].split(32))
    assert (net.training, net.body.bn1.training, net.body.bn2.training) == (training, False, training)
    assert net.body.bn1.momentum == 0.1


def test_the_heads_stored_statistics_stay():
    net = make(spec={"kind": "linear", "standardize": True})
    before = net.head.standardize.running_mean.clone()
    recalibrate_(net, stripes(64)[0].split(32))
    assert torch.equal(net.head.standardize.running_mean, before)


def test_without_batchnorm_nothing_happens():
    assert recalibrate_(make("tests.prune.nets:Shifted"), stripes(64)[0].split(32)) == 0


@pytest.mark.parametrize("batches", [[], [torch.zeros(1, 3, 8, 8)]])
def test_too_few_images_are_refused(batches):
    with pytest.raises(DataError, match="images"):
        recalibrate_(make(), batches)


def test_recalibrating_an_unpruned_network_is_nearly_neutral():
    images, labels = stripes(512)
    net = make()
    learn(net, images, labels)
    before = accuracy(net, images, labels)
    recalibrate_(net, images.split(64))
    assert abs(accuracy(net, images, labels) - before) < 3


def test_recalibration_restores_what_channel_removal_cost():
    """Six seeds measured: at ratio 0.7, 54 % before and 95 % after; at 0.5 nothing is lost, so nothing comes back."""
    images, labels = stripes(512)
    held, held_labels = stripes(512, seed=1)
    gained = []
    for seed in range(3):
        torch.manual_seed(seed)
        net = make(args={"width": 16})
        learn(net, images, labels, seed=seed)
        remove_channels(net, ratio=0.7)
        before = accuracy(net, held, held_labels)
        recalibrate_(net, images.split(64))
        gained.append(accuracy(net, held, held_labels) - before)
    assert min(gained) >= 0, gained
    assert sum(gained) / len(gained) > 10, gained
