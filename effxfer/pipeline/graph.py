"""The graph of a pipeline: the steps whose results a step needs."""

from collections.abc import Iterator
from pathlib import Path

from effxfer.pipeline.plan import Plan, Step
from effxfer.pipeline.teachers import teacher_step
from effxfer.stages.runner.run import named_networks


def linked_steps(plan: Plan, step: Step) -> set[str]:
    """Return the names of the steps that a step names: its source, its teacher, and the models that it compares."""
    return {*step.models, step.source, teacher_step(plan, step)} - {""}


def needed_steps(plan: Plan, step: Step, out: Path) -> set[str]:
    """Return the names of the steps that must be finished before a step.

    Args:
        plan: The pipeline.
        step: The step.
        out: Directory of the run. An earlier step is also needed if a file, a network or data of this step lie in its
            directory.
    """
    earlier = plan.steps[: plan.steps.index(step)]
    folders = {(out / plan.place(before)).resolve(): before.name for before in earlier}
    paths = [path.resolve() for path in _paths(plan, step)]
    inside = {name for folder, name in folders.items() if any(path.is_relative_to(folder) for path in paths)}
    return linked_steps(plan, step) | inside


def _paths(plan: Plan, step: Step) -> Iterator[Path]:
    """Yield all that a step reads and that may be a path: its file, its networks and its data."""
    sources = [step.file, plan.backbone.source if not step.source else "", *named_networks(step.settings)]
    teacher = step.settings.teacher_network
    sources += [teacher.source] if teacher else []
    sources += [plan.data[name].source for name in step.tasks or plan.data]
    for source in filter(None, sources):
        # A file of weights follows the network: `timm:resnet18@weights.safetensors`.
        yield from (Path(part) for part in source.split("@") if part)
