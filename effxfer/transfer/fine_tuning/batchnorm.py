"""What moves of a body's BatchNorm during training, and what stays as it was pretrained.

Affine parameters alone: Frankle et al., 2020 (https://arxiv.org/abs/2003.00152). Statistics alone, which adapt to new
images without labels: Li et al., 2016 (https://arxiv.org/abs/1603.04779). Both held: usual where batches are small.
"""

from typing import Any, Literal

from torch.nn.modules.batchnorm import _BatchNorm

Mode = Literal["train", "frozen", "statistics", "affine"]


def hold(learner: Any, mode: Mode) -> None:
    """Set what is trained and the mode of every BatchNorm in `learner.body`, frozen blocks included.

    Args:
        learner: Has a `body`; other modules stay as they are.
        mode: As in `Strategy`; `train` changes nothing.
    """
    if mode == "train":
        return
    for module in learner.body.modules():
        if isinstance(module, _BatchNorm):
            # After the strategy's own freezing, which this overrides in frozen blocks, too.
            module.requires_grad_(mode == "affine").train(mode == "statistics")
