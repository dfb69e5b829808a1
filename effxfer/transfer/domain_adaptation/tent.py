"""Tent: adapt a trained network to a target without the source, by the entropy of its answers (Wang et al., 2021).

https://arxiv.org/abs/2006.10726. Statistics of normalisation become the target's, and the scale and shift behind it are
trained until the network is sure.

Shape legend: B examples of the target, C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.data.batches.batches import Batches, make_batches
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.net.recalibrate import recalibrate_
from effxfer.train.settings import Validator
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.domain_batches import require_target, target_batches
from effxfer.transfer.domain_adaptation.validators.entropy import entropy

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
# The options of `Strategy` that say something about labels, of which there are none.
OF_LABELS = ("balance", "label_smoothing")


class Tent(Strategy):
    """Train the scale and shift of normalisation layers on a target alone, until the answers are sure.

    It starts from a network that was trained for these classes; labelled examples serve for reports only. Those of the
    target come from `data.target` or `data.unlabelled`; an epoch is a pass over them.

    Attributes:
        weight: Weight of the entropy; 0 is the null value: the network stays as it came.
        images: Most examples of the target that statistics of BatchNorm are averaged over before training.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    adapts_domain: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0)
    images: int = Field(default=2048, ge=2)  # as for `adabn`
    # The source's score would choose the network that adapted least.
    validator: Validator = "information"

    @model_validator(mode="after")
    def _learns_without_labels(self) -> "Tent":
        fields = type(self).model_fields
        useless = [name for name in OF_LABELS if getattr(self, name) != fields[name].default]
        if useless or self.augment.mixup or self.augment.cutmix:
            raise ValueError(f"leave out {(*useless, 'mixup and cutmix')[0]}: tent reads no labels")
        if self.batchnorm != "train":
            raise ValueError("leave out batchnorm: its statistics, scale and shift are what tent changes")
        return self

    def start_head(self, net: Net, before: nn.Module, task: Task) -> None:
        """Refuse a network that was not trained for the classes.

        Raises:
            SettingsError: Always: it is called for a new head only.
        """
        text = f"tent adapts a trained network, and this one has no head for the classes of {task.name}"
        raise SettingsError(text, "train it on the source first: `effxfer finetune`, then tent on its result")

    def source_only(self) -> Strategy:
        """Return the strategy that leaves the network as it came."""
        return self.model_copy(update={"weight": 0.0})

    def prepare(self, net: Net, tasks: Sequence[Task]) -> Net:
        """Freeze all but scales and shifts, and give BatchNorm the statistics of the target.

        Raises:
            SettingsError: If there is no target, or no scale and shift.
        """
        require_target(tasks[-1])
        net.requires_grad_(False)
        trained = [p for norm in net.body.modules() if isinstance(norm, NORMS) for p in norm.parameters(recurse=False)]
        if not trained:
            hint = "take another strategy, such as mcc or self_training"
            raise SettingsError("tent trains scale and shift of normalisation layers, and this network has none", hint)
        for parameter in trained:
            parameter.requires_grad_(True)
        if self.weight:
            recalibrate_(net.body, target_batches(net, tasks[-1], self.batch, self.images))
        return net

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of the target, whose labels are -1."""
        return make_batches(replace(tasks[-1], train=require_target(tasks[-1])), self.batch, self.augment, device)

    def begin_epoch(self, learner: Net, progress: float) -> None:
        """Set evaluation mode, except that BatchNorm normalises by the batch and averages over batches."""
        learner.eval()
        for module in learner.body.modules():
            if isinstance(module, _BatchNorm) and self.weight:
                module.train()

    def loss(self, learner: Net, batch: Any, progress: float) -> Mapping[str, torch.Tensor]:
        """Return the mean entropy of the answers, in nats."""
        inputs, _ = batch
        return {"entropy": self.weight * entropy(learner(inputs).float().softmax(1)).mean()}
