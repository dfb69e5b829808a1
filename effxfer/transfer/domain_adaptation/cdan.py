"""CDAN: hide the domain of features together with what the network answers (Long et al., 2018).

https://arxiv.org/abs/1705.10667. A discriminator that sees both keeps classes from being aligned with other ones.

Shape legend: B examples of each domain, D features, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches, make_generator
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.dann import Dann, DomainClassifier, reverse
from effxfer.transfer.domain_adaptation.domain_batches import DomainBatch, Statistics, domain_features, draw_domains

# The paper's: above, the outer product is replaced by a product of random projections to as many numbers.
LARGEST_PRODUCT = 4096


class Cdan(Strategy):
    """Fine-tune all weights on a source domain, and align features times answers of a target domain with it.

    Examples of the target come from `data.target` or `data.unlabelled`; an epoch is a pass over the labelled examples.

    Attributes:
        weight: Weight of the reversed gradient at the end of training; 0 ignores the discriminator.
        gamma: Speed at which the weight rises, as for `dann`; 10 in the paper.
        width: Units of each of the discriminator's two hidden layers.
        entropy: Weigh each example by how sure the network is of it (CDAN+E).
        statistics: BatchNorm statistics, as for `dann`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    adapts_domain: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0)
    gamma: float = Field(default=10.0, gt=0)
    width: int = Field(default=256, ge=1)  # as for `dann`
    entropy: bool = True
    statistics: Statistics = "joint"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add a discriminator of features times answers to the network."""
        super().prepare(net, tasks)
        return ConditionalClassifier(net, sum(tap_widths(net, net.taps).values()), len(net.classes), self.width)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of both domains, see `draw_domains`."""
        return draw_domains(tasks, self.batch, self.augment, device, self.balance)

    def loss(self, learner: "ConditionalClassifier", batch: DomainBatch, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the labels, and that of the domains, whose gradient is reversed for the body."""
        inputs, labels, target_inputs, *_ = batch
        source, target = domain_features(learner.net, inputs, target_inputs, self.statistics)
        logits, target_logits = learner.net.head(source), learner.net.head(target)
        label = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        # The answers are given: gradients through them would make answers of both domains alike by themselves.
        answers = torch.cat([logits, target_logits]).detach().softmax(1)
        reversal = Dann(weight=self.weight, gamma=self.gamma).reversal(progress)
        joint = learner.combine(reverse(torch.cat([source, target]), reversal), answers)
        domain_logits = learner.discriminator(joint)[:, 0]
        domain = torch.cat([torch.zeros(len(source)), torch.ones(len(target))]).to(domain_logits)
        each = F.binary_cross_entropy_with_logits(domain_logits, domain, reduction="none")
        weights = certainty_weights(answers, len(source)) if self.entropy else torch.ones_like(each)
        return {"label": label, "domain": (each * weights).mean()}


class ConditionalClassifier(DomainClassifier):
    """A network with a discriminator of the outer product of features and answers, or of a random projection of it."""

    def __init__(self, net: Net, features: int, classes: int, width: int) -> None:
        product = features * classes
        super().__init__(net, min(product, LARGEST_PRODUCT), width)
        self.random = product > LARGEST_PRODUCT
        rng = make_generator("cdan", features, classes)
        # Of variance 1, as in the paper's proof that their products approximate the outer product's kernel.
        sides = (features, classes) if self.random else (0, 0)
        projections = [torch.randn(side, LARGEST_PRODUCT if side else 0, generator=rng) for side in sides]
        self.register_buffer("of_features", projections[0])
        self.register_buffer("of_answers", projections[1])

    def combine(self, features: Tensor, answers: Tensor) -> Tensor:
        """Return the outer product of features `(B, D)` and answers `(B, C)`, flat, or its random projection."""
        if not self.random:
            return (features[:, :, None] * answers[:, None]).flatten(1)
        of_features, of_answers = self.get_buffer("of_features"), self.get_buffer("of_answers")
        product: Tensor = (features @ of_features) * (answers @ of_answers) / LARGEST_PRODUCT**0.5
        return product


def certainty_weights(answers: Tensor, source: int) -> Tensor:
    """Return the weight `1 + exp(-entropy)` of each example, of mean 1 within each domain.

    Args:
        answers: Probabilities `(B, C)`, those of the source first.
        source: Examples of the source.
    """
    entropy = -(answers * answers.clamp_min(1e-9).log()).sum(1)
    weights = 1 + (-entropy).exp()
    return torch.cat([part / part.mean() for part in (weights[:source], weights[source:])])
