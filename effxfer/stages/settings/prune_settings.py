"""Settings of what prunes; light, like `settings`."""

from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from effxfer.stages.settings.base import Backbone, DistilledSettings, Seed, StageSettings
from effxfer.stages.settings.common import Controls
from effxfer.train.settings import FitSettings

Start = Literal["init", "none", "pretrained", "rate"]
Scope = Literal["erk", "global", "layer"]
Score = Literal["fisher", "magnitude", "movement", "random", "taylor"]


class Lottery(DistilledSettings):
    """Find a lottery ticket by iterative pruning with rewinding.

    Attributes:
        method: `lottery`.
        sparsity: Share of the prunable weights to remove in all, in (0, 1); not with `fraction`.
        fraction: Share of what is left that each round removes, in (0, 1); not with `sparsity`.
        rounds: Pruning rounds; 1 is pruning in one shot.
        score: What a weight is worth: a key of `effxfer.prune.weights.scores.SCORES`.
        scope: Compare weights over the whole network (`global`), within each `layer`, or within each layer at densities
            by its kernel's size (`erk`).
        exclude: Shell patterns of weights to leave dense, such as `body.conv_stem.*`.
        rewind: What each round starts from. `pretrained`: the weights that the stage got; `init`: weights drawn anew;
            a number: the weights after so many epochs of training; `rate`: the weights of the round before, with the
            rate's schedule from its start; `none`: those, trained on at the constant rate of the schedule's last tenth.
        max_drop: Stop when the validation accuracy falls more than so many points below that of the first, dense
            round, and keep the ticket before that; None never stops.
        controls: Train the ticket's controls as long: `fast` is a random and a one-shot mask, once; `full` is those,
            weights drawn anew and the dense network, `control_seeds` times each.
        control_seeds: Repeats of each control under `full`.
        fit: Of each round.
    """

    method: Literal["lottery"] = "lottery"
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    fraction: float | None = Field(default=None, gt=0, lt=1)
    rounds: int = Field(default=3, ge=1, le=100)
    score: Score = "magnitude"
    scope: Scope = "global"
    exclude: tuple[str, ...] = ()
    rewind: float | Start = "pretrained"
    max_drop: float | None = Field(default=None, ge=0)
    controls: Controls = "none"
    control_seeds: int = Field(default=3, ge=1, le=100)
    fit: FitSettings = FitSettings(epochs=3)

    @field_validator("rewind", mode="before")
    @classmethod
    def _names_a_start(cls, value: object) -> object:
        epochs = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not epochs and value not in get_args(Start):
            raise ValueError(f"should be a number of epochs, at least 0, or one of {', '.join(get_args(Start))}")
        return value

    @model_validator(mode="after")
    def _one_target(self) -> "Lottery":
        if (self.sparsity is None) == (self.fraction is None):
            raise ValueError("give either sparsity or fraction")
        return self

    @model_validator(mode="after")
    def _rewinds_early(self) -> "Lottery":
        if not isinstance(self.rewind, str) and self.rewind and self.rewind >= self.fit.epochs:
            raise ValueError(
                f"rewind = {self.rewind} leaves nothing of {self.fit.epochs} epochs: rewind to an early point"
            )
        return self


class Gradual(DistilledSettings):
    """Remove weights little by little during one training, after a cubic.

    Attributes:
        method: `gradual`.
        sparsity: Share of the prunable weights to remove, in (0, 1).
        begin: Share of the training's steps before the first weight goes, in [0, 1).
        end: Share of the training's steps at which `sparsity` is reached, above `begin`; epochs that end before it are
            never kept as the best.
        every: Steps between two prunings.
        score: As in `lottery`.
        scope: As in `lottery`.
        exclude: As in `lottery`.
        controls: As in `lottery`; they have the sparsity from the first step on.
        control_seeds: As in `lottery`.
        fit: Of the training.
    """

    method: Literal["gradual"] = "gradual"
    sparsity: float = Field(gt=0, lt=1)
    begin: float = Field(default=0.0, ge=0, lt=1)
    end: float = Field(default=0.75, gt=0, le=1)
    every: int = Field(default=10, ge=1)
    score: Score = "magnitude"
    scope: Scope = "global"
    exclude: tuple[str, ...] = ()
    controls: Controls = "none"
    control_seeds: int = Field(default=3, ge=1, le=100)
    fit: FitSettings = FitSettings(epochs=5)

    @model_validator(mode="after")
    def _has_time(self) -> "Gradual":
        if self.begin >= self.end:
            raise ValueError(f"begin = {self.begin} is not before end = {self.end}")
        if not self.fit.epochs:
            raise ValueError("fit.epochs = 0: weights are removed during training")
        return self


