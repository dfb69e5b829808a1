"""Settings of a training run: length, learning rate, optimizer and distillation."""

from typing import Literal

from pydantic import Field, model_validator

from effxfer.settings import Settings

METRICS, RESULT = "metrics.jsonl", "result"  # a file and a folder of `Work`
Amp = Literal["auto", "off", "bf16", "fp16"]


class FitSettings(Settings):
    """Settings of `fit`.

    Attributes:
        epochs: Passes over the training split.
        optimizer: `adamw`, `sgd` (Nesterov momentum 0.9) or the name of another timm optimizer.
        lr: Peak learning rate.
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
    lr: float = Field(default=1e-3, gt=0)  # Adam's (Kingma & Ba 2015); 5e-4 gave 89.5 against 88.9 % on ants and bees
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


class Teacher(Settings):
    """Knowledge distillation from a teacher network, in addition to the labels; a plain number sets `logits`.

    Attributes:
        source: Model directory of the teacher; None is the input network of the stage. The teacher sees the student's
            images, scaled to its own input side.
        logits: Weight of the distance to the teacher's logits in the loss, in [0, 1]; 0 is off.
        features: Weight of an added loss between the two networks' similarity matrices of a batch's images, at each
            stage of the body; 0 is off.
        temperature: Temperature that divides the logits of both networks. None is 2, or 1 if the teacher was trained
            with label smoothing.
    """

    source: str | None = Field(default=None, min_length=1)
    logits: float = Field(default=0.0, ge=0, le=1)
    features: float = Field(default=0.0, ge=0)
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
            raise ValueError("source has no effect without logits or features")
        return self

    @property
    def listens(self) -> bool:
        """Whether distillation is enabled."""
        return bool(self.logits or self.features)


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
