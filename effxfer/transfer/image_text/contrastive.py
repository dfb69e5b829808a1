"""Losses of pairs of images and texts: InfoNCE (CLIP, Radford et al., 2021) and sigmoid (SigLIP, Zhai et al., 2023).

https://arxiv.org/abs/2103.00020, https://arxiv.org/abs/2303.15343. A caption that several images of a batch share is
right for all of them: with the sigmoid, these would else be pushed away from their own caption. The softmax has the
same gradient either way, as long as equal texts have equal embeddings, which dropout ends.

Shape legend: B pairs of a batch, E numbers of an embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def positive_pairs(captions: Tensor) -> Tensor:
    """Return which texts are right for which images, bool `(B, B)`: those with the number of the own caption, `(B,)`.

    >>> positive_pairs(torch.tensor([4, 7, 4])).int().tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    return captions[:, None] == captions[None]


def infonce_loss(images: Tensor, texts: Tensor, scale: Tensor, positive: Tensor) -> Tensor:
    """Return the mean of both cross-entropies: of the right texts for an image, and of the right images for a text.

    Several right ones share the probability evenly, as in UniCL (Yang et al., 2022, https://arxiv.org/abs/2204.03610);
    with one each, this is CLIP's loss.

    Args:
        images: Embeddings of length 1, `(B, E)`.
        texts: Embeddings of length 1, `(B, E)`.
        scale: One over the temperature, above 0.
        positive: Of `positive_pairs`, `(B, B)`, symmetric.
    """
    logits = scale * images @ texts.mT
    target = positive / positive.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target)) / 2


def sigmoid_loss(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, positive: Tensor) -> Tensor:
    """Return the mean over images of the summed logistic losses of all B texts.

    Args:
        images: Embeddings of length 1, `(B, E)`.
        texts: Embeddings of length 1, `(B, E)`.
        scale: Above 0.
        bias: Added to the logits; most pairs are wrong ones, so that it begins far below 0.
        positive: Of `positive_pairs`, `(B, B)`.
    """
    signs = 2 * positive.to(images.dtype) - 1
    return -F.logsigmoid(signs * (scale * images @ texts.mT + bias)).sum(1).mean()


def largest_scale(log_scale: Tensor, largest: float) -> None:
    """Cut the logarithm of the scale, in place, so that the scale is at most `largest`."""
    with torch.no_grad():
        log_scale.clamp_(max=torch.tensor(largest).log())
