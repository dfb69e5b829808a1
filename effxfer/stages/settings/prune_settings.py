"""Settings of the pruning stages; no heavy imports."""

from typing import ClassVar, Literal, get_args

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
        sparsity: Fraction of the prunable weights to remove in total, in (0, 1); excludes `fraction`.
        fraction: Fraction of the remaining weights that each round removes, in (0, 1); excludes `sparsity`.
        rounds: Pruning rounds; 1 is one-shot pruning.
        score: Importance score of a weight: a key of `effxfer.prune.weights.scores.SCORES`.
        scope: Rank weights over the whole network (`global`), within each `layer`, or within each layer at
            Erdős-Rényi-kernel densities (`erk`).
        exclude: Shell patterns of weights that stay dense, such as `body.conv_stem.*`.
        rewind: Starting weights of each round. `pretrained`: the input weights of the stage; `init`: new random
            weights; a number: the weights after this many epochs. `rate`: the previous round's weights, with the
            learning-rate schedule restarted; `none`: the same, at the constant rate of the schedule's last tenth.
        max_drop: Stop when the validation accuracy is more than this many points below the dense first round, and
            keep the previous ticket; None never stops.
        controls: Train control networks for the same time. `fast`: a random and a one-shot mask, once each. `full`:
            also new random weights and the dense network, `control_seeds` times each.
        control_seeds: Repetitions of each control if `controls` is `full`.
        fit: Training settings of each round.
    """

    several_tasks: ClassVar[bool] = True

    method: Literal["lottery"] = "lottery"
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    fraction: float | None = Field(default=None, gt=0, lt=1)
    # 3: each costs a training; at 90 % sparsity every round then leaves 46 % of the weights, not 10 % at one stroke.
    rounds: int = Field(default=3, ge=1, le=100)
    # Magnitude: needs no gradients and is the baseline hard to beat (Gale et al. 2019, 1902.09574).
    score: Score = "magnitude"
    # Global: sensitive layers keep more; `layer` thins the small first ones as much as the wide last ones.
    scope: Scope = "global"
    exclude: tuple[str, ...] = ()
    rewind: float | Start = "pretrained"
    max_drop: float | None = Field(default=None, ge=0)
    controls: Controls = "none"
    # 3: the fewest with a range that a ticket must lie above; each kind costs as many trainings.
    control_seeds: int = Field(default=3, ge=1, le=100)
    # 3 per round: chosen, not measured; with the dense round and 3 more it is 12 epochs of training.
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
            raise ValueError("set either sparsity or fraction")
        return self

    @model_validator(mode="after")
    def _rewinds_early(self) -> "Lottery":
        if not isinstance(self.rewind, str) and self.rewind and self.rewind >= self.fit.epochs:
            raise ValueError(
                f"rewind = {self.rewind} must be below fit.epochs = {self.fit.epochs}: rewind to an early epoch"
            )
        return self


class Gradual(DistilledSettings):
    """Remove weights gradually during one training run, on the cubic schedule of Zhu and Gupta (2017).

    Attributes:
        method: `gradual`.
        sparsity: Fraction of the prunable weights to remove, in (0, 1).
        begin: Fraction of the training steps before the first weight is removed, in [0, 1).
        end: Fraction of the training steps at which `sparsity` is reached, above `begin`. Earlier epochs are never
            selected as the best.
        every: Steps between two pruning updates.
        score: Importance score of a weight: a key of `effxfer.prune.weights.scores.SCORES`.
        scope: Rank weights over the whole network (`global`), within each `layer`, or within each layer at
            Erdős-Rényi-kernel densities (`erk`).
        exclude: Shell patterns of weights that stay dense, such as `body.conv_stem.*`.
        controls: Control networks to train for the same time, see `lottery`; they are fully sparse from the first step.
        control_seeds: Repetitions of each control if `controls` is `full`.
        fit: Training settings.
    """

    several_tasks: ClassVar[bool] = True

    method: Literal["gradual"] = "gradual"
    sparsity: float = Field(gt=0, lt=1)
    begin: float = Field(default=0.0, ge=0, lt=1)
    # The last quarter trains at the final sparsity: weights removed at a low rate are not recovered from (1710.01878).
    end: float = Field(default=0.75, gt=0, le=1)
    # A ranking takes 6 to 22 % of a step (ResNet-20, MobileNetV2, ResNet-18; one
    # thread): at every tenth, about 1 to 2 %.
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
            raise ValueError("fit.epochs = 0, but gradual pruning removes weights during training: set fit.epochs")
        return self


class Channels(DistilledSettings):
    """Remove whole channels along the dependency graph, and fine-tune the smaller network.

    Attributes:
        method: `channels`.
        ratio: Fraction of the channels to remove, per layer or over all layers (see `scope`), in (0, 1). Set exactly
            one of `ratio`, `macs_ratio`, `latency_ratio` and `latency_ms`.
        macs_ratio: Fraction of the multiply-adds to keep, in (0, 1).
        latency_ratio: Target p50 of the exported float32 file on this machine, divided by the unpruned network's, in
            (0, 1). Channels and whole residual blocks are removed at the lowest loss per saved latency. `scope` and
            `round_to` have no effect, because latency is measured.
        latency_ms: Target p50 in milliseconds, for one image.
        threads: Threads of ONNX Runtime for latency targets and controls; 0 is one per core.
        importance: Importance of a channel: `magnitude` of its weights, or first-order `taylor` change of the loss.
        scope: Rank channels over the whole network (`global`) or within each `layer`.
        round_to: Round channel counts to multiples of this. MobileNetV2 on AVX2 was slower than the dense network at 1,
            and at 8 as fast as its multiply-adds predict (thread time, 128 px).
        steps: Number of pruning steps, each followed by its share of the training.
        exclude: Shell patterns of layers that are not pruned.
        reconstruct: After each step, fit each layer's weights to its previous outputs (least squares on 256 training
            images). None does so only without training (`fit.epochs = 0`).
        teacher: Distillation from the unpruned network: `logits` (short form: a number), `features`, `temperature`;
            0 is off. `source` names a different model directory as the teacher.
        size: Side of the input images in pixels; None keeps the current side. Latency falls with its square. The
            teacher keeps its own side.
        controls: Train control networks of equal latency with the same teacher. `fast`, once each: the unpruned network
            on smaller images, and uniform magnitude pruning. `full`, `control_seeds` times each: also the pruned
            architecture with new random weights, and each of `control_backbones`.
        control_seeds: Repetitions of each control if `controls` is `full`.
        control_backbones: Smaller networks, each a source or a table with the keys of `[backbone]`. Without their own
            `size` they take images like the pruned network. They need `controls = "full"`.
        control_epochs: Training epochs of the controls that were not trained on the task yet; None is `fit.epochs`. Add
            the epochs that the network was trained before pruning for a fair comparison.
        fit: Training settings after pruning; `steps` share the epochs.
        seconds: Time limit of pruning and training, without the controls; needs `steps = 1`.
    """

    several_tasks: ClassVar[bool] = True

    method: Literal["channels"] = "channels"
    ratio: float | None = Field(default=None, gt=0, lt=1)
    macs_ratio: float | None = Field(default=None, gt=0, lt=1)
    latency_ratio: float | None = Field(default=None, gt=0, lt=1)
    latency_ms: float | None = Field(default=None, gt=0)
    # As `bench`: a target is reached by the clock that the result is compared with.
    threads: int = Field(default=1, ge=0)
    # Magnitude needs no images; Taylor costs 16 batches forward and backward before each step.
    importance: Literal["magnitude", "taylor"] = "magnitude"
    scope: Literal["global", "layer"] = "global"
    # A register of AVX2 holds 8 floats: kernels pad what is no multiple. The measurement is in the docstring.
    round_to: int = Field(default=8, ge=1)
    steps: int = Field(default=1, ge=1)
    exclude: tuple[str, ...] = ()
    reconstruct: bool | None = None
    size: int | None = Field(default=None, ge=8, le=4096)
    controls: Controls = "none"
    control_seeds: int = Field(default=3, ge=1, le=100)
    control_backbones: tuple[Backbone, ...] = ()
    control_epochs: int | None = Field(default=None, ge=0)
    # 5, as `gradual`: a single training; `lottery` has as many as rounds, each shorter.
    fit: FitSettings = FitSettings(epochs=5)
    seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_step_in_time(self) -> "Channels":
        if self.seconds is not None and self.steps > 1:
            raise ValueError("seconds limits a single pruning step: leave out steps or seconds")
        return self

    @model_validator(mode="after")
    def _controls_are_trained(self) -> "Channels":
        for name in ("control_backbones", "control_epochs"):
            if getattr(self, name) not in ((), None) and self.controls != "full":
                raise ValueError(f'{name} has no effect with controls = "{self.controls}": set controls = "full"')
        return self

    @model_validator(mode="after")
    def _one_target(self) -> "Channels":
        targets = (self.ratio, self.macs_ratio, self.latency_ratio, self.latency_ms)
        if sum(target is not None for target in targets) != 1:
            raise ValueError("set exactly one of ratio, macs_ratio, latency_ratio and latency_ms")
        return self

    @property
    def solves(self) -> bool:
        """Whether weights are reconstructed by least squares after a step."""
        # Least squares brings back a part of the accuracy; where training follows, that does it.
        return not self.fit.epochs if self.reconstruct is None else self.reconstruct

    @property
    def timed(self) -> bool:
        """Whether the target is a latency."""
        return self.latency_ratio is not None or self.latency_ms is not None


class Compact(StageSettings):
    """Remove the channels, attention heads and hidden units whose weights a ticket has pruned.

    Attributes:
        method: `compact`.
        max_error: Also remove live units, least important first, until a logit changes by more than this fraction of
            the largest logit on training images. 0 removes only units without any effect.
        images: Number of training images for measuring the error, and of validation images for comparing the smaller
            network with the masked one.
        seed: Random seed of the choice of training images.
    """

    several_tasks: ClassVar[bool] = True

    method: Literal["compact"] = "compact"
    # 0 is lossless, and the only value whose result needs no decision by the user.
    max_error: float = Field(default=0.0, ge=0, lt=1)
    # Chosen, not measured: more images find rarer uses of a unit, and cost a pass each for every removal that is tried.
    images: int = Field(default=256, ge=1)
    seed: Seed = 0


class Vocabulary(StageSettings):
    """Keep the tokens that the training texts use, in the table of embeddings and in the tokenizer.

    Attributes:
        method: `vocabulary`.
        min_count: Occurrences in the training texts from which on a token stays. Special tokens, single characters and
            bytes always stay, so that any text can be written.
    """

    method: Literal["vocabulary"] = "vocabulary"
    # 1 keeps the outputs for the training texts equal to the bit.
    min_count: int = Field(default=1, ge=1)


class Structured(DistilledSettings):
    """Find a lottery ticket of whole channels by iterative pruning with rewinding, for `compact` to shrink.

    Attributes:
        method: `structured`.
        ratio: Fraction of the channels, attention heads and hidden units to remove, in (0, 1).
        rounds: Pruning rounds; each removes the same fraction of the remaining units.
        importance: Importance of a channel: `magnitude` of all weights that produce or consume it, or first-order
            `taylor` change of the loss.
        scope: Rank channels over the whole network (`global`) or within each `layer`.
        round_to: Round channel counts to multiples of this; attention heads are not rounded.
        exclude: Shell patterns of layers that are not pruned.
        rewind: Epoch whose weights every round starts from; 0 is the input weights of the stage.
        fit: Training settings of each round.
    """

    several_tasks: ClassVar[bool] = True

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
    def _check_ratio_and_rewind(self) -> "Structured":
        if self.ratio is None:
            raise ValueError("set ratio, the fraction of channels to remove")
        if self.rewind and self.rewind >= self.fit.epochs:
            text = f"rewind = {self.rewind} must be below fit.epochs = {self.fit.epochs}: rewind to an early epoch"
            raise ValueError(text)
        return self
