"""Herded examples, distillation, and the nearest mean of examples (iCaRL; Rebuffi et al., 2017).

https://arxiv.org/abs/1611.07725.

Shape legend: B examples, C columns of the head, D features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.continual.exemplars import Exemplars
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.net import Net
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.kept_examples import (
    add_examples,
    read_exemplars,
    rehearsal_task,
)
from effxfer.transfer.continual.learner import StreamLearner
from effxfer.transfer.continual.rehearsal import draw_with_exemplars
from effxfer.transfer.fine_tuning.linear import features_of

CLASSIFIER = "classifier"


class ICarl(Continual):
    """Train the body by a classifier, and answer with the nearest mean of kept examples.

    Each column of the classifier is trained by binary cross-entropy: those of new classes by labels, those of earlier
    ones by what the network answered before. The head then holds the mean features of the kept examples of each class,
    and an exported file takes means of further classes as an input.

    Attributes:
        memory: Most examples of all tasks that are kept, by herding; at least 1.
        share: Kept examples for each of the task's own in a batch.
    """

    of_images: ClassVar[bool] = False

    memory: int = Field(default=1000, ge=1)
    share: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _has_hard_labels(self) -> "ICarl":
        if self.augment.mixup or self.augment.cutmix or self.label_smoothing:
            raise ValueError("mixup, cutmix and label_smoothing have no effect on its binary cross-entropies")
        return self

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "transform": "l2"}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Give the head the classifier of the task before, in place of means; copy the network with it.

        Raises:
            SettingsError: If the network has another head, or other features than the classifier.
        """
        if not isinstance(net.head, Prototypes):
            raise SettingsError("icarl needs a head of prototypes", "start from a network without a memory")
        super().prepare(net, tasks)
        weight = net.head.out.weight
        classifier = net.memory.tensors[CLASSIFIER] if net.memory else None
        if classifier is not None and classifier.shape[1] != weight.shape[1]:
            text = f"the memory's classifier takes {classifier.shape[1]} features, the body gives {weight.shape[1]}"
            raise SettingsError(text, "take replay or der for a network that is pruned between tasks")
        with torch.no_grad():
            # The rows of new classes are random, as those of a linear head.
            if classifier is not None:
                weight[: len(classifier)] = classifier.to(weight)
        return self.begin(net, tasks, copies=True)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of the task, with kept examples added to each."""
        return draw_with_exemplars(
            tasks[-1], read_exemplars(learner.memory, tasks), batch=self.batch, share=self.share, augment=self.augment,
            device=device, balance=self.balance,
        )  # fmt: skip

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Binary cross-entropy of each column with labels, or with the answers before."""
        inputs, labels = batch
        target = F.one_hot(labels, len(learner.net.classes)).float()
        if learner.taught:
            with torch.no_grad():
                target[:, : learner.taught] = classify(learner.source, inputs)[:, : learner.taught].sigmoid()
        each = F.binary_cross_entropy_with_logits(classify(learner.net, inputs), target, reduction="none")
        return {"label": each.sum(1).mean()}

    @contextmanager
    def as_finished(self, learner: Any, tasks: Sequence[Task]) -> Iterator[None]:
        """Give the head the means of the kept examples and of the task in the block."""
        weight = learner.net.head.out.weight
        classifier = weight.detach().clone()
        set_means_(learner.net, tasks[-1], read_exemplars(learner.memory, tasks), tasks[-1])
        try:
            yield
        finally:
            weight.data.copy_(classifier)

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Keep herded examples and the classifier, and set the means of all kept examples."""
        before, net = learner.memory, learner.net
        number = len(before.tasks) if before else 0
        exemplars = add_examples(net, read_exemplars(before, tasks), tasks[-1], number, self.memory, "herding", 0)
        classifier = {CLASSIFIER: net.head.out.weight.detach().clone()}
        set_means_(net, tasks[-1], exemplars)
        return self.keep_memory("icarl", learner, tasks, classifier, exemplars)


def classify(net: Net, inputs: Tensor) -> Tensor:
    """Return the logits `(B, C)` of the classifier whose weights the means replace in the end."""
    return F.linear(net.features(inputs), net.head.get_parameter("out.weight"))


@torch.no_grad()
def set_means_(net: Net, task: Task, exemplars: Exemplars | None, new: Task | None = None) -> None:
    """Set the prototypes to the mean features of each class: of kept examples, and of those of a new task."""
    head = net.head
    assert isinstance(head, Prototypes)
    parts = [features_of(net, rehearsal_task(task, exemplars))] if exemplars is not None else []
    parts += [features_of(net, new)] if new else []
    head.fit_(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
    net.apply_masks_()
