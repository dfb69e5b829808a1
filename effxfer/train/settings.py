"""How long, how fast and with what to train."""

from typing import Literal

from pydantic import Field, model_validator

from effxfer.settings import Settings

Amp = Literal["auto", "off", "bf16", "fp16"]


class FitSettings(Settings):
    """Settings of `fit`.

    Attributes:
        epochs: Passes over the training split.
        optimizer: `adamw`, `sgd` (Nesterov momentum 0.9) or another of timm's.
        lr: Peak learning rate.
        head_lr: The head's rate as a multiple of `lr`.
        layer_decay: Factor from each block of the body to the one below it; 1 is off.
        weight_decay: On matrices and kernels, never on biases and norms.
        schedule: Of the rate over all steps: `cosine` or `linear` down to zero, `step` (a tenth after half and after
            three quarters of the epochs), or `constant`.
        warmup: Epochs of linear rise at the start; may be a fraction.
        ema: Decay of the averaged weights that are evaluated and kept; 0 is off.
        clip: Largest norm of the gradient; 0 is off.
        patience: Epochs without a better validation accuracy before training stops; 0 is off.
        keep: Keep the weights of the `best` epoch on the validation split, or of the `last`.
        amp: Half precision: `auto` is bf16 on a GPU that has it.
    """

    epochs: int = Field(default=10, ge=0, le=10_000)
    optimizer: str = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    head_lr: float = Field(default=1.0, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    warmup: float = Field(default=0.5, ge=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    clip: float = Field(default=0.0, ge=0)
    patience: int = Field(default=0, ge=0)
    keep: Literal["best", "last"] = "best"
    amp: Amp = "auto"


class Teacher(Settings):
    """What is learnt from another network beside the labels; a number alone is `logits`.

    Attributes:
        source: A model directory to learn from; None is the network that the stage got. It sees the pupil's images,
            scaled to its own side.
        logits: Share of the loss that is the distance to the teacher's outputs, in [0, 1]; 0 is off.
        features: Weight of the distance between likenesses, at each stage of both networks, of a batch's images; added
            to the loss; 0 is off.
        temperature: Softens both networks' outputs; at 1 they are what they are. None is 2, or 1 where the teacher was
            trained with label smoothing.
    """

    source: str | None = Field(default=None, min_length=1)
    logits: float = Field(default=0.0, ge=0, le=1)
    features: float = Field(default=0.0, ge=0)
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
        """Whether there is a teacher at all."""
        return bool(self.logits or self.features)


def rate(progress: float, settings: FitSettings, epochs: float | None = None) -> float:
    """Factor on the peak rate at a progress in [0, 1) through training; a function of nothing else.

    Training lasts `settings.epochs`, or other `epochs`.

    The rise of `warmup` epochs comes first; the schedule runs over what remains.
    """
    from math import cos, pi

    length = settings.epochs if epochs is None else epochs
    rise = min(settings.warmup / max(length, 1), 1.0)
    if progress < rise:
        return max(progress / rise, 1e-2)
    t = (progress - rise) / (1 - rise)
    factors = {"cosine": (1 + cos(pi * t)) / 2, "linear": 1 - t, "constant": 1.0}
    return factors[settings.schedule] if settings.schedule != "step" else 0.1 ** ((t >= 0.5) + (t >= 0.75))
