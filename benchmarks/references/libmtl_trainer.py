"""Training of several tasks by LibMTL's own `Trainer`, architecture and weightings, on a CPU of today.

LibMTL 1.1.5 wants a GPU, a module that torchvision no longer has, loaders of a former torch, and gradients that become
zeros where they are now removed; what stands in for these is here. Its weightings, its architecture HPS (hard parameter
sharing) and its loop are taken as they are. Its CAGrad takes three tasks, no other number.

Shape legend: B images, S side in pixels, T tasks.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

Draw = Callable[[int], Any]  # Sequence[tuple[Tensor, Tensor]], of an epoch's number
MISSING = "torchvision.models.utils"
# LibMTL's classes by our names, with its own defaults; but the radius of CAGrad is ours (theirs is 0.5).
WEIGHTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "cagrad": ("CAGrad", {"calpha": 0.4, "rescale": 1}),
    "dwa": ("DWA", {"T": 2.0}),
    "equal": ("EW", {}),
    "gradnorm": ("GradNorm", {"alpha": 1.5}),
    "mgda": ("MGDA", {"mgda_gn": "none"}),
    "pcgrad": ("PCGrad", {}),
    "rlw": ("RLW", {"dist": "Normal"}),
    "uncertainty": ("UW", {}),
}


def open_module(name: str) -> Any:
    """Import a module of LibMTL.

    Raises:
        ImportError: If LibMTL is not installed.
    """
    if MISSING not in sys.modules:
        stub: Any = ModuleType(MISSING)
        stub.load_state_dict_from_url = torch.hub.load_state_dict_from_url  # where it is today; nothing is downloaded
        sys.modules[MISSING] = stub
    return importlib.import_module(name)


def weighting_class(name: str) -> tuple[type, dict[str, Any]]:
    """Return LibMTL's class of a weighting, by our name, and the arguments of its `backward`."""
    theirs, options = WEIGHTINGS[name]
    return getattr(open_module("LibMTL.weighting"), theirs), options


def hard_sharing() -> Any:
    """Return LibMTL's class of hard parameter sharing."""
    hps = open_module("LibMTL.architecture").HPS

    def zero_grad(model: Any) -> None:
        # Torch's default of LibMTL's day: it writes the combined gradient into those that are there.
        model.encoder.zero_grad(set_to_none=False)

    return type("HardSharing", (hps,), {"zero_grad_share_params": zero_grad})


@dataclass
class Epochs:
    """The same batches as effxfer's, as LibMTL reads them: each time that it asks for an iterator, the next epoch's.

    Attributes:
        draw: Function from an epoch's number to its batches of images `(B, 3, S, S)` and labels `(B, T)`.
        names: The tasks, in the order of the labels.
        begun: Epochs that have begun.
    """

    draw: Draw
    names: Sequence[str]
    begun: int = field(default=0)

    def __len__(self) -> int:
        return len(self.draw(0))

    def __iter__(self) -> "Steps":
        self.begun += 1
        return Steps(self.draw(self.begun - 1), self.names)


class Steps:
    """An iterator of the form that those of torch's loaders had."""

    def __init__(self, batches: Any, names: Sequence[str]) -> None:
        self._batches: Iterator[Any] = iter(batches)
        self._names = names

    def __next__(self) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = next(self._batches)
        return images, {name: labels[:, number].long() for number, name in enumerate(self._names)}

    next = __next__


def train(
    body: nn.Module, heads: Mapping[str, nn.Module], weighting: str, draw: Draw, epochs: int, lr: float
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Train copies of a body and of a head for each task with Adam at a constant rate; return the trained network."""
    trainer_class = open_module("LibMTL").Trainer
    losses, metrics = open_module("LibMTL.loss"), open_module("LibMTL.metrics")
    chosen, options = weighting_class(weighting)

    # Its constructor asks for the first GPU.
    here = property(lambda _self: torch.device("cpu"), lambda _self, _device: None)
    on_cpu: Any = type("OnCpu", (trainer_class,), {"device": here})
    about = {
        name: {"metrics": ["Acc"], "metrics_fn": metrics.AccMetric(), "loss_fn": losses.CELoss(), "weight": [1]}
        for name in heads
    }
    names = list(heads)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 - it prints each epoch
        trainer = on_cpu(
            task_dict=about, weighting=chosen, architecture=hard_sharing(), encoder_class=lambda: deepcopy(body),
            decoders=nn.ModuleDict({name: deepcopy(head) for name, head in heads.items()}), rep_grad=False,
            multi_input=False, optim_param={"optim": "adam", "lr": lr}, scheduler_param=None, weight_args=options,
            arch_args={},
        )  # fmt: skip
        # It wants to test after each epoch: one batch, which changes nothing.
        trainer.train(Epochs(draw, names), Epochs(lambda _epoch: [draw(0)[0]], names), epochs)
    trained: nn.Module = trainer.model.eval()
    return trained
