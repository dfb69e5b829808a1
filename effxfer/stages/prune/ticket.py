"""Train a ticket on a task, and write ticket files.

Transfer of tickets to new tasks: Chen et al., 2021, https://arxiv.org/abs/2012.06908 (weights rewound to the
pretrained ones), and Iofinova et al., 2022, https://arxiv.org/abs/2111.13445 (weights that were trained sparse).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from effxfer import artifact
from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.prune.channels.channel_lottery import random_units_mask
from effxfer.prune.tickets.file import pack
from effxfer.prune.weights.controls import random_mask
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.sparsity import density
from effxfer.report import Report
from effxfer.stages.prune.calibration import plain_batches, recalibrate_on_
from effxfer.stages.settings.common import TICKET
from effxfer.stages.settings.prune_settings import Gradual, Lottery, Structured
from effxfer.stages.settings.ticket_settings import Ticket
from effxfer.stages.train.finetune import accuracy_report, train, training_curves
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer.strategies import make_strategy, require_kind

STRUCTURED = "prune structured"
TRAINED = "the weights that the ticket was trained to"


def ticket(
    net: Net, tasks: Sequence[Task], settings: Ticket, *, device: Device, work: Work, recipe: Mapping[str, Any]
) -> tuple[Net, Report]:
    """Train a ticket, or one of its controls, from its rewind point on the last of `tasks`.

    Args:
        net: The body at the rewind point, with the ticket's masks but without zeroed weights; changed in place.
        tasks: See `finetune`.
        settings: Changes to the recipe.
        device: Device of the training.
        work: Stores checkpoints.
        recipe: Name and settings of the stage that found the ticket.

    Raises:
        SettingsError: If the strategy does not accept the options.
    """
    name, options, fit = settings.training(recipe)
    strategy = make_strategy(name, options)
    require_kind(strategy, tasks[-1])
    if settings.size:
        net.set_input_size(settings.size)
    new_head(net, tasks[-1], settings.seed)  # without a head, the body's last channels would count as outputs
    structured = recipe["stage"] == STRUCTURED
    change_mask(net, settings, structured=structured)
    net.to(device.torch)
    if structured and net.masks():
        net.apply_masks_()
        recalibrate_on_(net, plain_batches(tasks[-1], 64, device, seed_of(settings.seed, "structured")))
    strategy, choice = strategy.choose(net, tasks)
    history = train(net, tasks, strategy, fit, device=device, seed=settings.seed, work=work)
    mask = Mask({name: keep.clone() for name, keep in net.masks().items()})
    # What was trained must still be sparse: a strategy that averages or merges could fill zeros.
    mask.check_zero(net)
    report = accuracy_report(net, tasks[-1], device) + (density(net, mask) if mask.keep else Report())
    return net, report + training_curves(history, title=net.output.title) + choice


@torch.no_grad()
def change_mask(net: Net, settings: Ticket, *, structured: bool) -> None:
    """Replace the ticket's masks by those of a control if the settings say so; training zeroes the weights."""
    names = list(net.masks())
    if settings.mask == "none":
        apply_edit(net, "densify", weights=names)
    if settings.mask == "random":
        seed = seed_of(settings.seed, "ticket", "random") % 2**32
        mask = Mask({name: keep.clone() for name, keep in net.masks().items()})
        full = Mask({name: torch.ones_like(keep) for name, keep in mask.keep.items()})
        random = random_units_mask(net, seed) if structured else random_mask(net, mask, full, seed)
        for name, keep in net.masks().items():
            keep.copy_(random.keep[name])


def write_ticket_file(
    net: Net, start: Mapping[str, Tensor], settings: Lottery | Gradual | Structured, *, rewind: str,
    tasks: Sequence[Task], report: Report, device: Device, work: Work,
) -> None:  # fmt: skip
    """Write `ticket.safetensors`, with its weights, next to the result of the stage that found it.

    Args:
        net: Holds the ticket's masks.
        start: The state (weights and buffers) at the rewind point.
        settings: Settings of the stage.
        rewind: The rewind point in words.
        tasks: Tasks that the ticket was found on.
        report: Report of its accuracy on them.
        device: Device; only the leading process writes.
        work: Its `result` directory receives the file.
    """
    file = work.result
    if file is None or not device.leads:
        return
    origin = {
        "key": work.key,
        "data": [{"name": task.name, "digest": task.digest, "classes": len(task.classes)} for task in tasks],
        "reached": {row.name: row.value for row in report.scores},
        "versions": artifact.versions(),
    }
    recipe = {"stage": f"prune {settings.method}", "settings": settings.plain()}
    pack(net, start, rewind=rewind, recipe=recipe, origin=origin).save(file / TICKET)


def rewind_text(settings: Lottery | Structured) -> str:
    """Describe the weights that the rounds of a stage start from."""
    if settings.rewind == "init":
        return "weights drawn anew"
    if settings.rewind in ("rate", "none"):
        return TRAINED
    if isinstance(settings.rewind, str) or not settings.rewind:
        return "the weights that the stage got"
    return f"the weights after {settings.rewind:g} epochs"
