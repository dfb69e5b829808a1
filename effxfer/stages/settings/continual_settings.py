"""Settings of the stage `continual`; no heavy imports."""

from pydantic import field_validator

from effxfer.stages.settings.base import CONTINUAL
from effxfer.stages.settings.common import Controls, Finetune


class Continual(Finetune):
    """Learn tasks one after another, and report what is forgotten.

    Attributes:
        strategy: A strategy that learns tasks in time, such as `replay`.
        controls: `full` also trains the naive control, plain fine-tuning on one task after another, and the joint
            one, on all tasks at once; both compute the nearest mean on the frozen body, which `fast` does alone.
    """

    strategy: str = "replay"
    controls: Controls = "full"

    @field_validator("strategy")
    @classmethod
    def _learns_in_time(cls, value: str) -> str:
        if value not in CONTINUAL:
            raise ValueError(f"{value!r} does not learn tasks in time: take {', '.join(CONTINUAL)}")
        return value

    @field_validator("seconds")
    @classmethod
    def _no_limit(cls, value: float | None) -> float | None:
        if value is not None:
            raise ValueError("the next month's training must not depend on the machine's speed: set fit.epochs")
        return value
