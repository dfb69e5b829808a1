"""What all candidates of a `shrink` share: data, teacher, strategy, clock and scoring."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from effxfer import artifact
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.stages.prune.control_networks import open_control_backbone
from effxfer.stages.runner.backbone_names import short_names
from effxfer.stages.settings.shrink_settings import Shrink
from effxfer.stages.shrink.shipped import Shipping
from effxfer.stages.train.distillation import load_teacher, loss_with_teacher
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.optim.gradients import Loss
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network that candidates are made of.

    Attributes:
        name: Its name in the report.
        number: Its place among the networks, from 0, which is the input network's.
        net: The network with a head for the task; never changed.
        is_trained: Whether its head is trained.
        settings: Settings of the stage; patterns of layers are those of the input network alone.
        present: Latency of its file that ships.
        full_side: Side of its pretraining in pixels, up to which it may take larger images.
    """

    name: str
    number: int
    net: Net
    is_trained: bool
    settings: Shrink
    present: PairedTiming
    full_side: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Contest:
    """What all candidates share.

    Attributes:
        dense: The input network, baseline of latency and accuracy; never changed.
        networks: The networks that candidates are made of, the input network first.
        tasks: See `finetune`, as the input network takes them.
        settings: Settings of the stage.
        strategy: Training strategy.
        teacher: The teacher of all candidates; None without one.
        shipping: How candidates are shipped.
        time: Times the file of a network that ships, in turns with the input network's float32 file.
        device: Device of the training.
    """

    dense: Net
    networks: Sequence[Network]
    tasks: Sequence[Task]
    settings: Shrink
    strategy: Strategy
    teacher: Net | None
    shipping: Shipping
    time: Callable[[Net], PairedTiming]
    device: Device
    _decoded: dict[str, list[Task]] = field(default_factory=dict)

    def tasks_for(self, net: Net) -> list[Task]:
        """Return the tasks with images as a network takes them."""
        key = repr(net.input)
        if key not in self._decoded:
            self._decoded[key] = [task.with_input(net.input) for task in self.tasks]
        return self._decoded[key]

    def task_for(self, net: Net) -> Task:
        """Return the last task with images as a network takes them."""
        return self.tasks_for(net)[-1]

    def loss_for(self, net: Net) -> Loss:
        """Return the training loss of a candidate: features are compared within the same architecture only."""
        if self.teacher is None:
            return self.strategy.loss
        ends = [edit["kind"] for edit in net.edits].count("cut")
        alike = net.backbone == self.teacher.backbone and not ends
        settings = self.settings.teacher if alike else self.settings.teacher.model_copy(update={"features": 0.0})
        if not settings.listens:
            return self.strategy.loss
        return loss_with_teacher(self.teacher, self.task_for(net), self.strategy, settings)


def open_backbones(net: Net, settings: Shrink) -> dict[str, tuple[Net, int]]:
    """Open the backbones of the settings; return each with the side of its pretraining, by name.

    Raises:
        SettingsError: If a backbone does not exist, is named twice, or cannot take the images.
        ModelFileError: If its weights do not fit.
    """
    name = input_name(net)
    backbones = short_names(settings.backbones)
    if name in backbones:
        raise SettingsError(f"backbone {name} is already a candidate", "remove it from `backbones`")
    return {
        short: (
            open_control_backbone(backbone, net.input),
            backbone.size or artifact.open_model(backbone)[0].input.size,
        )
        for short, backbone in backbones.items()
    }


def make_networks(
    net: Net, backbones: Mapping[str, tuple[Net, int]], task: Task, settings: Shrink,
    time: Callable[[Net], PairedTiming], work: Work, *, is_int8: bool,
) -> list[Network]:  # fmt: skip
    """Give all networks heads for the task, and time the files that ship."""
    networks = list[Network]()
    # Patterns of layers: those of other backbones have other names.
    foreign = settings.model_copy(update={"exclude": ()})
    everyone = {input_name(net): (net, net.input.size), **backbones}
    for number, (name, (body, full_side)) in enumerate(everyone.items()):
        is_trained = not new_head(body, task, settings.seed)
        body.eval()
        saved = work.once(f"present-{number}", partial(_timing_of, body, time))
        if not number and not is_int8:
            # The baseline against itself, whatever the clock says.
            saved = {**saved, "ratio": 1.0, "low": 1.0, "high": 1.0, "ms": saved["dense_ms"]}
        networks.append(
            Network(
                name=name, number=number, net=body, is_trained=is_trained, present=PairedTiming(**saved),
                settings=foreign if number else settings, full_side=full_side,
            )
        )  # fmt: skip
    return networks


def _timing_of(net: Net, time: Callable[[Net], PairedTiming]) -> dict[str, Any]:
    return asdict(time(net))


def input_name(net: Net) -> str:
    """Return the short name of a network's backbone."""
    return Path(str(net.backbone["source"]).partition("@")[0]).name


def open_teacher(net: Net, settings: Shrink) -> Net | None:
    """Return the teacher of the settings: a copy of the input network, another model, or None."""
    if not settings.teacher.listens:
        return None
    return load_teacher(settings.teacher, net) if settings.teacher.source else deepcopy(net)
