import numpy as np
import pytest
import torch
from torch.nn import functional as F

from effxfer.data.batches.collate import label_tensor
from effxfer.runtime.multi_task.task_labels import TaskLabels
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.multi_label import UNKNOWN, MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.span import Span
from effxfer.runtime.outputs.tagging import Tagging
from effxfer.train.losses import label_loss, multi_label_loss, task_losses
from effxfer.train.optim.microbatch import split

RAW = torch.tensor([[0.5, -1.0, 2.0], [-0.3, 0.2, 0.1]])
MULTI, SINGLE = MultiLabel(classes=("a", "b", "c")), SingleLabel(classes=("a", "b", "c"))
VALUE = Regression(classes=("x",), mean=(10.0,), deviation=(2.0,))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_single_label_has_the_cross_entropy(smoothing):
    labels = label_tensor(np.array([2, 0]), SINGLE)
    assert label_loss(SINGLE, RAW, labels, smoothing) == F.cross_entropy(RAW, labels, label_smoothing=smoothing)


def test_several_labels_have_the_mean_binary_cross_entropy():
    labels = label_tensor(np.array([[1, 0, 1], [0, 0, 1]], np.uint8), MULTI)
    torch.testing.assert_close(label_loss(MULTI, RAW, labels), F.binary_cross_entropy_with_logits(RAW, labels))


def test_unknown_labels_have_no_part_and_no_gradient():
    raw = RAW.clone().requires_grad_()
    labels = label_tensor(np.array([[1, UNKNOWN, 0], [UNKNOWN] * 3], np.uint8), MULTI)
    loss = label_loss(MULTI, raw, labels)
    expected = F.binary_cross_entropy_with_logits(RAW[0, [0, 2]], torch.tensor([1.0, 0.0])) / 2
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert raw.grad is not None
    assert raw.grad[0, 1] == 0
    assert not raw.grad[1].any()


@pytest.mark.parametrize("kind", ["binary", "asymmetric"])
def test_a_batch_in_parts_has_the_loss_of_the_whole(kind):
    generator = torch.Generator().manual_seed(0)
    raw, labels = torch.randn(6, 3, generator=generator), torch.randint(0, 2, (6, 3), generator=generator).float()
    labels[0, 1] = torch.nan
    parts = [multi_label_loss(raw[i : i + 2], labels[i : i + 2], kind=kind) for i in (0, 2, 4)]
    torch.testing.assert_close(multi_label_loss(raw, labels, kind=kind), torch.stack(parts).mean())


