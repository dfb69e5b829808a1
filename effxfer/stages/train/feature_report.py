"""Report how good the features of images are: by their rank, and where there are labels by neighbours and a probe."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from effxfer.data.task import Split, Task
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.representation.knn import knn_scores
from effxfer.train.representation.rankme import effective_rank, sample_rows
from effxfer.transfer.fine_tuning.linear import Features, solve_

# Chosen: the features of 5,000 photographs take a minute; more move the accuracy of neighbours by a point.
MOST_EXAMPLES = 5000
L2 = 1e-3  # of the probe, on standardised features; chosen


def report_features(net: Net, task: Task, device: Device, when: str = "") -> Report:
    """Measure a network's features; labels, where there are any, are used here alone.

    Args:
        net: The network.
        task: Neighbours and the probe learn from at most 5,000 of its training images.
        device: Where the network runs.
        when: Last part of the rows' names, such as `before`; empty for none.

    Returns:
        The effective rank of the validation images, and of validation and test images the accuracy of neighbours
        (`knn/val`) and of a linear probe (`probe/val`), unless fewer than two classes have a label.
    """
    suffix = f"/{when}" if when else ""
    val = _features(net, task.val, sample_rows(len(task.val)), device)
    rank = Measurement(name=f"rank/val{suffix}", value=effective_rank(val), n=len(val), of="images")
    return Report(rows=(rank, *_accuracies(net, task, device, suffix)))


def _accuracies(net: Net, task: Task, device: Device, suffix: str) -> Iterator[Measurement]:
    labelled = _labelled_rows(task.train)
    if not len(labelled):
        return
    rows = labelled[sample_rows(len(labelled), MOST_EXAMPLES)]
    features, labels = _features(net, task.train, rows, device), torch.from_numpy(task.train.labels)[rows]
    probe = _solve_probe(features, labels)
    for name, split in task.reported_splits.items():
        judged = _labelled_rows(split)
        if not len(judged):
            continue
        queries, truth = _features(net, split, judged, device), split.labels[judged.numpy()]
        for method, scores in (("knn", knn_scores(features, labels, queries)), ("probe", probe(queries).detach())):
            value = SINGLE_LABEL.score(scores.numpy(), truth).value
            yield Measurement(name=f"{method}/{name}{suffix}", value=value, unit="%", n=len(judged), of="images")


def _labelled_rows(split: Split) -> Tensor:
    """Return the rows of a split with a single label; none if there are fewer than two classes."""
    labels = torch.from_numpy(split.labels)
    if labels.dim() != 1 or labels.is_floating_point() or len(labels[labels >= 0].unique()) < 2:
        return torch.empty(0, dtype=torch.int64)
    return (labels >= 0).nonzero()[:, 0]


def _features(net: Net, split: Split, rows: Tensor, device: Device) -> Tensor:
    return predict(Features(net), split.rows[rows.numpy()], net.input, device)


def _solve_probe(features: Tensor, labels: Tensor) -> nn.Module:
    """Solve multinomial logistic regression on standardised features."""
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    linear = nn.Linear(features.shape[1], int(labels.max()) + 1)
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)  # convex: any start leads to the same probe
    solve_(linear, (features - mean) / deviation, labels, L2)
    return _Standardized(linear, mean, deviation)


class _Standardized(nn.Module):
    def __init__(self, linear: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.linear, self.mean, self.deviation = linear, mean, deviation

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.linear((features - self.mean) / self.deviation)
        return scores
