"""Settings of every stage; light, so that a whole pipeline is checked before torch is loaded."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from effxfer.net.settings import BackboneSettings
from effxfer.search.space import SearchSettings
from effxfer.settings import Settings
from effxfer.train.settings import FitSettings, Teacher

METRICS = "metrics.jsonl"
TICKET, ADAPTER = "ticket.safetensors", "adapter.safetensors"
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
SHIP = "model to ship: "
Controls = Literal["none", "fast", "full"]
Runtime = Literal["executorch", "litert", "openvino"]
Start = Literal["init", "none", "pretrained", "rate"]
Scope = Literal["erk", "global", "layer"]
Score = Literal["fisher", "magnitude", "movement", "random", "taylor"]


def _backbone(value: object) -> object:
    """Read a name as the source of a backbone."""
    if isinstance(value, dict):
        return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
    return {"source": value} if isinstance(value, str) else value


Backbone = Annotated[BackboneSettings, BeforeValidator(_backbone)]


class Finetune(Settings):
    """Adapt a network to tasks.

    Attributes:
        strategy: A key of `effxfer.transfer.STRATEGIES`.
        options: The strategy's own settings, such as batch size, augmentation and label smoothing.
        fit: How long and how fast.
        teacher: As in `prune --method channels`: learn from the network that the stage got, or from another, as well.
        size: Side of the images from here on, in pixels; None leaves it.
        seed: Of a fresh head, the order of images, augmentation and dropout.
    """

    strategy: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    fit: FitSettings = FitSettings()
    teacher: Teacher = Teacher()
    size: int | None = Field(default=None, ge=8, le=4096)
    seed: int = Field(default=0, ge=0, lt=2**32)


class LearningCurve(Finetune):
    """Adapt a network to few labels, to more, and at last to all, to see how quickly it learns.

    Attributes:
        labels: Training images per class, each number a training of its own; those that a class lacks are left out.
        repeats: Trainings for each number, each on other images and with another head.
        min_steps: Trainings on so few images that `fit.epochs` are fewer steps than this get more epochs.
    """

    labels: tuple[int, ...] = (1, 2, 5, 10, 20)
    repeats: int = Field(default=3, ge=1, le=100)
    min_steps: int = Field(default=50, ge=0)

    @field_validator("labels")
    @classmethod
    def _ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or (value and value[0] < 1):
            raise ValueError("should be numbers from 1 up, each larger than the one before")
        return value


class Lottery(Settings):
    """Find a lottery ticket by iterative pruning with rewinding.

    Attributes:
        method: `lottery`.
        sparsity: Share of the prunable weights to remove in all, in (0, 1); not with `fraction`.
        fraction: Share of what is left that each round removes, in (0, 1); not with `sparsity`.
        rounds: Pruning rounds; 1 is pruning in one shot.
        score: What a weight is worth: a key of `effxfer.prune.scores.SCORES`.
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
        teacher: As in `prune --method channels`: learn from the network that the stage got as well; so do controls.
        strategy: How each round trains.
        options: Of the strategy.
        fit: Of each round.
        seed: As in `finetune`; every round has the same.
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
    teacher: Teacher = Teacher()
    strategy: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    fit: FitSettings = FitSettings(epochs=3)
    seed: int = Field(default=0, ge=0, lt=2**32)

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


class Gradual(Settings):
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
        teacher: As in `prune --method channels`: learn from the network that the stage got as well; so do controls.
        strategy: How to train; one that trains the body.
        options: Of the strategy.
        fit: Of the training.
        seed: As in `finetune`.
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
    teacher: Teacher = Teacher()
    strategy: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    fit: FitSettings = FitSettings(epochs=5)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _has_time(self) -> "Gradual":
        if self.begin >= self.end:
            raise ValueError(f"begin = {self.begin} is not before end = {self.end}")
        if not self.fit.epochs:
            raise ValueError("fit.epochs = 0: weights are removed during training")
        return self


class Channels(Settings):
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
        strategy: How the rest is trained.
        options: Of the strategy.
        fit: Of the training after the last step; `steps` share its epochs.
        seed: As in `finetune`.
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
    teacher: Teacher = Teacher()
    size: int | None = Field(default=None, ge=8, le=4096)
    controls: Controls = "none"
    control_seeds: int = Field(default=3, ge=1, le=100)
    control_backbones: tuple[Backbone, ...] = ()
    control_epochs: int | None = Field(default=None, ge=0)
    strategy: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    fit: FitSettings = FitSettings(epochs=5)
    seed: int = Field(default=0, ge=0, lt=2**32)

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


