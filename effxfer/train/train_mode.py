"""Training and evaluation mode of partly frozen modules."""

from typing import Any

from torch import nn


def train_mode(learner: nn.Module) -> None:
    """Set training mode, but evaluation mode for every submodule whose parameters are all frozen.

    A module with some frozen parameters is also in evaluation mode, even if an adapter changes them: the statistics of
    a frozen body do not change.
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
    """Return a module's own parameters, without submodules; the original ones if an adapter changes them."""
    adapted: Any = getattr(module, "parametrizations", {})
    return [*module.parameters(recurse=False), *(adapted[leaf].original for leaf in adapted)]
