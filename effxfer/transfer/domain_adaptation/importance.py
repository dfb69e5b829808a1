"""Importance weighting: train on source examples as often as the target has such ones (Shimodaira, 2000).

https://doi.org/10.1016/S0378-3758(00)00115-4. It corrects for other frequencies of the same inputs, covariate shift,
and not for inputs that the source lacks.

Shape legend: N examples of the source, B of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.density_ratio.discriminator import discriminate
from effxfer.transfer.domain_adaptation.density_ratio.kmm import match_kernel_means
from effxfer.transfer.domain_adaptation.domain_batches import DomainBatch, draw_domains, require_target
from effxfer.transfer.fine_tuning.linear import Features, features_of
from effxfer.transfer.regularized.reference_model import ModelWrapper


class Importance(Strategy):
    """Fine-tune all weights on a source domain, whose examples weigh as much as the target has of their kind.

    Weights are estimated once, on the features of the network as it came. Examples of the target come from
    `data.target` or `data.unlabelled`.

    Attributes:
        estimator: `discriminator`: a linear classifier of domains. `kmm`: kernel mean matching, up to 5,000 examples.
        bound: Largest weight of an example, at least 1; 1 is the null value: all weigh the same.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    adapts_domain: ClassVar[bool] = True

    estimator: Literal["discriminator", "kmm"] = "discriminator"
    # Chosen: a tenth of the examples then has at least the weight of all, so that the loss is not of a few.
    bound: float = Field(default=10.0, ge=1)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Put the weights of the source's examples beside the network."""
        target = require_target(tasks[-1])
        source, _ = features_of(net, tasks[-1])
        target_features = predict(Features(net), target.rows, net.input, Device(torch=source.device)).to(source)
        estimate = match_kernel_means if self.estimator == "kmm" else discriminate
        weights = estimate(source, target_features, self.bound)
        super().prepare(net, tasks)
        return Weighted(net, weights)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of both domains, see `draw_domains`; the target's examples are not used."""
        return draw_domains(tasks, self.batch, self.augment, device, self.balance)

    def loss(self, learner: "Weighted", batch: DomainBatch, progress: float) -> Mapping[str, Tensor]:
        """Return the weighted cross-entropy of the labels."""
        inputs, labels, _, rows, _ = batch
        each = F.cross_entropy(learner.net(inputs), labels, label_smoothing=self.label_smoothing, reduction="none")
        return {"label": (learner.weights[rows] * each).mean()}


class Weighted(ModelWrapper):
    """A network with a weight for each example of the source, float32 `(N,)` of mean 1."""

    weights: Tensor

    def __init__(self, net: Net, weights: Tensor) -> None:
        super().__init__(net)
        self.register_buffer("weights", weights)
