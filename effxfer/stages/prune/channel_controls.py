"""Train the control networks of channel pruning, and compare the pruned network with them."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from effxfer.data.batches.batches import seed_of
from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.prune.channels.channel_controls import ControlResult, report_channel_controls
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.report import Report, extent
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.stages.prune.control_networks import ControlContext, ControlSpec, control_specs, multiply_adds
from effxfer.stages.prune.ticket_controls import repeat_seed
from effxfer.stages.runner.onnx_timing import DENSE, PRUNED, export_plain, time_in_turns
from effxfer.stages.runner.saved_net import net_from_state, net_outline, net_state
from effxfer.stages.train.finetune import train
from effxfer.train.evaluate import score
from effxfer.train.optim.gradients import Loss


def compare_controls(context: ControlContext) -> Report:
    """Train the controls that the settings request, time all networks in turns, and compare them with the pruned one.

    A control that cannot be built, trained or exported is skipped with a note.
    """
    if context.settings.controls == "none":
        return Report()
    specs, notes = control_specs(context)
    outcomes = {spec: train_control(context, spec) for spec in specs}
    # A string is the reason why a control failed.
    runs = {spec: repeats for spec, repeats in outcomes.items() if not isinstance(repeats, str)}
    nets = {DENSE: context.dense, PRUNED: context.net, **{spec.name: net_from_state(runs[spec][0]) for spec in runs}}
    timings, unexported = time_models(context, nets)
    notes += [*(problem for problem in outcomes.values() if isinstance(problem, str)), *unexported]

    def result(name: str, epochs: int | str, repeats: list[Mapping[str, float]], advice: str = "") -> ControlResult:
        return ControlResult(
            name=name, epochs=epochs, scores={split: [row[split] for row in repeats] for split in repeats[0]},
            timing=timings[name], macs=multiply_adds(nets[name]), advice=advice,
        )  # fmt: skip

    output = context.net.output
    ours = {split: context.report[f"{output.metric}/{split}"].value for split in context.tasks[-1].reported_splits}
    controls = [
        result(
            spec.name,
            extent(run.get("epochs", spec.epochs) for run in repeats),
            [run["scores"] for run in repeats],
            spec.advice,
        )
        for spec, repeats in runs.items()
        if spec.name in timings
    ]
    dense = result(DENSE, 0, [scores(context, context.dense)])
    pruned = result(PRUNED, int(context.report.get("epochs") or 0), [ours])
    return report_channel_controls(dense, pruned, controls, output.title) + Report(notes=tuple(notes))


def train_control(context: ControlContext, spec: ControlSpec) -> list[dict[str, Any]] | str:
    """Train all repeats of a control; return them, or a note if the control fails."""
    repeats = context.settings.control_seeds if context.settings.controls == "full" else 1
    try:
        return [
            context.work.once(f"control-{spec.folder}-{number}", partial(train_repeat, context, spec, number))
            for number in range(repeats)
        ]
    except (GateError, ModelFileError, SettingsError) as error:
        return f"no control {spec.name}: {error.problem}"


def train_repeat(context: ControlContext, spec: ControlSpec, number: int) -> dict[str, Any]:
    """Train a control once; return its scores, and the network of the first repeat."""
    settings, seed = context.settings, repeat_seed(context.settings.seed, number)
    net = spec.start(seed)
    history = train(
        net, context.tasks_for(net), context.strategy, settings.fit.model_copy(update={"epochs": spec.epochs}),
        device=context.device, seed=seed_of(seed, 1) % 2**31, loss=loss_for(context, net),
        work=context.work.part(f"control-{spec.folder}-{number}"), label=f"control {spec.name} {number + 1}",
    )  # fmt: skip
    # Only one is timed: latency does not depend on the values of weights.
    state = {**net_outline(net), "weights": {}} if number else net_state(net)
    return {"scores": scores(context, net), "epochs": len(history), **state}


def loss_for(context: ControlContext, net: Net) -> Loss:
    """Return the training loss for a control; a teacher still sees images with its own normalisation."""
    native, teacher = net.input, context.dense.input
    teacher_loss = context.loss if net.backbone == context.dense.backbone else context.foreign_loss
    if not isinstance(native, Preprocess) or not isinstance(teacher, Preprocess):
        return teacher_loss
    if not context.settings.teacher.listens or (native.mean, native.std) == (teacher.mean, teacher.std):
        return teacher_loss

    def loss(learner: Any, batch: Any, progress: float) -> Mapping[str, torch.Tensor]:
        images, *labels = batch
        device = images.device
        old, new = (torch.tensor([p.mean, p.std], device=device)[..., None, None] for p in (native, teacher))
        renormalized = (images * old[1] + old[0] - new[0]) / new[1]
        return teacher_loss(lambda _images: learner(images), (renormalized, *labels), progress)

    return loss


def scores(context: ControlContext, net: Net) -> dict[str, float]:
    """Evaluate accuracy in percent on the validation and the test split."""
    task = context.tasks_for(net)[-1]
    splits = task.reported_splits.items()
    return {name: score(net, split, context.device) for name, split in splits}


def time_models(
    context: ControlContext, nets: Mapping[str, Net]
) -> tuple[dict[str, PairedTiming], list[str]]:  # fmt: skip
    """Export networks and time the files in turns, the first one being the dense network's.

    Returns:
        Timings by name, and a sentence for each control that cannot be exported.
    """

    def compute() -> dict[str, Any]:
        files, refused = dict[str, Path](), dict[str, str]()
        with scratch_folder() as folder:
            for number, (name, net) in enumerate(nets.items()):
                try:
                    files[name] = export_plain(net, folder / f"{number}.onnx", rows=context.tasks[-1].val.rows)
                except ModelFileError as error:
                    # Nothing can be compared without these two.
                    if name in (DENSE, PRUNED):
                        raise
                    refused[name] = error.problem
            timings = time_in_turns(files, context.threads, context.settings.seed)
        return {"timings": {name: asdict(timing) for name, timing in timings.items()}, "refused": refused}

    measured = context.work.once("control-timings", compute)
    notes = [f"no control {name}: it cannot be exported: {problem}" for name, problem in measured["refused"].items()]
    return {name: PairedTiming(**timing) for name, timing in measured["timings"].items()}, notes
