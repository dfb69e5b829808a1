"""Reptile: move the weights towards what a few steps on an episode make of them (Nichol et al., 2018).

https://arxiv.org/abs/1803.02999: "On First-Order Meta-Learning Algorithms".

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.devices import Device
from effxfer.transfer.few_shot.episode_report import measure_transductive
from effxfer.transfer.few_shot.episodes import Episode, freeze_prototypes, split_episode
from effxfer.transfer.few_shot.episodic import Episodic
from effxfer.transfer.few_shot.inner_loop import (
    MetaLearner,
    Start,
    Statistics,
    classify,
    descend,
    normalized_by,
    settle_,
    update_statistics_,
)


class Reptile(Episodic):
    """Train the body: its move in a few steps on an episode, divided by the inner rate, is its gradient.

    Support and query images of an episode are all learned from, as in the paper.

    Attributes:
        steps: Inner steps, at least 1; with 1 this is plain training on episodes.
        inner_lr: Learning rate of inner steps.
        start: Where the classifier starts: at the `means` of the support features, or at weights that are `learned`,
            as in the paper.
        statistics: What BatchNorm normalises episodes by: the `batch`, or the `stored` statistics.
    """

    steps: int = Field(default=5, ge=1, le=100)  # the paper's on Omniglot
    inner_lr: float = Field(default=0.01, gt=0)
    start: Start = "means"
    statistics: Statistics = "batch"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> MetaLearner:
        """Freeze the prototypes, and add the classifier that steps start from."""
        super().prepare(net, tasks)
        return MetaLearner(freeze_prototypes(net, self.head()), self.way if self.start == "learned" else 0)

    def loss(self, learner: MetaLearner, batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the inner loss, without a gradient, and a term of value 0 whose gradient is the move."""
        update_statistics_(learner, batch.flatten(0, 2), self.statistics)
        with normalized_by(learner.body, self.statistics):
            moves, losses = zip(*(self.move(learner, split_episode(one, self.shot)) for one in batch), strict=True)
        towards = torch.stack(moves).mean()
        return {"label": torch.stack(losses).mean(), "move": towards - towards.detach()}

    def move(self, learner: MetaLearner, episode: Episode) -> tuple[Tensor, Tensor]:
        """Return `<w, (w - w_k) / inner_lr>`, with the difference held, and the inner loss before the last step."""
        before = {**learner.body_weights()}
        images = torch.cat([episode.support, episode.queries])
        labels = torch.cat([episode.support_labels, episode.labels])
        with torch.no_grad():
            features = learner.features(before, episode.support)
        before |= learner.classifier(features, episode.support_labels, episode.way)
        start = {name: weight.detach().requires_grad_() for name, weight in before.items()}
        after, loss = descend(
            lambda weights: F.cross_entropy(classify(weights, learner.features(weights, images)), labels),
            start, self.steps, self.inner_lr, first_order=True, keep=learner.net.masks(),
        )  # fmt: skip
        trained = [name for name, weight in before.items() if weight.requires_grad]
        products = [(before[name] * (before[name] - after[name]).detach()).sum() for name in trained]
        return torch.stack(products).sum() / self.inner_lr, loss

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return the transductive figure, see `measure_transductive`."""
        settle_(learner.net, tasks, self.batchnorm)
        return measure_transductive(learner.net, tasks[-1], device)

    def settle_(self, learner: Any, tasks: Sequence[Task]) -> None:
        """Set the statistics of BatchNorm and the prototypes, see `settle_`."""
        settle_(learner.net, tasks, self.batchnorm)
