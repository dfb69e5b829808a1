"""What classification of new classes would reach if a device did more than it does: figures for reports only.

A device sees one image at a time, with stored statistics of BatchNorm, and takes no gradient steps. Published figures
often normalise queries by their own statistics, which is transductive: all queries of an episode must be there at once.

Shape legend: W ways (classes), K shots, Q queries per class, N = W * Q, S side of images, D features.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from effxfer.data.batches.collate import input_tensor
from effxfer.data.target import concat_splits, is_new
from effxfer.data.task import Task
from effxfer.net.heads.prototypes import Prototypes, class_means
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.train.devices import Device
from effxfer.train.episodes import QUERIES, SHOTS, WAYS, correct_share, measure_episodes
from effxfer.transfer.few_shot.episodes import Episode, split_episode
from effxfer.transfer.few_shot.inner_loop import MetaLearner, norms_of

Answer = Callable[[Any, Episode], Tensor]
# Chosen: 8,000 images pass a network for 5 ways with 1 shot; the interval of 100 episodes is about +-1.5 points.
EPISODES = 100


def measure_transductive(net: Net, task: Task, device: Device) -> Report:
    """Measure the nearest mean on a target's new classes, where BatchNorm normalises each episode by itself.

    Returns:
        `accuracy/target transductive 5-way 1-shot` and with 5 shots; empty without BatchNorm or new classes.
    """
    if not norms_of(net.body):
        return Report()
    return _measure(net, nearest_mean, 0, task, device, {"transductive": True})


def measure_adaptation(learner: MetaLearner, answer: Answer, way: int, task: Task, device: Device) -> Report:
    """Measure what inner steps reach on a target's new classes.

    Args:
        learner: Network and start of the steps.
        answer: Function from the learner and an episode of images to logits of its queries.
        way: Ways that the learner is for; 0 for any.
        task: Its target is measured on.
        device: Device of the evaluation.

    Returns:
        `accuracy/target adapted 5-way 1-shot` and with 5 shots, with the stored statistics of BatchNorm; `adapted
        transductive` with those of each episode. Empty without new classes.
    """
    modes = {"adapted": False, **({"adapted transductive": True} if norms_of(learner.body) else {})}
    return _measure(learner, answer, way, task, device, modes)


@torch.no_grad()
def nearest_mean(net: Net, episode: Episode) -> Tensor:
    """Return logits `(N, W)` of an episode's queries by the means of its support; all images pass at once."""
    head = net.head
    assert isinstance(head, Prototypes)
    features = head.transform(net.features(torch.cat([episode.support, episode.queries])))
    support, queries = features.split([len(episode.support), len(episode.queries)])
    return head.compare(queries, class_means(support, episode.support_labels, episode.way))


def _measure(
    learner: Any, answer: Answer, way: int, task: Task, device: Device, modes: dict[str, bool]
) -> Report:  # fmt: skip
    """Measure by name; true is a mode in which BatchNorm normalises by episodes."""
    if task.target is None or not is_new(task):
        return Report()
    split, rows = concat_splits(task.target), list[Measurement]()
    for name, by_episode in modes.items():
        # A copy: batches would change the stored statistics.
        copied = deepcopy(learner).eval()
        for norm in norms_of(copied.body) if by_episode else []:
            norm.train()

        def accuracy(drawn: Tensor, shot: int, copied: Any = copied) -> float:
            images = input_tensor(split.rows[drawn.flatten().numpy()], task.input, device.torch)
            episode = split_episode(images.unflatten(0, drawn.shape), shot)
            return correct_share(answer(copied, episode), episode.labels)

        rows += measure_episodes(
            split.labels, accuracy, f"accuracy/target {name}", ways=(way or WAYS[0],), shots=SHOTS,
            queries=QUERIES, episodes=EPISODES,
        )  # fmt: skip
    return Report(rows=tuple(rows))
