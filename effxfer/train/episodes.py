"""Measure how well features distinguish new classes from a few examples each.

The measure of Vinyals et al., 2016 (https://arxiv.org/abs/1606.04080): the mean accuracy over many episodes, with its
95 % confidence interval.

Shape legend: N images, D features, W ways, K shots, Q queries per class, C classes.
"""

from collections.abc import Callable, Sequence
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

    def accuracy(rows: Tensor, shot: int) -> float:
        drawn = features[rows]
        support, queries = drawn[:, :shot], drawn[:, shot:]
        logits = near(queries.flatten(0, 1), support.mean(1))
        return correct_share(logits, torch.arange(len(rows)).repeat_interleave(queries.shape[1]))

    return Report(rows=tuple(measure_episodes(labels, accuracy, name, seed=seed)))


def measure_episodes(
    labels: NDArray[np.int64], accuracy: Callable[[Tensor, int], float], name: str, *, ways: Sequence[int] = WAYS,
    shots: Sequence[int] = SHOTS, queries: int = QUERIES, episodes: int = EPISODES, seed: int = 0,
) -> list[Measurement]:  # fmt: skip
    """Measure the mean accuracy of episodes with each number of ways and shots that classes and examples allow.

    Args:
        labels: Labels of all examples `(N,)`.
        accuracy: Function from the examples of an episode, int64 `(W, K + Q)`, and K to an accuracy in percent.
        name: Prefix of the measurements' names.
        ways: Numbers of classes; if there are fewer than the first, all are used.
        shots: Numbers of support examples per class.
        queries: Most queries per class.
        episodes: At least 2.
        seed: Random seed.
    """
    counts = np.unique(labels, return_counts=True)[1]
    fewest = int(counts.min())
    usable = [way for way in ways if way <= len(counts)] or [len(counts)]
    measurements = []
    for way in usable:
        for shot in (shot for shot in shots if shot < fewest):
            pool = Episodes(labels, shot + min(queries, fewest - shot))

            def one_accuracy(number: int, pool: Episodes = pool, way: int = way, shot: int = shot) -> float:
                rng = make_generator(seed, "episode", way, shot, number)
                classes = torch.randperm(len(pool), generator=rng)[:way]
                return accuracy(pool.draw(classes, rng), shot)

            scores = torch.tensor([one_accuracy(number) for number in range(episodes)], dtype=torch.float64)
            # The normal quantile of 95 %; hundreds of episodes are enough for it.
            mean, half = float(scores.mean()), 1.96 * float(scores.std()) / sqrt(episodes)
            # Classes are drawn again in every episode: the interval is of the episodes, not of other data.
            measurement = Measurement(
                name=f"{name} {way}-way {shot}-shot", value=mean, unit="%", low=mean - half, high=mean + half,
                n=episodes, of=f"queries, {pool.size - shot} per class and episode",
            )  # fmt: skip
            measurements.append(measurement)
    return measurements


def correct_share(logits: Tensor, labels: Tensor) -> float:
    """Return the accuracy of logits `(N, W)` under labels `(N,)`, in percent."""
    return 100 * float((logits.argmax(1) == labels).double().mean())
