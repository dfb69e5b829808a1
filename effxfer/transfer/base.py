"""Base class of transfer strategies."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_batches
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.runtime.inputs import INPUTS, Input
from effxfer.runtime.outputs.registry import OUTPUTS
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.settings import Settings
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.losses import MultiLabelLoss, label_loss
from effxfer.train.optim.task_gradients import Combination
from effxfer.train.settings import Validator
from effxfer.train.train_mode import train_mode
from effxfer.transfer.continual.kept_examples import held_parts
from effxfer.transfer.continual.learner import mean_accuracy
from effxfer.transfer.domain_adaptation.validators.registry import validate_on_target
from effxfer.transfer.fine_tuning.batchnorm import Mode, hold


class Strategy(Settings):
    """Parameters to train, batches and loss: plain fine-tuning, unless a method is overridden.

    A strategy is its settings: subclass, add fields, and override only the methods that differ. They run in the order
    below, and none keeps state on `self`: state is part of the learner.

    Attributes:
        batch: Examples per step, over all processes.
        augment: Augmentation of training images; texts have none.
        label_smoothing: Fraction of the label that is spread over all classes, in [0, 1); 0 is off.
        multi_label: Loss where an example has several labels: `binary` cross-entropy, or `asymmetric`, which weighs
            easy negatives down.
        balance: Show rare classes more often, in [0, 1]: the share of a class of n images is proportional to
            n^(1 - balance); 0 is off, 1 shows all classes equally often. Above 0, the balanced accuracy chooses the
            epoch.
        batchnorm: Parts of the body's BatchNorm that change, also in frozen blocks: `train` is what the strategy
            trains, `frozen` nothing, `statistics` only the statistics, `affine` only scale and shift.
        validator: Chooses the epoch. `source`: the score on the validation split. Others look at a target domain
            without its labels: `entropy` and `information` of the answers, their nuclear norm (`bnm`), the density of
            neighbours (`snd`), or the source's risk weighted by density ratios (`dev`).
        takes: Kinds of label that it can learn from.
        inputs: Kinds of example that it can learn from.
        of_images: Whether batches are `(images, labels)` for the network itself, as a teacher requires.
        adds: How it adapts a frozen body, whose adapter the stage then saves as a file: by changes of `weights`, or by
            additional `layers`; empty if it does not.
        compares_examples: Whether the loss compares the examples of a batch, which then is never taken in parts.
        judged_by: What `judge` returns, with its unit, for curves; empty for the main metric of the labels.
        solves: Whether it is a closed formula that `prepare` solves: there are no epochs.
        needs_class_embeddings: Whether it learns from `data.class_embeddings`, for classes without examples.
        adapts_domain: Whether it trains on examples of a target domain; reports compare it with the source alone.
        continual: Whether it learns tasks one after another: the head keeps the classes of earlier tasks, and the
            network a memory of them.
    """

    takes: ClassVar[frozenset[str]] = frozenset(OUTPUTS)
    inputs: ClassVar[frozenset[str]] = frozenset(INPUTS)
    of_images: ClassVar[bool] = True
    adds: ClassVar[Literal["", "weights", "layers"]] = ""
    compares_examples: ClassVar[bool] = False
    judged_by: ClassVar[str] = ""
    solves: ClassVar[bool] = False
    needs_class_embeddings: ClassVar[bool] = False
    adapts_domain: ClassVar[bool] = False
    continual: ClassVar[bool] = False

    # Chosen: BatchNorm's mean is then known to an eighth of a deviation, even of one pixel.
    batch: int = Field(default=64, ge=1)
    augment: Augment = Augment()
    # Off: a network that was smoothed teaches badly (Müller et al. 2019, https://arxiv.org/abs/1906.02629).
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    multi_label: MultiLabelLoss = "binary"
    balance: float = Field(default=0.0, ge=0, le=1)
    batchnorm: Mode = "train"
    validator: Validator = "source"

    @model_validator(mode="after")
    def _body_moves(self) -> "Strategy":
        if self.adds and self.batchnorm != "train":
            raise ValueError("batchnorm has no effect: an adapter leaves the body as it is, its statistics too")
        return self

    def choose(self, net: Net, tasks: Sequence[Task]) -> tuple["Strategy", Report]:
        """Return the strategy to train with, and a report; `auto` measures `net` and returns another one."""
        return self, Report()

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` that the network must have; None for any, or a linear one if it has none."""
        return None

    def require_classes(self, classes: Sequence[str]) -> None:
        """Refuse settings that do not fit the classes of the data, before these are loaded."""

    def require_kinds(self, kinds: Mapping[str, str]) -> None:
        """Refuse settings that do not fit the kinds of label of several tasks, by their names; empty for one task."""

    def input_for(self, net: Net) -> Input:
        """Return the input that a network must have, before examples are loaded for it; refuse an unsuitable one."""
        return net.input

    def shape_body(self, net: Net, task: Task) -> None:
        """Change the architecture of the body before the network gets a head; mostly nothing."""

    def start_head(self, net: Net, before: nn.Module, task: Task) -> None:
        """Set the weights of a new head; `before` is the head that it replaced."""

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze, wrap or extend `net`; return the module to train, with gradients for all that is ever trained."""
        hold(net, self.batchnorm)
        return net

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Prepare the data once; return a function from an epoch's seed to its batches."""
        return make_batches(tasks[-1], self.batch, self.augment, device, self.balance)

    def begin_epoch(self, learner: Any, progress: float) -> None:
        """Set modes, and freeze layers that are trained later; depends only on `progress` in [0, 1)."""
        # In this order: `hold` overrides what training mode set.
        train_mode(learner)
        hold(learner, self.batchnorm)

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Return the terms of the loss, by name; their sum is minimised. `progress` goes from 0 to 1."""
        inputs, labels = batch
        return {"label": self.label_loss(learner, learner(inputs), labels)}

    def before_step(self, learner: Any) -> None:
        """Look at or change the gradients of a step, before they are clipped and applied."""

    def after_step(self, learner: Any, steps: int, progress: float) -> None:
        """Move what the learner keeps from step to step, such as slow copies and queues; `loss` changes none of it.

        Args:
            learner: The trained module; what moves is in its parameters without gradients and in its buffers.
            steps: Completed steps.
            progress: Of the step, in [0, 1).
        """

    def combination(self, learner: Any) -> Combination | None:
        """Return how the gradients of the loss's terms are combined; None where they are added up."""
        return None

    def label_loss(self, learner: Any, raw: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the head's outputs `(B, C)` under the labels of a batch, by their kind."""
        output = learner.output if hasattr(learner, "output") else learner.net.output
        if hasattr(learner, "own_columns"):
            raw = learner.own_columns(raw, labels)
        return label_loss(output, raw, labels, self.label_smoothing, self.multi_label)

    def judge(self, learner: Any, tasks: Sequence[Task], device: Device) -> float:
        """Return the validation score for picking the best epoch (higher is better); target labels are never used."""
        net, val = unwrap(learner), tasks[-1].val
        if self.continual:
            parts = [(val.rows, val.labels), *held_parts(net.memory, tasks)]
            return mean_accuracy(net, parts, device, getattr(learner, "groups", None))
        if self.validator != "source":
            return validate_on_target(self.validator, net, tasks[-1], device)
        logits = predict(net, val.rows, net.input, device)
        if self.balance and isinstance(net.output, SingleLabel):
            return net.output.balanced_score(logits.numpy(), val.labels).value
        return net.output.score(logits.numpy(), val.labels).value

    def as_finished(self, learner: Any, tasks: Sequence[Task]) -> AbstractContextManager[None]:
        """Bring the network in the block into the state in which `finish` leaves it, for validation."""
        return nullcontext()

    def report(self, learner: Any, tasks: Sequence[Task], device: Device) -> Report:
        """Return what only the trained module can be measured for, before `finish` takes it apart; mostly nothing."""
        return Report()

    def source_only(self) -> "Strategy":
        """Return the strategy without the target: the control of a domain adaptation."""
        return Strategy(**{name: getattr(self, name) for name in Strategy.model_fields})

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory | None:
        """Return what the network keeps of the last task and of earlier ones, before `finish`; by default as before."""
        return unwrap(learner).memory

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Convert the trained module into a plain, exportable network with gradients for all parameters."""
        return unwrap(learner).requires_grad_(True)

    def keeps_adapters(self) -> bool:
        """Whether the adapters remain separate modules after training."""
        return self.adds == "layers" or (self.adds == "weights" and not getattr(self, "merge", True))


def unwrap(learner: Any) -> Net:
    """Return the network inside a trained module."""
    net: Net = learner if isinstance(learner, Net) else learner.net
    return net
