"""Settings of quantization-aware training; no heavy imports."""

from typing import Literal

from pydantic import Field

from effxfer.stages.settings.base import TrainedSettings
from effxfer.train.settings import FitSettings


class Qat(TrainedSettings):
    """Fine-tune a network with fake-quantized weights and activations; `export` quantizes the result as usual.

    Attributes:
        bits: Bits of the weights. 7 also suits CPUs without VNNI, where sums of 8-bit products saturate.
        norms: BatchNorm statistics: `frozen`, or `moving` (updated during training).
        momentum: Momentum of the moving average of activation ranges, in [0, 1).
        float_first: Number of leading convolutions (or linear layers) that stay in float32, see `Recipe.float_first`.
        fit: Training settings; a good first rate is a tenth of the rate that the network was trained with.
    """

    bits: int = Field(default=7, ge=2, le=8)
    norms: Literal["frozen", "moving"] = "frozen"
    momentum: float = Field(default=0.99, ge=0, lt=1)
    float_first: int = Field(default=1, ge=0)
    fit: FitSettings = FitSettings(epochs=3, lr=1e-4)
