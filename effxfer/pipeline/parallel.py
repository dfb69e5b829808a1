"""Run the steps of a pipeline side by side, each in a process of its own, as soon as the steps that it needs are done.

The results are those of a sequential run with as many threads per step, bit for bit on a CPU, except for what depends
on measured time. Steps that measure time have the machine to themselves while they do: see `process.timing_lock`.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from effxfer.artifact import Artifact
from effxfer.errors import ResourceError, SettingsError
from effxfer.net.backbones.trust import FACTORY, LIBRARIES, trusted_factories
from effxfer.pipeline.graph import needed_steps
from effxfer.pipeline.plan import Plan, Step
from effxfer.pipeline.plan_json import plan_to_json
from effxfer.process.pool import Executor, Outcome
from effxfer.process.timing_lock import is_supported
from effxfer.runtime.threads import usable_logical_cores
from effxfer.stages.runner.context import RunContext

MODULE = "effxfer.pipeline.step_child"


def check_jobs(jobs: int) -> None:
    """Check that several steps can run side by side here.

    Raises:
        SettingsError: If `jobs` is not above 0, or this is a process of `torchrun`.
        ResourceError: If the system has no locks that measurements of time need.
    """
    if jobs < 1:
        raise SettingsError(f"jobs is {jobs}", "give the number of steps that run side by side, such as 2")
    if jobs > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        hint = "use either: `torchrun` divides one training among processes, `jobs` runs independent steps"
        raise SettingsError(f"jobs is {jobs} under torchrun", hint)
    if jobs > 1 and not is_supported():
        raise ResourceError(f"jobs is {jobs}, and this system has no flock(2)", "use 1")


def threads_per_job(jobs: int) -> int:
    """Return the threads of each step: its share of the cores, at least 1 and at most `OMP_NUM_THREADS`."""
    share = max(1, usable_logical_cores() // jobs)
    requested = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(requested)) if requested.isdecimal() and int(requested) else share


@dataclass(kw_only=True)
class Schedule:
    """Steps of a pipeline that run as soon as the steps that they need are done.

    If a step fails, the steps before it in the file go on, because a sequential run would have reached them first. The
    steps after it are stopped, and can be resumed.

    Attributes:
        plan: The pipeline.
        context: Its `out` is the directory of the run.
        executor: Where the steps run.
        load: Returns the result of a step, given earlier ones, if it is finished and of the same inputs; else None.
        tell: Called with each step and its result, in the order in which they end.
        pending: Steps that have not begun.
        running: Steps at work, by the name of their directory.
        results: Results by the name of the step.
        failed: Place of the first step of the file that failed, and its error.
    """

    plan: Plan
    context: RunContext
    executor: Executor
    load: Callable[[Step, Mapping[str, Artifact]], Artifact | None]
    tell: Callable[[Step, Artifact], None]
    pending: list[Step] = field(default_factory=list)
    running: dict[str, Step] = field(default_factory=dict)
    results: dict[str, Artifact] = field(default_factory=dict)
    failed: tuple[int, Exception] | None = None

    def run(self) -> list[Artifact]:
        """Run every step that is not finished; return the results in the order of the file.

        Raises:
            EffxferError: That of the first step of the file that failed.
        """
        needs = {step.name: needed_steps(self.plan, step, self.context.out) for step in self.plan.steps}
        request = _request(self.plan, self.context)
        self.pending = list(self.plan.steps)
        while self.pending or self.running:
            ready = [step for step in self.pending if needs[step.name] <= self.results.keys()]
            if not ready and not self.running:
                break  # what is pending needs a step that failed
            if not any(self.begin(step, request) for step in ready):
                self.finish(self.executor.wait())
        if self.failed:
            raise self.failed[1]
        return [self.results[step.name] for step in self.plan.steps]

    def begin(self, step: Step, request: Mapping[str, Any]) -> bool:
        """Take the existing result of a step, or start it if there is room; False if there is none."""
        existing = self.load(step, self.results)
        if existing:
            self.keep(step, existing)
        elif len(self.running) < self.executor.size:
            place = self.plan.place(step)
            self.running[place] = step
            self.executor.start(place, MODULE, {**request, "step": step.name})
        else:
            return False
        self.pending.remove(step)
        return True

    def finish(self, outcome: Outcome) -> None:
        """Record the result of a step that has ended, or its error."""
        step = self.running.pop(outcome.name)
        if outcome.error:
            self.fail(self.plan.steps.index(step), outcome.error)
        else:
            self.keep(step, Artifact.load(self.context.out / outcome.name))

    def keep(self, step: Step, artifact: Artifact) -> None:
        """Record a result."""
        self.results[step.name] = artifact
        self.tell(step, artifact)

    def fail(self, place: int, error: Exception) -> None:
        """Record an error, and stop the steps after it in the file."""
        # Whichever fails later is before it in the file: the others were stopped.
        self.failed = place, error
        before = self.plan.steps[:place]
        self.executor.stop([name for name, step in self.running.items() if step not in before])
        self.running = {name: step for name, step in self.running.items() if step in before}
        self.pending = [step for step in self.pending if step in before]


def _request(plan: Plan, context: RunContext) -> dict[str, Any]:
    """Return what all children of a run are told."""
    return {
        "plan": plan_to_json(plan),
        "out": str(context.out.absolute()),
        "device": context.device,
        "force": context.force,
        "cache": str(context.cache.absolute()) if context.cache else "",
        "trusted": sorted(trusted_factories()),
        "modules": module_folders(sorted(trusted_factories())),
    }


def module_folders(factories: list[str]) -> dict[str, str]:
    """Return the folder of the module of each factory that is neither effxfer's nor a library's.

    A child does not import from the working directory; it is told where to find the user's own modules.
    """
    folders = {}
    for source in (source for source in factories if FACTORY.fullmatch(source)):
        top = source.partition(":")[0].partition(".")[0]
        if top in (*LIBRARIES, "effxfer"):
            continue
        spec = getattr(sys.modules.get(top), "__spec__", None) or find_spec(top)
        if spec and spec.origin:
            file = Path(spec.origin)
            folders[source] = str((file.parent.parent if file.name == "__init__.py" else file.parent).absolute())
    return folders
