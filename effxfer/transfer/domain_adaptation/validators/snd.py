"""Soft neighbourhood density: examples of the target have many close neighbours (Saito et al., 2021).

https://arxiv.org/abs/2108.10860.
"""

import torch

from effxfer.transfer.domain_adaptation.validators.entropy import entropy
from effxfer.transfer.domain_adaptation.validators.outputs import DomainOutputs

TEMPERATURE = 0.05  # the paper's
LARGEST_SAMPLE = 2000  # a matrix of 32 MB


def snd_score(outputs: DomainOutputs) -> float:
    """Return the mean entropy of the similarities of an example's answer to those of others, from 0 to log(M - 1)."""
    answers = outputs.target_logits.softmax(1)
    chosen = torch.linspace(0, len(answers) - 1, min(len(answers), LARGEST_SAMPLE)).round().long()
    unit = torch.nn.functional.normalize(answers[chosen], dim=1)
    similarities = (unit @ unit.mT / TEMPERATURE).fill_diagonal_(float("-inf"))
    return float(entropy(similarities.softmax(1)).mean())
