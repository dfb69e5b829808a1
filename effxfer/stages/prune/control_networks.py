"""The networks that a pruned one must beat: as fast as it is, or named by the user, and not trained yet."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from effxfer import artifact
from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.net import Net
from effxfer.net.reinitialize import initial_weights
from effxfer.net.settings import BackboneSettings
from effxfer.prune.channels.channel_controls import AS_FAST, largest_within
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.graph.macs import cost
from effxfer.prune.network import example_of
from effxfer.prune.recovery.recalibrate import recalibrate_
from effxfer.report import Report
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.threads import usable_cores
from effxfer.stages.prune.calibration import TAYLOR_BATCHES, plain_batches
from effxfer.stages.runner.onnx_timing import DENSE, PRECISION, PRUNED, stopwatch
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.optim.gradients import Loss
from effxfer.train.state import Work
from effxfer.transfer.base import Strategy

SIDE_STEP = 4
LEAST_SIDE = 8
NO_TARGET = {"ratio": None, "macs_ratio": None, "latency_ratio": None, "latency_ms": None}
KEPT = tuple(percent / 100 for percent in range(10, 100, 2))


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlContext:
    """A pruned network, and what its controls share with it.

    Attributes:
        net: Pruned and trained; stays as it is.
        dense: The network before the first channel was removed; stays as it is.
        others: Smaller backbones, by name.
        tasks: As in `finetune`.
        settings: Of the stage.
        strategy: How to train.
        loss: What training minimises, a teacher's terms included.
        foreign_loss: The same for other backbones, whose features are not comparable.
        prune: Removes channels as settings say, in one step.
        report: What was measured of the pruned network.
        device: Where.
        work: Keeps what was chosen, trained and timed.
    """

    net: Net
    dense: Net
    others: Mapping[str, Net]
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
        """Of ONNX Runtime."""
        return self.settings.threads or usable_cores()

    def seen_by(self, net: Net) -> list[Task]:
        """The tasks with images as a network takes them."""
        return [task.with_preprocess(net.preprocess) for task in self.tasks]


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlSpec:
    """A control to be trained.

    Attributes:
        name: How the report calls it.
        folder: Of its work.
        start: Gives the network that a repeat begins with, from the repeat's seed.
        epochs: How long it is trained.
        advice: What to do to have it.
    """

    name: str
    folder: str
    start: Callable[[int], Net]
    epochs: int
    advice: str


def open_control_backbones(settings: Channels, like: Preprocess, device: Device) -> dict[str, Net]:
    """Open the backbones that the settings name, before anything is trained.

    Args:
        settings: Of the stage.
        like: What the pruned network's input looks like: so do theirs, unless they say otherwise or are models.
        device: Where the stage runs.

    Raises:
        SettingsError: If a backbone does not exist or cannot take such images, or several processes would time it.
        ModelFileError: If its weights do not fit.
    """
    if settings.controls != "none" and device.world > 1:
        raise SettingsError("controls are timed by one process", "start it without torchrun, or give controls = 'none'")
    nets: dict[str, Net] = {}
    for number, backbone in enumerate(settings.control_backbones, 1):
        name = Path(backbone.source.partition("@")[0]).name
        nets[f"{name} ({number})" if name in (DENSE, PRUNED, *nets) else name] = open_control_backbone(backbone, like)
    return nets


def open_control_backbone(backbone: BackboneSettings, like: Preprocess) -> Net:
    """Open one backbone for images as another network takes them; see `open_control_backbones`."""
    if artifact.find(backbone.source) is None:
        same = {name: getattr(backbone, name) or getattr(like, name) for name in ("size", "crop_pct", "crop")}
        backbone = backbone.model_copy(update=same)
    net, _notes = artifact.open_model(backbone)
    net.set_input_size(net.preprocess.size)
    return net


def control_specs(context: ControlContext) -> tuple[list[ControlSpec], list[str]]:
    """Return the controls that the settings ask for, and a sentence for each that cannot be made."""
    specs = [smaller_input_control(context), uniform_control(context)]
    if context.settings.controls == "full":
        specs += [redrawn_control(context)]
        specs += [backbone_control(context, number) for number in range(len(context.others))]
    return [s for s in specs if isinstance(s, ControlSpec)], [note for note in specs if isinstance(note, str)]


def smaller_input_control(context: ControlContext) -> ControlSpec | str:
    """The unpruned network on images so small that it is as fast as the pruned one; or why there is none."""
    known = context.work.once("control-side", lambda: {"side": equally_fast_side(context)})["side"]
    if not known:
        return "no control with smaller images: at no side that the network takes is it as fast as the pruned one"

    def start(_seed: int) -> Net:
        net = at_input_side(context.dense, known)
        plain = plain_batches(context.seen_by(net)[-1], 64, context.device, seed_of(context.settings.seed, "side"))
        recalibrate_(net, (inputs for inputs, _ in islice(plain, TAYLOR_BATCHES)))
        return net

    return ControlSpec(
        name=f"smaller input ({known} px)", folder="smaller-input", start=start, epochs=context.settings.fit.epochs,
        advice=f"finetune the unpruned network with size = {known}",
    )  # fmt: skip


def equally_fast_side(context: ControlContext) -> int:
    """Measure the largest side of the images at which the unpruned network is as fast as the pruned one; 0 is none."""
    with stopwatch(context.dense, context.threads, context.settings.seed) as time:
        limit = time(context.net).ratio * (1 + PRECISION)
        found = largest_within(
            input_sides(context.dense), lambda side: time(at_input_side(context.dense, side)).ratio, limit
        )
    return found or 0


def input_sides(net: Net) -> list[int]:
    """The sides that a network takes, from 8 pixels to its own, in steps of four."""
    full, found = net.preprocess.size, []
    for side in range(full % SIDE_STEP + LEAST_SIDE, full + 1, SIDE_STEP):
        try:
            at_input_side(net, side)
        except SettingsError:
            continue
        found.append(side)
    return found


def at_input_side(net: Net, side: int) -> Net:
    """Copy a network for images of another side."""
    copy = deepcopy(net)
    copy.set_input_size(side)
    return copy


def uniform_control(context: ControlContext) -> ControlSpec | str:
    """The unpruned network without the same share of each layer's weakest channels; or why there is none."""
    settings = context.settings
    if not settings.timed and (settings.scope, settings.importance) == ("layer", "magnitude"):
        return "no uniform control: the network itself was pruned by magnitude, alike in each layer"
    try:
        told = context.work.once("control-uniform", lambda: {"target": equal_cost_target(context)})["target"]
    except (ModelFileError, SettingsError) as error:
        return f"no uniform control: {error.problem}"
    alike = settings.model_copy(update={**NO_TARGET, **told, "importance": "magnitude", "scope": "layer", "steps": 1})

    def start(_seed: int) -> Net:
        net = at_input_side(context.dense, context.net.preprocess.size)
        context.prune(net, alike)
        return net

    values = ", ".join(f"{name} = {value:.4g}" for name, value in told.items())
    return ControlSpec(
        name=f"uniform, {'latency' if settings.timed else 'multiply-adds'} alike", folder="uniform", start=start,
        epochs=settings.fit.epochs,
        advice=f"prune channels with {values}, scope = 'layer', importance = 'magnitude'",
    )  # fmt: skip


