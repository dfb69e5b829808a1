"""A multilayer perceptron: a body for vectors of numbers."""

from collections.abc import Sequence

from torch import nn


class Mlp(nn.Sequential):
    """Hidden layers, each with an optional BatchNorm, ReLU and an optional dropout; without any, the identity."""

    def __init__(self, inputs: int, hidden: Sequence[int], dropout: float, batchnorm: bool) -> None:
        widths, layers = [inputs, *hidden], list[nn.Module]()
        for before, after in zip(widths, hidden, strict=False):
            layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if batchnorm else []), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        super().__init__(*layers)
        # The form in which networks say what they take: a single number is the width of vectors.
        self.pretrained_cfg = {"input_size": (inputs,)}


def mlp(inputs: int, hidden: Sequence[int] = (), dropout: float = 0.0, batchnorm: bool = False) -> Mlp:
    """Make it: maps vectors `(B, inputs)` to features `(B, D)`, with D the last of `hidden`.

    Args:
        inputs: Numbers of a vector.
        hidden: Width of each hidden layer; none is the null value: the vectors themselves are the features.
        dropout: Share of units that are left out while training, in [0, 1); 0 for none.
        batchnorm: Normalise each hidden layer before its ReLU.
    """
    return Mlp(inputs, hidden, dropout, batchnorm)
