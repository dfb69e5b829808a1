"""What zero-shot strategies share: a frozen body, and a map between its features and class embeddings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import model_validator
from torch import nn

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.zero_shot.known_classes import BODY_STANDS_STILL, draw_features, freeze_, refuse_idle


class ZeroShot(Strategy):
    """Base of the strategies that compare features with class embeddings; the body stands still."""

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    needs_class_embeddings: ClassVar[bool] = True

    @model_validator(mode="after")
    def _stands_still(self) -> Self:
        name = type(self).__name__.lower()
        if self.solves:
            refuse_idle(self, ("batch", "balance", *BODY_STANDS_STILL), f"{name} is solved on frozen features")
        else:
            refuse_idle(self, BODY_STANDS_STILL, f"{name} learns a map of frozen features")
        return self

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` of a head that multiplies features with class embeddings."""
        return {"kind": "compare", "form": "product"}

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body."""
        freeze_(net, tasks[-1], "product")
        return net

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of `(features, labels)`."""
        return draw_features(learner, tasks[-1], self.batch, self.balance)
