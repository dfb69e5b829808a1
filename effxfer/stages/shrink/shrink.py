"""Make a network fast by whatever is best at one latency: all ways compete."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy

from effxfer.data.task import Task
from effxfer.errors import GateError, SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.prune.unlabelled import with_answers
from effxfer.stages.settings.shrink_settings import Shrink
from effxfer.stages.shrink.contest import Contest, Network, make_networks, open_backbones, open_teacher
from effxfer.stages.shrink.descent import descend
from effxfer.stages.shrink.shipped import shipping_clock
from effxfer.stages.shrink.shrink_report import overrun_note, report_outcome
from effxfer.stages.shrink.trials import Outcome, contest_at
from effxfer.stages.train.begin import begin_training
from effxfer.stages.train.finetune import accuracy_report
from effxfer.stages.train.head import answers_task
from effxfer.train.devices import Device
from effxfer.train.state import Work


def shrink(
    net: Net, tasks: Sequence[Task], settings: Shrink, *, device: Device, work: Work,
    now: Callable[[], float] = time.perf_counter,
) -> tuple[Net, Report]:  # fmt: skip
    """Build candidates that meet one latency, train them by successive halving, and return the best as it ships.

    Args:
        net: Network that is trained for the classes of the last task; the teacher of all candidates.
        tasks: See `finetune`. Candidates are compared on the validation split of the last task; its test split is only
            evaluated for the winner.
        settings: Latency, kinds of candidates, backbones and training settings.
        device: Device of the training; latency is that of this machine's CPU.
        work: Saves every candidate and every finished training for resuming.
        now: Returns seconds, for the time limit.

    Raises:
        SettingsError: If the network is not trained for the task, the latency is above the present one, or a backbone
            does not exist.
        ModelFileError: If the weights of a backbone do not fit, or the network cannot be exported.
        GateError: If no candidate reaches the latency, or none holds `max_drop`; names the nearest (E604). With
            `if_none = "keep"` the input network is returned instead.
    """
    began = now()
    require_trained(net, tasks[-1])
    # Before minutes of work: a backbone that does not load is an error now.
    backbones = open_backbones(net, settings)
    training = begin_training(net, tasks, settings, device)
    dense = deepcopy(net).eval()
    # Images without labels are seen with the answers of the teacher.
    answered = with_answers(tasks[-1], dense, device) if settings.teacher.logits else tasks[-1]
    tasks, notes = [*tasks[:-1], answered], answered.notes[len(tasks[-1].notes) :]
    with shipping_clock(dense, settings) as clock:
        networks, note = make_networks(dense, backbones, tasks[-1], settings, time=clock, device=device, work=work)
        contest = Contest(
            dense=dense, networks=networks, tasks=tasks, settings=settings, strategy=training.strategy,
            teacher=open_teacher(dense, settings), time=clock, device=device, now=now,
        )  # fmt: skip
        try:
            outcome, limit, tried = compete(contest, work, began)
        except (GateError, SettingsError) as error:
            # All candidates failing in training is no answer to the question, but a mistake.
            if settings.if_none == "fail" or (isinstance(error, GateError) and error.code != "E604"):
                raise
            reason = Report(notes=(f"the network stays as it was: {error.problem}", *note))
            return net, accuracy_report(net, tasks[-1], device) + training.notes + reason
    winner = outcome.net().to(device.torch)
    report = accuracy_report(winner, contest.task_for(winner), device) + report_outcome(contest, outcome, limit) + tried
    late = overrun_note(settings.seconds, now() - began)
    return winner, report + training.notes + Report(notes=(*notes, *note, *late))


def compete(contest: Contest, work: Work, began: float) -> tuple[Outcome, float, Report]:
    """Run the competition at the latency of the settings, or at those that `max_drop` leads to.

    Returns:
        The outcome, its latency as a share of the input network's, and a table of the latencies that were tried.

    Raises:
        SettingsError: If the input network is as fast as that already.
        GateError: If no candidate reaches the latency, or none holds `max_drop` (E604).
    """
    settings = contest.settings
    if settings.max_drop is not None:
        return descend(contest, settings.max_drop, work, began)
    limit = latency_limit(settings, contest.networks[0])
    return contest_at(contest, limit, contest.networks, work, seconds=settings.seconds, began=began), limit, Report()


def require_trained(net: Net, task: Task) -> None:
    """Refuse a network that is not trained for a task.

    Raises:
        SettingsError: If its head is for other classes or another kind of label.
    """
    if not answers_task(net, task):
        text = f"shrink starts from a network that is trained for {task.name}, this one is not"
        raise SettingsError(text, "run `effxfer finetune` first, and shrink its result")


def latency_limit(settings: Shrink, network: Network) -> float:
    """Return the largest latency, as a share of the input network's float32 p50.

    Raises:
        SettingsError: If the input network is as fast as that already.
    """
    present = network.present
    limit = settings.latency_ratio or (settings.latency_ms or 0.0) / present.dense_ms
    if limit >= present.ratio:
        request = f"latency_ms is {settings.latency_ms:g}" if settings.latency_ms else f"latency_ratio is {limit:g}"
        takes = f"{present.ms:.3g} ms" if settings.latency_ms else f"{present.ratio:.3f} of its float32 p50"
        text = f"{request}, but the {network.shipping.precision} file of the network takes only {takes}"
        raise SettingsError(text, "ask for less; `effxfer export` writes that file")
    return limit