class Compact(Settings):
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
    seed: int = Field(default=0, ge=0, lt=2**32)


class Structured(Settings):
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
        teacher: As in `prune --method channels`: learn from the network that the stage got as well.
        strategy: How each round trains.
        options: Of the strategy.
        fit: Of each round.
        seed: As in `finetune`; every round has the same.
    """

    method: Literal["structured"] = "structured"
    ratio: float | None = Field(default=None, gt=0, lt=1)
    rounds: int = Field(default=3, ge=1, le=100)
    importance: Literal["magnitude", "taylor"] = "magnitude"
    scope: Literal["global", "layer"] = "global"
    round_to: int = Field(default=8, ge=1)
    exclude: tuple[str, ...] = ()
    rewind: float = Field(default=0.0, ge=0)
    teacher: Teacher = Teacher()
    strategy: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    fit: FitSettings = FitSettings(epochs=3)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _whole(self) -> "Structured":
        if self.ratio is None:
            raise ValueError("give ratio, the share of channels to remove")
        if self.rewind and self.rewind >= self.fit.epochs:
            text = f"rewind = {self.rewind} leaves nothing of {self.fit.epochs} epochs: rewind to an early point"
            raise ValueError(text)
        return self


class Search(SearchSettings):
    """Search the head on frozen features.

    Attributes:
        seed: Of everything random.
    """

    seed: int = Field(default=0, ge=0, lt=2**32)


class Bench(Settings):
    """Time exported models against each other on this machine.

    Attributes:
        threads: Of ONNX Runtime and torch; 0 is one per core.
        batch: Images per call.
        sweep_threads: Time every model with each of these numbers of threads as well; empty for `threads` alone.
        sweep_batches: And with each of these batches.
        runtimes: Other runtimes to time the models in, where they are installed: `executorch`, `litert`, `openvino`.
        cold: Fresh processes per model in which the time from start to first answer is measured; 0 for none.
        max_seconds: Time for all models together, and as much again for a sweep; cold starts, memory and conversions
            come on top.
        precision: Half-width of the ratio's interval at which measuring may stop.
        max_drop: Points of validation accuracy that the model to ship may lose against the first one.
        max_p50_ratio: Fail if the p50 of the model to ship is more than this share of the first one's; None: no limit.
        max_mb: Fail if the file of the model to ship is larger than so many megabytes; None is no limit.
        seed: Of the input's values, the order within rounds, and the bootstrap.
    """

    threads: int = Field(default=1, ge=0)
    batch: int = Field(default=1, ge=1)
    sweep_threads: tuple[Annotated[int, Field(ge=1)], ...] = ()
    sweep_batches: tuple[Annotated[int, Field(ge=1)], ...] = ()
    runtimes: tuple[Runtime, ...] = get_args(Runtime)
    cold: int = Field(default=3, ge=0, le=100)
    max_seconds: float = Field(default=60.0, gt=0)
    precision: float = Field(default=0.01, gt=0)
    max_drop: float = Field(default=1.0, ge=0)
    max_p50_ratio: float | None = Field(default=None, gt=0)
    max_mb: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)


class Rank(Settings):
    """Compare backbones on a task before anything is trained.

    Attributes:
        backbones: Each a source, or a table as `[backbone]` is.
        size: Side of the images for those that do not say; None is what each was trained with.
        by: The score that orders them: a key of `effxfer.rank.SCORES`.
        images: Training images that scores look at, at most, of each class alike.
        threads: Of ONNX Runtime; 0 is one per core.
        max_seconds: Time for measuring latency of all of them together.
        seed: Of the choice of images, of folds and clusters, and of the timing's order.
    """

    backbones: tuple[Backbone, ...] = Field(min_length=1)
    size: int | None = Field(default=None, ge=8, le=2048)
    by: Literal["h_score", "linear", "logme", "neighbours", "nleep"] = "linear"
    images: int = Field(default=2000, ge=10)
    threads: int = Field(default=1, ge=0)
    max_seconds: float = Field(default=30.0, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**32)
