"""The diagonal of the Fisher information, and the pull of weights towards where they were.

Shape legend: N examples, C columns of the head.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from effxfer.data.batches.batches import make_generator
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.hooks import as_evaluated
from effxfer.net.net import Net
from effxfer.transfer.continual.learner import FAR_BELOW, StreamLearner

Labels = Literal["sampled", "given"]
CHUNK = 16  # chosen: examples whose gradients are in memory at once, each as large as the network


def fisher_diagonal(learner: StreamLearner, task: Task, samples: int, labels: Labels) -> dict[str, Tensor]:
    """Return the mean over examples of each one's squared gradient of the log-likelihood, by parameter.

    Squared example by example: the square of a batch's mean gradient is another, much smaller quantity.

    Args:
        learner: The network that has learned the task.
        task: The task.
        samples: Most training examples to average over, drawn by the task's digest.
        labels: `sampled` draws each label from the network's own answer, as the Fisher information does; `given` takes
            the example's label (the empirical Fisher information).
    """
    net, rng = learner.net, make_generator("fisher", task.digest)
    device = next(net.parameters()).device
    chosen = torch.randperm(len(task.train), generator=rng)[:samples]
    targets = torch.tensor(task.train.labels)[chosen]
    # The columns of the task alone, where tasks are known.
    groups = learner.groups
    hidden = None if groups is None else (groups != groups[targets[0]]).to(device)
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters() if p.requires_grad}
    # Texts differ in length, and a batch would pad them.
    size = 1 if net.input.kind == "text" else CHUNK
    with as_evaluated(net):
        for index, label in zip(chosen.split(size), targets.split(size), strict=True):
            inputs = input_tensor(task.train.rows[index.numpy()], net.input, device)
            if labels == "sampled":
                label = _draw(net, inputs, hidden, rng)
            for name, gradients in _gradients(net, inputs, label.to(device), hidden, list(total)).items():
                total[name] += gradients.square().sum(0)
    return {name: each / len(chosen) for name, each in total.items()}


@torch.no_grad()
def _draw(net: Net, inputs: Tensor, hidden: Tensor | None, rng: torch.Generator) -> Tensor:
    raw = net(inputs)
    chances = (raw if hidden is None else raw.masked_fill(hidden, FAR_BELOW)).float().softmax(1).cpu()
    return torch.multinomial(chances, 1, generator=rng)[:, 0]


def _gradients(net: Net, inputs: Tensor, labels: Tensor, hidden: Tensor | None, names: list[str]) -> dict[str, Tensor]:
    """Return the gradient of each example's log-likelihood, `(N, ...)` by parameter."""
    fixed = {**dict(net.named_buffers()), **{n: p.detach() for n, p in net.named_parameters()}}
    moving = {name: fixed.pop(name) for name in names}

    def loss(weights: Mapping[str, Tensor], example: Tensor, label: Tensor) -> Tensor:
        raw: Tensor = functional_call(net, {**fixed, **weights}, (example[None],))
        return F.cross_entropy(raw if hidden is None else raw.masked_fill(hidden, FAR_BELOW), label[None])

    if len(inputs) == 1:
        return {name: each[None] for name, each in grad(loss)(moving, inputs[0], labels[0]).items()}
    gradients: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0))(moving, inputs, labels)
    return gradients


def padded_importances(net: Net, importances: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return importances of a network's parameters, with zeros for rows that the head has grown since.

    Raises:
        SettingsError: If another tensor has another shape, as after channels were pruned.
    """
    padded = dict[str, Tensor]()
    for name, each in importances.items():
        weight = net.get_parameter(name)
        importance = each.to(weight.device)
        if name.startswith("head.") and weight.shape[1:] == each.shape[1:]:
            importance = torch.cat([importance, importance.new_zeros(len(weight) - len(each), *each.shape[1:])])
        if importance.shape != weight.shape:
            text = f"the memory has importances of {name} {tuple(each.shape)}, which now is {tuple(weight.shape)}"
            raise SettingsError(text, "after pruning channels take replay, der or lwf, from before the first task")
        padded[name] = importance
    return padded


def weighted_drift(learner: Any) -> Tensor:
    """Return the sum of `importance * (weight - anchor)^2`, over the importances and anchors of a learner."""
    weights = dict(learner.net.named_parameters())
    statistics = learner.statistics
    names = [name.removeprefix(ANCHOR) for name in statistics if name.startswith(ANCHOR)]
    terms = [
        (statistics[IMPORTANCE + name] * (weights[name] - statistics[ANCHOR + name]).square()).sum() for name in names
    ]
    return torch.stack(terms).sum() if terms else next(iter(weights.values())).new_zeros(())


IMPORTANCE, ANCHOR = "importance/", "anchor/"


def anchor(learner: StreamLearner) -> None:
    """Give a learner the importances of its memory, and the present weights as anchors."""
    if learner.memory is None:
        return
    importances = padded_importances(learner.net, learner.memory.section(IMPORTANCE))
    weights = dict(learner.net.named_parameters())
    learner.statistics |= {IMPORTANCE + name: each for name, each in importances.items()}
    learner.statistics |= {ANCHOR + name: weights[name].detach().clone() for name in importances}
