"""What all candidates of a `shrink` share: data, teacher, strategy, clock and scoring."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

from effxfer import model_source
from effxfer.data.task import Task
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.net import Net
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.stages.prune.control_networks import open_control_backbone
from effxfer.stages.runner.backbone_names import short_names
from effxfer.stages.settings.shrink_settings import Shrink
from effxfer.stages.shrink.first_head import give_head
from effxfer.stages.shrink.shipped import Clock, Shipping
from effxfer.stages.train.distillation import load_teacher, loss_with_teacher
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.optim.gradients import Loss
from effxfer.train.state import Work
from effxfer.train.time_budget import FEWEST, LEAST
from effxfer.transfer.base import Strategy
from effxfer.transfer.regularized.block_maps import KeptOutputs, kept_channels

# A training step: one pass forwards, and about two backwards.
PASSES = 3
# Measured on PACS. 840 images of 28 classes, EfficientNet-lite0 at 128 px, 6 epochs from a solved head of 77 % in
# validation and 78 % in test: frozen 78 to 79 and 81 to 82 at rates of 1e-4 to 1e-3, moving 72 and 75. The statistics
# of a batch of 32 alone cost 40 points. 5,993 images (MobileNetV2, 96 px, 2 epochs): frozen is 1.9 and 0.2 worse.
FEW_IMAGES = 2000
TIMED_IMAGES = 64  # chosen: an estimate within a quarter is enough, for a choice between counts of candidates


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network that candidates are made of.

    Attributes:
        name: Its name in the report.
        number: Its place among the networks, from 0, which is the input network's.
        net: The network with a head for the task; never changed.
        is_trained: Whether all of it is trained on the task, and not the head alone.
        settings: Settings of the stage; patterns of layers are those of the input network alone.
        shipping: The precision that its candidates are built for.
        present: Latency of its file at that precision.
        as_float: Latency of its float32 file, where candidates may ship that instead of int8; else None.
        full_side: Side of its pretraining in pixels, up to which it may take larger images.
    """

    name: str
    number: int
    net: Net
    is_trained: bool
    settings: Shrink
    shipping: Shipping
    present: PairedTiming
    as_float: PairedTiming | None
    full_side: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Contest:
    """What all candidates share.

    Attributes:
        dense: The input network, baseline of latency and accuracy; never changed.
        networks: The networks that candidates are made of, the input network first.
        tasks: See `finetune`, as the input network takes them.
        settings: Settings of the stage.
        strategy: Training strategy of the settings; see `strategy_for`.
        teacher: The teacher of all candidates; None without one.
        time: Times the file of a network at a precision, in turns with the input network's float32 file.
        device: Device of the training.
        now: Returns seconds, for the time limit.
    """

    dense: Net
    networks: Sequence[Network]
    tasks: Sequence[Task]
    settings: Shrink
    strategy: Strategy
    teacher: Net | None
    time: Clock
    device: Device
    now: Callable[[], float] = perf_counter
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

    def epoch_seconds(self, net: Net) -> float:
        """Estimate how long an epoch of a candidate's training takes, with the passes of its teacher."""
        task = self.task_for(net)
        seconds = PASSES * self._pass_seconds(net)
        if self.teacher is not None:
            seconds += self._pass_seconds(self.teacher)
        return seconds * len(task.train)

    def least_seconds(self, entry_epoch: float) -> float:
        """Return how long the shortest training takes that `fit` does in any time, by the seconds of an epoch."""
        steps = ceil(len(self.tasks[-1].train) / self.strategy.batch)
        return entry_epoch * (min(steps, LEAST) + min(steps, FEWEST + 1)) / steps

    def _pass_seconds(self, net: Net) -> float:
        """Time an evaluation of one image, in batches."""
        rows = self.task_for(net).val.rows[:TIMED_IMAGES]
        began = self.now()
        predict(net, rows, net.input, self.device)
        return (self.now() - began) / len(rows)

    def network_of(self, name: str) -> Network:
        """Return one of the networks by its name."""
        return next(network for network in self.networks if network.name == name)

    def strategy_for(self, network: str) -> Strategy:
        """Return the strategy for candidates of a network, by its name.

        With few images, BatchNorm of a body that never saw the task stays as it was pretrained, unless the settings say
        otherwise: its head was solved on features that these statistics give.
        """
        strategy = self.strategy
        keeps = self.network_of(network).is_trained or "batchnorm" in self.settings.options or strategy.adds
        if keeps or len(self.tasks[-1].train) >= FEW_IMAGES:
            return strategy
        return strategy.model_copy(update={"batchnorm": "frozen"})

    def loss_for(self, net: Net, kept_outputs: KeptOutputs) -> Loss:
        """Return the training loss of a candidate: features and maps are compared within the same architecture only.

        `kept_outputs` names the outputs of layers that it has of the input network's.
        """
        if self.teacher is None:
            return self.strategy.loss
        ends = [edit["kind"] for edit in net.edits].count("cut")
        alike = net.backbone == self.teacher.backbone and not ends
        settings = self.settings.teacher
        if not alike:
            settings = settings.model_copy(update={"features": 0.0, "maps": 0.0})
        if not settings.listens:
            return self.strategy.loss
        channels = kept_channels(net, kept_outputs) if settings.maps else None
        return loss_with_teacher(self.teacher, self.task_for(net), self.strategy, settings, channels)


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
            backbone.size or model_source.open_model(backbone)[0].input.size,
        )
        for short, backbone in backbones.items()
    }


