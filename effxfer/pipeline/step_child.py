"""Run one step of a pipeline in a process of its own: `parallel.Schedule` starts it with the file of a request."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from effxfer.artifact import Artifact
from effxfer.net.backbones.local_module import import_beside
from effxfer.net.backbones.trust import trust, trust_sources
from effxfer.pipeline.fan_out import ChildUnits
from effxfer.pipeline.graph import linked_steps
from effxfer.pipeline.plan_json import plan_from_json
from effxfer.pipeline.run import named_in_plan, run_step
from effxfer.process.pool_child import serve
from effxfer.stages.runner.context import RunContext

MODULE = "effxfer.pipeline.step_child"


def run_request(request: Mapping[str, Any]) -> None:
    """Run the step of a request; the results of earlier steps are read from the directory of the run."""
    for source, folder in request["modules"].items():
        import_beside(source, Path(folder))
    plan, out = plan_from_json(request["plan"]), Path(request["out"])
    steps = {step.name: step for step in plan.steps}
    step = steps[request["step"]]
    context = RunContext(
        out=out / plan.place(step), device=request["device"], force=request["force"],
        cache=Path(request["cache"]) if request["cache"] else None, fan_out=ChildUnits(MODULE, request),
    )  # fmt: skip
    results = {name: Artifact.load(out / plan.place(steps[name])) for name in linked_steps(plan, step)}
    # A unit of the step ends as soon as it is saved.
    with trust(*request["trusted"]), trust_sources(*named_in_plan(plan)), _unit_finished():
        run_step(plan, step, results, context)


@contextmanager
def _unit_finished() -> Iterator[None]:
    try:
        yield
    except BaseException as ended:  # raised again, unless it says that the unit is saved
        # By its name: `UnitFinished` is defined beside torch, which a finished step does not load.
        if type(ended).__name__ != "UnitFinished":
            raise


if __name__ == "__main__":
    serve(Path(sys.argv[1]), run_request)
