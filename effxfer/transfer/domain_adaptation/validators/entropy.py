"""Entropy validator: how sure the network is of the target (Morerio et al., 2018, https://arxiv.org/abs/1711.10288)."""

from torch import Tensor

from effxfer.transfer.domain_adaptation.validators.outputs import DomainOutputs


def entropy_score(outputs: DomainOutputs) -> float:
    """Return minus the mean entropy of the answers, at most 0; it is fooled by a network that answers one class."""
    return -float(entropy(outputs.target_logits.softmax(1)).mean())


def entropy(answers: Tensor) -> Tensor:
    """Return the entropy of probabilities `(..., C)`, in nats."""
    return -(answers * answers.clamp_min(1e-12).log()).sum(-1)
