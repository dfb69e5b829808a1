"""ESZSL: an embarrassingly simple approach to zero-shot learning (Romera-Paredes & Torr, 2015).

https://proceedings.mlr.press/v37/romera-paredes15.html. One closed formula.

Shape legend: N examples, D features, K classes with examples, E numbers of each class.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.zero_shot.known_classes import examples_of
from effxfer.transfer.zero_shot.zero_shot import ZeroShot


class Eszsl(ZeroShot):
    """Solve a bilinear form of features and class embeddings by least squares; the body stands still.

    Both penalties are relative: to the variance of a standardised feature, and to that of a number of the class
    embeddings. They do not depend on the number of examples or classes.

    Attributes:
        gamma: Penalty on what the form makes of class embeddings, above 0.
        lambda_: Penalty on what it makes of features, above 0.
    """

    solves: ClassVar[bool] = True

    gamma: float = Field(default=1.0, gt=0)
    lambda_: float = Field(default=1.0, gt=0)

    @torch.no_grad()
    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Solve the map."""
        features, labels, table = examples_of(net, tasks[-1], "product")
        weight = bilinear_form(features, labels, table, self.gamma, self.lambda_).mT
        net.head.get_parameter("map.weight").copy_(weight)
        net.head.get_parameter("map.bias").zero_()
        return net


def bilinear_form(features: Tensor, labels: Tensor, table: Tensor, gamma: float, lambda_: float) -> Tensor:
    """Solve `(X'X + g I)^-1 X'Y S (S'S + l I)^-1` with `Y` of 1 and -1.

    Args:
        features: X, standardised, `(N, D)`.
        labels: int64 `(N,)`.
        table: S, rows of length 1, `(K, E)`.
        gamma: `g / N`.
        lambda_: `l * E / K`, as a number of a row has the variance `1 / E`.

    Returns:
        The form `(D, E)`: `features @ form @ table.T` is near 1 for an example's own class and near -1 for others.
    """
    count, classes, width = len(features), *table.shape
    signs = 2 * F.one_hot(labels, classes).to(features) - 1
    gram = features.mT @ features + gamma * count * torch.eye(features.shape[1]).to(features)
    spread = table.mT @ table + lambda_ * classes / width * torch.eye(width).to(features)
    projected = torch.linalg.solve(gram, features.mT @ signs @ table)
    form: Tensor = torch.linalg.solve(spread, projected.mT).mT
    return form
