"""Settings of quantization-aware fine-tuning; light, like `settings`."""

from typing import Literal

from pydantic import Field

from effxfer.stages.settings.base import TrainedSettings
from effxfer.train.settings import FitSettings


class Qat(TrainedSettings):
    """Fine-tune a network with its weights and activations rounded to int8; `export` then quantizes it as any other.

    Attributes:
        bits: Of weights. 7 also suits CPUs without VNNI, where sums of 8-bit products saturate.
        norms: BatchNorms stay `frozen`, or go on `moving`.
        momentum: Share of an activation's range that stays from one batch to the next, in [0, 1).
        float_first: Leading convolutions (or linear layers) that stay in float32, as in the recipes of `export`.
        fit: How long and how fast; a tenth of the rate that the network was trained with is a start.
    """

    bits: int = Field(default=7, ge=2, le=8)
    norms: Literal["frozen", "moving"] = "frozen"
    momentum: float = Field(default=0.99, ge=0, lt=1)
    float_first: int = Field(default=1, ge=0)
    fit: FitSettings = FitSettings(epochs=3, lr=1e-4)
