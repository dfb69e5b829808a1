"""Set up the strategy, the head and the loss of a stage that trains."""

from collections.abc import Sequence
from dataclasses import dataclass

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.settings.base import DistilledSettings
from effxfer.stages.train.distillation import distillation_loss
from effxfer.stages.train.head import dropped_memory_note, new_head
from effxfer.train.devices import Device, slow_precision
from effxfer.train.optim.gradients import Loss
from effxfer.train.settings import FitSettings
from effxfer.transfer.base import Strategy
from effxfer.transfer.strategies import make_strategy, require_kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """Strategy and loss of the training runs of a stage.

    Attributes:
        strategy: The strategy of the settings, or the one that `auto` chose.
        loss: Loss of the strategy, with the teacher's terms if there is a teacher.
        head_is_new: Whether the network has a new, untrained head.
        notes: Reasons of the choice of strategy, and notes on the teacher.
    """

    strategy: Strategy
    loss: Loss
    head_is_new: bool
    notes: Report


def begin_training(net: Net, tasks: Sequence[Task], settings: DistilledSettings, device: Device) -> Training:
    """Make the strategy, give the network a head for the last of `tasks`, and set up distillation.

    Args:
        net: Network, moved to the device; also the teacher, unless the settings name another one.
        tasks: Tasks of the stage.
        settings: Settings of the stage.
        device: Device of the training.

    Raises:
        SettingsError: If the strategy or its options are wrong, or the strategy does not support a teacher.
    """
    strategy = make_strategy(settings.strategy, settings.options)
    require_kind(strategy, tasks[-1])
    memory = net.memory
    head_is_new = new_head(net, tasks[-1], settings.seed)
    dropped = dropped_memory_note(net, memory)
    strategy, reasons = strategy.choose(net.to(device.torch), tasks)
    loss, notes = distillation_loss(net, strategy, settings.teacher, tasks[-1], head_is_new=head_is_new)
    notes = dropped + reasons + notes + precision_note(settings.fit, device)
    return Training(strategy=strategy, loss=loss, head_is_new=head_is_new, notes=notes)


def precision_note(settings: FitSettings, device: Device) -> Report:
    """Note a number format that is slow on a device."""
    text = slow_precision(device.torch, settings.amp)
    return Report(notes=(text,) if text else ())
