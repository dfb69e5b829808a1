import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from effxfer.errors import SettingsError
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.regularized.bi_tuning import BiTuning, among_classes, among_images
from effxfer.transfer.regularized.reference_model import capture_head_inputs
from tests.transfer.tasks import adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


@given(st.integers(2, 8), st.integers(1, 4), st.integers(0, 999))
@settings(deadline=None)
def test_images_pick_their_like_as_the_definition_says(count, classes, seed):
    rng = torch.Generator().manual_seed(seed)
    unit = F.normalize(torch.randn(count, 5, generator=rng), dim=1)
    labels = torch.randint(classes, (count,), generator=rng)
    rows = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        like = [j for j in others if labels[j] == labels[i]]
        whole = torch.stack([unit[i] @ unit[j] / 0.5 for j in others]).logsumexp(0)
        rows += [sum(whole - unit[i] @ unit[j] / 0.5 for j in like) / len(like)] if like else []
    expected = torch.stack(rows).mean() if rows else torch.zeros(())
    torch.testing.assert_close(among_images(unit, labels, 0.5), expected)


def test_classes_pick_their_images():
    labels = torch.tensor([0, 1, 1])
    sure = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 9.0, 0.0]])
    assert among_classes(sure, labels) < among_classes(torch.zeros(3, 3), labels)
    expected = (torch.tensor(3.0).log() + torch.tensor(3.0).log()) / 2
    torch.testing.assert_close(among_classes(torch.zeros(3, 3), labels), expected)


def test_a_batch_without_two_of_a_class_has_a_finite_slope():
    unit = F.normalize(torch.randn(3, 4), dim=1).requires_grad_(True)
    among_images(unit, torch.tensor([0, 1, 2]), 0.07).backward()
    assert unit.grad is not None
    assert unit.grad.isfinite().all()


def test_images_of_a_class_lie_closer_together():
    """The claim, against the null setting; whose classes are learnt as plain fine-tuning learns them."""
    given = task()
    labels = torch.from_numpy(given.test.labels)
    images = torch.from_numpy(given.test.rows).permute(0, 3, 1, 2) / 63.75 - 2
    _, _, weights, _ = adapt(Full(**PLAIN), given)
    plain, _, null, _ = adapt(BiTuning(**PLAIN, weight=0.0), given)
    assert all(torch.allclose(weights[name], null[name], atol=1e-5) for name in weights), "but for rounding"
    drawn, *_ = adapt(BiTuning(**PLAIN), given)

    def closeness(net):
        with torch.inference_mode(), capture_head_inputs(net) as seen:
            net(images)
        unit = F.normalize(seen[0] - seen[0].mean(0), dim=1)
        likeness = unit @ unit.mT
        alike = labels[:, None] == labels[None]
        return float(likeness[alike].mean() - likeness[~alike].mean())

    assert 2 - closeness(drawn) < 0.5 * (2 - closeness(plain)), "2 is the most there can be of two classes"


def test_mixed_images_are_refused():
    strategy = BiTuning(augment={"mixup": 0.2})
    with pytest.raises(SettingsError, match="one class"):
        adapt(strategy, task())
