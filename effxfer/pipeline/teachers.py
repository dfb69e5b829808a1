"""Teachers that are results of the same pipeline: `teacher.source` may be the name of an earlier step."""

from collections.abc import Mapping
from typing import Any

from effxfer.artifact import Artifact
from effxfer.pipeline.plan import NETWORK_KINDS, Plan, Step
from effxfer.stages import STAGES
from effxfer.stages.settings.base import StageSettings


def teacher_step(plan: Plan, step: Step) -> str:
    """Return the name of the earlier step whose network teaches a step; empty without one."""
    teacher = step.settings.teacher_network
    earlier = plan.steps[: plan.steps.index(step)]
    names = {one.name for one in earlier if STAGES[one.stage].kind in NETWORK_KINDS}
    return teacher.source if teacher and teacher.source in names else ""


def settings_with_teacher(plan: Plan, step: Step, results: Mapping[str, Artifact]) -> StageSettings:
    """Return a step's settings with the directory of its teacher; as they are if no step teaches it."""
    name = teacher_step(plan, step)
    return _with_source(step.settings, str(results[name].path)) if name else step.settings


def settings_to_check(plan: Plan, step: Step) -> StageSettings:
    """Return a step's settings without a teacher that does not exist before the run."""
    if not teacher_step(plan, step):
        return step.settings
    return step.settings.model_copy(update={"teacher": type(step.settings).model_fields["teacher"].default})


def _with_source(settings: StageSettings, source: str) -> StageSettings:
    teacher: Any = getattr(settings, "teacher", None)
    return settings.model_copy(update={"teacher": teacher.model_copy(update={"source": source})})
