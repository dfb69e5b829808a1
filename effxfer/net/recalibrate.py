"""Re-estimate BatchNorm statistics after weights changed without training.

Removing channels shifts what the layers above see; averaging anew over a few hundred images restores most of the
accuracy that uncorrected statistics cost (EagleEye, https://arxiv.org/abs/2007.02491).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.errors import DataError
from effxfer.net.heads.standardize import Standardize
from effxfer.net.hooks import as_evaluated


def recalibrate_(net: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics of every BatchNorm by plain averages over batches, in place.

    Weights, masks and each submodule's mode do not change, nor do networks without BatchNorm.

    Args:
        net: Any network.
        batches: Network inputs `(B, 3, S, S)` with `B > 1`, of training images as evaluation sees them; about 500
            images do. Batches should be of equal size: each counts the same.

    Returns:
        Number of images.

    Raises:
        DataError: If there are no batches, or one of a single image.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and _averages(m)]
    if not norms:
        return 0
    momenta = [m.momentum for m in norms]
    with as_evaluated(net):
        for norm in norms:
            norm.reset_running_stats()
            # torch then takes the plain average over all batches instead of a moving one.
            norm.momentum = None
            norm.train()
        try:
            return _run(net, batches)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _averages(norm: _BatchNorm) -> bool:
    # A head's standardisation belongs to its weights, which were trained with it.
    return norm.track_running_stats and not isinstance(norm, Standardize)


@torch.no_grad()
def _run(net: nn.Module, batches: Iterable[Tensor]) -> int:
    count = 0
    for batch in batches:
        # A batch of one image and one position has a variance of 0.
        if len(batch) < 2:
            raise DataError("BatchNorm statistics need batches of at least two images", "use a larger batch size")
        net(batch)
        count += len(batch)
    if not count:
        raise DataError("BatchNorm statistics need images", "give a training split that is not empty")
    return count
