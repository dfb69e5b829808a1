"""Train a ticket on a task, and leave one behind for others.

On tasks that they were not found on: Chen et al., 2021, https://arxiv.org/abs/2012.06908 (weights rewound to the
pretrained ones), and Iofinova et al., 2022, https://arxiv.org/abs/2111.13445 (weights that were trained sparse).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from effxfer import artifact
from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.files import write_atomic
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.prune.channels.channel_lottery import random_units_mask
from effxfer.prune.tickets.file import pack
from effxfer.prune.weights.controls import random_mask
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.sparsity import density
from effxfer.report import Report
from effxfer.stages.settings.common import TICKET
from effxfer.stages.settings.prune_settings import Gradual, Lottery, Structured
from effxfer.stages.settings.ticket_settings import Ticket
from effxfer.stages.train.finetune import accuracy_report, train, training_curves
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer.strategies import make_strategy

STRUCTURED = "prune structured"
TRAINED = "the weights that the ticket was trained to"


def ticket(
    net: Net, tasks: Sequence[Task], settings: Ticket, *, device: Device, work: Work, recipe: Mapping[str, Any]
) -> tuple[Net, Report]:
    """Train a ticket, or one of its controls, from its rewind point on the last of `tasks`.

    Args:
        net: The body at the rewind point, with the ticket's masks and nothing zeroed yet; changed in place.
        tasks: As in `finetune`.
        settings: What differs from the recipe.
        device: Where.
        work: Where checkpoints go.
        recipe: Name and settings of the stage that found the ticket.

    Raises:
        SettingsError: If the strategy does not take the options.
    """
    name, options, fit = settings.training(recipe)
    strategy = make_strategy(name, options)
    if settings.size:
        net.set_input_size(settings.size)
    new_head(net, tasks[-1], settings.seed)  # without one, the body's last channels would seem to be its result
    change_mask(net, settings, structured=recipe["stage"] == STRUCTURED)
    strategy, why = strategy.choose(net.to(device.torch), tasks)
    history = train(net, tasks, strategy, fit, device=device, seed=settings.seed, work=work)
    held = Mask({name: keep.clone() for name, keep in net.masks().items()})
    held.check_zero(net)
    report = accuracy_report(net, tasks[-1], device) + (density(net, held) if held.keep else Report())
    return net, report + training_curves(history) + why


@torch.no_grad()
def change_mask(net: Net, settings: Ticket, *, structured: bool) -> None:
    """Leave a network the ticket's masks, or give it those of a control; what they remove is zeroed in training."""
    names = list(net.masks())
    if settings.mask == "none":
        apply_edit(net, "densify", weights=names)
    if settings.mask == "random":
        seed = seed_of(settings.seed, "ticket", "random") % 2**32
        held = Mask({name: keep.clone() for name, keep in net.masks().items()})
        full = Mask({name: torch.ones_like(keep) for name, keep in held.keep.items()})
        drawn = random_units_mask(net, seed) if structured else random_mask(net, held, full, seed)
        for name, keep in net.masks().items():
            keep.copy_(drawn.keep[name])


def leave_ticket(
    net: Net, start: Mapping[str, Tensor], settings: Lottery | Gradual | Structured, *, rewind: str,
    tasks: Sequence[Task], report: Report, device: Device, work: Work,
) -> None:  # fmt: skip
    """Write `ticket.safetensors` beside the result of a stage that found one; it holds its weights, so that it travels.

    Args:
        net: Holds the ticket's masks.
        start: The state (weights and buffers) at the rewind point.
        settings: Of the stage.
        rewind: The rewind point in words.
        tasks: What the ticket was found on.
        report: What it reached there.
        device: Only the process that leads writes.
        work: The file is left in its `result`.
    """
    file = work.result
    if file is None or not device.leads:
        return
    origin = {
        "key": work.key,
        "data": [{"name": task.name, "digest": task.digest, "classes": len(task.classes)} for task in tasks],
        "reached": {row.name: row.value for row in report.rows if row.name.startswith("accuracy/")},
        "versions": artifact.versions(),
    }
    recipe = {"stage": f"prune {settings.method}", "settings": settings.plain()}
    write_atomic(file / TICKET, pack(net, start, rewind=rewind, recipe=recipe, origin=origin).content)


def rewound(settings: Lottery | Structured) -> str:
    """Say in words which weights a stage's rounds go back to."""
    if settings.rewind == "init":
        return "weights drawn anew"
    if settings.rewind in ("rate", "none"):
        return TRAINED
    if isinstance(settings.rewind, str) or not settings.rewind:
        return "the weights that the stage got"
    return f"the weights after {settings.rewind:g} epochs"
