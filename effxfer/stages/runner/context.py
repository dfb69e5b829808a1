"""Output directory, device and cache of a run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effxfer.train.state import FanOut


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Output directory, device and cache of a run; never part of a stage's key.

    Attributes:
        out: The model directory to write.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        cache: Folder of decoded images; None is the user's cache directory.
        force: Whether to replace a result of other inputs.
        fan_out: Where independent units of the stage are computed side by side; None: here.
        extra_seconds: Seconds to add to the stage's time limit; negative if earlier steps took longer than planned.
    """

    out: Path
    device: str = "auto"
    cache: Path | None = None
    force: bool = False
    fan_out: "FanOut | None" = None
    extra_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.out.name in ("", "..") or (os.path.islink(self.out) and self.out.is_dir()):  # noqa: PTH114 (never raises)
            # A link would be replaced itself when the result is moved there, and its target left as it was.
            object.__setattr__(self, "out", self.out.resolve())

    @property
    def work_dir(self) -> Path:
        """Hidden folder of unfinished work, next to the result."""
        return self.out.parent / f".work-{self.out.name}"
