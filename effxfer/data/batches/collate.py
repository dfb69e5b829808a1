"""Turn decoded examples into the network's input tensor, on the training device."""

from typing import Any

import torch
from torch import Tensor

from effxfer.data.batches.augment import normalize
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input


def input_tensor(rows: Any, input: Input, device: torch.device) -> Tensor:
    """Turn decoded examples into the network's input `(B, ...)`.

    Args:
        rows: Examples of a split, such as images, uint8 `(B, S, S, 3)`.
        input: How they become the input.
        device: Where the tensor goes.
    """
    if isinstance(input, Preprocess):  # bytes are copied, a quarter of what floats would be, and scaled on the device
        return normalize(torch.tensor(rows).to(device), input)
    return torch.from_numpy(input.feed(rows)).to(device)
