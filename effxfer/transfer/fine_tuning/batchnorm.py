"""Select which parts of a body's BatchNorm change during training, and which stay pretrained.

Only affine parameters: Frankle et al., 2020 (https://arxiv.org/abs/2003.00152). Only statistics, which adapt to new
images without labels: Li et al., 2016 (https://arxiv.org/abs/1603.04779). Freezing both is usual with small batches.
"""

from typing import Any, Literal

from torch.nn.modules.batchnorm import _BatchNorm

Mode = Literal["train", "frozen", "statistics", "affine"]


def hold(learner: Any, mode: Mode) -> None:
    """Set gradients and mode of every BatchNorm in `learner.body`, frozen blocks included.

    Args:
        learner: Module with a `body`; its other modules are unchanged.
        mode: `train` changes nothing; `frozen` freezes both parts; `statistics` and `affine` freeze the other part.
    """
    if mode == "train":
        return
    for module in learner.body.modules():
        if isinstance(module, _BatchNorm):
            # After the strategy's own freezing, which this overrides in frozen blocks, too.
            module.requires_grad_(mode == "affine").train(mode == "statistics")