class Channels(DistilledSettings):
    """Remove whole channels along the dependency graph, and train what is left.

    Attributes:
        method: `channels`.
        ratio: Share of the channels to remove per layer (or over all, by `scope`), in (0, 1). Exactly one of this and
            the three below is given.
        macs_ratio: Share of the multiply-adds to keep, in (0, 1).
        latency_ratio: The exported float32 file's p50 on this machine as a share of the unpruned network's, in (0, 1).
            Channels and whole residual blocks leave where that costs least loss; `scope` and `round_to` have no
            effect, because what is fast is measured.
        latency_ms: The same in milliseconds, for one image.
        threads: Of ONNX Runtime for the latter two and for controls; 0 is one per core. Else it has no effect.
        importance: What a channel is worth: `magnitude` of its weights, or first-order `taylor` change of the loss.
        scope: Compare channels over the whole network (`global`) or within each `layer`.
        round_to: Keep channel counts at multiples of this. MobileNetV2 on AVX2 ran slower than the dense network at 1,
            and at 8 as fast as its multiply-adds promise (thread time, 128 px).
        steps: Prune in so many steps, with a share of the training after each.
        exclude: Shell patterns of layers to leave as they are.
        reconstruct: After each step, solve each layer's weights for the outputs it had before (least squares on 256
            training images); None does it where there is no training (`fit.epochs = 0`).
        teacher: Learn from the unpruned network as well: `logits` (a number alone is that), `features`, `temperature`;
            0 is off. `source` names another model directory to learn from.
        size: As in `finetune`; the teacher keeps its own side. Time falls with the square of the side.
        controls: Train other networks that are as fast, with the same teacher. `fast`, once: the unpruned network on
            smaller images, and every layer pruned alike by magnitude. `full`, `control_seeds` times: those, the pruned
            shape with weights drawn anew, and each of `control_backbones`.
        control_seeds: Repeats of each control under `full`.
        control_backbones: Smaller networks, each a source or a table as `[backbone]` is; without a side they take
            images as the pruned network does. Need `controls = "full"`.
        control_epochs: Of the controls that know nothing of the task yet (`full`'s own); None is `fit.epochs`. What
            the network was trained for before it was pruned may be added here.
        fit: Of the training after the last step; `steps` share its epochs.
        seconds: As in `finetune`, what goes before training included, but not the controls; needs `steps = 1`.
    """

    method: Literal["channels"] = "channels"
    ratio: float | None = Field(default=None, gt=0, lt=1)
    macs_ratio: float | None = Field(default=None, gt=0, lt=1)
    latency_ratio: float | None = Field(default=None, gt=0, lt=1)
    latency_ms: float | None = Field(default=None, gt=0)
    threads: int = Field(default=1, ge=0)
    importance: Literal["magnitude", "taylor"] = "magnitude"
    scope: Literal["global", "layer"] = "global"
    round_to: int = Field(default=8, ge=1)
    steps: int = Field(default=1, ge=1)
    exclude: tuple[str, ...] = ()
    reconstruct: bool | None = None
    size: int | None = Field(default=None, ge=8, le=4096)
    controls: Controls = "none"
    control_seeds: int = Field(default=3, ge=1, le=100)
    control_backbones: tuple[Backbone, ...] = ()
    control_epochs: int | None = Field(default=None, ge=0)
    fit: FitSettings = FitSettings(epochs=5)
    seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_step_in_time(self) -> "Channels":
        if self.seconds is not None and self.steps > 1:
            raise ValueError("seconds are for one step of pruning: leave steps or seconds out")
        return self

    @model_validator(mode="after")
    def _controls_are_trained(self) -> "Channels":
        for name in ("control_backbones", "control_epochs"):
            if getattr(self, name) not in ((), None) and self.controls != "full":
                raise ValueError(f'{name} has no effect with controls = "{self.controls}": give controls = "full"')
        return self

    @model_validator(mode="after")
    def _one_target(self) -> "Channels":
        targets = (self.ratio, self.macs_ratio, self.latency_ratio, self.latency_ms)
        if sum(target is not None for target in targets) != 1:
            raise ValueError("give either ratio or macs_ratio or latency_ratio or latency_ms")
        return self

    @property
    def solves(self) -> bool:
        """Whether weights are solved anew after a step."""
        return not self.fit.epochs if self.reconstruct is None else self.reconstruct

    @property
    def timed(self) -> bool:
        """Whether the target is a latency."""
        return self.latency_ratio is not None or self.latency_ms is not None


class Compact(StageSettings):
    """Remove the channels, attention heads and hidden units that a ticket left without weights.

    Attributes:
        method: `compact`.
        max_error: Let units that are alive leave too, cheapest first, as long as no logit changes by more than this
            share of the largest logit on training images; 0 removes only what changes nothing.
        images: How many training images that is measured on, and on how many validation images the smaller network
            is compared with the masked one.
        seed: Of the choice of training images.
    """

    method: Literal["compact"] = "compact"
    max_error: float = Field(default=0.0, ge=0, lt=1)
    images: int = Field(default=256, ge=1)
    seed: Seed = 0


class Structured(DistilledSettings):
    """Find a lottery ticket of whole channels by iterative pruning with rewinding; `compact` makes it smaller in full.

    Attributes:
        method: `structured`.
        ratio: Share of the channels, attention heads and hidden units to remove, in (0, 1).
        rounds: Pruning rounds; each removes the same share of what is left.
        importance: As in `channels`; `magnitude` counts all weights that make or read a channel.
        scope: As in `channels`.
        round_to: As in `channels`; heads are not rounded.
        exclude: Shell patterns of layers to leave as they are.
        rewind: Epochs of training before the point that every round goes back to; 0 is the weights that the stage got.
        fit: Of each round.
    """

    method: Literal["structured"] = "structured"
    ratio: float | None = Field(default=None, gt=0, lt=1)
    rounds: int = Field(default=3, ge=1, le=100)
    importance: Literal["magnitude", "taylor"] = "magnitude"
    scope: Literal["global", "layer"] = "global"
    round_to: int = Field(default=8, ge=1)
    exclude: tuple[str, ...] = ()
    rewind: float = Field(default=0.0, ge=0)
    fit: FitSettings = FitSettings(epochs=3)

    @model_validator(mode="after")
    def _whole(self) -> "Structured":
        if self.ratio is None:
            raise ValueError("give ratio, the share of channels to remove")
        if self.rewind and self.rewind >= self.fit.epochs:
            text = f"rewind = {self.rewind} leaves nothing of {self.fit.epochs} epochs: rewind to an early point"
            raise ValueError(text)
        return self
