import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from effxfer.transfer.distill import distilled, divergence
from effxfer.transfer.full import Full
from tests.transfer.tasks import adapt, body, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}
seeds = st.integers(0, 1000)


def logits(seed, rows=4, classes=5):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed)) * 3


@given(seeds, seeds, st.floats(0.5, 8))
def test_the_distance_is_zero_to_oneself_and_never_negative(one, other, temperature):
    a, b = logits(one), logits(other)
    assert divergence(a, a, temperature).item() == pytest.approx(0, abs=1e-5)
    assert divergence(a, b, temperature).item() >= -1e-5
    assert divergence(a, b + 7, temperature).item() == pytest.approx(divergence(a, b, temperature).item(), abs=1e-3)


def test_the_distance_by_hand():
    p, t = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * 1.0986123, 0.0]])
    target = torch.tensor([0.75, 0.25])
    expected = 4 * float((target * (target / 0.5).log()).sum())
    assert divergence(p, t, temperature=2.0).item() == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def trained():
    stripes = task()
    net, *_ = adapt(Full(**PLAIN), stripes, epochs=8)
    net.zero_grad(set_to_none=True)
    return stripes, net.eval().requires_grad_(False)


def test_without_weight_the_loss_is_the_plain_one(trained):
    given, teacher = trained
    strategy, pupil = Full(**PLAIN), body()
    pupil.edit("set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    batch = strategy.draw(pupil, [given], torch.device("cpu"))(0)[0]
    pupil.eval()
    plain = strategy.loss(pupil, batch, 0.0)["label"]
    for weight in (0.0, 0.3, 1.0):
        terms = distilled(strategy.loss, teacher, weight, 16)(pupil, batch, 0.0)
        assert terms["label"].item() == pytest.approx((1 - weight) * plain.item(), rel=1e-5)
        with torch.no_grad():
            far = divergence(pupil(batch[0]), teacher(batch[0]))
        assert terms["teacher"].item() == pytest.approx(weight * far.item(), rel=1e-4)


def test_the_pupil_runs_once_and_the_teacher_gets_no_gradient(trained):
    _, teacher = trained
    calls = []

    def pupil(x):
        calls.append(1)
        return x.flatten(1)[:, :2] * torch.ones(2, requires_grad=True)

    terms = distilled(Full().loss, teacher, 0.5, 16)(pupil, (torch.zeros(3, 3, 16, 16), torch.tensor([0, 1, 0])), 0.0)
    assert calls == [1]
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_a_pupil_comes_nearer_to_its_teacher(trained):
    """The claim, against the null setting: with a teacher the pupil ends nearer to it than without."""
    given, teacher = trained
    images = torch.from_numpy(given.test.pixels).permute(0, 3, 1, 2) / 63.75 - 2

    def far(net):
        with torch.inference_mode():
            return float(divergence(net(images), teacher(images)))

    loss = distilled(Full(**PLAIN).loss, teacher, 0.9, 16)
    pupil, _, _, rows = adapt(Full(**PLAIN), given, net=body(5), loss=loss, epochs=6)
    assert rows[-1]["teacher"] < rows[0]["teacher"]
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["label"] + rows[-1]["teacher"], rel=1e-4)
    alone, *_ = adapt(Full(**PLAIN), given, net=body(5), epochs=6)
    assert far(pupil) < far(alone)


def test_mixed_labels_can_be_distilled(trained):
    given, teacher = trained
    strategy = Full(batch=12, augment={"crop": "none", "mixup": 0.5})
    _, _, _, rows = adapt(strategy, given, loss=distilled(strategy.loss, teacher, 0.5, 16), epochs=1)
    assert F.relu(torch.tensor(rows[0]["label"])) > 0
