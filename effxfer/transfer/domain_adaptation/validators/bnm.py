"""Batch nuclear norm: sure and diverse answers (Cui et al., 2020, https://arxiv.org/abs/2003.12237)."""

import torch

from effxfer.transfer.domain_adaptation.validators.outputs import DomainOutputs


def bnm_score(outputs: DomainOutputs) -> float:
    """Return the nuclear norm of the answers `(M, C)` divided by its largest value, in (0, 1]."""
    answers = outputs.target_logits.softmax(1).double()
    largest = (len(answers) * min(answers.shape)) ** 0.5
    norm = float(torch.linalg.matrix_norm(answers, "nuc"))
    return norm / float(largest)
