"""Compute the independent units of one stage in child processes: candidates of a round, points of a learning curve.

A child runs the same stage in the same directory of unfinished work up to its unit, saves it there and ends. The stage
then finds its units saved, as after an interruption, so the result is that of a sequential run. A unit that fails or
whose process is killed is left to the stage itself, which resumes it or meets the same error.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effxfer.process.job_slots import leave_slot
from effxfer.process.pool import ChildPool
from effxfer.process.scratch import scratch_folder
from effxfer.process.timing_lock import leave_machine


class ChildUnits:
    """Units of the stage that this process runs, each in a child; see `train.state.FanOut`.

    Args:
        module: The module of the children, which runs the request of this process.
        request: That request. Its `unit` is the only one that is computed, as a path below the work directory; empty if
            this process runs the whole stage.
    """

    def __init__(self, module: str, request: Mapping[str, Any]) -> None:
        self.module, self.request = module, request

    @property
    def unit(self) -> str:
        """The unit that this process is for; empty if it runs the whole stage."""
        return str(self.request.get("unit", ""))

    def run(self, units: Sequence[str]) -> None:
        """Compute units in children, and wait for all of them."""
        pending = deque(units)
        with (
            leave_machine(), leave_slot(), scratch_folder() as folder,
            ChildPool(
                folder, size=self.request["jobs"], threads=self.request["threads"], locks=Path(self.request["locks"])
            ) as pool,
        ):  # fmt: skip
            while pending or pool.children:
                if pending and len(pool.children) < pool.size:
                    unit = pending.popleft()
                    pool.start(unit.replace("/", "-"), self.module, {**self.request, "unit": unit})
                else:
                    # Its error is met again by the stage, in the order of a sequential run.
                    pool.wait()
