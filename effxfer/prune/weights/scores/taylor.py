"""First-order Taylor: the change of the loss without a weight (Molchanov et al., 2017, https://arxiv.org/abs/1611.06440).

Of a network that is not trained yet, this is connection sensitivity (Lee et al., 2019,
https://arxiv.org/abs/1810.02340).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from effxfer.prune.weights.scores.context import ScoreContext, gradients


def taylor(net: nn.Module, names: Sequence[str], context: ScoreContext) -> dict[str, Tensor]:
    """Score each weight by how much the loss changes without it, to first order, in the loss's unit.

    Args:
        net: The network; its gradients and statistics do not change.
        names: Names of the weights to score.
        context: Its `examples` give the losses; `g` is their mean gradient.

    Returns:
        By name, `|w * g|` of the weight's shape, at least 0; 0 is a weight whose removal does not change the loss.

    Raises:
        SettingsError: If there are no examples.
    """
    sums, count = [net.get_parameter(name).new_zeros(()) for name in names], 0
    for grads in gradients(net, names, context.examples):
        sums, count = [total + g for total, g in zip(sums, grads, strict=True)], count + 1
    weights = (net.get_parameter(name).detach() for name in names)
    return {n: (w * g / max(count, 1)).abs() for n, w, g in zip(names, weights, sums, strict=True)}