def equal_cost_target(context: ControlContext) -> dict[str, float]:
    """Say how uniform pruning comes to the pruned network's latency or, without one as target, to its multiply-adds.

    Channel counts are rounded as the pruned network's; multiply-adds more finely, where they would be too few.

    Raises:
        SettingsError: If it cannot come to it.
        ModelFileError: As `remove_channels`.
    """
    settings = context.settings

    def alike(**told: Any) -> Net:
        net = at_input_side(context.dense, context.net.preprocess.size)
        remove_channels(net, scope="layer", exclude=settings.exclude, **told)
        return net

    if not settings.timed:
        ratio, wanted, step = context.report["macs/ratio"].value, multiply_adds(context.net), settings.round_to
        while step > 1 and multiply_adds(alike(macs_ratio=ratio, round_to=step)) < wanted / AS_FAST:
            step //= 2
        return {"macs_ratio": ratio, "round_to": step}
    with stopwatch(context.dense, context.threads, settings.seed) as time:
        limit = time(context.net).ratio * (1 + PRECISION)
        kept = largest_within(KEPT, lambda k: time(alike(ratio=1 - k, round_to=settings.round_to)).ratio, limit)
    if kept is None:
        raise SettingsError("removing the same share of each layer does not come to the latency")
    return {"ratio": round(1 - kept, 2), "round_to": settings.round_to}


def multiply_adds(net: Net) -> int:
    """Count multiply-adds for one image."""
    still = deepcopy(net).cpu().eval()
    return cost(still, example_of(still))[0]


def redrawn_control(context: ControlContext) -> ControlSpec:
    """The pruned network's shape with weights drawn anew."""

    def start(seed: int) -> Net:
        net = deepcopy(context.net)
        net.load_state_dict(initial_weights(net, seed_of(seed, "fresh") % 2**32), strict=False)
        return net

    return ControlSpec(
        name="weights drawn anew", folder="fresh", start=start, epochs=epochs_from_scratch(context.settings), advice=""
    )


def backbone_control(context: ControlContext, number: int) -> ControlSpec:
    """A smaller backbone that the settings name."""
    name, body = list(context.others.items())[number]

    def start(seed: int) -> Net:
        net = deepcopy(body).to(context.device.torch)
        new_head(net, context.tasks[-1], seed)
        return net

    return ControlSpec(
        name=name, folder=f"backbone-{number + 1}", start=start, epochs=epochs_from_scratch(context.settings),
        advice="finetune it instead of pruning",
    )  # fmt: skip


def epochs_from_scratch(settings: Channels) -> int:
    """How long to train what knows nothing of the task yet."""
    return settings.fit.epochs if settings.control_epochs is None else settings.control_epochs
