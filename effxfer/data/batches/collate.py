"""Turn decoded examples into the network's input tensor, on the training device, and labels into what losses take."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from effxfer.data.batches.augment import normalize
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.multi_task.task_labels import TaskLabels, widen_tags
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.multi_label import UNKNOWN, MultiLabel
from effxfer.runtime.outputs.span import SpanLabels
from effxfer.runtime.outputs.tagging import TagLabels


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


def label_tensor(labels: Any, output: Output) -> Tensor:
    """Turn a split's labels into what losses take.

    int64 `(N,)`; float32 `(N, C)` with NaN where unknown; of tags int64 `(N, L)`, -100 where a position has none; of
    answers int64 `(N, 4)`: their first and last position, -1 for none, and the beginning and end of the context. Of
    several tasks with tags among them float32 `(N, W + T * L)`: behind labels of texts, the tags of each of T tasks.
    """
    if isinstance(labels, TaskLabels):
        longest = max(tags.shape[1] for tags in labels.tags.values())
        tags = [widen_tags(each, longest) for each in labels.tags.values()]
        return torch.from_numpy(np.concatenate([labels.numbers, *tags], 1, dtype=np.float32))
    if isinstance(labels, TagLabels):
        return torch.from_numpy(labels.tags)
    if isinstance(labels, SpanLabels):
        return torch.from_numpy(np.concatenate([labels.places, labels.context], 1))
    if isinstance(output, MultiLabel):
        return torch.from_numpy(np.where(labels == UNKNOWN, np.nan, labels).astype(np.float32))
    return torch.tensor(labels)
