"""Apply an adapter to the body on which it was trained."""

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
    """Merge an adapter if the settings say so and it can be merged, and evaluate the network.

    Args:
        net: Network with the adapter attached; changed in place.
        tasks: The last task is evaluated.
        settings: Whether to merge.
        device: Device of the evaluation.
        work: Unused: the stage takes seconds.

    Raises:
        DataError: If the classes of the task and the adapter differ.
        GateError: If merging changes the network's outputs.
    """
    task = tasks[-1]
    if net.classes != task.classes:
        text = f"the adapter knows {list(net.classes)}, the data hold {list(task.classes)}"
        raise DataError(text, "give data with its classes, or train on with finetune")
    net.to(device.torch)
    proof = merge_adapters(net, task) if settings.merge else Report()
    return net, accuracy_report(net, task, device) + proof
