"""Fine-tune a network as if it were int8 already, so that it loses less when it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.stages.settings.qat_settings import Qat
from effxfer.stages.train.finetune import accuracy_report, train, training_curves
from effxfer.stages.train.head import require_same_output
from effxfer.train.devices import Device
from effxfer.train.fake_quant import fake_quantize
from effxfer.train.state import Work
from effxfer.transfer.strategies import make_strategy, require_kind

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def qat(net: Net, tasks: Sequence[Task], settings: Qat, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Fine-tune with fake quantization on the last of `tasks`; the result is a plain network suited to int8.

    Args:
        net: Network, changed in place; has a head for the task's classes.
        tasks: See `finetune`.
        settings: Settings of rounding and training.
        device: Device of the training.
        work: Stores checkpoints.

    Raises:
        DataError: If the classes of task and network differ.
    """
    task = tasks[-1]
    require_same_output(net, task)
    net.to(device.torch).eval()
    before = accuracy_report(net, task, device)
    strategy = make_strategy(settings.strategy, settings.options)
    require_kind(strategy, task)
    with frozen_norms(net, settings.norms), fake_quantize(
        net, bits=settings.bits, momentum=settings.momentum, skip=settings.float_first
    ):  # fmt: skip
        history = train(net, tasks, strategy, settings.fit, device=device, seed=settings.seed, work=work)
        simulated = accuracy_report(net.eval(), task, device)
    rows = (*_rename(before, "before"), *_rename(simulated, "simulated"))
    return net, accuracy_report(net, task, device) + Report(rows=rows) + training_curves(
        history, title=net.output.title
    )


@contextmanager
def frozen_norms(net: nn.Module, norms: str) -> Iterator[None]:
    """Freeze statistics and weights of BatchNorms within the block if `norms` is `frozen`."""
    layers = [m for m in net.modules() if isinstance(m, NORMS)] if norms == "frozen" else []
    state = [(p, p.requires_grad) for layer in layers for p in layer.parameters()]
    # Frozen parameters also keep BatchNorm in evaluation mode, see `train_mode`.
    for parameter, _ in state:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, was in state:
            parameter.requires_grad_(was)


def _rename(report: Report, suffix: str) -> tuple[Measurement, ...]:
    return tuple(replace(row, name=f"{row.name}/{suffix}") for row in report.rows)
