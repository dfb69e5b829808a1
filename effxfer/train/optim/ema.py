"""Moving average of the weights during training, which is evaluated and saved."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from effxfer.train.state import clone


class Average:
    """Exponential moving average of weights and buffers; its decay rises with the steps as (1 + n) / (10 + n)."""

    def __init__(self, learner: nn.Module, decay: float) -> None:
        self.decay, self.weights = decay, clone(learner)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Load the average from a checkpoint."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    @torch.no_grad()
    def update(self, learner: nn.Module, step: int) -> None:
        """Update the average with the learner's weights after step number `step`."""
        # As in TensorFlow's ExponentialMovingAverage (num_updates): otherwise the initial weights weigh for long.
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, tensor in learner.state_dict().items():
            average = self.weights[name]
            # Counters of batches are integers: the last value.
            average.lerp_(tensor, share) if average.is_floating_point() else average.copy_(tensor)

    @contextmanager
    def applied_to(self, learner: nn.Module) -> Iterator[None]:
        """Replace the learner's weights by the average within the block."""
        original = clone(learner)
        learner.load_state_dict(self.weights)
        try:
            yield
        finally:
            learner.load_state_dict(original)
