"""Make a network fast by whatever is best at one latency: all ways compete."""

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from typing import Any

from effxfer.data.task import Task
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.net import Net
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.report import Report
from effxfer.stages.settings.shrink_settings import Shrink
from effxfer.stages.shrink.contest import Contest, make_networks, open_backbones, open_teacher
from effxfer.stages.shrink.descent import descend
from effxfer.stages.shrink.shipped import Shipping, shipping_clock
from effxfer.stages.shrink.shrink_report import report_outcome
from effxfer.stages.shrink.trials import contest_at
from effxfer.stages.train.begin import begin_training
from effxfer.stages.train.finetune import accuracy_report
from effxfer.stages.train.head import answers_task
from effxfer.train.devices import Device
from effxfer.train.state import Work


def shrink(net: Net, tasks: Sequence[Task], settings: Shrink, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Build candidates that meet one latency, train them by successive halving, and return the best as it ships.

    Args:
        net: Network that is trained for the classes of the last task; the teacher of all candidates.
        tasks: See `finetune`. Candidates are compared on the validation split of the last task; its test split is only
            evaluated for the winner.
        settings: Latency, kinds of candidates, backbones and training settings.
        device: Device of the training; latency is that of this machine's CPU.
        work: Saves every candidate and every finished training for resuming.

    Raises:
        SettingsError: If the network is not trained for the task, the latency is above the present one, or a backbone
            does not exist.
        ModelFileError: If the weights of a backbone do not fit, or the network cannot be exported.
        GateError: If no candidate reaches the latency, or none holds `max_drop`; names the nearest (E604).
    """
    began = time.perf_counter()
    require_trained(net, tasks[-1])
    # Before minutes of work: a backbone that does not load is an error now.
    backbones = open_backbones(net, settings)
    training = begin_training(net, tasks, settings, device)
    dense = deepcopy(net).eval()
    shipping, note = choose_precision(dense, settings, work)
    with shipping_clock(dense, shipping) as clock:
        contest = Contest(
            dense=dense,
            networks=make_networks(dense, backbones, tasks[-1], settings, clock, work, is_int8=shipping.int8),
            tasks=tasks, settings=settings, strategy=training.strategy, teacher=open_teacher(dense, settings),
            shipping=shipping, time=clock, device=device,
        )  # fmt: skip
        if settings.max_drop is None:
            limit, tried = latency_limit(settings, contest.networks[0].present, shipping), Report()
            outcome = contest_at(contest, limit, contest.networks, work, seconds=settings.seconds, began=began)
        else:
            outcome, limit, tried = descend(contest, settings.max_drop, work, began)
    winner = outcome.net().to(device.torch)
    report = accuracy_report(winner, contest.task_for(winner), device) + report_outcome(contest, outcome, limit) + tried
    return winner, report + training.notes + Report(notes=note)


def require_trained(net: Net, task: Task) -> None:
    """Refuse a network that is not trained for a task.

    Raises:
        SettingsError: If its head is for other classes or another kind of label.
    """
    if not answers_task(net, task):
        text = f"shrink starts from a network that is trained for {task.name}, this one is not"
        raise SettingsError(text, "run `effxfer finetune` first, and shrink its result")


def choose_precision(dense: Net, settings: Shrink, work: Work) -> tuple[Shipping, tuple[str, ...]]:
    """Return how candidates are shipped; `auto` is int8 if that file of the input network is faster than float32."""
    if settings.precision != "auto":
        return Shipping(int8=settings.precision == "int8", settings=settings), ()

    def compute() -> dict[str, Any]:
        try:
            with shipping_clock(dense, Shipping(int8=True, settings=settings)) as clock:
                return asdict(clock(dense))
        except ModelFileError as error:
            return {"problem": error.problem}

    timing = work.once("int8", compute)
    if "problem" in timing:
        return Shipping(int8=False, settings=settings), (f"float32 ships: {timing['problem']}",)
    # The whole interval must lie below, as for `export`.
    is_faster = timing["high"] < 1
    note = (
        f"{'int8' if is_faster else 'float32'} ships: the input network's int8 file takes {timing['ratio']:.3f} of its "
        f"float32 p50 [{timing['low']:.3f}, {timing['high']:.3f}]"
    )
    return Shipping(int8=is_faster, settings=settings), (note,)


def latency_limit(settings: Shrink, present: PairedTiming, shipping: Shipping) -> float:
    """Return the largest latency, as a share of the input network's float32 p50.

    Raises:
        SettingsError: If the input network is as fast as that already.
    """
    limit = settings.latency_ratio or (settings.latency_ms or 0.0) / present.dense_ms
    if limit >= present.ratio:
        request = f"latency_ms is {settings.latency_ms:g}" if settings.latency_ms else f"latency_ratio is {limit:g}"
        takes = f"{present.ms:.3g} ms" if settings.latency_ms else f"{present.ratio:.3f} of its float32 p50"
        text = f"{request}, but the {shipping.precision} file of the network takes only {takes}"
        raise SettingsError(text, "ask for less; `effxfer export` writes that file")
    return limit
