"""Learn several tasks with one network (Caruana, 1997, https://doi.org/10.1023/A:1007379606734)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from effxfer.data.batches.batches import Batches, make_batches
from effxfer.data.task import Task
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.edits import apply_edit
from effxfer.net.heads.mmoe import EXPERTS
from effxfer.net.heads.mtan import SHARED
from effxfer.net.multi_task.cross_stitch import CrossStitch, stitched_stages
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.train.devices import Device
from effxfer.train.losses import task_losses
from effxfer.train.optim.param_groups import block, blocks_of, is_head
from effxfer.train.optim.task_gradients import Combination
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.freeze import lowest_blocks
from effxfer.transfer.multi_task.weightings.weighting import Weighting
from effxfer.transfer.multi_task.weightings.weighting_registry import WEIGHTINGS
from effxfer.transfer.regularized.reference_model import ModelWrapper

WeightingName = Literal["cagrad", "dwa", "equal", "gradnorm", "mgda", "pcgrad", "rlw", "uncertainty"]
Sharing = Literal["cross_stitch", "hard", "mmoe", "mtan"]
OF_SHARING: dict[str, tuple[str, ...]] = {"mmoe": ("experts", "expert_width"), "cross_stitch": ("start",)}
# Heads of several tasks by what they share; any other kind is hard sharing.
HEADS = {"cross_stitch": "split", "mmoe": "mmoe", "mtan": "mtan"}
OPTIONS = ("weights", "temperature", "alpha", "weight_lr", "c")


class MultiTask(Strategy):
    """Train a body that all tasks share, and a head for each.

    Attributes:
        weighting: How losses or gradients of the tasks are weighed, a key of `WEIGHTINGS`. `equal` adds the losses up,
            times `weights`; `rlw` draws weights; `uncertainty` learns a variance for each; `dwa` goes by how fast
            losses fall; `gradnorm` by the norms of gradients. `pcgrad`, `mgda` and `cagrad` change the direction in
            which the body moves, where the gradients of tasks conflict.
        weights: Constants of the weighting `equal` by task, at least 0; tasks that are not named have 1.
        main: Tasks whose mean score chooses the epoch; all that are not auxiliary if none is named.
        auxiliary: Tasks that help in training and are left out of exported files.
        freeze: Lower part of the body that does not change: the last frozen block, or the share of blocks, in [0, 1].
        temperature: Of `dwa`, above 0; large values make the weights alike.
        alpha: Of `gradnorm`: how much more a task that learns slowly moves the body.
        weight_lr: Of `gradnorm`: learning rate of the weights.
        table_balance: Show small data tables more often, where several are the tasks, in [0, 1]: the share of a table
            of n examples in every batch is proportional to n^(1 - table_balance); 0 shows each example once, 1 all
            tables alike.
        sharing: What tasks share: `hard` is the body alone, with a head for each; `mmoe` also a mixture of experts,
            which each task reads through a gate of its own. `mtan` is the body with masks of each task over the maps of
            its stages; `cross_stitch` a copy of the body for each task, which are mixed at the end of each stage, and
            cost as much as a network each.
        experts: Of `mmoe`: number of experts; 1 is a hidden layer that all tasks share.
        expert_width: Of `mmoe`: outputs of each expert.
        start: Of `cross_stitch`: weight of a task's own maps at first, in [0, 1]; 1 is a network each, to the bit.
        controls: `full` trains a network for each task, one with equal weights, and one with sharing `hard`, as long as
            this one, and reports them beside it; `none` leaves them out.
        c: Of `cagrad`: how far the direction may be from the mean gradient, in [0, 1); 0 is the mean.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"tasks"})
    of_images: ClassVar[bool] = False

    weighting: WeightingName = "equal"
    weights: dict[str, float] = Field(default_factory=dict)
    main: tuple[str, ...] = ()
    auxiliary: tuple[str, ...] = ()
    freeze: str | float = 0.0
    temperature: float = Field(default=2.0, gt=0)  # the paper's, as are the three below
    alpha: float = 1.5
    weight_lr: float = Field(default=0.025, gt=0)
    c: float = Field(default=0.4, ge=0, lt=1)
    table_balance: float = Field(default=0.0, ge=0, le=1)
    sharing: Sharing = "hard"
    experts: int = Field(default=4, ge=1, le=64)
    expert_width: int = Field(default=64, ge=1, le=65536)
    start: float = Field(default=0.9, ge=0, le=1)  # as in the paper
    controls: Literal["full", "none"] = "full"

    @model_validator(mode="after")
    def _check_options(self) -> "MultiTask":
        accepted = WEIGHTINGS[self.weighting].settings
        fields = type(self).model_fields
        changed = [n for n in OPTIONS if getattr(self, n) != fields[n].get_default(call_default_factory=True)]
        if idle := [name for name in changed if name not in accepted]:
            able = ", ".join(name for name, cls in WEIGHTINGS.items() if idle[0] in cls.settings)
            raise ValueError(f"{idle[0]} has no effect with weighting {self.weighting!r}; it is for {able}")
        if negative := [name for name, weight in self.weights.items() if weight < 0]:
            raise ValueError(f"the weight of {negative[0]!r} is below 0")
        if both := [name for name in self.main if name in self.auxiliary]:
            raise ValueError(f"{both[0]!r} is main and auxiliary: an auxiliary task is not delivered")
        for sharing, names in OF_SHARING.items():
            if idle := [n for n in names if self.sharing != sharing and getattr(self, n) != fields[n].default]:
                raise ValueError(f"{idle[0]} has no effect with sharing {self.sharing!r}; it is for {sharing}")
        if not isinstance(self.freeze, str) and not 0 <= self.freeze <= 1:
            raise ValueError("freeze should be the name of a block, or a share in [0, 1]")
        if self.freeze == 1.0 and WEIGHTINGS[self.weighting].combines:
            raise ValueError(f"weighting {self.weighting!r} combines gradients of the body, all of which is frozen")
        return self

    def head(self) -> Mapping[str, Any] | None:
        """Return the specification of the head by what tasks share; None for a head for each task."""
        if self.sharing == "hard":
            return None
        experts = {"experts": self.experts, "expert_width": self.expert_width} if self.sharing == "mmoe" else {}
        return {"kind": HEADS[self.sharing], **experts}

    def shape_body(self, net: Net, task: Task) -> None:
        """Copy the body for each task, for cross-stitch units."""
        if self.sharing != "cross_stitch" or not isinstance(task.output, TaskOutputs):
            return
        count = len(task.output.names)
        # Trained before: its units and copies go on.
        if not isinstance(net.body, CrossStitch) or net.body.tasks != count:
            apply_edit(net, "cross_stitch", tasks=count, stages=stitched_stages(net), start=self.start)

    def require_classes(self, classes: Sequence[str]) -> None:
        """Refuse tasks that the data do not have, and data of which all tasks are auxiliary."""
        names = list(dict.fromkeys(name.partition("/")[0] for name in classes))
        for option in ("weights", "main", "auxiliary"):
            for name in getattr(self, option):
                if name not in names:
                    text = f"options.{option} names {name!r}, and there is no such task{did_you_mean(name, names)}"
                    raise SettingsError(text, f"the tasks are: {', '.join(names)}")
        if set(names) <= set(self.auxiliary):
            raise SettingsError("options.auxiliary names all tasks", "leave out those that the file is to answer")

    def require_kinds(self, kinds: Mapping[str, str]) -> None:
        """Refuse tags of words where tasks share more than the body."""
        tagged = [name for name, kind in kinds.items() if kind == "tags"]
        if tagged and self.sharing != "hard":
            text = f"options.sharing {self.sharing!r} reads one vector for each text, and {tagged[0]!r} tags its words"
            raise SettingsError(text, "leave it out: tags of words take sharing 'hard'")

    def choose(self, net: Net, tasks: Sequence[Task]) -> tuple["Strategy", Report]:
        """Return itself, and say how much memory the gradients of each task take."""
        if not WEIGHTINGS[self.weighting].combines:
            return self, Report()
        size = sum(p.numel() for p in net.body.parameters()) * 4 * len(_outputs(net).names) / 1e6
        text = f"weighting {self.weighting} holds the body's gradients of each task, about {size:.3g} MB"
        return self, Report(notes=(text,))

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the lower blocks, note the roles of the tasks, and add the state of the weighting."""
        super().prepare(net, tasks)
        self._require_sharing(net)
        frozen = lowest_blocks(blocks_of(name for name, _ in net.named_parameters()), self.freeze)
        for name, parameter in net.named_parameters():
            if not is_head(name) and block(name) in frozen:
                parameter.requires_grad_(False)
        output = _outputs(net)
        roles = {"main": list(self.main), "auxiliary": list(self.auxiliary)}
        plain = {key: value for key, value in output.to_json().items() if key not in roles}
        net.edits[:] = [edit for edit in net.edits if edit["kind"] != "set_output"]
        apply_edit(net, "set_output", output={**plain, **{role: names for role, names in roles.items() if names}})
        return TaskLearner(net, self._make_weighting(output.names))

    def _require_sharing(self, net: Net) -> None:
        """Refuse to train a network whose tasks share something else, in a stage that gives it no other head."""
        kind = next((edit["spec"]["kind"] for edit in reversed(net.edits) if edit["kind"] == "set_head"), "")
        if self.sharing != "hard" and kind != HEADS[self.sharing]:
            text = f"options.sharing is {self.sharing!r}, the tasks of the network share otherwise"
            raise SettingsError(text, "leave it out here, and give it to `effxfer finetune`")

    def _make_weighting(self, names: Sequence[str]) -> Weighting:
        cls = WEIGHTINGS[self.weighting]
        options = {name: getattr(self, name) for name in cls.settings}
        if "weights" in options:
            options["weights"] = [self.weights.get(name, 1.0) for name in names]
        return cls(len(names), **options)

    def draw(self, learner: "TaskLearner", tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Prepare the data once; every batch has examples of each data table in its share."""
        task = tasks[-1]
        if self.table_balance and task.train.tables is None:
            hint = "leave it out, or give each task its own data"
            raise SettingsError(f"options.table_balance is for several data tables, {task.name} is one", hint)
        return make_batches(task, self.batch, self.augment, device, self.balance, self.table_balance)

    def begin_epoch(self, learner: "TaskLearner", progress: float) -> None:
        """Set modes, and let the weighting close its epoch."""
        super().begin_epoch(learner, progress)
        learner.weighting.begin_epoch()

    def loss(self, learner: "TaskLearner", batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Return the weighted loss of each task, by its name."""
        inputs, labels = batch
        output = _outputs(learner.net)
        losses = task_losses(output, learner.net(inputs), labels, self.label_smoothing, self.multi_label)
        values = torch.stack([loss.float() for loss in losses.values()])
        # No state: of a batch in parts, the last part's losses stand for the step.
        learner.losses = values.detach()
        return dict(zip(losses, learner.weighting.weigh(values), strict=True))

    def combination(self, learner: "TaskLearner") -> Combination | None:
        """Return how the gradients of the body are combined; None where they are added up."""
        if not learner.weighting.combines:
            return None
        shared = [
            parameter for name, parameter in learner.named_parameters()
            if parameter.requires_grad and (not is_head(name) or EXPERTS in name or SHARED in name)
        ]  # fmt: skip
        return Combination(shared=shared, combine=learner.weighting.combine)

    def after_step(self, learner: "TaskLearner", steps: int, progress: float) -> None:
        """Move the state of the weighting."""
        learner.weighting.after_step(learner.losses)

    def report(self, learner: "TaskLearner", tasks: Sequence[Task], device: Device) -> Report:
        """Return the weights that the tasks have in the end."""
        weights = learner.weighting.weights()
        if weights is None:
            return Report()
        pairs = zip(_outputs(learner.net).names, weights.tolist(), strict=True)
        return Report(rows=tuple(Measurement(name=f"weight/{name}", value=value) for name, value in pairs))


class TaskLearner(ModelWrapper):
    """A network of several tasks with the state of their weighting.

    Attributes:
        weighting: How the tasks are weighed.
        losses: Losses of the present step `(T,)`, without weights.
    """

    def __init__(self, net: Net, weighting: Weighting) -> None:
        super().__init__(net)
        self.weighting = weighting
        self.losses = torch.zeros(weighting.tasks)


def _outputs(net: Net) -> TaskOutputs:
    output = net.output
    assert isinstance(output, TaskOutputs)
    return output
