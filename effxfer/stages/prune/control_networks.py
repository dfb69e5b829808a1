"""Build the control networks for channel pruning: latency-matched ones and user-supplied backbones."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer import model_source
from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.data.text_input import read_alike
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.net import Net
from effxfer.net.reinitialize import initial_weights
from effxfer.net.settings import BackboneSettings
from effxfer.pareto import AS_FAST
from effxfer.prune.channels.channel_controls import largest_within
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.graph.macs import cost
from effxfer.prune.network import example_of
from effxfer.report import Report
from effxfer.runtime.inputs import SIZE_UNITS, Input
from effxfer.runtime.threads import usable_cores
from effxfer.stages.prune.calibration import plain_batches, recalibrate_on_
from effxfer.stages.runner.onnx_timing import DENSE, PRECISION, PRUNED, stopwatch
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.optim.gradients import Loss
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy

# Chosen, not measured: a step of 4 at 128 px is 6 % of the pixels; finer ones cost an export and 15 s of timing each.
SIDE_STEP = 4
# As `size` allows.
LEAST_SIDE = 8
NO_TARGET = {"ratio": None, "macs_ratio": None, "latency_ratio": None, "latency_ms": None}
# Steps of 2 points: at half the channels 8 % of the multiply-adds; finer ones would often round to the same widths.
DENSITIES = tuple(percent / 100 for percent in range(10, 100, 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlContext:
    """A pruned network and the training setup that its controls share.

    Attributes:
        net: The pruned and trained network; never changed.
        dense: The network before pruning; never changed.
        backbones: User-supplied smaller backbones, by name.
        tasks: See `finetune`.
        settings: Settings of the stage.
        strategy: Training strategy.
        loss: Training loss with the terms of a teacher.
        foreign_loss: Training loss for other backbones, whose features cannot be compared with the teacher's.
        prune: Prunes channels by settings, in one step.
        report: Report of the pruned network.
        device: Device of the training.
        work: Saves choices, trained controls and timings for resuming.
    """

    net: Net
    dense: Net
    backbones: Mapping[str, Net]
    tasks: Sequence[Task]
    settings: Channels
    strategy: Strategy
    loss: Loss
    foreign_loss: Loss
    prune: Callable[[Net, Channels], object]
    report: Report
    device: Device
    work: Work

    @property
    def threads(self) -> int:
        """Threads of ONNX Runtime."""
        return self.settings.threads or usable_cores()

    def tasks_for(self, net: Net) -> list[Task]:
        """The tasks with images preprocessed for a network."""
        return [task.with_input(net.input) for task in self.tasks]


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlSpec:
    """A control to be trained.

    Attributes:
        name: Name in the report.
        folder: Folder of its checkpoints.
        start: Builds the untrained network of a repeat from the repeat's seed.
        epochs: Training epochs.
        advice: Advice on training this network instead, if the control wins.
    """

    name: str
    folder: str
    start: Callable[[int], Net]
    epochs: int
    advice: str


def open_control_backbones(settings: Channels, like: Input, device: Device) -> dict[str, Net]:
    """Open the control backbones of the settings before any training.

    Args:
        settings: Settings of the stage.
        like: Input of the pruned network; the default for backbones that are not model directories.
        device: Device of the stage.

    Raises:
        SettingsError: If a backbone does not exist or cannot take such images, or under `torchrun`.
        ModelFileError: If its weights do not fit.
    """
    if settings.controls != "none" and device.world > 1:
        raise SettingsError("controls are timed by one process", "start it without torchrun, or set controls = 'none'")
    nets: dict[str, Net] = {}
    for number, backbone in enumerate(settings.control_backbones, 1):
        name = Path(backbone.source.partition("@")[0]).name
        nets[f"{name} ({number})" if name in (DENSE, PRUNED, *nets) else name] = open_control_backbone(backbone, like)
    return nets


def open_control_backbone(backbone: BackboneSettings, like: Input) -> Net:
    """Open one control backbone with the input of another network; see `open_control_backbones`."""
    is_folder = model_source.find(backbone.source) is not None
    # An encoder of texts has no crop; that it takes no images is said below.
    if not is_folder and not (like.kind == "image" and backbone.folder()):
        inherited = {
            name: getattr(backbone, name) or getattr(like, name, None) for name in ("size", "crop_pct", "crop")
        }
        backbone = backbone.model_copy(update=inherited)
    net, _notes = model_source.open_model(backbone)
    if net.input.kind != like.kind:
        text = f"{backbone.source} takes {net.input.unit}, but the network takes {like.unit}"
        raise SettingsError(text, f"name backbones of {like.unit}")
    net.input = read_alike(net.input, like)
    net.set_input_size(net.input.size)
    return net


def control_specs(context: ControlContext) -> tuple[list[ControlSpec], list[str]]:
    """Return the controls that the settings request, and a note for each that cannot be built."""
    specs = [smaller_input_control(context), uniform_control(context)]
    if context.settings.controls == "full":
        specs += [redrawn_control(context)]
        specs += [backbone_control(context, number) for number in range(len(context.backbones))]
    return [s for s in specs if isinstance(s, ControlSpec)], [note for note in specs if isinstance(note, str)]


def smaller_input_control(context: ControlContext) -> ControlSpec | str:
    """Control: the unpruned network on images small enough for equal latency; a note if there is none."""
    side = context.work.once("control-side", lambda: {"side": equally_fast_side(context)})["side"]
    if not side:
        unit = context.dense.input.unit
        return f"no control with smaller {unit}: the unpruned network is slower than the pruned one at every size"

    def start(_seed: int) -> Net:
        net = at_input_side(context.dense, side)
        # BatchNorm's statistics depend on the side of the images (Touvron et al. 2019, 1906.06423).
        plain = plain_batches(context.tasks_for(net)[-1], 64, context.device, seed_of(context.settings.seed, "side"))
        recalibrate_on_(net, plain)
        return net

    return ControlSpec(
        name=f"smaller input ({side} {SIZE_UNITS[context.dense.input.kind]})", folder="smaller-input",
        start=start, epochs=context.settings.fit.epochs,
        advice=f"finetune the unpruned network with size = {side}",
    )  # fmt: skip


def equally_fast_side(context: ControlContext) -> int:
    """Measure the largest input side at which the unpruned network is as fast as the pruned one; 0 if none."""
    with stopwatch(context.dense, context.threads, context.settings.seed, rows=context.tasks[-1].val.rows) as time:
        # Within the clock's precision is equally fast: a control just below would be a size smaller for noise.
        limit = time(context.net).ratio * (1 + PRECISION)
        largest = largest_within(
            input_sides(context.dense), lambda side: time(at_input_side(context.dense, side)).ratio, limit
        )
    return largest or 0


def input_sides(net: Net) -> list[int]:
    """Input sides that a network accepts, from 8 pixels to its own side, in steps of four."""
    full, accepted = net.input.size, []
    # Counted so that the network's own side is the last.
    for side in range(full % SIDE_STEP + LEAST_SIDE, full + 1, SIDE_STEP):
        try:
            at_input_side(net, side)
        except SettingsError:
            continue
        accepted.append(side)
    return accepted


def at_input_side(net: Net, side: int) -> Net:
    """Copy a network and change its input side."""
    copy = deepcopy(net)
    copy.set_input_size(side)
    return copy


def uniform_control(context: ControlContext) -> ControlSpec | str:
    """Control: the unpruned network with a uniform pruning ratio per layer; a note if there is none."""
    settings = context.settings
    if not settings.timed and (settings.scope, settings.importance) == ("layer", "magnitude"):
        return "no uniform control: the network itself was pruned uniformly by magnitude"
    try:
        target = context.work.once("control-uniform", lambda: {"target": equal_cost_target(context)})["target"]
    except (ModelFileError, SettingsError) as error:
        return f"no uniform control: {error.problem}"
    uniform = settings.model_copy(
        update={**NO_TARGET, **target, "importance": "magnitude", "scope": "layer", "steps": 1}
    )

    def start(_seed: int) -> Net:
        net = at_input_side(context.dense, context.net.input.size)
        context.prune(net, uniform)
        return net

    values = ", ".join(f"{name} = {value:.4g}" for name, value in target.items())
    return ControlSpec(
        name=f"uniform, {'latency' if settings.timed else 'multiply-adds'} alike", folder="uniform", start=start,
        epochs=settings.fit.epochs,
        advice=f"prune channels with {values}, scope = 'layer', importance = 'magnitude'",
    )  # fmt: skip


def equal_cost_target(context: ControlContext) -> dict[str, float]:
    """Find the uniform ratio that matches the pruned network's latency or, without a latency target, its multiply-adds.

    Channel counts are rounded like the pruned network's. For multiply-adds the rounding is halved while the control
    would be too small.

    Raises:
        SettingsError: If no ratio matches the latency.
        ModelFileError: If the network cannot be pruned, see `remove_channels`.
    """
    settings = context.settings

    def prune_uniformly(**target: Any) -> Net:
        net = at_input_side(context.dense, context.net.input.size)
        remove_channels(net, scope="layer", exclude=settings.exclude, **target)
        return net

    if not settings.timed:
        ratio, macs, step = context.report["macs/ratio"].value, multiply_adds(context.net), settings.round_to
        while step > 1 and multiply_adds(prune_uniformly(macs_ratio=ratio, round_to=step)) < macs / AS_FAST:
            # Finer channels until it is as large as the pruned network: a smaller control would lose for its size.
            step //= 2
        return {"macs_ratio": ratio, "round_to": step}
    with stopwatch(context.dense, context.threads, settings.seed, rows=context.tasks[-1].val.rows) as time:
        limit = time(context.net).ratio * (1 + PRECISION)
        density = largest_within(
            DENSITIES, lambda d: time(prune_uniformly(ratio=1 - d, round_to=settings.round_to)).ratio, limit
        )
    if density is None:
        raise SettingsError("no uniform pruning ratio reaches the latency")
    return {"ratio": round(1 - density, 2), "round_to": settings.round_to}


def multiply_adds(net: Net) -> int:
    """Count the multiply-adds of one image."""
    still = deepcopy(net).cpu().eval()
    return cost(still, example_of(still))[0]


def redrawn_control(context: ControlContext) -> ControlSpec:
    """Control: the pruned architecture with new random weights."""

    def start(seed: int) -> Net:
        net = deepcopy(context.net)
        # Not strict: they come without masks.
        net.load_state_dict(initial_weights(net, seed_of(seed, "fresh") % 2**32), strict=False)
        return net

    return ControlSpec(
        name="weights drawn anew", folder="fresh", start=start, epochs=epochs_from_scratch(context.settings), advice=""
    )


def backbone_control(context: ControlContext, number: int) -> ControlSpec:
    """Control: a smaller backbone that the settings name."""
    name, body = list(context.backbones.items())[number]

    def start(seed: int) -> Net:
        net = deepcopy(body).to(context.device.torch)
        new_head(net, context.tasks[-1], seed)
        return net

    return ControlSpec(
        name=name, folder=f"backbone-{number + 1}", start=start, epochs=epochs_from_scratch(context.settings),
        advice="finetune it instead of pruning",
    )  # fmt: skip


def epochs_from_scratch(settings: Channels) -> int:
    """Training epochs of controls that were not trained on the task yet."""
    return settings.fit.epochs if settings.control_epochs is None else settings.control_epochs