def make_networks(
    net: Net, backbones: Mapping[str, tuple[Net, int]], task: Task, settings: Shrink, *, time: Clock, device: Device,
    work: Work,
) -> tuple[list[Network], tuple[str, ...]]:  # fmt: skip
    """Give all networks heads for the task, choose the precision of each, and time its file.

    Returns:
        The networks, and notes on their precision where it was measured.
    """
    networks, notes = list[Network](), list[str]()
    # Patterns of layers: those of other backbones have other names.
    foreign = settings.model_copy(update={"exclude": ()})
    everyone = {input_name(net): (net, net.input.size), **backbones}
    for number, (name, (body, full_side)) in enumerate(everyone.items()):
        body_task = task.with_input(body.input)
        is_trained = not give_head(body, body_task, settings.seed, device, work, f"head-{number}")
        body.eval()
        timings = work.once(f"present-{number}", partial(time_precisions, body, settings, time))
        int8, float32 = (PairedTiming(**timings[name]) if name in timings else None for name in ("int8", "float32"))
        if float32 and not number:
            # The baseline against itself, whatever the clock says.
            float32 = replace(float32, ratio=1.0, low=1.0, high=1.0, ms=float32.dense_ms)
        ships_int8, note = choose_precision(int8, float32, timings.get("problem", ""))
        notes += [f"{name}: {note}"] if note else []
        present = int8 if ships_int8 else float32
        assert present is not None
        networks.append(
            Network(
                name=name, number=number, net=body, is_trained=is_trained, present=present,
                shipping=Shipping(int8=ships_int8, settings=settings), as_float=float32 if ships_int8 else None,
                settings=foreign if number else settings, full_side=full_side,
            )
        )  # fmt: skip
    return networks, tuple(notes)


def time_precisions(net: Net, settings: Shrink, time: Clock) -> dict[str, Any]:
    """Time the files of a network at the precisions of the settings; `problem` says why there is no int8 file."""
    timings: dict[str, Any] = {}
    if settings.precision != "float32":
        try:
            timings["int8"] = asdict(time(net, Shipping(int8=True, settings=settings)))
        except ModelFileError as error:
            if settings.precision == "int8":
                raise
            timings["problem"] = error.problem
    if settings.precision != "int8":
        timings["float32"] = asdict(time(net, Shipping(int8=False, settings=settings)))
    return timings


def choose_precision(int8: PairedTiming | None, float32: PairedTiming | None, problem: str) -> tuple[bool, str]:
    """Say whether int8 ships, because its file is faster than the float32 one, and the reason where both were timed."""
    if int8 is None or float32 is None:
        return int8 is not None, f"float32 ships: {problem}" if problem else ""
    # The whole interval must lie below, as for `export`.
    is_faster = int8.high < float32.ratio
    text = f"its int8 file takes {int8.ratio / float32.ratio:.3f} of its float32 p50"
    # One round has no interval.
    interval = f"[{int8.low / float32.ratio:.3f}, {int8.high / float32.ratio:.3f}]" if int8.n > 1 else "(timed once)"
    return is_faster, f"{'int8' if is_faster else 'float32'} ships: {text} {interval}"


def input_name(net: Net) -> str:
    """Return the short name of a network's backbone."""
    return Path(str(net.backbone["source"]).partition("@")[0]).name


def open_teacher(net: Net, settings: Shrink) -> Net | None:
    """Return the teacher of the settings: a copy of the input network, another model, or None."""
    if not settings.teacher.listens:
        return None
    return load_teacher(settings.teacher, net) if settings.teacher.source else deepcopy(net)
