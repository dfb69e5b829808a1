"""Remove weights (lottery tickets) or channels, and train what is left."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import islice

from torch import Tensor, nn

from effxfer.data.augment import Augment
from effxfer.data.batches import images, seed_of
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.prune.lottery import find_ticket, report
from effxfer.prune.mask import Mask
from effxfer.prune.recalibrate import recalibrate_
from effxfer.prune.structured import remove_channels
from effxfer.report import Report
from effxfer.stages.finetune import choose, fresh_head, learning, measured, train
from effxfer.stages.settings import Channels, Lottery
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.fit import Row, Span
from effxfer.train.state import Work, clone
from effxfer.transfer.base import Strategy
from effxfer.transfer.distill import distilled

TAYLOR_BATCHES = 16


def lottery(net: Net, tasks: Sequence[Task], settings: Lottery, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Find a lottery ticket: train, prune, rewind, `settings.rounds` times, then train the ticket.

    Args:
        net: Changed in place; ends as the trained ticket, with its masks.
        tasks: As in `finetune`.
        settings: How much to remove, and how to train.
        device: Where.
        work: Keeps every finished round and the checkpoint of the present one.
    """
    strategy = choose(settings.strategy, settings.options)
    fresh_head(net, tasks[-1], settings.seed)
    net.to(device.torch)
    first, start = rewind_point(net, tasks, strategy, settings, device, work)

    def train_round(net: Net, mask: Mask, number: int) -> float:
        mask.store_(net)
        train(
            net, tasks, strategy, settings.fit, device=device, seed=settings.seed, span=Span(first=first),
            work=work.at(f"round-{number}"), label=f"ticket round {number} of {settings.rounds}",
        )  # fmt: skip
        return score(net, tasks[-1].val, net.preprocess, device, "val").value

    ticket = find_ticket(
        net, train_round, sparsity=settings.sparsity, rounds=settings.rounds, scope=settings.scope,
        exclude=settings.exclude, rewind=start, remember=work.once,
    )  # fmt: skip
    return net, measured(net, tasks[-1], device) + report(net, ticket)


def rewind_point(
    net: Net, tasks: Sequence[Task], strategy: Strategy, settings: Lottery, device: Device, work: Work
) -> tuple[int, dict[str, Tensor]]:
    """Give the step and the weights that rounds go back to (Frankle et al., 2019, https://arxiv.org/abs/1912.05671)."""
    if not settings.rewind:
        return 0, clone(net)
    length = len(strategy.draw(strategy.prepare(net, tasks), tasks, device.torch)(0))
    step = round(settings.rewind * length)
    if step >= settings.fit.epochs * length:
        raise SettingsError(f"rewind is {settings.rewind} epochs of {settings.fit.epochs}", "rewind to an early point")
    train(
        net, tasks, strategy, settings.fit, device=device, seed=settings.seed, span=Span(last=step),
        work=work.at("rewind"), label="train to the rewind point",
    )  # fmt: skip
    return step, clone(net)


def channels(net: Net, tasks: Sequence[Task], settings: Channels, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Remove channels in steps, and train after each.

    Args:
        net: Changed in place; a ticket's zeros stay zeros where their channels stay.
        tasks: As in `finetune`.
        settings: How much to remove, by which measure, and how to train.
        device: Where.
        work: Keeps every finished step and the checkpoint of the present one.
    """
    strategy = choose(settings.strategy, settings.options)
    fresh_head(net, tasks[-1], settings.seed)
    net.to(device.torch)
    teacher = deepcopy(net).eval().requires_grad_(False) if settings.teacher else None
    loss = distilled(strategy.loss, teacher, settings.teacher) if teacher else strategy.loss
    before = score(net, tasks[-1].val, net.preprocess, device, "accuracy/val before").value
    history, removed = list[Row](), Report()
    for step in range(1, settings.steps + 1):
        removed = cut(net, tasks, settings, step, device)
        history += train(
            net, tasks, strategy, settings.fit.model_copy(update={"epochs": epochs_of(settings, step)}), device=device,
            seed=seed_of(settings.seed, step) % 2**31, work=work.at(f"step-{step}"), loss=loss,
            label=f"recover {step} of {settings.steps}",
        )  # fmt: skip
    note = f"accuracy on the validation split before channels were removed: {before:.2f} %"
    history = [{**row, "epoch": number} for number, row in enumerate(history, 1)]
    return net, measured(net, tasks[-1], device) + removed + learning(history) + Report(notes=(note,))


def cut(net: Net, tasks: Sequence[Task], settings: Channels, step: int, device: Device) -> Report:
    """Remove this step's share of the channels, and estimate BatchNorm statistics anew."""
    how = Augment(crop="none", flip=False)
    plain = images(tasks[-1], 64, how, device.torch)(seed_of(settings.seed, "channels", step))

    def losses(pruned: nn.Module) -> Iterator[Tensor]:
        for inputs, labels in islice(plain, TAYLOR_BATCHES):
            yield nn.functional.cross_entropy(pruned(inputs), labels)

    part = step / settings.steps
    report = remove_channels(
        net,
        ratio=None if settings.ratio is None else settings.ratio * part,
        macs_ratio=None if settings.macs_ratio is None else settings.macs_ratio**part,
        importance=settings.importance, scope=settings.scope, round_to=settings.round_to, exclude=settings.exclude,
        examples=losses,
    )  # fmt: skip
    recalibrate_(net, (inputs for inputs, _ in islice(plain, TAYLOR_BATCHES)))
    return report


def epochs_of(settings: Channels, step: int) -> int:
    """Share the epochs among the steps: half of them to the last, the rest evenly to the others."""
    if settings.steps == 1:
        return settings.fit.epochs
    last = (settings.fit.epochs + 1) // 2
    early, extra = divmod(settings.fit.epochs - last, settings.steps - 1)
    return last if step == settings.steps else early + (step <= extra)
