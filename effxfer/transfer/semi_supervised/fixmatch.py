"""Learn from unlabelled images by confident pseudo-labels (FixMatch; Sohn et al., 2020).

https://arxiv.org/abs/2001.07685. With `augment` and `strong` alike and `threshold` 0 these are plain pseudo-labels.

Shape legend: B labelled images, M images without a label for each of them, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, balanced_order, make_views
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.transfer.base import Strategy

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class FixMatch(Strategy):
    """Fine-tune every weight on labelled images, and on unlabelled ones with confident pseudo-labels.

    The confident prediction for a weakly augmented image (`augment`) is the label of the same image under strong
    augmentation. An epoch is a pass over the labelled images.

    Attributes:
        weight: Weight of the loss on unlabelled images; 0 is plain fine-tuning, except that BatchNorm uses them, too.
        threshold: Probability in [0, 1] from which a prediction is confident. The paper's is 0.95.
        ratio: Unlabelled images for each labelled one. The paper's is 7.
        align: Divide probabilities by their average over the batch's unlabelled images before the threshold, so that
            no class takes them all (distribution alignment; Berthelot et al., 2020,
            https://arxiv.org/abs/1911.09785; over one batch, for classes that are about equally frequent).
        strong: Strong augmentation of unlabelled images.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False

    weight: float = Field(default=1.0, ge=0)
    threshold: float = Field(default=0.95, ge=0, le=1)
    # Chosen: a step passes 1 + 2 * ratio batches, 7 here and 15 with the paper's 7.
    ratio: int = Field(default=3, ge=1)
    align: bool = False
    # Chosen, in place of the paper's RandAugment and Cutout: what runs on whole batches here.
    strong: Augment = Augment(scale=0.2, colour=0.5)

    @model_validator(mode="after")
    def _mixes_nothing(self) -> "FixMatch":
        if any(how.mixup or how.cutmix for how in (self.augment, self.strong)):
            raise ValueError("mixup and cutmix need labels, which half of the images do not have")
        return self

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Batches of images `(B, 3, S, S)`, labels `(B,)`, and weak and strong views `(B, M, 3, S, S)` of others.

        Raises:
            SettingsError: If the task has no images without labels.
        """
        task = tasks[-1]
        if task.unlabelled is None:
            raise SettingsError("fixmatch needs images without labels", "name them with data.unlabelled")
        unlabelled, count = task.unlabelled, len(task.unlabelled)
        look = make_views(task.train, task.input, self.augment, device)
        weak, strong = (make_views(unlabelled, task.input, how, device) for how in (self.augment, self.strong))
        labels = torch.tensor(task.train.labels)

        def make(index: Tensor, rng: Generator) -> Batch:
            free = torch.randint(count, (len(index) * self.ratio,), generator=rng)
            shape = (len(index), self.ratio)
            return (
                look(index, rng), labels[index].to(device),
                weak(free, rng).unflatten(0, shape), strong(free, rng).unflatten(0, shape),
            )  # fmt: skip

        order = balanced_order(labels, self.balance)
        return lambda seed: Batches(len(labels), self.batch, make, seed, order)

    def loss(self, learner: Any, batch: Batch, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy of labels, and of what the network is sure of; all images pass at once, for BatchNorm."""
        images, labels, weak, strong = batch
        parts = [images, weak.flatten(0, 1), strong.flatten(0, 1)]
        labelled, weak_logits, strong_logits = learner(torch.cat(parts)).split([len(part) for part in parts])
        label = F.cross_entropy(labelled, labels, label_smoothing=self.label_smoothing)
        return {
            "label": label,
            "unlabelled": self.weight * agreement(weak_logits, strong_logits, self.threshold, self.align),
        }


def agreement(weak: Tensor, strong: Tensor, threshold: float, align: bool = False) -> Tensor:
    """Average over all images the cross-entropy of `strong` logits `(N, C)` with the confident `weak` predictions."""
    # A label is no gradient: otherwise both views would agree on nothing.
    chances = weak.detach().softmax(1)
    likely, guess = (align_distribution(chances) if align else chances).max(1)
    each = F.cross_entropy(strong, guess, reduction="none")
    # Over all images and not only confident ones, as in the paper: the loss grows with confidence.
    return (each * (likely >= threshold)).mean()


def align_distribution(chances: Tensor) -> Tensor:
    """Weight classes inversely to their mean probability; rows of `(N, C)` still sum to 1."""
    # A class that no image of the batch is given would divide by zero.
    weighed = chances / chances.mean(0, keepdim=True).clamp_min(1e-6)
    return weighed / weighed.sum(1, keepdim=True)
