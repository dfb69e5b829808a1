"""Compare with the mean of each class on a frozen body: nothing is trained, so nothing is forgotten.

Zhou et al., 2023, https://arxiv.org/abs/2303.07338, find that it beats many methods on a pretrained body.

Shape legend: C classes, D features.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.net import Net
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.learner import StreamLearner
from effxfer.transfer.fine_tuning.linear import features_of


class NearestMean(Continual):
    """Add the features of a task to the running mean of each class, and answer with the nearest mean.

    The body stays as it came. The memory has a sum and a count for each class, and no examples to train on.
    """

    solves: ClassVar[bool] = True

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "transform": "l2"}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Compute the means.

        Raises:
            SettingsError: If the network has another head.
        """
        head = net.head
        if not isinstance(head, Prototypes):
            raise SettingsError("nearest_mean needs a head of prototypes", "start from a network without a memory")
        super().prepare(net, tasks)
        learner = self.begin(net, tasks)
        features, labels = features_of(net, tasks[-1])
        sums, counts = add_features(net.memory, head.transform(features).detach(), labels, len(net.classes))
        with torch.no_grad():
            head.out.weight.copy_(sums / counts.clamp_min(1)[:, None])
        learner.statistics = {"sums": sums, "counts": counts}
        net.apply_masks_()
        return learner

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Keep the sum and the count of each class."""
        return self.keep_memory("nearest_mean", learner, tasks, learner.statistics)


def add_features(memory: Memory | None, features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the sums `(C, D)` and counts `(C,)` of features by class: those of a memory, and further ones."""
    sums = features.new_zeros(classes, features.shape[1])
    counts = torch.zeros(classes, dtype=torch.int64, device=features.device)
    if memory and "sums" in memory.tensors:
        before = memory.tensors["sums"]
        sums[: len(before)] = before.to(sums)
        counts[: len(before)] = memory.tensors["counts"].to(counts)
    return sums.index_add_(0, labels, features), counts + torch.bincount(labels, minlength=classes)
