"""Train the controls of channel pruning, and put the pruned network beside them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from effxfer.artifact import describe
from effxfer.data.batches.batches import seed_of
from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.net.backbones import trust
from effxfer.net.edits import rebuild
from effxfer.net.net import Net
from effxfer.process.scratch import scratch_folder
from effxfer.prune.channels.channel_controls import ControlResult, report_channel_controls
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.report import Report, extent
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.stages.prune.control_networks import ControlContext, ControlSpec, multiply_adds, rivals
from effxfer.stages.prune.ticket_controls import repeat_seed
from effxfer.stages.runner.onnx_timing import DENSE, PRUNED, exported, in_turns
from effxfer.stages.train.finetune import train
from effxfer.train.evaluate import score
from effxfer.train.optim.gradients import Loss
from effxfer.train.state import clone


def compared(contest: ControlContext) -> Report:
    """Train the controls that the settings ask for, time all networks in turns, and compare them with the pruned one.

    A control that cannot be made, trained or exported is left out, and a note says why.
    """
    if contest.settings.controls == "none":
        return Report()
    notes = list[str]()
    runs = {rival: found for rival in rivals(contest, notes) if (found := trained(contest, rival, notes))}
    nets = {DENSE: contest.dense, PRUNED: contest.net, **{rival.name: network(runs[rival][0]) for rival in runs}}
    timings = raced(contest, nets, notes)

    def contender(name: str, epochs: int | str, found: list[Mapping[str, float]], advice: str = "") -> ControlResult:
        return ControlResult(
            name=name, epochs=epochs, scores={split: [one[split] for one in found] for split in found[0]},
            timing=timings[name], macs=multiply_adds(nets[name]), advice=advice,
        )  # fmt: skip

    ours = {split: contest.report[f"accuracy/{split}"].value for split in contest.tasks[-1].reported}
    controls = [
        contender(
            rival.name,
            extent(one.get("epochs", rival.epochs) for one in found),
            [one["scores"] for one in found],
            rival.advice,
        )
        for rival, found in runs.items()
        if rival.name in timings
    ]
    dense = contender(DENSE, 0, [scores(contest, contest.dense)])
    pruned = contender(PRUNED, int(contest.report.get("epochs") or 0), [ours])
    return report_channel_controls(dense, pruned, controls) + Report(notes=tuple(notes))


def trained(contest: ControlContext, rival: ControlSpec, notes: list[str]) -> list[dict[str, Any]]:
    """Train a control as often as the settings ask for; nothing, and a note, where that cannot be done."""
    repeats = contest.settings.control_seeds if contest.settings.controls == "full" else 1
    try:
        return [
            contest.work.once(f"control-{rival.folder}-{number}", partial(train_once, contest, rival, number))
            for number in range(repeats)
        ]
    except (GateError, ModelFileError, SettingsError) as error:
        notes.append(f"no control {rival.name}: {error.problem}")
        return []


def train_once(contest: ControlContext, rival: ControlSpec, number: int) -> dict[str, Any]:
    """Train a control once; give its scores, and of the first repeat the network."""
    settings, seed = contest.settings, repeat_seed(contest.settings.seed, number)
    net = rival.start(seed)
    history = train(
        net, contest.seen_by(net), contest.strategy, settings.fit.model_copy(update={"epochs": rival.epochs}),
        device=contest.device, seed=seed_of(seed, 1) % 2**31, loss=loss_for(contest, net),
        work=contest.work.at(f"control-{rival.folder}-{number}"), label=f"control {rival.name} {number + 1}",
    )  # fmt: skip
    weights = {} if number else {name: tensor.cpu() for name, tensor in clone(net).items()}
    found = {"scores": scores(contest, net), "epochs": len(history)}
    return {**found, "about": json.dumps(describe(net)), "weights": weights}


def loss_for(contest: ControlContext, net: Net) -> Loss:
    """Give the pruned network's loss for another one; a teacher sees images normalised as it knows them."""
    own, known = net.preprocess, contest.dense.preprocess
    told = contest.loss if net.backbone == contest.dense.backbone else contest.foreign_loss
    if not contest.settings.teacher.listens or (own.mean, own.std) == (known.mean, known.std):
        return told

    def loss(learner: Any, batch: Any, progress: float) -> Mapping[str, torch.Tensor]:
        images, *rest = batch
        here, there = (torch.tensor([p.mean, p.std], device=images.device)[..., None, None] for p in (own, known))
        seen = (images * here[1] + here[0] - there[0]) / there[1]
        return told(lambda _images: learner(images), (seen, *rest), progress)

    return loss


def scores(contest: ControlContext, net: Net) -> dict[str, float]:
    """Measure accuracy in percent on the validation and the test split."""
    task = contest.seen_by(net)[-1]
    splits = task.reported.items()
    return {name: score(net, split, net.preprocess, contest.device, name).value for name, split in splits}


def network(found: Mapping[str, Any]) -> Net:
    """Rebuild the network of a first repeat."""
    about = json.loads(found["about"])
    trust.check(about["backbone"], "unfinished work")
    net = rebuild(about["backbone"], about["edits"], Preprocess.from_json(about["preprocess"]), about["classes"])
    net.load_state_dict(found["weights"])
    return net.eval()


def raced(contest: ControlContext, nets: Mapping[str, Net], notes: list[str]) -> dict[str, PairedTiming]:
    """Export networks and time the files in turns, the first one being the dense network's."""

    def compute() -> dict[str, Any]:
        files, refused = dict[str, Path](), dict[str, str]()
        with scratch_folder() as folder:
            for number, (name, net) in enumerate(nets.items()):
                try:
                    files[name] = exported(net, folder / f"{number}.onnx")
                except ModelFileError as error:
                    if name in (DENSE, PRUNED):
                        raise
                    refused[name] = error.problem
            timings = in_turns(files, contest.threads, contest.settings.seed)
        return {"timings": {name: asdict(timing) for name, timing in timings.items()}, "refused": refused}

    found = contest.work.once("control-timings", compute)
    notes += [f"no control {name}: it cannot be exported: {problem}" for name, problem in found["refused"].items()]
    return {name: PairedTiming(**timing) for name, timing in found["timings"].items()}
