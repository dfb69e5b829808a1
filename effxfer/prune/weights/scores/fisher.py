"""Fisher: optimal brain damage, the Fisher diagonal as curvature (Theis et al., 2018, https://arxiv.org/abs/1801.05787)."""

from collections.abc import Sequence

from torch import Tensor, nn

from effxfer.prune.weights.scores.context import ScoreContext, gradients


def fisher(net: nn.Module, names: Sequence[str], context: ScoreContext) -> dict[str, Tensor]:
    """Score each weight by how much the loss rises without it, to second order at a minimum, in the loss's unit.

    The curvature is the mean square of the gradient. Only the gradients of single examples give the Fisher diagonal:
    let each loss be that of one example. The mean loss of a batch of B gives about 1/B of it, which ranks the same.

    Args:
        net: The network, trained; its gradients and statistics do not change.
        names: Names of the weights to score.
        context: Its `examples` give the losses.

    Returns:
        By name, `w^2 * E[g^2] / 2` of the weight's shape, at least 0; 0 is a weight that the loss does not feel.

    Raises:
        SettingsError: If there are no examples.
    """
    squares, count = [net.get_parameter(name).new_zeros(()) for name in names], 0
    for grads in gradients(net, names, context.examples):
        squares, count = [total + g.square() for total, g in zip(squares, grads, strict=True)], count + 1
    weights = (net.get_parameter(name).detach() for name in names)
    return {n: w.square() * s / (2 * max(count, 1)) for n, w, s in zip(names, weights, squares, strict=True)}
