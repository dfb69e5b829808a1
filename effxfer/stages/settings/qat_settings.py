"""Settings of quantization-aware training; no heavy imports."""

from typing import ClassVar, Literal

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

    several_tasks: ClassVar[bool] = True

    # 7 bits: two products of u8 and s7 sum to at most 2 * 255 * 64 = 32,640 and fit into the int16 of `vpmaddubsw`.
    bits: int = Field(default=7, ge=2, le=8)
    # Frozen, as Krishnamoorthi (1806.08342) does late in training: this starts from a trained network.
    norms: Literal["frozen", "moving"] = "frozen"
    # A range forgets half in 69 batches; Jacob et al. (1712.05877) average "close to
    # 1", so that outliers do not set it.
    momentum: float = Field(default=0.99, ge=0, lt=1)
    # 1, as in most recipes of `export`: the first convolution holds few of the weights. Chosen, not measured.
    float_first: int = Field(default=1, ge=0)
    # A tenth of the default 1e-3: the network is trained, and has to adjust to rounding only.
    fit: FitSettings = FitSettings(epochs=3, lr=1e-4)
