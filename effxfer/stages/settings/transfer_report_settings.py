"""Settings of the report on what compression costs transfer; no heavy imports."""

from pydantic import Field

from effxfer.stages.settings.base import Seed, StageSettings


class TransferReport(StageSettings):
    """Compare models on the test data, the worst class, another domain or new classes.

    Attributes:
        level: Confidence level of the intervals, in (0, 1).
        seed: Random seed of the episodes.
        max_drop: Of several tasks, the largest loss against the first model on any of them, in points; None: no limit.
    """

    level: float = Field(default=0.95, gt=0, lt=1)
    seed: Seed = 0
    max_drop: float | None = Field(default=None, ge=0)
