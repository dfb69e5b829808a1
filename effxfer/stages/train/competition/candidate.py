"""A training recipe on a network, which competes with others."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.inputs import SIZE_UNITS
from effxfer.runtime.outputs.base import BELOW_ALL
from effxfer.stages.settings.common import Finetune

FAILED = BELOW_ALL  # so that diverged candidates rank last


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A training recipe on a network.

    Attributes:
        name: Unique name of the candidate.
        network: Name of the network.
        net: The untrained network; never changed.
        tasks: Tasks with images at the input side of this recipe.
        recipe: Training settings.
    """

    name: str
    network: str
    net: Net
    tasks: Sequence[Task]
    recipe: Finetune

    @property
    def title(self) -> str:
        """The main metric in tables and curves."""
        return self.tasks[-1].output.title

    @property
    def shape(self) -> str:
        """Key of its latency: network and input side."""
        return f"{self.network}, {self.side} {self.unit}"

    @property
    def side(self) -> int:
        """Side of its input images in pixels."""
        return self.tasks[-1].input.size

    @property
    def unit(self) -> str:
        """Unit of the side: pixels, or the tokens of a text."""
        return SIZE_UNITS[self.tasks[-1].input.kind]

    def start_net(self) -> Net:
        """Copy its network, with the input of its recipe."""
        net = deepcopy(self.net)
        net.input = self.tasks[-1].input
        return net


Board = dict[str, dict[str, Any]]
"""Last training run of each candidate, by name: `val` in percent, `judged`, `epochs`, `seconds`, `round`, ..."""
