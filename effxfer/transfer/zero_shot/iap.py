"""Indirect attribute prediction, IAP (Lampert et al., 2009, https://doi.org/10.1109/CVPR.2009.5206594).

A classifier of the known classes; an attribute is as likely as the known classes that have it.

Shape legend: N examples, D features, K classes with examples, E attributes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.fine_tuning.linear import solve_
from effxfer.transfer.zero_shot.known_classes import examples_of
from effxfer.transfer.zero_shot.zero_shot import ZeroShot


class Iap(ZeroShot):
    """Solve a logistic regression of the known classes; their attributes follow. The body stands still.

    An attribute is present in a class where its number is above the mean of the known classes.

    Attributes:
        l2: Of the weights, above 0; features are standardised.
        prior: How frequent an attribute is before an example is seen: its `mean` over the known classes, or `half`.
    """

    solves: ClassVar[bool] = True

    l2: float = Field(default=0.01, gt=0)
    prior: Literal["mean", "half"] = "mean"

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` of a head of attributes by way of known classes."""
        return {"kind": "compare", "form": "indirect"}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Solve the classifier of the known classes."""
        features, labels, _ = examples_of(net, tasks[-1], "indirect")
        classifier = net.head.get_submodule("map")
        with torch.no_grad():
            for parameter in classifier.parameters():
                parameter.zero_()
        solve_(classifier, features.float(), labels, self.l2)
        if self.prior == "half":
            net.head.get_buffer("prior").zero_()
        return net
