"""Build the optimizer: no weight decay on vectors, layer-wise rate decay, a separate rate for the head."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from effxfer.errors import SettingsError, did_you_mean
from effxfer.train.settings import FitSettings


def make_optimizer(learner: nn.Module, settings: FitSettings) -> Optimizer:
    """Make the timm optimizer that the settings name.

    Raises:
        SettingsError: If timm has no optimizer of this name.
    """
    from timm.optim import create_optimizer_v2, list_optimizers

    groups = parameter_groups(
        learner, lr=settings.peak_lr, weight_decay=settings.weight_decay,
        layer_decay=settings.layer_decay, head_lr=settings.head_lr,
    )  # fmt: skip
    if settings.optimizer not in (available := list_optimizers()):
        text = f"timm has no optimizer {settings.optimizer!r}{did_you_mean(settings.optimizer, available)}"
        raise SettingsError(text, "adamw and sgd are the usual ones")
    # 0.9 for what has a momentum; timm's `sgd` is Nesterov's. Adam's beta1 is 0.9 by itself.
    created: Optimizer = create_optimizer_v2(groups, opt=settings.optimizer, lr=settings.peak_lr, momentum=0.9)
    return created


def parameter_groups(
    learner: nn.Module, *, lr: float, weight_decay: float, layer_decay: float = 1.0, head_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Sort trainable parameters into groups for an optimizer.

    Args:
        learner: Module; parameters that require no gradient are skipped.
        lr: Learning rate of the topmost block of the body.
        weight_decay: Weight decay of matrices and kernels; biases, norms and other vectors have none.
        layer_decay: Factor of the learning rate from each block of the body to the block below, in (0, 1]; 1 is off
            (Bao et al., 2021, https://arxiv.org/abs/2106.08254).
        head_lr: Learning rate of the head as a multiple of `lr`; 1 is the same rate.

    Returns:
        Groups with `params`, `lr`, `lr_scale` (the factor of timm's schedulers) and `weight_decay`.
    """
    named = [(name, p) for name, p in learner.named_parameters() if p.requires_grad]
    blocks = blocks_of(name for name, _ in named)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        height = len(blocks) - 1 - blocks.index(block(name)) if not is_head(name) else 0
        scale = head_lr if is_head(name) else layer_decay**height
        # Biases and norms do not decay (He et al. 2018, https://arxiv.org/abs/1812.01187, section 3.1).
        decays = parameter.dim() > 1
        empty_group = {"params": [], "lr": lr, "lr_scale": scale, "weight_decay": weight_decay if decays else 0.0}
        groups.setdefault((scale, decays), empty_group)["params"].append(parameter)
    return list(groups.values())


def blocks_of(names: Iterable[str]) -> list[str]:
    """Return the blocks of the body that the named parameters belong to, lowest first."""
    return list(dict.fromkeys(block(name) for name in names if not is_head(name)))


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the head, or to a module that a strategy adds to the network."""
    return not name.removeprefix("net.").startswith("body.")


def block(name: str) -> str:
    """Return the block of the body that a parameter belongs to: the first two levels if the second is a number."""
    parts = name.removeprefix("net.").removeprefix("body.").split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdigit() else parts[0]
