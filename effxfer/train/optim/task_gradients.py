"""Gradients of each term of a loss by itself, where a strategy combines those of several tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from effxfer.train.devices import Device


@dataclass(frozen=True, kw_only=True)
class Combination:
    """How the gradients of the terms become one.

    Attributes:
        shared: Parameters that all terms share; all others keep the sum of the terms' gradients.
        combine: Maps the gradients of the terms with respect to `shared`, `(T, P)`, to one `(P,)`; None is their sum.
            It is called once for a step, when the gradients of all parts of the batch are added up.
    """

    shared: Sequence[nn.Parameter]
    combine: Callable[[Tensor], Tensor | None]


class TaskGradients:
    """Adds up gradients by term.

    Args:
        learner: Module on the device.
        combination: Shared parameters, and how their gradients are combined.
        device: Device, and the other processes of a distributed run.
    """

    def __init__(self, learner: nn.Module, combination: Combination, device: Device) -> None:
        self.combination, self.device = combination, device
        shared = set(map(id, combination.shared))
        self.private = [p for p in learner.parameters() if p.requires_grad and id(p) not in shared]
        self.rows: Tensor | None = None

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Differentiate each term of a part of the batch; terms are scaled by the part's share."""
        shared = [p for p in self.combination.shared if p.requires_grad]
        parameters = [*shared, *(p for p in self.private if p.requires_grad)]
        rows = []
        for number, term in enumerate(terms.values()):
            last = number + 1 == len(terms)
            gradients = torch.autograd.grad(term, parameters, retain_graph=not last, allow_unused=True)
            rows.append(_flat(gradients[: len(shared)], shared))
            _accumulate(parameters[len(shared) :], gradients[len(shared) :])
        stacked = torch.stack(rows)
        self.rows = stacked if self.rows is None else self.rows + stacked

    def finish(self) -> None:
        """Combine what was added, and write the gradients of the shared parameters."""
        rows, self.rows = self.rows, None
        if rows is None:
            return
        self.device.average_([rows, *(p.grad for p in self.private if p.grad is not None)])
        combined = self.combination.combine(rows)
        combined = rows.sum(0) if combined is None else combined
        shared = [p for p in self.combination.shared if p.requires_grad]
        pieces = combined.split([p.numel() for p in shared])
        for parameter, piece in zip(shared, pieces, strict=True):
            parameter.grad = piece.view_as(parameter).to(parameter.dtype)


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> Tensor:
    """Join gradients end to end in float32; 0 where a term does not depend on a parameter."""
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).float().flatten() for g, p in pairs])


def _accumulate(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
