"""What every stage that trains does first: strategy, head, and loss."""

from collections.abc import Sequence
from dataclasses import dataclass

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.settings.base import DistilledSettings
from effxfer.stages.train.distillation import distillation_loss
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.optim.gradients import Loss
from effxfer.transfer.base import Strategy
from effxfer.transfer.strategies import make_strategy, require_kind


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """How the trainings of a stage are done.

    Attributes:
        strategy: The one that the settings name, or the one that it chose.
        loss: The strategy's, with the teacher's where there is one.
        head_is_new: Whether the network got a new head, which teaches nothing yet.
        notes: Why the strategy was chosen, and what a reader must know of the teacher.
    """

    strategy: Strategy
    loss: Loss
    head_is_new: bool
    notes: Report


def begin_training(net: Net, tasks: Sequence[Task], settings: DistilledSettings, device: Device) -> Training:
    """Make the strategy, give the network a head for the last of `tasks`, and set up distillation.

    Args:
        net: Moved to the device; the teacher unless the settings name another.
        tasks: As the strategy takes them.
        settings: Of the stage.
        device: The device that trains.

    Raises:
        SettingsError: If the strategy or its options are wrong, or it cannot be combined with the teacher.
    """
    strategy = make_strategy(settings.strategy, settings.options)
    require_kind(strategy, tasks[-1].output)
    head_is_new = new_head(net, tasks[-1], settings.seed)
    strategy, reasons = strategy.choose(net.to(device.torch), tasks)
    loss, notes = distillation_loss(net, strategy, settings.teacher, head_is_new=head_is_new)
    return Training(strategy=strategy, loss=loss, head_is_new=head_is_new, notes=reasons + notes)
