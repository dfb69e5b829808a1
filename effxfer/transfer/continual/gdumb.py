"""Keep a balanced memory, and train on it alone, from the start (GDumb; Prabhu et al., 2020).

https://doi.org/10.1007/978-3-030-58536-5_31. The control that many methods lose to: it uses no new example beyond those
that the memory keeps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from effxfer.data.batches.batches import Batches, make_batches
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.transfer.continual.continual import Continual
from effxfer.transfer.continual.kept_examples import (
    add_examples,
    read_exemplars,
    rehearsal_task,
)
from effxfer.transfer.continual.learner import StreamLearner

START = "start/"


class GDumb(Continual):
    """Train on a balanced memory of all tasks alone, each time from the weights before the first task.

    Attributes:
        memory: Most examples of all tasks, at least 1.
    """

    memory: int = Field(default=1000, ge=1)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> StreamLearner:
        """Give the body the weights before the first task, and the head new ones; then choose what to keep.

        Raises:
            SettingsError: If the body had other layers then.
        """
        before = net.memory
        start = before.section(START) if before else body_state(net)
        if before:
            _restore_(net, start)
        super().prepare(net, tasks)
        learner = self.begin(net, tasks)
        learner.statistics = {START + name: tensor for name, tensor in start.items()}
        number = len(before.tasks) if before else 0
        learner.exemplars = add_examples(
            net, read_exemplars(before, tasks), tasks[-1], number, self.memory, "balanced", 0
        )
        return learner

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of the memory."""
        task = rehearsal_task(tasks[-1], learner.exemplars)
        return make_batches(task, self.batch, self.augment, device, self.balance)

    def remember(self, learner: Any, tasks: Sequence[Task]) -> Memory:
        """Keep the examples, and the weights before the first task."""
        return self.keep_memory("gdumb", learner, tasks, learner.statistics, learner.exemplars)


def body_state(net: Net) -> dict[str, Tensor]:
    """Copy the parameters and buffers of a body."""
    return {name: tensor.detach().cpu().clone() for name, tensor in net.body.state_dict().items()}


def _restore_(net: Net, start: dict[str, Tensor]) -> None:
    state = net.body.state_dict()
    wrong = [name for name in state if name not in start or start[name].shape != state[name].shape]
    if wrong:
        text = f"the memory has no weights of body.{wrong[0]} in its present shape: the network was pruned since"
        raise SettingsError(text, "take replay or der for a network that is pruned between tasks")
    net.body.load_state_dict(start)
    for module in net.head.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    net.apply_masks_()
