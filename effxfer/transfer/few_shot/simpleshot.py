"""SimpleShot: centre and normalise the features of any body, and classify by the nearest mean (Wang et al., 2019).

https://arxiv.org/abs/1911.04623.

Shape legend: B images, D features, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import model_validator
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.net.heads.spec import Transform
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.train.devices import Device
from effxfer.transfer.base import Strategy
from effxfer.transfer.few_shot.episode_report import measure_transductive
from effxfer.transfer.few_shot.episodes import set_prototypes_


class SimpleShot(Strategy):
    """Train the body as a plain classifier of the known classes, or not at all, and compare with the nearest mean.

    Without epochs (`--epochs 0`) the body stays as it came, pretrained, and all is solved in one pass over the images.

    Attributes:
        transform: What happens to features first: `cl2n` subtracts the mean of the training features, and gives them
            length 1; `l2` does the latter only; `none`, the null value, leaves them.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    inputs: ClassVar[frozenset[str]] = frozenset({"image"})
    of_images: ClassVar[bool] = False

    transform: Transform = "cl2n"

    @model_validator(mode="after")
    def _has_effect(self) -> "SimpleShot":
        if self.augment.mixup or self.augment.cutmix:
            raise ValueError("mixup and cutmix blur what a mean of features is: leave them out")
        return self

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "transform": self.transform}

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of a linear classifier, whose weights the means replace in the end."""
        inputs, labels = batch
        logits = F.linear(learner.features(inputs), learner.head.get_parameter("out.weight"))
        return {"label": F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the accuracy on the validation split by the nearest mean of the training split."""
        weight = learner.head.get_parameter("out.weight")
        classifier = weight.detach().clone()
        set_prototypes_(learner, tasks[-1])
        try:
            return super().judge(learner, tasks, device)
        finally:
            weight.data.copy_(classifier)

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return the transductive figure, see `measure_transductive`."""
        return measure_transductive(learner, tasks[-1], device)

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Set the mean and the prototypes of the training split."""
        set_prototypes_(learner, tasks[-1])
        return super().finish(learner, tasks)
