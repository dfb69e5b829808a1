"""Train a backbone on examples without labels."""

import time
from collections.abc import Sequence

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.edits import remove_head
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.settings.pretrain_settings import Pretrain
from effxfer.stages.train.feature_report import report_features
from effxfer.stages.train.finetune import time_allowance, train, training_curves
from effxfer.stages.train.sentence_teacher import teacher_loss
from effxfer.train.devices import Device
from effxfer.train.optim.gradients import Loss
from effxfer.train.state import Work
from effxfer.transfer import SELF_SUPERVISED
from effxfer.transfer.self_supervised.collapse import RANK
from effxfer.transfer.self_supervised.mlm import MaskedLm
from effxfer.transfer.strategies import select_strategy


def pretrain(net: Net, tasks: Sequence[Task], settings: Pretrain, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Train a network on the examples of the last of `tasks`; its labels are not used.

    Args:
        net: Network, changed in place. One of texts keeps the head that it was trained with, which `finetune`
            replaces; one of images loses the head that it came with, which knew other features.
        tasks: The last one is used.
        settings: Strategy, length, learning rate and teacher.
        device: Device of the training.
        work: Stores checkpoints, and the teacher's vectors.

    Raises:
        SettingsError: If a setting has no effect on these examples.
        GateError: If training diverges, or the features of images collapse.
    """
    began, task = time.perf_counter(), tasks[-1]
    assert settings.strategy is not None  # `for_input` has chosen it
    strategy = select_strategy(SELF_SUPERVISED, settings.strategy, settings.options)
    if settings.size:
        net.set_input_size(settings.size)
    loss: Loss = strategy.loss
    notes = Report()
    if isinstance(strategy, MaskedLm):
        loss, notes = teacher_loss(net, task, strategy.loss, settings.teacher, device, work)
    elif settings.teacher:
        raise SettingsError(f"teacher has no effect on strategy {settings.strategy!r}", "leave it out; it is for texts")
    else:
        remove_head(net)
        notes = report_features(net, task, device, "before")
    history = train(
        net, tasks, strategy, settings.fit, device=device, seed=settings.seed, work=work, loss=loss,
        allowance=time_allowance(settings.seconds, began, task),
    )  # fmt: skip
    if settings.precision == "float16":
        net.half().float()  # what is measured is what will be stored
    if isinstance(strategy, MaskedLm):
        report = strategy.measure(net, task, device) + training_curves(history, title=net.output.title)
    else:
        unit = "" if strategy.judged_by == RANK else "%"
        report = report_features(net, task, device) + training_curves(history, title=strategy.judged_by, unit=unit)
    return net.half() if settings.precision == "float16" else net, report + notes
