"""Learn from a few labels by pairs: examples of a class come together, others apart; then a head is solved (SetFit).

Tunstall et al., 2022, https://arxiv.org/abs/2209.11055: a sentence encoder is fine-tuned on pairs of labelled texts, of
which a few labels give many, and a logistic regression is fitted on its vectors.

Shape legend: N labelled examples, B pairs of a batch, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.linear import features_of, solve_


class SetFit(Strategy):
    """Fine-tune the body on pairs, and solve the head.

    An epoch has `2 * pairs * N` pairs, half of them of one class; the paper trains for one epoch. The head is solved on
    the trained features, also whenever an epoch is judged.

    Attributes:
        pairs: Pairs of one class, and as many of two, for each labelled example and epoch; 0 leaves the body as it is,
            which is a probe.
        l2: Of the solved head, at least 0.
        batch: Pairs per step.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False

    pairs: int = Field(default=20, ge=0, le=1000)  # R of the paper
    l2: float = Field(default=1e-2, ge=0)
    batch: int = Field(default=16, ge=2)

    @model_validator(mode="after")
    def _sees_examples_as_they_are(self) -> "SetFit":
        if self.augment != Augment():
            raise ValueError("augment has no effect on setfit, which sees the evaluation view of each example")
        if self.balance:
            raise ValueError("balance has no effect on setfit, which draws as many pairs for each example")
        return self

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body if there are no pairs; weight decay would move it."""
        net.body.requires_grad_(bool(self.pairs))
        return super().prepare(net, tasks)

    def draw(self, learner: Net, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Batches of two examples of B pairs, `(inputs, inputs, rows, rows, alike)`.

        Rows are the examples' numbers `(B,)`; alike is 1 where both are of one class, else 0.

        Raises:
            SettingsError: If all examples are of one class, so that none are unlike.
        """
        task, labels = tasks[-1], np.asarray(tasks[-1].train.labels)
        if len(np.unique(labels)) < 2:
            raise SettingsError("setfit compares classes, and all training examples are of one", "give labels of two")

        def make(index: Tensor, rng: Generator) -> tuple[Tensor, ...]:
            first, alike = index.numpy() % len(labels), index.numpy() // len(labels) % 2 == 0
            second = partners(labels, first, alike, np.random.default_rng(int(torch.randint(2**31, (), generator=rng))))
            # Both at once: texts are then padded to one length.
            inputs = input_tensor(task.train.rows[np.concatenate((first, second))], learner.input, device)
            rows = (torch.from_numpy(numbers).to(device) for numbers in (first, second))
            return *inputs.chunk(2), *rows, torch.from_numpy(alike.astype(np.float32)).to(device)

        return lambda seed: Batches(2 * max(self.pairs, 1) * len(labels), self.batch, make, seed)

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Squared difference between the cosine of two features and 1 or 0."""
        first, second, first_rows, second_rows, alike = batch
        if not self.pairs:
            return {"pairs": 0.0 * learner.head(learner.features(first)).sum()}
        # Of few labels, a batch has most examples several times: 16 pairs of 16 texts have 14 of them on average.
        examples, places = torch.unique(torch.cat((first_rows, second_rows)), return_inverse=True)
        once = torch.zeros_like(examples).scatter_(0, places, torch.arange(len(places), device=places.device))
        features = learner.features(torch.cat((first, second))[once]).float()[places]
        first_features, second_features = features.chunk(2)
        cosine = F.cosine_similarity(first_features, second_features)
        return {"pairs": F.mse_loss(cosine, alike)}

    def judge(self, learner: Net, tasks: Sequence[Task], device: Device) -> float:
        """Solve a head on the present features, and score it on the validation split."""
        solved = deepcopy(learner)
        self._solve(solved, tasks[-1])
        return super().judge(solved, tasks, device)

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Solve the head on the trained features."""
        self._solve(learner, tasks[-1])
        return super().finish(learner, tasks)

    def _solve(self, net: Net, task: Task) -> None:
        solve_(net.head.requires_grad_(True), *features_of(net, task), self.l2, net.output)


def partners(
    labels: NDArray[np.int64], first: NDArray[np.int64], alike: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the second example of each pair.

    Args:
        labels: Classes `(N,)`, of at least two different ones.
        first: The first example of each pair, `(B,)`.
        alike: Whether the second one is of the same class, `(B,)`. It is another example, unless its class has no
            other.
        rng: Draws.

    Returns:
        Indices `(B,)`.
    """
    second = np.empty_like(first)
    for place, (row, is_alike) in enumerate(zip(first, alike, strict=True)):
        candidates = np.flatnonzero((labels == labels[row]) == is_alike)
        distinct = candidates[candidates != row]
        second[place] = rng.choice(distinct if len(distinct) else candidates)
    return second
