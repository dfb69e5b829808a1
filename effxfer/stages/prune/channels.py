"""Prune channels and fine-tune the smaller network."""

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
from effxfer.prune.recovery.reconstruct import reconstruct_
from effxfer.report import Report
from effxfer.stages.deliver.compressed_tasks import report_pruned
from effxfer.stages.prune.calibration import TAYLOR_BATCHES, losses, plain_batches, recalibrate_on_
from effxfer.stages.prune.channel_controls import compare_controls
from effxfer.stages.prune.control_networks import ControlContext, open_control_backbones
from effxfer.stages.prune.latency import prune_step_to_latency
from effxfer.stages.prune.unlabelled import with_answers
from effxfer.stages.settings.prune_settings import Channels
from effxfer.stages.train.begin import begin_training
from effxfer.stages.train.distillation import distillation_loss, load_teacher, loss_with_teacher
from effxfer.stages.train.finetune import accuracy_report, time_allowance, train, training_curves
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.fit import Row
from effxfer.train.state import Work, clone
from effxfer.transfer.regularized.block_maps import KeptOutputs, compose_kept, kept_channels

# 2 x 64 images: the loss is taken anew for every block that may leave, and orders blocks only. Chosen, not measured.
LOSS_BATCHES = 2
# 4 x 64 = 256 images; each gives a row per position, far more than a layer has inputs. Guide: channels.md.
SOLVE_BATCHES = 4


