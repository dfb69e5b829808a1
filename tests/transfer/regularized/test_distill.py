import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from effxfer.net.edits import apply_edit
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.regularized.distill import blend_teacher_loss, divergence, frozen_copy, similarity_matrix
from tests.transfer.tasks import adapt, body, task
from tests.transfer.text_tasks import encoder, text_task

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
    apply_edit(pupil, "set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    batch = strategy.draw(pupil, [given], torch.device("cpu"))(0)[0]
    pupil.eval()
    plain = strategy.loss(pupil, batch, 0.0)["label"]
    assert blend_teacher_loss(strategy.loss, teacher, logits=0.0, size=16)(pupil, batch, 0.0) == {"label": plain}
    for weight in (0.3, 1.0):
        terms = blend_teacher_loss(strategy.loss, teacher, logits=weight, size=16)(pupil, batch, 0.0)
        assert terms["label"].item() == pytest.approx((1 - weight) * plain.item(), rel=1e-5)
        with torch.no_grad():
            far = divergence(pupil(batch[0]), teacher(batch[0]))
        assert terms["teacher"].item() == pytest.approx(weight * far.item(), rel=1e-4)


def test_the_pupil_runs_once_and_the_teacher_gets_no_gradient(trained):
    _, teacher = trained
    calls = []

    class Pupil:
        output = SINGLE_LABEL

        def __call__(self, x):
            calls.append(1)
            return x.flatten(1)[:, :2] * torch.ones(2, requires_grad=True)

    terms = blend_teacher_loss(Full().loss, teacher, logits=0.5, size=16)(
        Pupil(), (torch.zeros(3, 3, 16, 16), torch.tensor([0, 1, 0])), 0.0
    )
    assert calls == [1]
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())


def test_a_pupil_comes_nearer_to_its_teacher(trained):
    """The claim, against the null setting: with a teacher the pupil ends nearer to it than without."""
    given, teacher = trained
    images = torch.from_numpy(given.test.rows).permute(0, 3, 1, 2) / 63.75 - 2

    def far(net):
        with torch.inference_mode():
            return float(divergence(net(images), teacher(images)))

    loss = blend_teacher_loss(Full(**PLAIN).loss, teacher, logits=0.9, size=16)
    pupil, _, _, rows = adapt(Full(**PLAIN), given, net=body(5), loss=loss, epochs=6)
    assert rows[-1]["teacher"] < rows[0]["teacher"]
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["label"] + rows[-1]["teacher"], rel=1e-4)
    alone, *_ = adapt(Full(**PLAIN), given, net=body(5), epochs=6)
    assert far(pupil) < far(alone)


def test_mixed_labels_can_be_distilled(trained):
    given, teacher = trained
    strategy = Full(batch=12, augment={"crop": "none", "mixup": 0.5})
    _, _, _, rows = adapt(
        strategy, given, loss=blend_teacher_loss(strategy.loss, teacher, logits=0.5, size=16), epochs=1
    )
    assert F.relu(torch.tensor(rows[0]["label"])) > 0


@given(seeds, st.integers(1, 5), st.floats(0.1, 10))
def test_likeness_knows_neither_width_nor_scale_nor_rotation(seed, width, scale):
    torch.manual_seed(seed)
    features = torch.randn(4, 3, 2, 2)
    alike = similarity_matrix(features)
    assert alike.shape == (4, 4)
    torch.testing.assert_close(alike.norm(dim=1), torch.ones(4))
    turned = torch.linalg.qr(torch.randn(12, 12))[0]
    torch.testing.assert_close(similarity_matrix(scale * features.flatten(1) @ turned), alike, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(similarity_matrix(features.repeat(1, width, 1, 1)), alike, rtol=1e-3, atol=1e-4)


def test_features_are_no_distance_from_a_copy_of_oneself(trained):
    given, teacher = trained
    strategy = Full(**PLAIN)
    batch = strategy.draw(teacher, [given], torch.device("cpu"))(0)[0]
    loss = blend_teacher_loss(strategy.loss, frozen_copy(teacher), logits=0.0, features=3.0, size=16)
    same = loss(teacher, batch, 0.0)
    assert same.keys() == {"label", "features"}
    assert same["features"].item() == pytest.approx(0, abs=1e-6)
    other = body(7)
    apply_edit(other, "set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    far = loss(other.eval(), batch, 0.0)["features"]
    assert far.item() > 0.01
    half = blend_teacher_loss(strategy.loss, frozen_copy(teacher), logits=0.0, features=1.5, size=8)(other, batch, 0.0)[
        "features"
    ]
    assert 0 < half.item() < far.item()


def test_a_pupil_finds_alike_what_its_teacher_finds_alike(trained):
    """The claim, against the null setting: with features the pupil's likenesses end nearer to the teacher's."""
    given, teacher = trained
    images = torch.from_numpy(given.test.rows).permute(0, 3, 1, 2) / 63.75 - 2
    loss = blend_teacher_loss(Full(**PLAIN).loss, frozen_copy(teacher), logits=0.0, features=10.0, size=16)
    taught, *_ = adapt(Full(**PLAIN), given, net=body(5), loss=loss, epochs=6)
    alone, *_ = adapt(Full(**PLAIN), given, net=body(5), epochs=6)

    def far(net):
        with torch.inference_mode():
            return float(
                (similarity_matrix(net.body.stage2(net.body.stage1(net.body.stem(images)))) - wanted).square().sum()
            )

    with torch.inference_mode():
        wanted = similarity_matrix(teacher.body.stage2(teacher.body.stage1(teacher.body.stem(images))))
    assert far(taught) < far(alone)


@pytest.mark.parametrize("weights", [{"logits": 0.5}, {"logits": 0.0, "features": 1.0}])
def test_a_network_of_texts_is_distilled_whatever_the_most_tokens_are(weights):
    given, strategy = text_task(), Full(batch=8)
    net, *_ = adapt(strategy, given, encoder(), epochs=2)
    batch = strategy.draw(net, [given], torch.device("cpu"))(0)[0]
    loss = blend_teacher_loss(strategy.loss, frozen_copy(net), **weights, size=99)
    terms = loss(net.eval(), batch, 0.0)
    assert terms["teacher" if weights["logits"] else "features"].item() == pytest.approx(0, abs=1e-6)
    other, *_ = adapt(strategy, given, encoder(seed=1), epochs=1)
    assert sum(loss(other.eval(), batch, 0.0).values()).item() > 0.1


def test_padding_is_like_nothing():
    tokens = torch.randn(3, 4, 5)
    real = torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True] * 3 + [False]])
    changed = torch.where(real[..., None], tokens, torch.randn(3, 4, 5))
    torch.testing.assert_close(similarity_matrix(tokens, real), similarity_matrix(changed, real))
    assert not torch.allclose(similarity_matrix(tokens), similarity_matrix(changed))
