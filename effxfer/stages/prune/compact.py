"""Compact the zeros of a ticket into smaller layers."""

from collections.abc import Sequence
from itertools import islice

from torch import Tensor

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import make_batches, seed_of
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Split, Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.prune.compact import compact as pruning
from effxfer.report import Report
from effxfer.runtime.inputs import Input
from effxfer.stages.settings.prune_settings import Compact
from effxfer.stages.train.finetune import accuracy_report
from effxfer.stages.train.head import choose_thresholds
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.state import Work

# Chosen, not measured: larger batches take memory, and a CPU gains little from them.
BATCH = 32


def compact(
    net: Net,
    tasks: Sequence[Task],
    settings: Compact,
    *,
    device: Device,
    work: Work,  # noqa: ARG001
) -> tuple[Net, Report]:
    """Remove units without effect, and evaluate the smaller network; no training.

    Args:
        net: Network, changed in place.
        tasks: The networks are compared on images of the last task.
        settings: Allowed change of the outputs.
        device: Device of the comparison.
        work: Unused: the stage takes seconds to minutes, and is repeated after a kill.

    Raises:
        SettingsError: If the network is not trained for the task's classes.
        GateError: If the outputs of the smaller network differ.
    """
    task = tasks[-1]
    if net.classes != task.classes:
        raise SettingsError("compact: the network is not trained for these classes yet", "run finetune before it")
    net.to(device.torch)
    before = score(net, task.val, device)
    result = pruning.compact(
        net,
        max_error=settings.max_error,
        calibration=training_images(task, settings, device) if settings.max_error else (),
        check=validation_images(task.val, net.input, settings.images, device),
    )
    choose_thresholds(net, task, device)  # an approximation moves the outputs that they cut
    note = f"{net.output.title} on the validation split before: {before:.2f} %"
    return net, accuracy_report(net, task, device) + result.report + Report(notes=(note,))


def training_images(task: Task, settings: Compact, device: Device) -> list[Tensor]:
    """Draw training images without augmentation, in batches `(B, 3, S, S)`."""
    size = min(BATCH, settings.images)
    drawn = make_batches(task, size, Augment(crop="none", flip=False), device.torch)(seed_of(settings.seed, "compact"))
    return [inputs for inputs, _ in islice(drawn, settings.images // size)]


def validation_images(split: Split, input: Input, count: int, device: Device) -> list[Tensor]:
    """Yield the first images of a split in batches `(B, 3, S, S)`."""
    starts = range(0, min(count, len(split)), BATCH)
    return [input_tensor(split.rows[i : min(i + BATCH, count)], input, device.torch) for i in starts]
