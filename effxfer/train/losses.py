"""The loss of each kind of label, one definition for training, scores of weights and closed forms.

Each is a mean over examples of a mean over an example's labels, so that a batch taken in parts has the gradient of the
whole. Losses change no state.

Shape legend: B examples, C columns.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression

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
        raw: The network's outputs, `(B, C)`.
        labels: Result of `label_tensor`, or soft labels `(B, C)` of mixed images.
        smoothing: Share of a label that is spread over the other possibilities, in [0, 1); not for numbers.
        multi_label: Loss of several labels: the binary cross-entropy, or the asymmetric loss, which weighs easy
            negatives down.
    """
    if isinstance(output, MultiLabel):
        return multi_label_loss(raw, labels, smoothing, multi_label)
    if isinstance(output, Regression):
        return regression_loss(output, raw, labels)
    return F.cross_entropy(raw, labels, label_smoothing=smoothing)


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
