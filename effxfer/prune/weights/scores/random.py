"""Random: the control of every other score (Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from effxfer.data.batches.batches import make_generator
from effxfer.prune.weights.scores.context import ScoreContext


def random(net: nn.Module, names: Sequence[str], context: ScoreContext) -> dict[str, Tensor]:
    """Draw each weight's score, without unit.

    Args:
        net: Only its shapes matter.
        names: Names of the weights to score; the score of one does not depend on the others.
        context: Its `seed` is used.

    Returns:
        By name, scores of the weight's shape in [0, 1), the same for every device; none of them means anything.
    """
    drawn = {}
    for name in names:
        weight = net.get_parameter(name)
        # By name and on the CPU: the same mask on every device, whichever other layers there are.
        drawn[name] = torch.rand(weight.shape, generator=make_generator(context.seed, "random score", name))
        drawn[name] = drawn[name].to(weight.device)
    return drawn
