"""Keep the pretrained layers' feature maps, weighted by channel importance (DELTA; Li et al., 2019).

https://arxiv.org/abs/1901.09229. Here distances are relative to the size of the pretrained maps, so that one `alpha`
serves all networks, and what a channel matters is estimated to first order instead of by leaving each one out.

Shape legend: B images, C channels, P positions.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from effxfer.data.batches.collate import input_tensor, label_tensor
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.net.taps import capture_taps, example_input, stage_ends
from effxfer.train.losses import label_loss
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.linear import features_of, solve_
from effxfer.transfer.regularized.reference_model import WithReference

# Chosen: the pass keeps its maps for the gradient, 22 MB an image for a ResNet-18 at 224 px.
IMAGES = 128


class Delta(Strategy):
    """Fine-tune every weight, and keep the maps at the ends of the body's stages near the pretrained network's.

    Attributes:
        alpha: Weight of the squared distance; 0 is plain fine-tuning.
        attention: Weigh channels by what the loss of a probe on the pretrained network rises without them; else alike.
    """

    # Its distances would count padding, and its probe is solved on one vector for each example.
    takes: ClassVar[frozenset[str]] = frozenset({"multi", "single", "value"})

    # Distances are shares of the maps' size, so that 1 is of the order of a label's loss.
    alpha: float = Field(default=1.0, ge=0)
    attention: bool = True

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Copy the network, and weight its channels."""
        super().prepare(net, tasks)
        taps = (*stage_ends(net.body, example_input(net)), "out")
        weights = channel_weights(net, tasks[-1], taps) if self.attention else dict.fromkeys(taps, torch.ones(()))
        return WithReference(net, {name: weight.to(next(net.parameters()).device) for name, weight in weights.items()})

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy and the distance, averaged over images and stages."""
        taps = tuple(learner.weights)
        with torch.no_grad(), capture_taps(learner.source.body, taps) as reference:
            learner.source(batch[0])
        with capture_taps(learner.net.body, taps) as current:
            terms = super().loss(learner, batch, progress)
        far = torch.stack([distance(current[tap], reference[tap], weight) for tap, weight in learner.weights.items()])
        return {**terms, "distance": self.alpha * far.mean()}


def by_channel(maps: Tensor) -> Tensor:
    """Reshape maps `(B, C, h, w)`, tokens `(B, P, C)` or features `(B, C)` to `(B, C, P)`."""
    if maps.dim() == 3:
        return maps.mT.float()
    return maps.reshape(*maps.shape[:2], -1).float()


def distance(maps: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
    """Return the squared distance of maps from what they were, over the latter's size; 0 where nothing changed.

    Args:
        maps: As `by_channel` takes them.
        reference: The same of the pretrained network.
        weight: Of each channel `(C,)`, of mean 1; or one number.
    """
    # A map that is all zero (a dead stage) must not divide by zero.
    size = by_channel(reference).square().sum((1, 2)).mean().clamp_min(1e-12)
    apart = (by_channel(maps) - by_channel(reference)).square().sum(2)
    return (apart * weight).sum(1).mean() / size


def channel_weights(net: Net, task: Task, taps: Sequence[str]) -> dict[str, Tensor]:
    """Weigh the channels `(C,)` of each tap by what a probe's loss would rise without them; of mean 1.

    The rise is estimated to first order from up to 128 training images, brought to deviation 1, and put through a
    softmax.
    """
    probe = deepcopy(net).eval()
    solve_(probe.requires_grad_(True).head, *features_of(probe, task), 1e-3, net.output)
    chosen = torch.linspace(0, len(task.train) - 1, min(IMAGES, len(task.train))).long()
    device = next(probe.parameters()).device
    inputs = input_tensor(task.train.rows[chosen.numpy()], net.input, device)
    labels = label_tensor(task.train.labels[chosen.numpy()], task.output).to(device)
    with capture_taps(probe.body, taps) as maps:
        loss = label_loss(net.output, probe(inputs), labels)
    slopes = torch.autograd.grad(loss, [maps[tap] for tap in taps])
    return {
        tap: softmax_weights(-by_channel(maps[tap] * slope).sum((0, 2)))
        for tap, slope in zip(taps, slopes, strict=True)
    }


def softmax_weights(rises: Tensor) -> Tensor:
    """Convert increases of the loss `(C,)` into weights of mean 1."""
    rises = rises.detach()
    return len(rises) * ((rises - rises.mean()) / rises.std().clamp_min(1e-12)).softmax(0)
