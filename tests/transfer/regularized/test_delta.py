import pytest
import torch

from effxfer.net.edits import apply_edit
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.regularized.delta import Delta, by_channel, channel_weights, distance, softmax_weights
from tests.transfer.tasks import adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


def test_the_features_end_nearer_to_what_they_were(pretrained):
    """The claim, against the null setting; which is plain fine-tuning bit for bit."""
    given = task(seed=1)
    images = torch.from_numpy(given.test.rows).permute(0, 3, 1, 2) / 63.75 - 2
    with torch.inference_mode():
        then = pretrained().eval().body(images)
    plain, _, weights, _ = adapt(Full(**PLAIN), given, net=pretrained(), epochs=2)
    _, _, null, _ = adapt(Delta(**PLAIN, alpha=0.0), given, net=pretrained(), epochs=2)
    assert all(torch.equal(weights[name], null[name]) for name in weights)
    kept, *_, rows = adapt(Delta(**PLAIN, alpha=10.0), given, net=pretrained(), epochs=2)
    with torch.inference_mode():
        far = [float((net.body(images) - then).square().sum()) for net in (kept, plain)]
    assert far[0] < 0.7 * far[1]
    assert rows[0]["distance"] > 0


def test_the_distance_by_hand():
    then = torch.tensor([[[[1.0, 1.0]], [[2.0, 0.0]]]])
    now = torch.tensor([[[[1.0, 3.0]], [[2.0, 1.0]]]])
    assert distance(then, then, torch.ones(2)).item() == 0
    assert distance(now, then, torch.ones(2)).item() == pytest.approx((4 + 1) / 6)
    assert distance(now, then, torch.tensor([0.5, 1.5])).item() == pytest.approx((2 + 1.5) / 6)
    assert distance(now, then, torch.ones(())).item() == pytest.approx(5 / 6)


@pytest.mark.parametrize(("shape", "wanted"), [((2, 3, 4, 5), (2, 3, 20)), ((2, 7, 3), (2, 3, 7)), ((2, 3), (2, 3, 1))])
def test_channels_of_maps_tokens_and_features(shape, wanted):
    assert by_channel(torch.zeros(shape)).shape == wanted


def test_channels_are_weighed_stage_by_stage(pretrained):
    given, net = task(), pretrained()
    apply_edit(net, "set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    weights = channel_weights(net, given, ("stage2", "out"))
    assert {name: len(weight) for name, weight in weights.items()} == {"stage2": 8, "out": 16}
    assert all(weight.mean().item() == pytest.approx(1, rel=1e-4) for weight in weights.values())
    assert softmax_weights(torch.tensor([0.0, 0.0, 1.0])).argmax() == 2
