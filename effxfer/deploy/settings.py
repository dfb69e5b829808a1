"""What is exported, what may be lost, and which int8 recipes are tried; light, for the command line."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from effxfer.errors import did_you_mean
from effxfer.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to quantize a float model; weights are always symmetric and signed or centred.

    Attributes:
        kind: `static`: ranges of activations are measured beforehand. `dynamic`: matrix products find them while they
            run. `weights`: matrices are stored in 8 bits, in blocks of 32, and products are in float32; needs operator
            set 21.
        activation: Type of activations; `static` only. On x86 `uint8` has the fast kernels, and ONNX Runtime makes most
            of `int8` unsigned there; `int8` is for ARM.
        weight: Type of weights. `uint8` avoids saturation without VNNI at the price of slower kernels.
        per_channel: A scale per output channel of weights; false is one per tensor.
        reduce_range: Keep weights to 7 bits, so that sums of two products fit 16 bits on AVX2 and AVX-512 without VNNI.
        calibration: How ranges of activations are found; `static` only, as are all below.
        equalize: Scale channels between convolutions first, as `effxfer.deploy.int8.equalize` does.
        correct: Take the mean error of rounded weights out of the biases, see `deploy.int8.bias_correction`.
        only: Operator types to quantize, such as `Conv`; empty is all that can be.
        float_first: Leading convolutions (or matrix products) that stay in float32.
        float_last: The last convolution or matrix product stays in float32.
        float_depthwise: Depthwise convolutions stay in float32.
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
AUTO = {
    "convolutions": ("u8s8-front", "u8s8-front-7bit", "u8s8-stem", "u8s8-stem-7bit", "u8s8"),
    "depthwise": ("u8s8-front", "u8s8-front-7bit", "u8s8-stem-7bit", "u8s8-equal-7bit", "u8u8-stem"),
    "linear": ("dynamic", "dynamic-7bit", "u8s8-heavy", "u8s8-heavy-7bit"),
}
DEFAULT = ("auto",)
OPSET = 20
RESIZES = 18  # the first operator set whose Resize smooths as Pillow does


Targets = Literal["this", "arm64", "portable", "x86-avx2", "x86-vnni"]


class ExportSettings(Settings):
    """What `export` writes and checks.

    Attributes:
        opset: ONNX operator set. Below 18, what torch writes is brought down, see `deploy.export.opset`. Nothing that
            is done to a file takes it out of one older than 20.
        dynamic_size: Leave height and width of the input free, and check a second size. Not every network can.
        with_preprocessing: Resize, crop, scale and take the softmax inside the graph: it takes decoded images of any
            size, uint8 `(1, H, W, 3)`, and gives probabilities.
        preprocessing_drop: Points of validation accuracy that images resized inside the graph may lose against those
            that Pillow resized.
        max_drop: Points of validation accuracy that an exported file may lose against the network it came from.
        tolerance: Largest difference of a logit between torch and ONNX Runtime, as a share of the largest logit
            (of 1, where all are smaller).
        int8: Try int8 quantization; kept only if it is faster and within `max_drop`.
        recipes: Keys of `RECIPES` to try, `all`, or `auto`: those that suit what the network consists of. Those
            that the target has no kernels for are left out.
        target: The CPUs that int8 is for: `this` one, `x86-vnni`, `x86-avx2` (and AVX-512 without VNNI), `arm64`, or
            `portable`, which are all of them. No file for `x86-avx2` or `portable` saturates. What a CPU unlike this
            one would do is not timed.
        float_layers: Shell patterns of layers that stay in float32 in every recipe, by the names of their weights
            (`body.blocks.0.*`) or nodes.
        float_operators: Types of ONNX operators that stay in float32 in every recipe, such as `Add`.
        calibration: Training images that ranges of activations are measured on.
        threads: Of ONNX Runtime while accuracy and latency are measured; 0 is one per core.
        latency_seconds: Time for all int8 recipes together.
        bundle: Write a directory `bundle` as well: models, labels, model card, a Python example and a web page.
        ort_web: Folder of the npm package onnxruntime-web; None looks for node_modules and then asks npm.
        backbone_license: Of the pretrained weights, for the model card.
        data_license: Of the images, for the model card.
        seed: Of the choice of calibration images, and of the order of timing.
    """

    opset: int = Field(default=OPSET, ge=13, le=26)
    dynamic_size: bool = False
    with_preprocessing: bool = False
    preprocessing_drop: float = Field(default=0.1, ge=0, le=100)
    max_drop: float = Field(default=1.0, ge=0, le=100)
    tolerance: float = Field(default=1e-3, gt=0)
    int8: bool = True
    recipes: tuple[str, ...] = DEFAULT
    target: Targets = "this"
    float_layers: tuple[str, ...] = ()
    float_operators: tuple[str, ...] = ()
    calibration: int = Field(default=128, ge=1)
    threads: int = Field(default=1, ge=0)
    latency_seconds: float = Field(default=20.0, gt=0)
    bundle: bool = False
    ort_web: str | None = None
    backbone_license: str = Field(default="unknown", min_length=1, max_length=100)
    data_license: str = Field(default="unknown", min_length=1, max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _for_a_bundle(self) -> "ExportSettings":
        for name in ("ort_web", "backbone_license", "data_license"):
            if getattr(self, name) not in (None, "unknown") and not self.bundle:
                raise ValueError(f"{name} has no effect without a bundle: set bundle = true")
        return self

    @field_validator("recipes")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(RECIPES) if names == ("all",) else names
        for name in names:
            if name not in RECIPES and names != DEFAULT:
                known = ", ".join(RECIPES)
                raise ValueError(f"no recipe {name!r}{did_you_mean(name, RECIPES)}; recipes are all, auto, {known}")
        if not names:
            raise ValueError("name at least one recipe, or switch int8 off")
        return names

    @model_validator(mode="after")
    def _makes_sense(self) -> "ExportSettings":
        if self.dynamic_size and self.with_preprocessing:
            raise ValueError("with_preprocessing resizes every image to one size: leave dynamic_size out")
        if self.with_preprocessing and self.opset < RESIZES:
            raise ValueError(f"with_preprocessing needs opset {RESIZES} or later: before, Resize had no antialias")
        return self
