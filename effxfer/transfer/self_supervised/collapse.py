"""Choose an epoch by the rank of its features, and stop where the projections collapse.

All joint-embedding losses have a minimum at projections that are the same for all images, which each method avoids in
a way of its own (https://arxiv.org/abs/2304.12210, section 3).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.task import Split
from effxfer.errors import GateError
from effxfer.train.devices import Device
from effxfer.train.evaluate import evaluation_mode, predict
from effxfer.train.representation.rankme import effective_rank, sample_rows
from effxfer.transfer.fine_tuning.linear import Features
from effxfer.transfer.self_supervised.projection import Projected

RANK = "effective rank"
# Of Conv-4 with 32 features, on 256 images of CIFAR-10 (1 seed, 4 epochs of 2,000 images at 3e-3): SimSiam has 25 to
# 45 % of the highest rank, and without the stopped gradient 15, 6, 10 and 5 % after each epoch; untrained 82 %.
COLLAPSED = 0.1
# Deviation of directions, where 1 is that of random ones: 0.9 in training, 0.04 before it, and 0.002 for VICReg without
# its variance term on a toy problem.
POINT = 0.01
CURE = "lower fit.lr, take larger batches (options.batch), or another strategy: vicreg and barlow_twins resist it"


def watch_collapse(learner: Projected, split: Split) -> Projected:
    """Note the rank of the projections before training, as a buffer of the learner."""
    device = Device(torch=next(learner.net.parameters()).device)
    rank, _ = _projected_rank(learner.to(device.torch), _features(learner, split, device))
    learner.register_buffer("first_rank", torch.tensor(rank))
    return learner


def judge_rank(learner: Any, split: Split, device: Device) -> float:
    """Return the effective rank of the features of validation images.

    Raises:
        GateError: `E603` if the rank of the projections is below a tenth of the highest, and of that before training.
            Images that are nearly the same have a low rank from the beginning.
    """
    features = _features(learner, split, device)
    rank, highest = _projected_rank(learner, features)
    if rank < COLLAPSED * highest and rank < float(learner.first_rank):
        text = f"the projections collapsed: their effective rank is {rank:.2f} of at most {highest}, at first"
        raise GateError(f"{text} {float(learner.first_rank):.2f} (n={len(split)} validation images)", CURE, code="E603")
    return effective_rank(features)


def _features(learner: Projected, split: Split, device: Device) -> Tensor:
    rows = sample_rows(len(split)).numpy()
    return predict(Features(learner.net), split.rows[rows], learner.net.input, device)


def _projected_rank(learner: Projected, features: Tensor) -> tuple[float, int]:
    """Return the effective rank of the projections of features `(N, D)`, and the largest that it can be.

    Their mean is removed, which VICReg and Barlow Twins leave free; projections in one direction alone have rank 1.
    """
    with evaluation_mode(learner.projector):
        projections = learner.projector(features.to(next(learner.parameters()).device)).float().cpu()
    highest = min(*features.shape, projections.shape[1])
    spread = F.normalize(projections, dim=1).std(0).mean() * projections.shape[1] ** 0.5
    return (1.0 if spread < POINT else effective_rank(projections - projections.mean(0))), highest
