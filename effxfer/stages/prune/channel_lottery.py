"""Find a lottery ticket of whole channels."""

from collections.abc import Sequence

from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.prune.channels.channel_lottery import find_structured_ticket, report
from effxfer.prune.weights.mask import Mask
from effxfer.report import Report
from effxfer.stages.prune.calibration import TAYLOR_BATCHES, losses, plain_batches, recalibrate_on_
from effxfer.stages.prune.lottery import rewind_point
from effxfer.stages.prune.ticket import rewind_text, write_ticket_file
from effxfer.stages.settings.prune_settings import Structured
from effxfer.stages.train.begin import begin_training
from effxfer.stages.train.finetune import accuracy_report, train
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.fit import StepRange
from effxfer.train.state import Work


def structured(
    net: Net, tasks: Sequence[Task], settings: Structured, *, device: Device, work: Work
) -> tuple[Net, Report]:  # fmt: skip
    """Find a structured ticket: train, remove channels by mask, rewind, `settings.rounds` times, then train the ticket.

    Args:
        net: Network, changed in place into the trained ticket, with its masks.
        tasks: See `finetune`.
        settings: Pruning target and training settings.
        device: Device of the training.
        work: Saves every finished round, and checkpoints of the current one.
    """
    training = begin_training(net, tasks, settings, device)
    strategy, loss = training.strategy, training.loss
    first, start = rewind_point(net, tasks, strategy, settings, device, work, loss)
    plain = plain_batches(tasks[-1], 64, device, seed_of(settings.seed, "structured"))

    def train_round(net: Net, mask: Mask, number: int) -> float:
        mask.store_(net)
        if number:
            # Removed channels shift what the layers above see, and with a small momentum, as of networks from
            # TensorFlow, a few epochs do not move the statistics there.
            net.apply_masks_()
            recalibrate_on_(net, plain)
        train(
            net, tasks, strategy, settings.fit, device=device, seed=settings.seed, span=StepRange(first=first),
            work=work.part(f"round-{number}"), label=f"structured round {number} of {settings.rounds}",
            loss=loss,
        )  # fmt: skip
        return score(net, tasks[-1].val, device)

    ticket = find_structured_ticket(
        net, train_round, ratio=settings.ratio or 0.0, rounds=settings.rounds, importance=settings.importance,
        scope=settings.scope, round_to=settings.round_to, exclude=settings.exclude, rewind=start,
        examples=losses(plain, TAYLOR_BATCHES), remember=work.once,
    )  # fmt: skip
    rows = accuracy_report(net, tasks[-1], device) + report(net, ticket) + training.notes
    write_ticket_file(
        net, start, settings, rewind=rewind_text(settings), tasks=tasks, report=rows, device=device, work=work
    )  # fmt: skip
    return net, rows
