"""Answer for kept examples as the network did when it learned them (dark experience replay).

Buzzega et al., 2020, https://arxiv.org/abs/2004.07211. With their labels beside it is DER++. Here the answers are those
of the network that has learned the task, and not those on the way.

Shape legend: B examples of the task, M kept ones, C columns of the head.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from effxfer.data.batches.batches import Batches
from effxfer.data.continual.exemplars import Keep
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.kept_examples import add_examples, read_exemplars
from effxfer.transfer.continual.learner import StreamLearner
from effxfer.transfer.continual.rehearsal import draw_with_exemplars

LOGITS = "kept/logits"


class Der(Continual):
    """Fine-tune every weight on a task and on kept examples, by their labels and by the logits that they had.

    Attributes:
        memory: Most examples of all tasks that are kept; 0 is plain fine-tuning.
        keep: Which, see `replay`.
        share: Kept examples for each of the task's own in a batch.
        alpha: Weight of the squared distance of kept logits.
        beta: Weight of the labels of kept examples; 0 is DER without labels.
    """

    of_images: ClassVar[bool] = False

    memory: int = Field(default=1000, ge=0)
    keep: Keep = "reservoir"  # the paper's
    share: float = Field(default=1.0, gt=0)
    alpha: float = Field(default=0.1, ge=0)  # the paper's for CIFAR-10
    beta: float = Field(default=0.5, ge=0)  # the paper's for CIFAR-10

    @model_validator(mode="after")
    def _mixes_nothing(self) -> "Der":
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("mixup and cutmix blend examples, and kept logits are of whole ones")
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Wrap the network with the columns of each task."""
        super().prepare(net, tasks)
        return self.begin(net, tasks)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of examples, labels `(B + M,)` and logits `(B + M, C)`, NaN where there are none."""
        exemplars = read_exemplars(learner.memory, tasks) if self.memory else None
        logits = None if exemplars is None else pad_columns(learner.memory.tensors[LOGITS], len(learner.net.classes))
        return draw_with_exemplars(
            tasks[-1], exemplars, batch=self.batch, share=self.share, augment=self.augment, device=device,
            balance=self.balance, logits=logits,
        )  # fmt: skip

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy of the task, and of kept examples the cross-entropy and the distance of logits."""
        inputs, labels, *extra = batch
        raw = learner(inputs)
        if not extra:
            return {"label": self.label_loss(learner, raw, labels)}
        old = (~extra[0].isnan()).any(1)
        new = {"label": self.label_loss(learner, raw[~old], labels[~old])}
        if not old.any():
            return new
        exemplars = self.beta * self.label_loss(learner, raw[old], labels[old])
        return {**new, "kept": exemplars, "logits": self.alpha * logit_distance(raw[old], extra[0][old])}

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Add examples of the task with their logits; those of earlier tasks keep theirs."""
        before, net = learner.memory, learner.net
        number, visited = (len(before.tasks), before.facts["visited"]) if before else (0, 0)
        earlier = read_exemplars(before, tasks)
        exemplars = add_examples(net, earlier, tasks[-1], number, self.memory, self.keep, visited)
        logits = torch.full((len(exemplars), len(net.classes)), torch.nan)
        new = torch.from_numpy(exemplars.task == number)
        if new.any():
            device = Device(torch=next(net.parameters()).device)
            logits[new] = predict(net, exemplars.rows[exemplars.task == number], net.input, device)
        if earlier is not None:
            places = {
                key: row for row, key in enumerate(zip(earlier.task.tolist(), earlier.place.tolist(), strict=True))
            }
            old = pad_columns(before.tensors[LOGITS], len(net.classes))
            keys = zip(exemplars.task.tolist(), exemplars.place.tolist(), strict=True)
            for row, key in enumerate(keys):
                if key in places:
                    logits[row] = old[places[key]]
        return self.keep_memory("der", learner, tasks, {LOGITS: logits}, exemplars)


def pad_columns(logits: Tensor, columns: int) -> Tensor:
    """Return logits `(N, C)` with NaN for columns that the head has grown since."""
    return torch.cat([logits, logits.new_full((len(logits), columns - logits.shape[1]), torch.nan)], 1)


def logit_distance(raw: Tensor, exemplars: Tensor) -> Tensor:
    """Return the mean squared distance of logits `(M, C)` from kept ones, over the columns that these have."""
    had = ~exemplars.isnan()
    squares = (raw - exemplars.nan_to_num()).square() * had
    return (squares.sum(1) / had.sum(1).clamp_min(1)).mean()