def test_the_asymmetric_loss_by_hand():
    """Positives: -log p. Negatives: -(p - 0.05)^4 log(1.05 - p), and nothing below p = 0.05."""
    raw, labels = torch.tensor([[0.7, -0.2, -5.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    p = raw.sigmoid()[0]
    expected = -p[0].log() - (p[1] - 0.05) ** 4 * (1.05 - p[1]).log()
    torch.testing.assert_close(multi_label_loss(raw, labels, kind="asymmetric"), expected)


def test_numbers_have_hubers_loss_in_deviations():
    labels = label_tensor(np.array([[11.0], [np.nan], [20.0]], np.float32), VALUE)
    raw = torch.tensor([[0.0], [3.0], [1.0]])
    errors = torch.tensor([0.5 * 0.5**2, 0.0, 4.0 - 0.5])
    torch.testing.assert_close(label_loss(VALUE, raw, labels), errors.mean())


def drawn_positions(kind: str, rows: int = 5, length: int = 7):
    rng = np.random.default_rng(0)
    raw = torch.tensor(rng.standard_normal((rows, length, 2 if kind == "span" else 3)), dtype=torch.float32)
    if kind == "tags":
        tags = rng.integers(0, 3, (rows, length + 2))
        tags[rng.random(tags.shape) < 0.4] = -100
        tags[1] = -100  # a window without a word of its own
        tags[:, length:] = -100
        return Tagging(classes=("a", "b", "c")), raw, torch.from_numpy(tags)
    labels = torch.tensor([[3, 4, 2, 6], [-1, -1, 2, 6], [2, 2, 2, 7], [5, 5, 3, 6], [-1, -1, 0, 0]])
    return Span(), raw, labels


@pytest.mark.parametrize("kind", ["tags", "span"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_batch_of_texts_in_parts_has_the_gradient_of_the_whole(kind, count):
    output, raw, labels = drawn_positions(kind)
    whole = raw.clone().requires_grad_()
    label_loss(output, whole, labels).backward()
    parts = raw.clone().requires_grad_()
    for share, (piece, truth) in split((parts, labels), count):
        (share * label_loss(output, piece, truth)).backward()
    torch.testing.assert_close(parts.grad, whole.grad)


def test_tags_have_the_mean_over_the_words_of_a_text_and_then_over_texts():
    output, raw, labels = drawn_positions("tags")
    means = []
    for row, tags in zip(raw, labels[:, : raw.shape[1]], strict=True):
        judged = tags >= 0
        means.append(F.cross_entropy(row[judged], tags[judged]) if judged.any() else torch.zeros(()))
    torch.testing.assert_close(label_loss(output, raw, labels), torch.stack(means).mean())


def test_an_answer_is_a_choice_among_the_context_and_no_answer():
    output, raw, labels = drawn_positions("span")
    expected = []
    for row, (first, last, begin, end) in zip(raw, labels.tolist(), strict=True):
        usable = [0, *range(begin, end)] if end else [0]
        for column, place in ((0, first), (1, last)):
            target = torch.tensor(usable.index(max(place, 0)))
            expected.append(F.cross_entropy(row[usable, column], target))
    torch.testing.assert_close(label_loss(output, raw, labels), torch.stack(expected).mean())


def test_positions_that_take_no_part_have_no_gradient():
    for kind in ("tags", "span"):
        output, raw, labels = drawn_positions(kind)
        raw.requires_grad_()
        label_loss(output, raw, labels).backward()
        judged = labels[:, : raw.shape[1]] >= 0
        if kind == "span":
            places = torch.arange(raw.shape[1])
            judged = ((places >= labels[:, 2:3]) & (places < labels[:, 3:4])) | (places == 0)
        assert not raw.grad[~judged].any()


def test_a_text_without_tags_or_without_a_class_adds_nothing():
    output = TaskOutputs(outputs={"intent": SINGLE, "slots": Tagging(classes=("B-x", "O"))})
    tags = np.array([[-100, 0, 1, -100], [-100] * 4, [-100, 1, -100, -100]])
    numbers = np.array([[2], [0], [np.nan]], np.float32)
    labels = label_tensor(TaskLabels(np.arange(3), numbers, {"slots": tags}, output.word_columns()), output)
    torch.manual_seed(0)
    texts = torch.randn(3, 1, 3).expand(-1, 4, -1)
    raw = torch.cat([texts, torch.randn(3, 4, 2)], 2).requires_grad_()
    losses = task_losses(output, raw, labels)
    intent = F.cross_entropy(raw[:2, 0, :3], torch.tensor([2, 0])) * 2 / 3
    each = F.cross_entropy(raw[..., 3:].flatten(0, 1), torch.from_numpy(tags).flatten(), reduction="none").view(3, 4)
    torch.testing.assert_close(losses["intent"], intent)
    torch.testing.assert_close(losses["slots"], (each[0, 1:3].mean() + each[2, 1]) / 3)
    halves = [task_losses(output, raw[part], labels[part]) for part in (slice(0, 2), slice(2, 3))]
    for name, whole in losses.items():
        torch.testing.assert_close(halves[0][name] * 2 / 3 + halves[1][name] / 3, whole)
    label_loss(output, raw[1:2], labels[1:2]).backward()
    assert raw.grad is not None
    assert not raw.grad[..., 3:].any()
