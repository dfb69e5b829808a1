"""Information maximisation: sure answers, of all classes (Musgrave et al., 2022, https://arxiv.org/abs/2208.07360)."""

from effxfer.transfer.domain_adaptation.validators.entropy import entropy
from effxfer.transfer.domain_adaptation.validators.outputs import DomainOutputs


def information_score(outputs: DomainOutputs) -> float:
    """Return the entropy of the mean answer less the mean entropy, from 0 to log C; 0 if all answers are one class."""
    answers = outputs.target_logits.softmax(1)
    return float(entropy(answers.mean(0)) - entropy(answers).mean())
