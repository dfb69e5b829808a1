"""What strategies share that learn tasks one after another: their settings, their learner and their memory."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from effxfer.data.continual.exemplars import Exemplars
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.continual.kept_examples import HOLDOUT, Store, new_memory
from effxfer.transfer.continual.learner import Scenario, StreamLearner, begin_stream


class Continual(Strategy):
    """Base of the strategies that learn tasks one after another.

    Attributes:
        scenario: What comes with time: new classes (`class`); the same classes otherwise (`domain`); or tasks whose
            number is known wherever the network is used, so that only their own classes compete (`task`).
        holdout: Validation examples of each task that the memory holds, to choose the epoch and to measure forgetting;
            0 for none.
        store: `rows` copies examples into the memory; `references` only says which they are, for data that stay at
            hand and may not be copied.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    continual: ClassVar[bool] = True

    scenario: Scenario = "class"
    holdout: int = Field(default=HOLDOUT, ge=0)
    store: Store = "rows"

    def begin(self, net: Net, tasks: Sequence[Task], *, copies: bool = False) -> StreamLearner:
        """Wrap the network with the columns of each task, see `begin_stream`."""
        mixes = bool(self.augment.mixup or self.augment.cutmix)
        return begin_stream(
            net, tasks[-1], self.scenario, label_smoothing=self.label_smoothing, mixes=mixes, copies=copies
        )

    def keep_memory(
        self, name: str, learner: StreamLearner, tasks: Sequence[Task], tensors: Mapping[str, Tensor],
        exemplars: Exemplars | None = None,
    ) -> Memory:  # fmt: skip
        """Return the memory after the last task, see `new_memory`; `name` is that of the strategy."""
        facts = {"strategy": name, "scenario": self.scenario}
        return new_memory(
            learner.memory, tasks, facts, tensors, exemplars=exemplars, holdout=self.holdout, store=self.store
        )
