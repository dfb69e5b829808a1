"""A head solved on fixed features, instead of trained in epochs.

Shape legend: N images, D features.
"""

import torch
from torch import Tensor, nn

from effxfer.data.batches.collate import label_tensor
from effxfer.data.task import Task
from effxfer.net.hooks import as_evaluated
from effxfer.net.net import Net
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.runtime.outputs.tagging import UNLABELLED
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.losses import label_loss

# Chosen, not measured: L-BFGS stops before by the gradient's size; a head without l2 on separable data never would.
MOST_STEPS = 200


class Features(nn.Module):
    """A network's features as a module of their own, for evaluation over a whole split."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Map an input `(B, ...)` to features `(B, D)`, or for each position `(B, n, D)`."""
        return self.net.features(x)


def features_of(net: Net, task: Task) -> tuple[Tensor, Tensor]:
    """Compute features `(N, D)` and labels of the training split's evaluation view, on the network's device.

    Of tags, each word is an example of one position: features `(M, 1, D)` and tags `(M, 1)` of M words.
    """
    device = next(net.parameters()).device
    features = predict(Features(net), task.train.rows, net.input, Device(torch=device))
    labels = label_tensor(task.train.labels, task.output)
    if net.output.kind == "tags":
        judged = labels != UNLABELLED
        features, labels = features[judged][:, None], labels[judged][:, None]
    return features.to(device), labels.to(device)


def solve_(head: nn.Module, features: Tensor, labels: Tensor, l2: float, output: Output = SINGLE_LABEL) -> float:
    """Minimise the labels' loss plus `l2 / 2 * |w|^2` over a head in place, by L-BFGS; convex for a linear head.

    Args:
        head: Maps features to logits; its dropout and statistics stand still.
        features: float32 `(N, D)`.
        labels: Of `label_tensor`.
        l2: At least 0; on matrices, not on biases.
        output: The kind of the labels.

    Returns:
        The value reached.
    """
    trained = list(head.parameters())
    optimizer = torch.optim.LBFGS(trained, max_iter=MOST_STEPS, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = label_loss(output, head(features), labels)
        # Not on biases: they hold the classes' frequencies.
        loss = loss + l2 / 2 * torch.stack([p.square().sum() for p in trained if p.dim() > 1]).sum()
        loss.backward()
        return loss

    with as_evaluated(head):
        reached = float(optimizer.step(closure).detach())
    # The last gradients would be added to the first step of training.
    optimizer.zero_grad()
    return reached