def channels(net: Net, tasks: Sequence[Task], settings: Channels, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Prune channels in steps, and fine-tune after each.

    Args:
        net: Network, changed in place; a ticket's pruned weights stay zero in the remaining channels.
        tasks: See `finetune`.
        settings: Pruning target, importance and training settings.
        device: Device of the training.
        work: Saves every finished step, and checkpoints of the current one.
    """
    began = time.perf_counter()
    training = begin_training(net, tasks, settings, device)
    strategy, loss = training.strategy, training.loss
    # Features are compared layer by layer, which another backbone does not have.
    outputs = settings.teacher.model_copy(update={"features": 0.0, "maps": 0.0})
    foreign = loss
    if settings.control_backbones:
        foreign, _ = distillation_loss(net, strategy, outputs, tasks[-1], head_is_new=training.head_is_new)
    # Processes that time at once slow each other, and would each remove other channels.
    if settings.timed and device.world > 1:
        raise SettingsError("a latency is measured by one process", "start it without torchrun, or give macs_ratio")
    side = settings.size or net.input.size
    # Before hours of training: a control that cannot be opened is an error now.
    control_backbones = open_control_backbones(settings, net.input.with_size(side), device)
    # Before the size changes: the baseline of latency keeps its own.
    dense = deepcopy(net)
    if settings.size:
        net.set_input_size(settings.size)
    before = score(net, tasks[-1].val, device)
    history, removed, kept_outputs = list[Row](), list[Report](), dict[str, list[int]]()
    # Images without labels are seen with the answers of the unpruned network.
    answered = with_answers(tasks[-1], net, device) if settings.teacher.logits else tasks[-1]
    tasks, notes = [*tasks[:-1], answered], answered.notes[len(tasks[-1].notes) :]
    teacher = load_teacher(settings.teacher, net) if settings.teacher.source else dense
    for step in range(1, settings.steps + 1):
        report, step_outputs = prune_step_once(net, dense, tasks, settings, step, device, work)
        removed.append(report)
        if settings.teacher.maps:
            kept_outputs = compose_kept(kept_outputs, step_outputs)
            loss = loss_with_teacher(teacher, tasks[-1], strategy, settings.teacher, kept_channels(net, kept_outputs))
        history += train(
            net, tasks, strategy, settings.fit.model_copy(update={"epochs": epochs_of(settings, step)}), device=device,
            seed=seed_of(settings.seed, step) % 2**31, work=work.part(f"step-{step}"), loss=loss,
            label=f"recover {step} of {settings.steps}", allowance=time_allowance(settings.seconds, began, tasks[-1]),
        )  # fmt: skip
    note = f"{net.output.title} on the validation split before channels were removed: {before:.2f} %"
    # Each step counts its epochs from 1; the curve is one.
    history = [{**row, "epoch": number} for number, row in enumerate(history, 1)]
    report = (
        accuracy_report(net, tasks[-1], device)
        + total_report(removed)
        + training_curves(history, title=net.output.title)
    )
    report += Report(notes=(note, *notes)) + training.notes + report_pruned(dense, net, tasks[-1], device)
    context = ControlContext(
        net=net, dense=dense, backbones=control_backbones, tasks=tasks, settings=settings, strategy=strategy, loss=loss,
        foreign_loss=foreign,
        prune=lambda control, alike: prune_step(control, dense, tasks, alike, 1, device), report=report,
        device=device, work=work,
    )  # fmt: skip
    return net, report + compare_controls(context)


def prune_step_once(
    net: Net, dense: Net, tasks: Sequence[Task], settings: Channels, step: int, device: Device, work: Work
) -> tuple[Report, KeptOutputs]:
    """Run `prune_step`, or restore its saved result on resume."""
    edits = len(net.edits)

    def compute() -> dict[str, Any]:
        report, kept_outputs = prune_step(net, dense, tasks, settings, step, device)
        weights = {name: tensor.cpu() for name, tensor in clone(net).items()}
        plain = {name: list(positions) for name, positions in kept_outputs.items()}
        return {"facts": json.dumps([net.edits[edits:], report.to_json(), plain]), "weights": weights}

    saved = work.once(f"cut-{step}", compute)
    new_edits, report, kept_outputs = json.loads(saved["facts"])
    # Equal only where the step was read from the disk; having just computed it, the network has its edits.
    if len(net.edits) == edits:
        for edit in new_edits:
            apply_edit(net, **edit)
    net.load_state_dict(saved["weights"])
    return Report.from_json(report), kept_outputs


def total_report(reports: Sequence[Report]) -> Report:
    """Combine the reports of several steps, from before the first to after the last."""
    first, last = reports[0], reports[-1]
    rows = []
    for row in last.rows:
        metric, _, kind = row.name.partition("/")
        if kind == "before":
            row = first[row.name]
        elif kind == "ratio":
            row = replace(row, value=last[f"{metric}/after"].value / first[f"{metric}/before"].value, low=nan, high=nan)
        rows.append(row)
    widths = {line["layer"]: line["before"] for line in first.tables[0].rows}
    table = replace(last.tables[0], rows=tuple({**r, "before": widths[r["layer"]]} for r in last.tables[0].rows))
    step_tables = tuple(
        replace(inner, title=f"{inner.title}, step {step} of {len(reports)}" if len(reports) > 1 else inner.title)
        for step, report in enumerate(reports, 1)
        for inner in report.tables[1:]
    )
    return Report(rows=tuple(rows), tables=(table, *step_tables), notes=last.notes, curves=last.curves)


def prune_step(
    net: Net, dense: Net, tasks: Sequence[Task], settings: Channels, step: int, device: Device
) -> tuple[Report, KeptOutputs]:  # fmt: skip
    """Remove this step's channels, reconstruct weights if enabled, and re-estimate BatchNorm statistics.

    All steps together reach the same size as a single one. With `ratio`, each step removes an equal number of the
    original channels; with `macs_ratio` and latencies, each step keeps the same fraction.
    `dense` is the network before the first step, the baseline of latencies. Returned are a report and, by layer, the
    outputs that it kept of those before this step.
    """
    plain = plain_batches(tasks[-1], 64, device, seed_of(settings.seed, "channels", step))
    examples = losses(plain, TAYLOR_BATCHES)

    def loss(pruned: Net) -> float:
        with no_grad():
            return float(stack([*islice(examples(pruned), LOSS_BATCHES)]).mean())

    before = deepcopy(net) if settings.solves else None
    if settings.timed:
        result = prune_step_to_latency(
            net, dense, settings, step, loss=loss, examples=examples, rows=tasks[-1].val.rows
        )  # fmt: skip
    else:
        ratio = None if settings.ratio is None else share(settings.ratio, step, settings.steps)
        macs_ratio = None if settings.macs_ratio is None else settings.macs_ratio ** (1 / settings.steps)
        result = remove_channels(
            net, ratio=ratio, macs_ratio=macs_ratio, importance=settings.importance, scope=settings.scope,
            round_to=settings.round_to, exclude=settings.exclude, examples=examples,
        )  # fmt: skip
    report = result.report
    # Before statistics are estimated: they must be those of the weights that stay.
    if before:
        report += reconstruct_(net, before, lambda: (x for x, _ in islice(plain, SOLVE_BATCHES)), result.kept_outputs)
    recalibrate_on_(net, plain)
    return report, result.kept_outputs


def share(ratio: float, step: int, steps: int) -> float:
    """Fraction of the remaining channels to remove in a step.

    >>> share(0.5, 1, 2), round(share(0.5, 2, 2), 4)
    (0.25, 0.3333)
    """
    part = ratio / steps
    return part / (1 - part * (step - 1))


def epochs_of(settings: Channels, step: int) -> int:
    """Epochs of a step: half of all for the last step, the others share the rest evenly."""
    if settings.steps == 1:
        return settings.fit.epochs
    # Chosen, not measured: earlier steps only need weights good enough to rank, the last one's are kept.
    last = (settings.fit.epochs + 1) // 2
    early, extra = divmod(settings.fit.epochs - last, settings.steps - 1)
    return last if step == settings.steps else early + (step <= extra)
