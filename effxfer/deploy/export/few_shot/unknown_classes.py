"""Choose, on validation episodes, from which distance on an exported file calls an example unknown.

In each episode half of the drawn classes are enrolled from training images, and validation images of both halves come:
those of the enrolled classes are to be accepted, the others to be rejected.

Shape legend: N examples, W ways (classes), K shots, D features.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.data.batches.batches import make_generator
from effxfer.data.batches.episodes import Episodes
from effxfer.data.target import concat_splits, is_new
from effxfer.data.task import Split, Task
from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.onnx import load, read_metadata, write_metadata
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.few_shot.rejection import ENTRY, Rejection, nearness
from effxfer.runtime.model import Model
from effxfer.train.episodes import SHOTS, WAYS

# Chosen: 10 queries per episode; both shares are then known to about a point.
EPISODES, QUERIES = 200, 1
# Chosen: a threshold needs few images of each class; of 50,000 all would take as long as a whole validation.
MOST_PER_CLASS = 20

Draw = Callable[[int, int], "Nearness"]


class Nearness(NamedTuple):
    """How near queries are to the nearest enrolled class.

    Attributes:
        enrolled: Of queries of enrolled classes `(N,)`.
        unknown: Of queries of other classes `(N,)`.
    """

    enrolled: NDArray[np.float64]
    unknown: NDArray[np.float64]


def add_rejection(file: Path, model: Model, net: Net, task: Task) -> Report:
    """Choose thresholds for a file that takes prototypes, write them into its metadata, and measure them.

    Args:
        file: Exported file without preprocessing; its metadata are replaced.
        model: The opened file.
        net: The exported network; nothing is done if its head has no prototypes.
        task: Thresholds are chosen on its training and validation split, and measured on the new classes of its
            target, whose labels are used for that only.

    Returns:
        `known accepted/target 5-way 1-shot` and `unknown rejected/target 5-way 1-shot`, in percent; or a note why there
        is no threshold.
    """
    if not isinstance(net.head, Prototypes):
        return Report()
    if net.head.distance == "relation":
        return Report(notes=("unknown classes are not rejected: a learned comparison gives no distance",))
    distance, width = net.head.distance, min(WAYS[0], len(task.classes) // 2)
    support, queries = (_features(model, split) for split in (task.train, task.val))
    thresholds = {}
    for shot in SHOTS:
        scores = draw_nearness(support, queries, distance, width, shot)
        if scores is not None:
            thresholds[shot] = choose_threshold(scores)
    if not thresholds:
        text = "unknown classes are not rejected: validation episodes need two classes of two images each"
        return Report(notes=(text,))
    rejection = Rejection(distance, thresholds)
    graph, metadata = load(file), read_metadata(file)
    write_metadata(graph, replace(metadata, extra={**metadata.extra, ENTRY: rejection.to_json()}))
    write_model(graph, file)
    return _measure(model, task, rejection)


def choose_threshold(scores: Nearness) -> float:
    """Return the threshold with the largest sum of accepted known and rejected unknown queries' shares.

    It lies half-way between two neighbouring scores.
    """
    values = np.unique(np.concatenate([scores.enrolled, scores.unknown]))
    limits = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2])
    accepted = 1 - np.searchsorted(np.sort(scores.enrolled), limits) / len(scores.enrolled)
    rejected = np.searchsorted(np.sort(scores.unknown), limits) / len(scores.unknown)
    return float(limits[(accepted + rejected).argmax()])


def draw_nearness(
    support: tuple[NDArray[np.float32], NDArray[np.int64]], queries: tuple[NDArray[np.float32], NDArray[np.int64]],
    distance: str, way: int, shot: int,
) -> Nearness | None:  # fmt: skip
    """Draw episodes, and compute the nearness of queries.

    Args:
        support: Features `(N, D)` and labels `(N,)` of images to enrol.
        queries: The same of images to classify.
        distance: `euclidean` or `cosine`.
        way: W classes are enrolled, and W others are unknown.
        shot: Images of each enrolled class.

    Returns:
        None if fewer than 2 W classes have so many images, or W is 0.
    """
    minima = ((support, shot), (queries, QUERIES))
    enough = [set(np.flatnonzero(np.bincount(labels) >= count).tolist()) for (_, labels), count in minima]
    usable = np.array(sorted(enough[0] & enough[1]), np.int64)
    if way < 1 or len(usable) < 2 * way:
        return None
    pools = [Episodes(np.where(np.isin(labels, usable), labels, -1), count) for (_, labels), count in minima]
    enrolled, unknown = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for number in range(EPISODES):
        rng = make_generator("unknown", way, shot, number)
        # Row 0 of a pool is that of the label -1, if there is one: classes that are not usable.
        first = [len(pool) - len(usable) for pool in pools]
        chosen = torch.randperm(len(usable), generator=rng)[: 2 * way]
        prototypes = support[0][pools[0].draw(chosen[:way] + first[0], rng).numpy()].mean(1)
        drawn = queries[0][pools[1].draw(chosen + first[1], rng).numpy()]
        near = nearness(drawn.reshape(-1, drawn.shape[-1]), prototypes, distance).max(1).astype(np.float64)
        enrolled.append(near[: way * QUERIES])
        unknown.append(near[way * QUERIES :])
    return Nearness(np.concatenate(enrolled), np.concatenate(unknown))


def _features(model: Model, split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compute features of some images of each class, with their labels."""
    order = np.argsort(split.labels, kind="stable")
    labels = split.labels[order]
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)
    rows = np.sort(order[place < MOST_PER_CLASS])
    return model.features_of(split.rows[rows]), split.labels[rows]


def _measure(model: Model, task: Task, rejection: Rejection) -> Report:
    if task.target is None or not is_new(task):
        return Report()
    split, rows = concat_splits(task.target), list[Measurement]()
    features = _features(model, split)
    for shot in rejection.thresholds:
        # Queries are drawn apart from the support of their class, so that none is compared with itself.
        halves = [_half(features, part) for part in (0, 1)]
        way = min(WAYS[0], len(set(features[1])) // 2)
        scores = draw_nearness(halves[0], halves[1], rejection.distance, way, shot)
        if scores is None:
            continue
        name, limit = f"target {way}-way {shot}-shot", rejection.threshold(shot)
        rows += [
            Measurement(name=f"known accepted/{name}", value=100 * float((scores.enrolled >= limit).mean()), unit="%",
                        n=len(scores.enrolled), of="queries of enrolled classes"),
            Measurement(name=f"unknown rejected/{name}", value=100 * float((scores.unknown < limit).mean()), unit="%",
                        n=len(scores.unknown), of="queries of other classes"),
        ]  # fmt: skip
    return Report(rows=tuple(rows))


def _half(
    features: tuple[NDArray[np.float32], NDArray[np.int64]], part: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return every other example of each class."""
    order = np.argsort(features[1], kind="stable")
    labels = features[1][order]
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)
    rows = order[place % 2 == part]
    return features[0][rows], features[1][rows]
