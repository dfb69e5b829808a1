from dataclasses import replace

import pytest
import torch

from effxfer.data.task import Split
from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.transfer.semi_supervised.fixmatch import FixMatch, agreement, align_distribution
from tests.transfer.tasks import CPU, accuracy, adapt, task

PLAIN = {"batch": 4, "augment": {"crop": "none", "flip": True}}
STRONG = {"crop": "padded", "colour": 0.3}


def few(count=4):
    """Four labelled images; 96 without labels."""
    given = task()
    return replace(
        given,
        train=Split(rows=given.train.rows[:count], labels=given.train.labels[:count], names=given.train.names[:count]),
    )


@pytest.mark.slow
def test_images_without_labels_help_where_labels_are_few():
    """The claim, against the null setting: weight 0."""
    fit, told = {"epochs": 40, "lr": 0.01}, {**PLAIN, "strong": STRONG, "ratio": 6, "threshold": 0.8}
    with_, *_, rows = adapt(build(FixMatch, told, "o"), few(), **fit)
    null, *_, idle = adapt(build(FixMatch, {**told, "weight": 0.0}, "o"), few(), **fit)
    assert accuracy(with_, task()) > accuracy(null, task())
    assert rows[-1]["unlabelled"] > 0
    assert idle[-1]["unlabelled"] == 0


def test_only_what_is_sure_counts():
    weak = torch.tensor([[4.0, 0.0], [0.1, 0.0]])
    strong = torch.tensor([[0.0, 0.0], [9.0, 0.0]], requires_grad=True)
    loss = agreement(weak, strong, 0.9)
    assert loss.item() == pytest.approx(0.6931 / 2, rel=1e-3)
    loss.backward()
    assert strong.grad[0].abs().sum() > 0
    assert strong.grad[1].abs().sum() == 0
    assert agreement(weak, strong, 1.0).item() == 0


def test_alignment_gives_rare_classes_their_share():
    chances = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    found = align_distribution(chances)
    assert found.sum(1).tolist() == pytest.approx([1, 1, 1])
    assert chances.argmax(1).tolist() == [0, 0, 0]
    assert found.argmax(1).tolist() == [0, 0, 1]
    weak, strong = chances.log(), torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    assert agreement(weak, strong, 0.5, align=True) < 0.01 < agreement(weak, strong, 0.5)
    even = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    assert torch.allclose(align_distribution(even), even)


def test_batches_can_be_cut_into_parts_by_labelled_image():
    strategy = build(FixMatch, {**PLAIN, "ratio": 3}, "o")
    images, labels, weak, strong = strategy.draw(None, [few(8)], CPU.torch)(0)[0]
    assert images.shape == (4, 3, 16, 16)
    assert labels.shape == (4,)
    assert weak.shape == strong.shape == (4, 3, 3, 16, 16)
    again = strategy.draw(None, [few(8)], CPU.torch)(0)[0]
    assert all(torch.equal(a, b) for a, b in zip((images, labels, weak, strong), again, strict=True))


def test_without_unlabelled_images_it_says_what_to_give():
    with pytest.raises(SettingsError, match="needs images without labels") as caught:
        adapt(FixMatch(), replace(task(), unlabelled=None))
    assert "data.unlabelled" in caught.value.hint


@pytest.mark.parametrize("options", [{"augment": {"mixup": 0.2}}, {"strong": {"cutmix": 1.0}}])
def test_mixing_is_refused(options):
    with pytest.raises(SettingsError, match="need labels"):
        build(FixMatch, options, "options")
