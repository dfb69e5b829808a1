"""Settings of a training run: length, learning rate, optimizer and distillation."""

from typing import Literal, Self

from pydantic import Field, model_validator

from effxfer.settings import Settings

METRICS, RESULT = "metrics.jsonl", "result"  # a file and a folder of `Work`
Amp = Literal["auto", "off", "bf16", "fp16"]
# What chooses an epoch or a candidate: the source's validation split, or a target domain without its labels.
Validator = Literal["bnm", "dev", "entropy", "information", "snd", "source"]
# Peak learning rate of images: Adam's (Kingma & Ba 2015); 5e-4 gave 89.5 against 88.9 % on ants and bees.
LR = 1e-3
# Of text encoders. MiniLM-L6, 507 questions of TREC-6, 3 epochs of 32: 3e-4 gave 89.3 %, 1e-3 83.3 % (n = 300, 1 seed).
TEXT_LR = 3e-4
# A head on it, frozen, 10 epochs of 64: 1e-3 gave 63.2 to 64.0 %, 1e-2 gave 75.0 to 76.0 % (n = 500, 3 seeds).
TEXT_PROBE_LR = 1e-2
# Adapters leave an encoder's weights alone and begin at zero, so they take the rate of images; chosen, not measured.
ADAPTERS = ("bitfit", "houlsby", "ia3", "lora", "parallel_adapter", "prompts", "ssf")
# The paper's; 16 of CR's texts, MiniLM, one draw (753 test texts): 77.3 %, at 1e-4 73.6 %, without pairs 73.0 %.
SETFIT_LR = 2e-5
# Of Gururangan et al., 2020 (2004.10964), for small batches.
MLM_LR = 5e-4
TEXT_LRS = {"mlm": MLM_LR, "probe": TEXT_PROBE_LR, "setfit": SETFIT_LR} | dict.fromkeys(ADAPTERS, LR)


class FitSettings(Settings):
    """Settings of `fit`.

    Attributes:
        epochs: Passes over the training split.
        optimizer: `adamw`, `sgd` (Nesterov momentum 0.9) or the name of another timm optimizer.
        lr: Peak learning rate; None chooses it by the kind of input and the strategy, see `default_lr`.
        head_lr: Learning rate of the head as a multiple of `lr`.
        layer_decay: Layer-wise learning-rate decay: factor per block of the body, from top to bottom; 1 is off.
        weight_decay: Weight decay of matrices and kernels, never of biases and norms.
        schedule: Learning-rate schedule over all steps: `cosine` or `linear` down to zero, `step` (a tenth after half,
            a hundredth after three quarters of the epochs), or `constant`.
        warmup: Epochs of linear warm-up; may be a fraction.
        ema: Decay of the exponential moving average of the weights, which is then evaluated and saved; 0 is off.
        clip: Maximum gradient norm; 0 is off.
        patience: Epochs without a better validation accuracy before training stops early; 0 is off.
        keep: Which weights to keep: of the `best` epoch on the validation split, or of the `last`.
        amp: Mixed precision: `auto` is bf16 on a GPU that supports it, else off.
    """

    epochs: int = Field(default=10, ge=0, le=10_000)  # chosen: minutes on a CPU with some 1,000 photographs
    optimizer: str = "adamw"
    lr: float | None = Field(default=None, gt=0)
    head_lr: float = Field(default=1.0, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)  # AdamW's default in torch
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    # Chosen: the head starts at random, and its first gradients should not move the pretrained body much.
    warmup: float = Field(default=0.5, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    clip: float = Field(default=0.0, ge=0)
    patience: int = Field(default=0, ge=0)
    keep: Literal["best", "last"] = "best"
    amp: Amp = "auto"

    @property
    def peak_lr(self) -> float:
        """The peak learning rate; that of images where nothing is known of the input."""
        return self.lr or LR

    def with_default_lr(self, input_kind: str, strategy: str) -> Self:
        """Return the settings with a learning rate: their own, or `default_lr`."""
        return self.model_copy(update={"lr": self.lr or default_lr(input_kind, strategy)})


def default_lr(input_kind: str, strategy: str) -> float:
    """Return the peak learning rate for a kind of input and a strategy.

    Args:
        input_kind: `image` or `text`.
        strategy: A key of `effxfer.transfer.STRATEGIES` or `SELF_SUPERVISED`.
    """
    return TEXT_LRS.get(strategy, TEXT_LR) if input_kind == "text" else LR


class Teacher(Settings):
    """Knowledge distillation from a teacher network, in addition to the labels; a plain number sets `logits`.

    Attributes:
        source: Model directory of the teacher; None is the input network of the stage. The teacher sees the student's
            images, scaled to its own input side, or reads its texts by its own tokenizer.
        logits: Weight of the distance to the teacher's logits in the loss, in [0, 1]; 0 is off.
        features: Weight of an added loss between the two networks' similarity matrices of a batch's images, at each
            stage of the body; 0 is off.
        maps: Weight of an added loss between the maps of both networks at the end of each block, at the channels that
            the student has: the squared difference as a share of the teacher's square; 0 is off.
        temperature: Temperature that divides the logits of both networks. None is 2, or 1 if the teacher was trained
            with label smoothing.
    """

    source: str | None = Field(default=None, min_length=1)
    logits: float = Field(default=0.0, ge=0, le=1)
    features: float = Field(default=0.0, ge=0)
    maps: float = Field(default=0.0, ge=0)
    # At T = 4 and weight 0.9 from a teacher of label smoothing 0.1: 64.8 % of 101 classes,
    # 76 % from labels alone (measured).
    temperature: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return {"logits": value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _is_listened_to(self) -> "Teacher":
        if self.source and not self.listens:
            raise ValueError("source has no effect without logits, features or maps")
        return self

    @property
    def listens(self) -> bool:
        """Whether distillation is enabled."""
        return bool(self.logits or self.features or self.maps)


def rate(progress: float, settings: FitSettings, epochs: float | None = None) -> float:
    """Return the factor on the peak learning rate at a progress in [0, 1) of the training.

    Training lasts `epochs`, or `settings.epochs` if None. The schedule begins after `warmup` epochs.
    """
    from math import cos, pi

    length = settings.epochs if epochs is None else epochs
    rise = min(settings.warmup / max(length, 1), 1.0)
    if progress < rise:
        # Not 0: the first step would change nothing.
        return max(progress / rise, 1e-2)
    t = (progress - rise) / (1 - rise)
    # `step` is the schedule of ResNet on CIFAR-10: a tenth at 32,000 and 48,000 of 64,000 steps (He et al. 2016).
    factors = {"cosine": (1 + cos(pi * t)) / 2, "linear": 1 - t, "constant": 1.0}
    return factors[settings.schedule] if settings.schedule != "step" else 0.1 ** ((t >= 0.5) + (t >= 0.75))
