"""The loss of each kind of label, one definition for training, scores of weights and closed forms.

Each is a mean over examples of a mean over an example's labels, so that a batch taken in parts has the gradient of the
whole. Losses change no state.

Shape legend: B examples, C columns, n positions of the longest text of a batch.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.positions import HIDDEN
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.span import Span
from effxfer.runtime.outputs.tagging import UNLABELLED, Tagging

MultiLabelLoss = Literal["binary", "asymmetric"]
# Of the asymmetric loss: exponents of positives and negatives, and the shift of the probability of negatives, as its
# authors chose them for MS-COCO.
POSITIVE, NEGATIVE, SHIFT = 0.0, 4.0, 0.05


def label_loss(
    output: Output, raw: Tensor, labels: Tensor, smoothing: float = 0.0, multi_label: MultiLabelLoss = "binary"
) -> Tensor:
    """Compute the loss of a batch.

    Args:
        output: The kind of the labels.
        raw: The network's outputs, `(B, C)`; of positions `(B, n, C)`.
        labels: Result of `label_tensor`, or soft labels `(B, C)` of mixed images.
        smoothing: Share of a label that is spread over the other possibilities, in [0, 1); not for numbers.
        multi_label: Loss of several labels: the binary cross-entropy, or the asymmetric loss, which weighs easy
            negatives down.
    """
    if isinstance(output, TaskOutputs):
        return torch.stack([*task_losses(output, raw, labels, smoothing, multi_label).values()]).sum()
    if isinstance(output, MultiLabel):
        return multi_label_loss(raw, labels, smoothing, multi_label)
    if isinstance(output, Regression):
        return regression_loss(output, raw, labels)
    if isinstance(output, Tagging):
        return tagging_loss(raw, labels, smoothing)
    if isinstance(output, Span):
        return span_loss(raw, labels)
    return F.cross_entropy(raw, labels, label_smoothing=smoothing)


def task_losses(
    output: TaskOutputs, raw: Tensor, labels: Tensor, smoothing: float = 0.0, multi_label: MultiLabelLoss = "binary"
) -> dict[str, Tensor]:
    """Compute the loss of each task: the mean over the batch, to which an example without its label adds 0.

    So parts of a batch add up to the whole, and every label counts alike, however many examples lack one.

    Args:
        output: The tasks.
        raw: Outputs of all tasks, `(B, C)`; where one tags words `(B, n, C)`.
        labels: Labels of all tasks, float32 `(B, W)`, NaN where unknown; see `label_tensor` for tags.
        smoothing: As for `label_loss`.
        multi_label: As for `label_loss`.
    """
    columns, places = output.columns(), output.label_columns()
    texts = raw if raw.dim() == 2 else raw[:, 0]  # at each position the same
    tags = _tags_by_task(output, labels)
    return {
        name: _tag_loss(raw[:, :, columns[name]], tags[name], smoothing)
        if name in tags
        else _task_loss(each, texts[:, columns[name]], labels[:, places[name]], smoothing, multi_label)
        for name, each in output.outputs.items()
    }


def _tags_by_task(output: TaskOutputs, labels: Tensor) -> dict[str, Tensor]:
    """Return the tags `(B, L)` of each task of words, which stand behind the labels of texts."""
    names = [name for name, of_words in zip(output.names, output.positions, strict=True) if of_words]
    if not names:
        return {}
    start = max(place.stop for place in output.label_columns().values())
    return dict(zip(names, labels[:, start:].long().chunk(len(names), 1), strict=True))


def _tag_loss(raw: Tensor, tags: Tensor, smoothing: float) -> Tensor:
    tagged = (tags != UNLABELLED).any(1)
    if not tagged.any():
        return raw[tagged].sum()  # 0, with gradients of 0 for the head
    return tagging_loss(raw[tagged], tags[tagged], smoothing) * (tagged.sum() / len(tags))


def _task_loss(output: Output, raw: Tensor, labels: Tensor, smoothing: float, multi_label: MultiLabelLoss) -> Tensor:
    labelled = ~labels.isnan().all(1)
    count, raw, labels = len(labels), raw[labelled], labels[labelled]
    if not len(labels):
        return raw.sum()  # 0, with gradients of 0 for the head
    if output.kind == "single":
        labels = labels[:, 0].long()
    return label_loss(output, raw, labels, smoothing, multi_label) * (len(labels) / count)


def multi_label_loss(raw: Tensor, labels: Tensor, smoothing: float = 0.0, kind: MultiLabelLoss = "binary") -> Tensor:
    """Compute the loss of several labels.

    Asymmetric: Ridnik et al., 2021, https://arxiv.org/abs/2009.14119, summed over the classes of an example, where the
    binary cross-entropy is their mean.

    Args:
        raw: Logits `(B, C)`.
        labels: Labels `(B, C)` in [0, 1]; NaN is unknown and ignored.
        smoothing: Share of a label that is spread over its two possibilities.
        kind: `binary` or `asymmetric`.
    """
    judged = ~labels.isnan()
    target = labels.nan_to_num() * (1 - smoothing) + smoothing / 2
    if kind == "asymmetric":
        return (_asymmetric(raw, target) * judged).sum(1).mean()
    each = F.binary_cross_entropy_with_logits(raw, target, reduction="none") * judged
    return (each.sum(1) / judged.sum(1).clamp_min(1)).mean()


def _asymmetric(raw: Tensor, target: Tensor) -> Tensor:
    chance = raw.sigmoid()
    shifted = (1 - chance + SHIFT).clamp(max=1)  # a negative below the shift costs nothing
    likelihood = target * chance.clamp_min(1e-8).log() + (1 - target) * shifted.clamp_min(1e-8).log()
    agreed = (
        target * chance + (1 - target) * shifted
    ).detach()  # the authors' code keeps the weight out of the gradient
    return -likelihood * (1 - agreed).pow(target * POSITIVE + (1 - target) * NEGATIVE)


def regression_loss(output: Regression, raw: Tensor, labels: Tensor) -> Tensor:
    """Compute Huber's loss (1964, https://doi.org/10.1214/aoms/1177703732) of standardised values.

    Args:
        output: Mean and deviation of each value.
        raw: Standardised values, `(B, K)`.
        labels: Values `(B, K)` in their units; NaN is unknown and ignored.
    """
    mean, deviation = (torch.tensor(v, device=raw.device, dtype=raw.dtype) for v in (output.mean, output.deviation))
    judged = ~labels.isnan()
    target = ((labels - mean) / deviation).nan_to_num()
    each = F.smooth_l1_loss(raw, target, reduction="none") * judged
    return (each.sum(1) / judged.sum(1).clamp_min(1)).mean()


def tagging_loss(raw: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute the cross-entropy of tags: the mean over a text's words, then over texts.

    Args:
        raw: Logits `(B, n, C)`.
        labels: Tags, int64 `(B, L)`, of any L; -100 where a position has none.
        smoothing: Share of a tag that is spread over all of them.
    """
    tags = labels[:, : raw.shape[1]]
    each = F.cross_entropy(
        raw.transpose(1, 2), tags, ignore_index=UNLABELLED, reduction="none", label_smoothing=smoothing
    )
    return mean_over_words(each, tags)


