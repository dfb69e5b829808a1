"""Training and evaluation mode of what is trained in part."""

from typing import Any

from torch import nn


def train_mode(learner: nn.Module) -> None:
    """Set training mode, but evaluation mode for every submodule whose parameters are all frozen.

    A module of which something was frozen is in evaluation mode, too, with what an adapter changes in it: statistics
    that a frozen body was trained with do not move.
    """
    learner.train()
    for module in learner.modules():
        every = list(module.parameters())
        if every and not any(p.requires_grad for p in every):
            module.eval()
        # `eval()` would also reach the modules inside, some of which may be trained.
        elif not all(p.requires_grad for p in _own_parameters(module)):
            module.training = False


def _own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """A module's own parameters, without those of modules in it; of an adapted one, what it came with."""
    adapted: Any = getattr(module, "parametrizations", {})
    return [*module.parameters(recurse=False), *(adapted[leaf].original for leaf in adapted)]
