"""Train a backbone on examples without labels."""

import time
from collections.abc import Sequence

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.settings.pretrain_settings import Pretrain
from effxfer.stages.train.finetune import time_allowance, train, training_curves
from effxfer.stages.train.sentence_teacher import teacher_loss
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer import SELF_SUPERVISED
from effxfer.transfer.base import Strategy
from effxfer.transfer.strategies import select_strategy


def pretrain(net: Net, tasks: Sequence[Task], settings: Pretrain, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Train a network on the examples of the last of `tasks`; its labels are not used.

    Args:
        net: Network, changed in place. It keeps the head that it was trained with, which `finetune` replaces.
        tasks: The last one is used.
        settings: Strategy, length, learning rate and teacher.
        device: Device of the training.
        work: Stores checkpoints, and the teacher's vectors.

    Raises:
        SettingsError: If the strategy cannot learn from these examples.
    """
    began, task = time.perf_counter(), tasks[-1]
    strategy = select_strategy(SELF_SUPERVISED, settings.strategy, settings.options)
    require_input(strategy, settings.strategy, task)
    if settings.size:
        net.set_input_size(settings.size)
    loss, notes = teacher_loss(net, task, strategy.loss, settings.teacher, device, work)
    history = train(
        net, tasks, strategy, settings.fit, device=device, seed=settings.seed, work=work, loss=loss,
        allowance=time_allowance(settings.seconds, began, task),
    )  # fmt: skip
    if settings.precision == "float16":
        net.half().float()  # what is measured is what will be stored
    report = strategy.measure(net, task, device) + training_curves(history, title=net.output.title) + notes
    return net.half() if settings.precision == "float16" else net, report


def require_input(strategy: Strategy, name: str, task: Task) -> None:
    """Refuse a strategy for examples that it cannot learn from.

    Raises:
        SettingsError: If it cannot.
    """
    if task.input.kind not in strategy.inputs:
        able = [key for key, cls in SELF_SUPERVISED.items() if task.input.kind in cls.inputs]
        hint = f"strategies that learn from {task.input.unit}: {', '.join(able) or 'none yet'}"
        raise SettingsError(f"strategy {name!r} does not learn from {task.input.unit}, which {task.name} holds", hint)
