"""What zero-shot strategies share: frozen features, and the table of the classes that have examples.

Shape legend: N examples, D features, K classes with examples, E numbers of each class.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from effxfer.data.batches.batches import Batches, balanced_order
from effxfer.data.class_embeddings import require_class_embeddings
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.heads.compare import Compare
from effxfer.net.heads.spec import Form
from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.linear import features_of

ATTRIBUTE_FORMS: tuple[Form, ...] = ("direct", "indirect")
BODY_STANDS_STILL = ("augment", "batchnorm", "label_smoothing", "multi_label")
# Chosen: log2(1e5) / 60 steps find the best scale to a ten-thousandth.
LEAST_SCALE, LARGEST_SCALE, STEPS = 1e-2, 1e3, 60


class Examples(NamedTuple):
    """Examples and classes that a map is learnt from, in double precision.

    Attributes:
        features: Standardised, `(N, D)`.
        labels: int64 `(N,)`.
        table: Prepared rows of the classes, `(K, E)`; see `Compare.prepare`.
    """

    features: Tensor
    labels: Tensor
    table: Tensor


def freeze_(net: Net, task: Task, form: Form) -> Compare:
    """Freeze all of a network but the map of its head, and give the head the table of a task; return the head.

    Raises:
        SettingsError: If the task has no class embeddings, or the head does not compare in this form.
    """
    rows = require_class_embeddings(task)
    head = net.head
    if not isinstance(head, Compare) or head.form != form:
        hint = "make it one by `effxfer finetune` with the zero-shot strategy"
        raise SettingsError(f"the network has no head that compares classes by {form}", hint)
    net.requires_grad_(False)
    head.map.requires_grad_(True)
    table = torch.from_numpy(rows)
    with torch.no_grad():
        head.table.copy_(table)
        head.centre.copy_(table.mean(0))
        head.scale.fill_(1)
        head.calibration.zero_()
        if form in ATTRIBUTE_FORMS:
            present = head.prepare(head.table).mean(0)
            # Of an attribute that all or no known classes have, the odds are not infinite.
            least = 0.5 / len(table)
            head.prior.copy_(present.clamp(least, 1 - least).logit())
    return head


def standardize_(head: Compare, features: Tensor) -> None:
    """Set the head's standardisation to that of training features `(N, D)`."""
    head.standardize.fit_(features.mean(0), features.std(0, correction=0))


def examples_of(net: Net, task: Task, form: Form) -> Examples:
    """Compute what a closed formula needs, after `freeze_` and `standardize_`, which it calls."""
    head = freeze_(net, task, form)
    features, labels = features_of(net, task)
    standardize_(head, features)
    with torch.no_grad():
        return Examples(head.standardize(features).double(), labels, head.prepare(head.table).double())


def draw_features(net: Net, task: Task, size: int, balance: float) -> Callable[[int], Batches]:
    """Compute the features of the training split once; return a function from a seed to batches with their labels.

    The head's standardisation becomes that of these features.
    """
    assert isinstance(net.head, Compare)
    features, labels = features_of(net, task)
    standardize_(net.head, features)
    order = balanced_order(labels.cpu(), balance)

    def make(index: Tensor, _rng: Generator) -> tuple[Tensor, Tensor]:
        return features[index.to(features.device)], labels[index.to(labels.device)]

    return lambda seed: Batches(len(labels), size, make, seed, order)


def refuse_idle(strategy: Strategy, names: Sequence[str], reason: str) -> None:
    """Refuse options that a strategy does not read.

    Raises:
        ValueError: With the first one that has another value than its default.
    """
    for name in names:
        if getattr(strategy, name) != Strategy.model_fields[name].default:
            raise ValueError(f"{name} has no effect: {reason}")


@torch.no_grad()
def fit_scale_(head: Compare, features: Tensor, labels: Tensor) -> float:
    """Set the scale with which the likelihood of labels is greatest; decisions stay as they are.

    Args:
        head: Its scale is 1.
        features: Of examples that the map was not learnt from, `(N, D)`.
        labels: Their classes, int64 `(N,)`.

    Returns:
        The scale.
    """
    logits = head(features).double()
    low, high = torch.tensor(LEAST_SCALE).log().item(), torch.tensor(LARGEST_SCALE).log().item()

    def loss(exponent: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits * torch.tensor(exponent).exp(), labels))

    # Convex in the scale, so that it has one minimum in its logarithm, too.
    for _ in range(STEPS):
        third = (high - low) / 3
        if loss(low + third) < loss(high - third):
            high -= third
        else:
            low += third
    head.scale.fill_(torch.tensor((low + high) / 2).exp())
    return float(head.scale)
