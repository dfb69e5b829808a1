"""Settings of the stage `shrink`; no heavy imports."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from effxfer.deploy.settings import FileRuntime
from effxfer.stages.settings.base import Backbone, DistilledSettings, require_runtime
from effxfer.train.settings import FitSettings, Teacher

Precision = Literal["auto", "float32", "int8"]
# In the order of their building, the cheapest first: where time is short, the last ones are left out.
Kind = Literal[
    "images", "larger images", "uniform channels", "images and channels", "exit", "low rank", "channels",
    "taylor channels", "blocks",
]  # fmt: skip


class Shrink(DistilledSettings):
    """Let all ways of being fast compete at one latency: train them briefly, and the better ones longer.

    Attributes:
        latency_ratio: Largest p50 of the file that ships, divided by the p50 of the input network's float32 file on
            this machine, in (0, 1). Set exactly one of `latency_ratio`, `latency_ms` and `max_drop`.
        latency_ms: Largest p50 in milliseconds, for one image.
        max_drop: Find the lowest latency whose winner loses at most this many points of validation accuracy against the
            input network in float32.
        if_none: What follows where the input network is that fast already, or no candidate is as fast and as accurate
            as requested: `fail` with exit code 6, or `keep` the input network with a note.
        precision: Precision of the file that ships, whose latency and accuracy count. `auto` is `int8` for the
            candidates of a network whose int8 file is faster than its float32 file here. If both files of a candidate
            meet the latency, the more accurate one ships.
        int8_drop: Train the winner further with rounded weights and activations if its int8 file loses more than this
            many validation points against its float32 file; None never does.
        kinds: Ways of making a network faster, keys of `effxfer.stages.shrink.kinds.KINDS`. Those that need a loss do
            not apply to a backbone that is not trained on the task yet. They are built in this order, and with
            `seconds` no further one after 30 % of the time.
        backbones: Other networks to try, each a source or a table with the keys of `[backbone]`. Without their own
            `size` they take images like the input network. One that is still too slow is made faster by `kinds`.
        exclude: Shell patterns of the input network's layers that keep their outputs and blocks.
        round_to: Uniform pruning rounds channel counts to multiples of this.
        eta: Reduction factor of successive halving: one candidate in `eta` advances, and trains `eta` times as long.
        threads: Threads of the runtime for the latency; 0 is one per core.
        runtime: What runs the files on the device, as for `export`: candidates are timed and scored in it, and it
            decides whether int8 ships.
        timing_seconds: Time limit of one measurement of a candidate in turns with the input network; of a time limit of
            the stage a 120th at most.
        calibration: Training images on which the int8 file's activation ranges are measured.
        teacher: Distillation from the input network, shared by all candidates: `logits` (short form: a number),
            `features` (candidates of the same architecture only), `temperature`; 0 is off. `source` names another
            model directory.
        fit: Training settings of the winner; earlier rounds have a share of its epochs.
        seconds: Time limit of the stage, shared equally by the candidates of a round. None: the rounds are measured in
            epochs.
    """

    latency_ratio: float | None = Field(default=None, gt=0, lt=1)
    latency_ms: float | None = Field(default=None, gt=0)
    max_drop: float | None = Field(default=None, ge=0, le=100)
    if_none: Literal["fail", "keep"] = "fail"
    precision: Precision = "auto"
    # Chosen: half a point is what a gate of `export` commonly allows; the training takes a third of the epochs more.
    int8_drop: float | None = Field(default=0.5, ge=0)
    kinds: tuple[Kind, ...] = Field(default=get_args(Kind), min_length=1)
    backbones: tuple[Backbone, ...] = ()
    exclude: tuple[str, ...] = ()
    # As `prune channels`, with its measurement.
    round_to: int = Field(default=8, ge=1)
    # As `compete`.
    eta: int = Field(default=3, ge=2, le=10)
    # As `bench`: a target is reached by the clock that the result is compared with.
    threads: int = Field(default=1, ge=0)
    runtime: FileRuntime = "onnxruntime"
    # Chosen: a candidate's size is measured up to six times; a target counts as met within 5 %.
    timing_seconds: float = Field(default=8.0, gt=0)
    # As `export`.
    calibration: int = Field(default=128, ge=1)
    # Half, as the presets; with few images the teacher is worth more than the labels.
    teacher: Teacher = Teacher(logits=0.5)
    # 9 with `eta` of 3: rounds of 1, 3 and 9 epochs for ten candidates.
    fit: FitSettings = FitSettings(epochs=9)
    seconds: float | None = Field(default=None, gt=0)

    def check_resources(self) -> None:
        """Check that the runtime of the files is installed.

        Raises:
            ResourceError: If it is not.
        """
        require_runtime(self.runtime)

    @model_validator(mode="after")
    def _one_target(self) -> "Shrink":
        if sum(target is not None for target in (self.latency_ratio, self.latency_ms, self.max_drop)) != 1:
            raise ValueError("set exactly one of latency_ratio, latency_ms and max_drop")
        return self
