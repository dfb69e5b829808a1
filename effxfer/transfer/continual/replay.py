"""Show examples of earlier tasks again (experience replay; Chaudhry et al., 2019, https://arxiv.org/abs/1902.10486)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field

from effxfer.data.batches.batches import Batches
from effxfer.data.continual.exemplars import Keep
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.kept_examples import add_examples, read_exemplars
from effxfer.transfer.continual.learner import StreamLearner
from effxfer.transfer.continual.rehearsal import draw_with_exemplars


class Replay(Continual):
    """Fine-tune every weight on a task, with kept examples of earlier tasks in every batch.

    Attributes:
        memory: Most examples of all tasks that are kept; 0 is plain fine-tuning, which forgets.
        keep: Which: `balanced` draws equally many of each task and class, `herding` those whose mean is near that of
            their class, `reservoir` a uniform sample of everything so far.
        share: Kept examples for each of the task's own in a batch.
    """

    memory: int = Field(default=1000, ge=0)
    keep: Keep = "balanced"
    share: float = Field(default=1.0, gt=0)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Wrap the network with the columns of each task."""
        super().prepare(net, tasks)
        return self.begin(net, tasks)

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of the task, with kept examples added to each."""
        exemplars = read_exemplars(learner.memory, tasks) if self.memory else None
        return draw_with_exemplars(
            tasks[-1], exemplars, batch=self.batch, share=self.share, augment=self.augment, device=device,
            balance=self.balance,
        )  # fmt: skip

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Add examples of the task, and drop as many of earlier ones as the memory is too small for."""
        before = learner.memory
        number, visited = (len(before.tasks), before.facts["visited"]) if before else (0, 0)
        exemplars = add_examples(
            learner.net, read_exemplars(before, tasks), tasks[-1], number, self.memory, self.keep, visited
        )  # fmt: skip
        return self.keep_memory("replay", learner, tasks, {}, exemplars)
