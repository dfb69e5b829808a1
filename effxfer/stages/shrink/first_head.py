"""Give a network that never saw the task a head that answers: candidates are then compared by what their bodies know.

A new head starts from chance. In the few steps of a first round it stays near it, while candidates of the input network
begin with a trained head: the round would compare heads, and not networks. A head that is solved on the features of a
frozen body costs one pass over the images, and does not distort them (Kumar et al., 2022,
https://arxiv.org/abs/2202.10054). It belongs to the body that it was solved on: images of another side, or fewer
channels, give other features.
"""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import torch

from effxfer.data.task import Task, sample_evenly
from effxfer.net.hooks import as_evaluated
from effxfer.net.net import Net
from effxfer.stages.train.head import new_head
from effxfer.train.devices import Device
from effxfer.train.state import Work
from effxfer.transfer.fine_tuning.linear import features_of, solve_

# As `rank`: at 2,000 images an accuracy of 80 % has a standard error of 0.9 points; time grows with them.
IMAGES = 2000
# Of EfficientNet-lite0 at 192 px on 30 photographs for each of 28 classes, they gave 78.2, 79.5, 79.6 % in validation
# (n = 830) and 80.1, 80.2 and 80.0 % in test (n = 840): which one is best depends on how many images there are.
WEIGHT_DECAYS = (1e-3, 1e-2, 1e-1)


def give_head(net: Net, task: Task, seed: int, device: Device, work: Work, name: str) -> bool:
    """Give a network a head for the task, unless it has one, and solve it on features of training images.

    Args:
        net: Network, changed in place.
        task: Task with images as the network takes them.
        seed: Random seed of the new weights and of the choice of images.
        device: Device of the features.
        work: Saves the head.
        name: Its name there.

    Returns:
        Whether the head is new.
    """
    if not new_head(net, task, seed):
        return False
    net.head.load_state_dict(work.once(name, partial(solved_head, net, task, seed, device)))
    return True


def solved_head(net: Net, task: Task, seed: int, device: Device) -> dict[str, Any]:
    """Solve the head of a network, and return its tensors; see `solve_head_`."""
    net.to(device.torch)
    solve_head_(net, task, seed)
    net.cpu()
    return dict(net.head.state_dict())


def solve_head_(net: Net, task: Task, seed: int) -> float:
    """Solve the head of a network in place, on its device, with the weight decay that serves the validation split best.

    Features are computed once, of at most `IMAGES` images of each of both splits, drawn with the seed.

    Returns:
        The score on these validation images, in %.
    """
    train, val = (sample_evenly(split, IMAGES, seed) for split in (task.train, task.val))
    features, labels = features_of(net, replace(task, train=train))
    held_out, _ = features_of(net, replace(task, train=val))
    new, best = deepcopy(net.head), -inf
    for l2 in WEIGHT_DECAYS:
        head = deepcopy(new)
        solve_(head, features, labels, l2, net.output)
        with torch.no_grad(), as_evaluated(head):
            value = float(net.output.score(head(held_out).float().cpu().numpy(), val.labels).value)
        if value > best:
            best = value
            net.head.load_state_dict(head.state_dict())
    return best
