"""Choose an epoch by the rank of its features, and stop where they collapse.

All joint-embedding losses have a minimum at features that are the same for all images, which each method avoids in a
way of its own (https://arxiv.org/abs/2304.12210, section 3).
"""

from typing import Any

from effxfer.data.task import Split
from effxfer.errors import GateError
from effxfer.net.net import Net
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict
from effxfer.train.representation.rankme import effective_rank, sample_rows
from effxfer.transfer.base import unwrap
from effxfer.transfer.fine_tuning.linear import Features

RANK = "effective rank"
COLLAPSED = 0.1
CURE = "lower fit.lr, take larger batches (options.batch), or another strategy: vicreg and barlow_twins resist it"


def rank_of(net: Net, split: Split, device: Device) -> tuple[float, int]:
    """Return the effective rank of a network's features on a split, and the largest that it can be."""
    rows = sample_rows(len(split)).numpy()
    features = predict(Features(net), split.rows[rows], net.input, device)
    return effective_rank(features), min(features.shape)


def judge_rank(learner: Any, split: Split, device: Device) -> float:
    """Return the effective rank of the features of validation images.

    Raises:
        GateError: `E603` if they collapsed: their rank is below a tenth of what it can be.
    """
    rank, highest = rank_of(unwrap(learner), split, device)
    if rank < COLLAPSED * highest:
        text = f"the features collapsed: their effective rank is {rank:.1f} of at most {highest}"
        raise GateError(f"{text} (n={len(split)} validation images)", CURE, code="E603")
    return rank
