import torch

from effxfer.transfer.fine_tuning.full import Full
from tests.transfer.tasks import accuracy, adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


def test_moves_every_weight():
    _, before, after, _ = adapt(Full(**PLAIN), task(), epochs=1)
    assert all(not torch.equal(before[name], after[name]) for name in before if "num_batches" not in name)


def test_learns_what_a_fresh_head_on_random_features_does_not_know():
    """The claim, against the null setting: no epochs."""
    given = task()
    trained, _, _, rows = adapt(Full(**PLAIN), given, epochs=8)
    null, before, after, none = adapt(Full(**PLAIN), given, epochs=0)
    assert accuracy(trained, given) >= 90 > accuracy(null, given) + 20
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert none == []
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_smoothed_labels_leave_doubt():
    given = task()
    sure, _, _, _ = adapt(Full(**PLAIN), given, epochs=8)
    unsure, _, _, _ = adapt(Full(**PLAIN, label_smoothing=0.4), given, epochs=8)
    images = torch.from_numpy(given.test.rows).permute(0, 3, 1, 2) / 63.75 - 2
    with torch.inference_mode():
        most = [net(images).softmax(1).amax(1).mean() for net in (sure, unsure)]
    assert most[1] < most[0]
