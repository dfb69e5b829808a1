"""Measure how well features distinguish new classes from a few examples each.

The measure of Vinyals et al., 2016 (https://arxiv.org/abs/1606.04080): the mean accuracy over many episodes, with its
95 % confidence interval.

Shape legend: N images, D features, W ways, K shots, Q queries per class, C classes.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effxfer.data.batches.batches import make_generator
from effxfer.data.batches.episodes import Episodes
from effxfer.report import Measurement, Report

# As in Finn et al. 2017 (https://arxiv.org/abs/1703.03400) and Snell et al. 2017, so that figures compare.
EPISODES, QUERIES = 600, 15
# The four settings of Omniglot in Vinyals et al. 2016.
WAYS, SHOTS = (5, 20), (1, 5)

Near = Callable[[Tensor, Tensor], Tensor]


def measure_few_shot(features: Tensor, labels: NDArray[np.int64], near: Near, name: str, seed: int = 0) -> Report:
    """Measure 5-way and 20-way accuracy with 1 and 5 shots, if there are enough classes and images.

    Args:
        features: Features of all images `(N, D)`, on the CPU.
        labels: Labels `(N,)`.
        near: Function from features `(B, D)` and prototypes `(C, D)` to logits `(B, C)`.
        name: Prefix of the measurements' names, before ` 5-way 1-shot`.
        seed: Random seed of the episodes.

    Returns:
        For each setting, the mean of 600 episodes in percent, with its interval. Fewer than 5 classes are all used.
    """
    count = len(np.unique(labels))
    fewest = int(np.bincount(labels)[np.unique(labels)].min())
    ways = [way for way in WAYS if way <= count] or [count]
    rows = [
        _measure_episodes(features, labels, near, way, shot, min(QUERIES, fewest - shot), name, seed)
        for way in ways for shot in SHOTS if shot < fewest
    ]  # fmt: skip
    return Report(rows=tuple(rows))


def _measure_episodes(
    features: Tensor, labels: NDArray[np.int64], near: Near, way: int, shot: int, queries: int, name: str, seed: int
) -> Measurement:
    episodes = Episodes(labels, shot + queries)
    accuracies = [
        _episode_accuracy(features, episodes, near, way, shot, make_generator(seed, "episode", way, shot, number))
        for number in range(EPISODES)
    ]
    scores = torch.tensor(accuracies, dtype=torch.float64)
    # The normal quantile of 95 %; 600 episodes are enough for it.
    mean, half = float(scores.mean()), 1.96 * float(scores.std()) / sqrt(EPISODES)
    return Measurement(
        # Classes are drawn again in every episode: the interval is of the episodes, not of other data.
        name=f"{name} {way}-way {shot}-shot", value=mean, unit="%", low=mean - half, high=mean + half, n=EPISODES,
        of=f"queries, {queries} per class and episode",
    )  # fmt: skip


def _episode_accuracy(
    features: Tensor, episodes: Episodes, near: Near, way: int, shot: int, rng: torch.Generator
) -> float:  # fmt: skip
    """Return the accuracy of one episode, in percent."""
    classes = torch.randperm(len(episodes), generator=rng)[:way]
    drawn = features[episodes.draw(classes, rng)]
    support, queries = drawn[:, :shot], drawn[:, shot:]
    logits = near(queries.flatten(0, 1), support.mean(1))
    correct = logits.argmax(1) == torch.arange(way).repeat_interleave(queries.shape[1])
    return 100 * float(correct.double().mean())
