"""Direct attribute prediction, DAP (Lampert et al., 2009, https://doi.org/10.1109/CVPR.2009.5206594).

A classifier for each attribute; a class is as likely as its attributes are. With logistic regression, the log odds of a
class are a bilinear form of features and attributes, up to a number that is the same for all classes.

Shape legend: N examples, D features, K classes with examples, E attributes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.transfer.fine_tuning.linear import solve_
from effxfer.transfer.zero_shot.known_classes import examples_of
from effxfer.transfer.zero_shot.zero_shot import ZeroShot


class Dap(ZeroShot):
    """Solve a logistic regression for each attribute; the body stands still.

    An attribute is present in a class where its number is above the mean of the known classes.

    Attributes:
        l2: Of each attribute's weights, above 0; features are standardised.
        prior: How frequent an attribute is before an example is seen: its `mean` over the known classes, or `half`.
    """

    solves: ClassVar[bool] = True

    l2: float = Field(default=0.01, gt=0)
    prior: Literal["mean", "half"] = "mean"

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` of a head of attributes."""
        return {"kind": "compare", "form": "direct"}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Solve the attributes."""
        features, labels, table = examples_of(net, tasks[-1], "direct")
        present = table[labels]
        solve_attributes_(net.head.get_submodule("map"), features.float(), present.float(), self.l2)
        silence_constant_(net, table)
        if self.prior == "half":
            net.head.get_buffer("prior").zero_()
        return net


def solve_attributes_(attributes: nn.Module, features: Tensor, present: Tensor, l2: float) -> float:
    """Fit a logistic regression for each attribute, in place.

    Args:
        attributes: A linear layer from D to E.
        features: `(N, D)`.
        present: 1 where the class of an example has an attribute, else 0: `(N, E)`.
        l2: Of the weights of each attribute.

    Returns:
        The mean loss over attributes, in nats.
    """
    with torch.no_grad():
        for parameter in attributes.parameters():
            parameter.zero_()
    width = present.shape[1]
    # The loss is a mean over attributes, the penalty a sum.
    return solve_(attributes, features, present, l2 / width, MultiLabel(classes=tuple(map(str, range(width)))))


@torch.no_grad()
def silence_constant_(net: Net, table: Tensor) -> None:
    """Let attributes say nothing that all known classes have, or none: no example tells them apart."""
    constant = (table == table[:1]).all(0)
    net.head.get_parameter("map.weight")[constant] = 0
    net.head.get_parameter("map.bias")[constant] = net.head.get_buffer("prior")[constant]
