"""Settings of export and the int8 recipes; no heavy imports."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from effxfer.errors import did_you_mean
from effxfer.settings import Settings


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


HEAVY = ("Conv", "Gemm", "MatMul")
# U8S8 and not the quantizer's default S8S8: ResNet-18 10.6 against 26.1 ms on a CPU with VNNI (33.9 in float32).
RECIPES: dict[str, Recipe] = {
    "dynamic": Recipe(kind="dynamic"),
    "dynamic-7bit": Recipe(kind="dynamic", reduce_range=True),
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
    "u8s8-percentile": Recipe(float_first=1, calibration="percentile"),
    "u8s8-stem": Recipe(float_first=1),
    "u8s8-stem-7bit": Recipe(float_first=1, reduce_range=True),
    "u8s8-tensor": Recipe(float_first=1, per_channel=False, reduce_range=True),
    "u8s8-uncorrected": Recipe(correct=False),
    "u8u8": Recipe(weight="uint8"),
    "u8u8-stem": Recipe(weight="uint8", float_first=1),
    "weights": Recipe(kind="weights"),
}
# One of these shipped for five of six networks (guide, deploy). Five at most, since they share `latency_seconds`.
AUTO = {
    "convolutions": ("u8s8-front", "u8s8-front-7bit", "u8s8-stem", "u8s8-stem-7bit", "u8s8"),
    "depthwise": ("u8s8-front", "u8s8-front-7bit", "u8s8-stem-7bit", "u8s8-equal-7bit", "u8u8-stem"),
    "linear": ("dynamic", "dynamic-7bit", "u8s8-heavy", "u8s8-heavy-7bit"),
}
DEFAULT = ("auto",)
# torch's own default. 23 saves a ViT-tiny 156 of 455 nodes, but older runtimes do not read it.
OPSET = 20
# Correct exports differ by 1e-6 of the scale, measured; a wrong operator by far more.
TOLERANCE = 1e-3
RESIZES = 18  # the first opset whose Resize has antialias, like Pillow's filters


Targets = Literal["this", "arm64", "portable", "x86-avx2", "x86-vnni"]


class ExportSettings(Settings):
    """Settings of `export`: what it writes and checks.

    Attributes:
        opset: ONNX opset version. Below 18, torch's export is down-converted, see `deploy.export.opset`. Later steps
            keep the opset of files below 20.
        dynamic_size: Make height and width of the input dynamic, and check a second size. Not all networks allow it.
        with_preprocessing: Resize, crop, normalise and apply softmax in the graph. The input is one decoded image of
            any size, uint8 `(1, H, W, 3)`; the output is probabilities.
        preprocessing_drop: Largest loss of resizing in the graph against resizing by Pillow, in points of validation
            accuracy.
        max_drop: Largest loss of an exported file against the source network, in points of validation accuracy.
        tolerance: Largest logit difference between torch and ONNX Runtime, as a fraction of the largest logit (of 1 if
            all logits are smaller).
        int8: Try int8 quantization; the file is kept only if it is faster and within `max_drop`.
        recipes: Keys of `RECIPES` to try, `all`, or `auto` for a choice by the network's operators. Recipes without
            kernels on the target are skipped.
        target: Target CPUs of int8: `this` one, `x86-vnni`, `x86-avx2` (and AVX-512 without VNNI), `arm64`, or
            `portable` (all of these). Files for `x86-avx2` and `portable` never saturate. Latency is only measured on
            this CPU.
        float_layers: Shell patterns of layers that stay in float32 in every recipe, by names of weights
            (`body.blocks.0.*`) or nodes.
        float_operators: ONNX operator types that stay in float32 in every recipe, such as `Add`.
        calibration: Number of training images for the calibration of activation ranges.
        threads: Threads of ONNX Runtime for measuring accuracy and latency; 0 is one per core.
        latency_seconds: Time limit of the latency measurements of all int8 recipes together.
        bundle: Also write a directory `bundle`: models, labels, model card, a Python example and a web page.
        ort_web: Folder of the npm package onnxruntime-web; None searches node_modules, then downloads it with npm.
        backbone_license: License of the pretrained weights, for the model card.
        data_license: License of the images, for the model card.
        seed: Random seed of the choice of calibration images and the order of timing.
    """

    opset: int = Field(default=OPSET, ge=13, le=26)
    dynamic_size: bool = False
    with_preprocessing: bool = False
    # Chosen: the best class was the same for all 153 photographs.
    preprocessing_drop: float = Field(default=0.1, ge=0, le=100)
    # Chosen; on fewer than 100 validation images a single one is more.
    max_drop: float = Field(default=1.0, ge=0, le=100)
    tolerance: float = Field(default=TOLERANCE, gt=0)
    int8: bool = True
    recipes: tuple[str, ...] = DEFAULT
    target: Targets = "this"
    float_layers: tuple[str, ...] = ()
    float_operators: tuple[str, ...] = ()
    calibration: int = Field(default=128, ge=1)  # chosen, not measured: each image costs a float32 run
    threads: int = Field(default=1, ge=0)
    latency_seconds: float = Field(default=20.0, gt=0)  # chosen: five recipes are then known to a few percent
    bundle: bool = False
    ort_web: str | None = None
    backbone_license: str = Field(default="unknown", min_length=1, max_length=100)
    data_license: str = Field(default="unknown", min_length=1, max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _check_bundle(self) -> "ExportSettings":
        for name in ("ort_web", "backbone_license", "data_license"):
            if getattr(self, name) not in (None, "unknown") and not self.bundle:
                raise ValueError(f"{name} has no effect without a bundle: set bundle = true")
        return self

    @field_validator("recipes")
    @classmethod
    def _check_recipes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(RECIPES) if names == ("all",) else names
        for name in names:
            if name not in RECIPES and names != DEFAULT:
                names_of_recipes = ", ".join(RECIPES)
                text = f"no recipe {name!r}{did_you_mean(name, RECIPES)}; recipes are all, auto, {names_of_recipes}"
                raise ValueError(text)
        if not names:
            raise ValueError("name at least one recipe, or set int8 = false")
        return names

    @model_validator(mode="after")
    def _check_preprocessing(self) -> "ExportSettings":
        if self.dynamic_size and self.with_preprocessing:
            raise ValueError("with_preprocessing resizes every image to one size: leave dynamic_size out")
        if self.with_preprocessing and self.opset < RESIZES:
            raise ValueError(f"with_preprocessing needs opset {RESIZES} or later: before, Resize had no antialias")
        return self
