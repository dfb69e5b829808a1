"""Choose a fine-tuning strategy by measuring how well pretrained features fit the task.

Linear probes at several depths measure how well features transfer (Alain & Bengio, 2016,
https://arxiv.org/abs/1610.01644; Yosinski et al., 2014, https://arxiv.org/abs/1411.1792). The distance of BatchNorm
statistics from the stored ones measures how different the images are (Li et al., 2016,
https://arxiv.org/abs/1603.04779).

Shape legend: N images, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.data.task import Task
from effxfer.net.heads.standardize import safe_deviation
from effxfer.net.hooks import hooks
from effxfer.net.net import Net
from effxfer.net.taps import tap_widths
from effxfer.report import Curve, Measurement, Report
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.batchnorm import Mode
from effxfer.transfer.fine_tuning.freeze import Freeze
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.fine_tuning.linear import solve_
from effxfer.transfer.fine_tuning.lp_ft import LpFt

# Chosen: one pass in evaluation mode, seconds on a CPU; a probe of 1,280 features has enough of them.
MOST_IMAGES = 2000
# Chosen, of the probes and of `lp_ft` alike: what is measured is what training starts from.
L2 = 0.01
# Chosen: then training can gain two points at most, and the lower body is best left alone.
HIGH_ACCURACY = 98.0
# Points by which two probes must differ: 1.9 is the 95 % range of 90 % on 1,000 validation images.
LOWER = 2.0
# Deviations; chosen. Digits under the CIFAR network's statistics have 0.31.
FAR = 1.0
COMMON = frozenset(Strategy.model_fields)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Measurements of a network on a task.

    Attributes:
        labels: Training images of the smallest class.
        probes: Accuracy of a probe on the validation split in percent, by layer from the input up; the last is `out`.
        shift: How far the task's BatchNorm statistics lie from the stored ones, in stored deviations; 0 without any.
        n: Validation examples.
        unit: What they are.
    """

    labels: int
    probes: Mapping[str, float]
    shift: float
    n: int
    unit: str = "images"


