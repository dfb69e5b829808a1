"""Remove channels, and train what is left."""

import json
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from math import nan
from typing import Any

from torch import no_grad, stack

from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.recovery.recalibrate import recalibrate_
from effxfer.prune.recovery.reconstruct import reconstruct_
from effxfer.report import Report
from effxfer.stages.prune.calibration import TAYLOR_BATCHES, losses, plain_batches
from effxfer.stages.prune.channel_controls import compare_controls
from effxfer.stages.prune.control_networks import ControlContext, open_control_backbones
from effxfer.stages.prune.latency import prune_step_to_latency
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.begin import begin_training
from effxfer.stages.train.distillation import distillation_loss
from effxfer.stages.train.finetune import accuracy_report, time_allowance, train, training_curves
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.fit import Row
from effxfer.train.state import Work, clone

LOSS_BATCHES = 2
SOLVE_BATCHES = 4


def channels(net: Net, tasks: Sequence[Task], settings: Channels, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Remove channels in steps, and train after each.

    Args:
        net: Changed in place; a ticket's zeros stay zeros where their channels stay.
        tasks: As in `finetune`.
        settings: How much to remove, by which measure, and how to train.
        device: Where.
        work: Keeps every finished step and the checkpoint of the present one.
    """
    began = time.perf_counter()
    training = begin_training(net, tasks, settings, device)
    strategy, loss = training.strategy, training.loss
    outputs = settings.teacher.model_copy(update={"features": 0.0})
    foreign = loss
    if settings.control_backbones:
        foreign, _ = distillation_loss(net, strategy, outputs, head_is_new=training.head_is_new)
    if settings.timed and device.world > 1:
        raise SettingsError("a latency is measured by one process", "start it without torchrun, or give macs_ratio")
    side = settings.size or net.preprocess.size
    others = open_control_backbones(settings, replace(net.preprocess, size=side), device)
    dense = deepcopy(net)
    if settings.size:
        net.set_input_size(settings.size)
    before = score(net, tasks[-1].val, net.preprocess, device, "accuracy/val before").value
    history, removed = list[Row](), list[Report]()
    for step in range(1, settings.steps + 1):
        removed.append(prune_step_once(net, dense, tasks, settings, step, device, work))
        history += train(
            net, tasks, strategy, settings.fit.model_copy(update={"epochs": epochs_of(settings, step)}), device=device,
            seed=seed_of(settings.seed, step) % 2**31, work=work.at(f"step-{step}"), loss=loss,
            label=f"recover {step} of {settings.steps}", allowance=time_allowance(settings.seconds, began, tasks[-1]),
        )  # fmt: skip
    note = f"accuracy on the validation split before channels were removed: {before:.2f} %"
    history = [{**row, "epoch": number} for number, row in enumerate(history, 1)]
    report = accuracy_report(net, tasks[-1], device) + total_report(removed) + training_curves(history)
    report += Report(notes=(note,)) + training.notes
    context = ControlContext(
        net=net, dense=dense, others=others, tasks=tasks, settings=settings, strategy=strategy, loss=loss,
        foreign_loss=foreign,
        prune=lambda control, alike: prune_step(control, dense, tasks, alike, 1, device), report=report,
        device=device, work=work,
    )  # fmt: skip
    return net, report + compare_controls(context)


def prune_step_once(
    net: Net, dense: Net, tasks: Sequence[Task], settings: Channels, step: int, device: Device, work: Work
) -> Report:
    """Run `prune_step`, or restore its saved result on resume."""
    edits = len(net.edits)

    def compute() -> dict[str, Any]:
        report = prune_step(net, dense, tasks, settings, step, device)
        weights = {name: tensor.cpu() for name, tensor in clone(net).items()}
        return {"facts": json.dumps([net.edits[edits:], report.to_json()]), "weights": weights}

    found = work.once(f"cut-{step}", compute)
    fresh, report = json.loads(found["facts"])
    if len(net.edits) == edits:
        for edit in fresh:
            apply_edit(net, **edit)
    net.load_state_dict(found["weights"])
    return Report.from_json(report)


def total_report(reports: Sequence[Report]) -> Report:
    """Tell what several cuts came to, from before the first to after the last."""
    first, last = reports[0], reports[-1]
    rows = []
    for row in last.rows:
        of, _, which = row.name.partition("/")
        if which == "before":
            row = first[row.name]
        elif which == "ratio":
            row = replace(row, value=last[f"{of}/after"].value / first[f"{of}/before"].value, low=nan, high=nan)
        rows.append(row)
    widths = {line["layer"]: line["before"] for line in first.tables[0].rows}
    table = replace(last.tables[0], rows=tuple({**r, "before": widths[r["layer"]]} for r in last.tables[0].rows))
    more = tuple(
        replace(one, title=f"{one.title}, step {step} of {len(reports)}" if len(reports) > 1 else one.title)
        for step, report in enumerate(reports, 1)
        for one in report.tables[1:]
    )
    return Report(rows=tuple(rows), tables=(table, *more), notes=last.notes, curves=last.curves)


def prune_step(net: Net, dense: Net, tasks: Sequence[Task], settings: Channels, step: int, device: Device) -> Report:
    """Remove this step's share of the channels, solve weights anew if asked, and estimate BatchNorm statistics anew.

    The shares are such that what all steps together leave is what one step would: of `ratio`, each step removes an
    equal part of the channels that there were at first; of `macs_ratio` and latencies, each step keeps the same share.
    `dense` is the network before the first step, which latencies are compared with.
    """
    plain = plain_batches(tasks[-1], 64, device, seed_of(settings.seed, "channels", step))
    examples = losses(plain, TAYLOR_BATCHES)

    def loss(pruned: Net) -> float:
        with no_grad():
            return float(stack([*islice(examples(pruned), LOSS_BATCHES)]).mean())

    before = deepcopy(net) if settings.solves else None
    if settings.timed:
        result = prune_step_to_latency(net, dense, settings, step, loss=loss, examples=examples)
    else:
        ratio = None if settings.ratio is None else share(settings.ratio, step, settings.steps)
        macs_ratio = None if settings.macs_ratio is None else settings.macs_ratio ** (1 / settings.steps)
        result = remove_channels(
            net, ratio=ratio, macs_ratio=macs_ratio, importance=settings.importance, scope=settings.scope,
            round_to=settings.round_to, exclude=settings.exclude, examples=examples,
        )  # fmt: skip
    report = result.report
    if before:
        report += reconstruct_(net, before, lambda: (x for x, _ in islice(plain, SOLVE_BATCHES)), result.kept_outputs)
    recalibrate_(net, (inputs for inputs, _ in islice(plain, TAYLOR_BATCHES)))
    return report


def share(ratio: float, step: int, steps: int) -> float:
    """What to remove in a step, as a share of what the steps before it left.

    >>> share(0.5, 1, 2), round(share(0.5, 2, 2), 4)
    (0.25, 0.3333)
    """
    part = ratio / steps
    return part / (1 - part * (step - 1))


def epochs_of(settings: Channels, step: int) -> int:
    """Share the epochs among the steps: half of them to the last, the rest evenly to the others."""
    if settings.steps == 1:
        return settings.fit.epochs
    last = (settings.fit.epochs + 1) // 2
    early, extra = divmod(settings.fit.epochs - last, settings.steps - 1)
    return last if step == settings.steps else early + (step <= extra)
