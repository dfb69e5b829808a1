"""Put an adapter on the body that it was trained on."""

from collections.abc import Sequence

from effxfer.data.task import Task
from effxfer.errors import DataError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.stages.settings.ticket_settings import Adapter
from effxfer.stages.train.adapter_training import merge_adapters
from effxfer.stages.train.finetune import accuracy_report
from effxfer.train.devices import Device
from effxfer.train.state import Work


def adapter(
    net: Net,
    tasks: Sequence[Task],
    settings: Adapter,
    *,
    device: Device,
    work: Work,  # noqa: ARG001
) -> tuple[Net, Report]:
    """Merge an adapter where that is possible, and measure the network.

    Args:
        net: With the adapter on it; changed in place.
        tasks: The last one is what it is measured on.
        settings: Whether to merge.
        device: Where.
        work: Stays empty: this takes seconds.

    Raises:
        DataError: If the task has other classes than the adapter.
        GateError: If merging changes what the network answers.
    """
    task = tasks[-1]
    if net.classes != task.classes:
        text = f"the adapter knows {list(net.classes)}, the data hold {list(task.classes)}"
        raise DataError(text, "give data with its classes, or train on with finetune")
    net.to(device.torch)
    proof = merge_adapters(net, task) if settings.merge else Report()
    return net, accuracy_report(net, task, device) + proof
