"""MoCo: pick the other view of an image among those of earlier batches (He et al., 2019; Chen et al., 2020).

https://arxiv.org/abs/1911.05722, with the projection of https://arxiv.org/abs/2003.04297; both views are queries and
keys in turn.

Shape legend: B images, P units of the projection, Q keys of the queue.
"""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.self_supervised.collapse import watch_collapse
from effxfer.transfer.self_supervised.projection import Projected, full_precision
from effxfer.transfer.self_supervised.slow_copy import SlowCopy
from effxfer.transfer.self_supervised.two_views import TwoViews


class MoCo(TwoViews):
    """Make two views alike, and unlike the views in a queue, which a slow copy of the network projects.

    Attributes:
        queue: Keys of earlier batches. The paper's 65,536 are a twentieth of its images; more than the images of the
            data set make an image unlike itself.
        momentum: Share of the slow copy that stays at each step; 0.999 in the paper, for a million steps.
        temperature: Of the softmax over cosines; 0.2 in the second paper.
        hidden: Units of the hidden layer of the projection, which is discarded; 2,048 in the second paper.
        width: Units of its last layer.
    """

    queue: int = Field(default=1024, ge=1)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    temperature: float = Field(default=0.2, gt=0)
    hidden: int = Field(default=512, ge=2)
    width: int = Field(default=128, ge=2)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection, the slow copy and a queue of random keys."""
        super().prepare(net, tasks)
        return watch_collapse(Queued(net, self.hidden, self.width, self.queue), tasks[-1].val)

    def begin_epoch(self, learner: "Queued", progress: float) -> None:
        """Let the slow copy normalise by its batches, as the network does."""
        super().begin_epoch(learner, progress)
        learner.slow.train()

    def loss(self, learner: "Queued", batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the mean of both views' contrasts with the queue."""
        queries, keys = learner.project(batch), learner.slow.project(batch)
        learner.latest = F.normalize(keys, dim=1)
        with full_precision(queries):
            pairs = zip(queries.chunk(2), reversed(keys.chunk(2)), strict=True)
            first, second = (contrast_with_queue(q, k, learner.queue, self.temperature) for q, k in pairs)
            return {"contrast": (first + second) / 2}

    def after_step(self, learner: "Queued", steps: int, progress: float) -> None:
        """Move the slow copy, and put the keys of the step into the queue."""
        learner.slow.follow_(learner, self.momentum)
        learner.enqueue_()


class Queued(Projected):
    """A network with a projection, a slow copy of both, and a queue of keys.

    Attributes:
        queue: Keys of length 1, `(Q, P)`; the oldest are replaced first.
        oldest: Row of the oldest key, int64 `()`.
        latest: Keys of the present step, `(2B, P)`, until `enqueue_` moves them; no part of the state.
    """

    queue: Tensor
    oldest: Tensor

    def __init__(self, net: Net, hidden: int, width: int, size: int) -> None:
        super().__init__(net, [hidden, width])
        self.slow = SlowCopy(self)
        self.register_buffer("queue", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))
        self.latest: Tensor | None = None

    @torch.no_grad()
    def enqueue_(self) -> None:
        """Replace the oldest keys by those of the present step."""
        assert self.latest is not None
        keys, self.latest = self.latest[-len(self.queue) :], None
        rows = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[rows] = keys
        self.oldest.copy_((self.oldest + len(keys)) % len(self.queue))


def contrast_with_queue(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of picking a query's key among it and those of the queue (InfoNCE).

    Args:
        queries: `(B, P)`.
        keys: `(B, P)`, without gradients.
        queue: `(Q, P)`, of length 1.
        temperature: Of the softmax over cosines.
    """
    unit, partners = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    cosines = torch.cat([(unit * partners).sum(1, keepdim=True), unit @ queue.mT], 1)
    return F.cross_entropy(cosines / temperature, torch.zeros(len(unit), dtype=torch.int64, device=unit.device))
