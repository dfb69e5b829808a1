"""Deep embedded validation: the source's risk, weighted as the target has such examples (You et al., 2019).

https://proceedings.mlr.press/v97/you19a.html.
"""

import torch
from torch.nn import functional as F

from effxfer.transfer.domain_adaptation.density_ratio.discriminator import domain_logits
from effxfer.transfer.domain_adaptation.validators.outputs import DomainOutputs

# Chosen: odds beyond are of a classifier that separates the domains, and one example would be the whole risk.
LARGEST_WEIGHT = 100.0


def dev_score(outputs: DomainOutputs) -> float:
    """Return minus the weighted risk on the source's validation examples, with the paper's control variate."""
    train, val = outputs.train_features, outputs.source_features
    logits = domain_logits(torch.cat([train, val]), outputs.target_features)[len(train) : len(train) + len(val)]
    ratio = (len(train) + len(val)) / len(outputs.target_features)
    weights = (logits.exp() * ratio).clamp_max(LARGEST_WEIGHT)
    losses = F.cross_entropy(outputs.source_logits, outputs.source_labels, reduction="none")
    weighted = weights * losses
    # Weights have the mean 1 in expectation: what they differ by tells part of the error.
    variance = weights.var().clamp_min(1e-12)
    slope = -((weighted - weighted.mean()) * (weights - weights.mean())).sum() / (len(weights) - 1) / variance
    return -float(weighted.mean() + slope * (weights.mean() - 1))