def mean_over_words(each: Tensor, tags: Tensor) -> Tensor:
    """Average losses of positions `(B, n)` over the words of each text, and then over texts."""
    judged = tags[:, : each.shape[1]] != UNLABELLED
    return ((each * judged).sum(1) / judged.sum(1).clamp_min(1)).mean()


def span_loss(raw: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean cross-entropy of the beginning and the end of answers.

    Only positions of the context can be chosen, and the first one, which is right where a row has no answer.

    Args:
        raw: Logits `(B, n, 2)`.
        labels: First and last position of the answer, -1 for none; first position of the context, and the one behind
            its last: int64 `(B, 4)`.
    """
    return F.cross_entropy(span_logits(raw, labels), labels[:, :2].clamp_min(0).flatten())


def span_logits(raw: Tensor, labels: Tensor) -> Tensor:
    """Return the logits of all positions that a beginning or an end can have, `(2 * B, n)`; see `span_loss`."""
    places = torch.arange(raw.shape[1], device=raw.device)
    usable = ((places >= labels[:, 2:3]) & (places < labels[:, 3:4])) | (places == 0)
    # float32, which float16 cannot hold; minus infinity would make NaN of a gradient.
    return raw.float().masked_fill(~usable[:, :, None], HIDDEN).transpose(1, 2).flatten(0, 1)