class Auto(Strategy):
    """Measure how well the features fit the task, and choose `lp_ft`, `freeze` or `full` accordingly.

    Batch size, augmentation, label smoothing and, if it is set, `batchnorm` are passed to the chosen strategy.

    Attributes:
        few: Number of labels per class below which the task counts as having few labels.
        batchnorm: Parts of BatchNorm that change, see `Strategy`; None leaves the choice to `auto`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})

    # PACS. At 5 a class what it then chooses gave 49.7 %, `full` 46.0 (ResNet-18). At 30 a class of 28 it gave 81
    # to 82 % with EfficientNet-lite0, and moving statistics 75; with ResNet-18 76.7 %, and `full` 78.6 (n = 840).
    few: int = Field(default=40, ge=1)
    batchnorm: Mode | None = None  # type: ignore[assignment]

    def choose(self, net: Net, tasks: Sequence[Task]) -> tuple[Strategy, Report]:
        """Choose a strategy, and report the reason."""
        facts = measure_knowledge(net, tasks[-1])
        cls, options, reason = decide(facts, self.few)
        common = {name: value for name in COMMON if (value := getattr(self, name)) is not None}
        chosen = cls(**{**options, **common})
        option_text = ", ".join(f"{name} = {getattr(chosen, name)}" for name in options)
        note = f"auto chose {cls.__module__.rpartition('.')[2]}{f' ({option_text})' if option_text else ''}: {reason}"
        return chosen, to_report(facts) + Report(notes=(note,))


def decide(facts: Facts, few: int) -> tuple[type[Strategy], dict[str, Any], str]:
    """Return a strategy, its options and the reason; they depend only on the measurements."""
    top, (best, best_accuracy) = facts.probes["out"], max(facts.probes.items(), key=lambda probe: probe[1])
    if facts.labels < few:
        reason = f"{facts.labels} labels per class are few: a solved head distorts the body less"
        # Few images give poor statistics, but better ones than those of images so unlike.
        if facts.shift > FAR:
            return LpFt, {"l2": L2}, f"{reason}; statistics must move, {facts.shift:.2g} deviations away"
        return LpFt, {"l2": L2, "batchnorm": "frozen"}, f"{reason}, and so few images give poor statistics"
    if top >= HIGH_ACCURACY:
        return (
            Freeze,
            # Chosen: the last quarter of the blocks still adapts.
            {"until": 0.75},
            f"a probe on the last features reaches {top:.1f} %: the lower body is good as it is",
        )
    if best_accuracy > top + LOWER:
        return (
            Full,
            {},
            f"{best} tells classes apart better ({best_accuracy:.1f} %) than the end ({top:.1f} %), which must change",
        )
    return LpFt, {"l2": L2}, f"labels are many, and the last features are the best ones (probe {top:.1f} %)"


def measure_knowledge(net: Net, task: Task) -> Facts:
    """Measure a network on up to 2,000 training images and the validation split, in evaluation mode."""
    widths = tap_widths(net)
    # Evenly spread: rows lie in the order of their classes.
    chosen = np.unique(np.linspace(0, len(task.train) - 1, min(MOST_IMAGES, len(task.train))).astype(np.int64))
    labels = torch.tensor(task.train.labels[chosen])
    device = Device(torch=next(net.parameters()).device)
    taps = PooledTaps(net, list(widths))
    shift = Shift(net)
    with shift.recording():
        train = predict(taps, task.train.rows[chosen], net.input, device).split(list(widths.values()), 1)
    val = predict(taps, task.val.rows, net.input, device).split(list(widths.values()), 1)
    count = len(task.classes)
    probes = {
        name: task.output.score(probe_logits(x, labels, y, count).numpy(), task.val.labels).value
        for name, x, y in zip(widths, train, val, strict=True)
    }
    fewest = int(np.bincount(task.train.labels, minlength=count).min())
    return Facts(labels=fewest, probes=probes, shift=shift.value(), n=len(task.val), unit=task.input.unit)


def probe_logits(x: Tensor, labels: Tensor, y: Tensor, classes: int) -> Tensor:
    """Solve a linear probe on standardised features `x` `(N, D)`, and return its logits for `y`."""
    mean, deviation = x.mean(0), safe_deviation(x.std(0))
    head = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    solve_(head, (x - mean) / deviation, labels, L2)
    with torch.inference_mode():
        logits: Tensor = head((y - mean) / deviation)
    return logits


class PooledTaps(nn.Module):
    """The pooled outputs of several layers of a network, side by side."""

    def __init__(self, net: Net, taps: Sequence[str]) -> None:
        super().__init__()
        self.net, self.taps = net, taps

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to features `(B, D)` of all layers."""
        pooled = self.net.pooled_taps(x, self.taps)
        return torch.cat([pooled[tap] for tap in self.taps], 1)


class Shift:
    """Distance of BatchNorm inputs from their stored mean, in stored deviations."""

    def __init__(self, net: Net) -> None:
        self.norms = [m for m in net.body.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
        self.means: list[list[Tensor]] = [[] for _ in self.norms]

    def recording(self) -> AbstractContextManager[None]:
        """Record the inputs of the norms within the block."""
        return hooks(m.register_forward_pre_hook(self._note(number)) for number, m in enumerate(self.norms))

    def _note(self, number: int) -> Callable[..., None]:
        def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.means[number].append(inputs[0].transpose(0, 1).flatten(1).mean(1))

        return note

    def value(self) -> float:
        """Average over channels and layers; 0 without BatchNorm."""
        distances = []
        for norm, means in zip(self.norms, self.means, strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            difference = torch.stack(means).mean(0) - norm.running_mean
            distances.append(float((difference.abs() / (norm.running_var + norm.eps).sqrt()).mean()))
        return sum(distances) / len(distances) if distances else 0.0


def to_report(facts: Facts) -> Report:
    """Report the measurements as rows and a curve over depth."""
    points = tuple((float(depth), value) for depth, value in enumerate(facts.probes.values(), 1))
    curve = Curve(title="Probe accuracy by depth", name="probe", x="stage", y="accuracy, %", points=points)
    rows = [
        Measurement(name=f"probe/{name}", value=value, unit="%", n=facts.n, of=facts.unit)
        for name, value in facts.probes.items()
    ]
    further = (
        Measurement(name="labels per class", value=facts.labels),
        Measurement(name="shift of statistics", value=facts.shift, unit="deviations"),
    )
    return Report(rows=(*rows, *further), curves=(curve,))
