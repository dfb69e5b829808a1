"""Magnitude: the smallest weights go (Han et al., 2015, https://arxiv.org/abs/1506.02626)."""

from collections.abc import Sequence

from torch import Tensor, nn

from effxfer.prune.weights.scores.context import ScoreContext


def magnitude(net: nn.Module, names: Sequence[str], _context: ScoreContext) -> dict[str, Tensor]:
    """Score each weight by its absolute value, in the weight's own unit.

    Args:
        net: The trained network.
        names: Names of the weights to score.
        _context: Not used.

    Returns:
        By name, `|w|` of the weight's shape, at least 0; 0 is a weight that does nothing.
    """
    return {name: net.get_parameter(name).detach().abs() for name in names}
