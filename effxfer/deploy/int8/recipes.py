"""Int8 recipes: how a float model may be quantized, and which recipes `auto` tries; no heavy imports."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to quantize a float model; weights are always symmetric, either signed or centred.

    Attributes:
        kind: `static`: activation ranges are calibrated in advance. `dynamic`: matrix products compute them at run
            time. `weights`: matrices are stored in 8 bits, in blocks of 32, and multiplied in float32; needs opset 21.
        activation: Type of activations; `static` only. On x86 `uint8` has the fast kernels, and ONNX Runtime converts
            most `int8` to unsigned there; `int8` is for ARM.
        weight: Type of weights. `uint8` avoids saturation without VNNI, but its kernels are slower.
        per_channel: Use one scale per output channel of the weights; false is one per tensor.
        reduce_range: Use 7-bit weights, so that sums of two products fit 16 bits on AVX2 and AVX-512 without VNNI.
        calibration: Calibration method of activation ranges; `static` only, like all fields below.
        equalize: Apply cross-layer equalization first, see `effxfer.deploy.int8.equalize`.
        correct: Correct biases for the mean error of rounded weights, see `deploy.int8.bias_correction`.
        only: Operator types to quantize, such as `Conv`; empty is all supported types.
        float_first: Number of leading convolutions (or matrix products) that stay in float32.
        float_last: Keep the last convolution or matrix product in float32.
        float_depthwise: Keep depthwise convolutions in float32.
        tables: Store embedding tables as int8 rows, see `deploy.int8.embeddings`.
    """

    kind: Literal["dynamic", "static", "weights"] = "static"
    activation: Literal["uint8", "int8"] = "uint8"
    weight: Literal["uint8", "int8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = False
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax"
    equalize: bool = False
    correct: bool = True
    only: tuple[str, ...] = ()
    float_first: int = 0
    float_last: bool = False
    float_depthwise: bool = False
    tables: bool = False


HEAVY = ("Conv", "Gemm", "MatMul")
# U8S8 and not the quantizer's default S8S8: ResNet-18 10.6 against 26.1 ms on a CPU with VNNI (33.9 in float32).
RECIPES: dict[str, Recipe] = {
    "dynamic": Recipe(kind="dynamic"),
    "dynamic-7bit": Recipe(kind="dynamic", reduce_range=True),
    "dynamic-7bit-table": Recipe(kind="dynamic", reduce_range=True, tables=True),
    "dynamic-table": Recipe(kind="dynamic", tables=True),
    "s8s8": Recipe(activation="int8"),
    "s8s8-7bit": Recipe(activation="int8", reduce_range=True),
    "s8s8-equal": Recipe(activation="int8", equalize=True),
    "s8s8-stem": Recipe(activation="int8", float_first=1),
    "u8s8": Recipe(),
    "u8s8-7bit": Recipe(reduce_range=True),
    "u8s8-depthwise": Recipe(float_first=1, float_depthwise=True),
    "u8s8-ends": Recipe(float_first=1, float_last=True),
    "u8s8-entropy": Recipe(float_first=1, calibration="entropy"),
    "u8s8-equal": Recipe(float_first=1, equalize=True),
    "u8s8-equal-7bit": Recipe(float_first=1, equalize=True, reduce_range=True),
    # Three layers: on a pruned MobileNetV2 (7 bits) the fastest that kept its accuracy.
    "u8s8-front": Recipe(float_first=3),
    "u8s8-front-7bit": Recipe(float_first=3, reduce_range=True),
    "u8s8-heavy": Recipe(only=HEAVY),
    "u8s8-heavy-7bit": Recipe(only=HEAVY, reduce_range=True),
    "u8s8-heavy-table": Recipe(only=HEAVY, tables=True),
    "u8s8-percentile": Recipe(float_first=1, calibration="percentile"),
    "u8s8-stem": Recipe(float_first=1),
    "u8s8-stem-7bit": Recipe(float_first=1, reduce_range=True),
    "u8s8-tensor": Recipe(float_first=1, per_channel=False, reduce_range=True),
    "u8s8-uncorrected": Recipe(correct=False),
    "u8u8": Recipe(weight="uint8"),
    "u8u8-stem": Recipe(weight="uint8", float_first=1),
    "weights": Recipe(kind="weights"),
    "weights-table": Recipe(kind="weights", tables=True),
}
# One of these shipped for five of six networks (guide, deploy). Five at most, since they share `latency_seconds`.
AUTO = {
    "convolutions": ("u8s8-front", "u8s8-front-7bit", "u8s8-stem", "u8s8-stem-7bit", "u8s8"),
    "depthwise": ("u8s8-front", "u8s8-front-7bit", "u8s8-stem-7bit", "u8s8-equal-7bit", "u8u8-stem"),
    "linear": ("dynamic", "dynamic-7bit", "u8s8-heavy", "u8s8-heavy-7bit"),
    "tables": ("dynamic-table", "dynamic-7bit-table", "dynamic", "dynamic-7bit", "u8s8-heavy-table"),
}
DEFAULT = ("auto",)
