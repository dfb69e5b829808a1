"""Classify by the nearest neighbours of features (Wu et al., 2018, https://arxiv.org/abs/1805.01978).

Shape legend: N examples with labels, M queries, D features, C classes, k neighbours.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS, TEMPERATURE = 20, 0.1  # 20 as in DINO (2104.14294), the temperature of both papers rounded
ROWS = 1024  # queries of a block: 200 MB of similarities to 50,000 examples


def knn_scores(features: Tensor, labels: Tensor, queries: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the votes `(M, C)` of the k nearest examples by cosine, each of weight `exp(cosine / 0.1)`.

    Args:
        features: `(N, D)`.
        labels: int64 `(N,)`, from 0 on.
        queries: `(M, D)`.
        k: Neighbours, at least 1; at most N are used.
    """
    bank, votes = F.normalize(features.float(), dim=1), F.one_hot(labels).float()
    parts = []
    for block in F.normalize(queries.float(), dim=1).split(ROWS):
        near = (block @ bank.mT).topk(min(k, len(bank)), 1)
        parts.append((votes[near.indices] * (near.values / TEMPERATURE).exp()[..., None]).sum(1))
    return torch.cat(parts)
