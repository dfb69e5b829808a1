"""Settings of export; no heavy imports."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from effxfer.deploy.int8.recipes import DEFAULT, RECIPES
from effxfer.errors import did_you_mean
from effxfer.settings import Settings

# torch's own default. 23 saves a ViT-tiny 156 of 455 nodes, but older runtimes do not read it.
OPSET = 20
# Correct exports differ by 1e-6 of the scale, measured; a wrong operator by far more.
TOLERANCE = 1e-3
RESIZES = 18  # the first opset whose Resize has antialias, like Pillow's filters


Targets = Literal["this", "arm64", "portable", "x86-avx2", "x86-vnni"]
FileRuntime = Literal["onnxruntime", "openvino"]


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
        max_class_drop: Largest loss of the int8 file in any class against the float32 file, in points of the class's
            validation accuracy; None: no limit. Of a class with 20 images, one is 5 points.
        images: Keep small pictures of the mistakes for the report page; they are images of the data.
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
        threads: Threads of the runtime for measuring accuracy and latency; 0 is one per core.
        runtime: What runs the files on the device: `onnxruntime`, or `openvino`, which needs the extra `openvino`.
            Files are checked, measured and timed in it, so that int8 is chosen where it is faster in it.
        latency_seconds: Time limit of the latency measurements of all int8 recipes together.
        hf_inputs: Of a network of texts, also write `model.hf.onnx` (and `model.hf.int8.onnx`) with the inputs that
            servers of Hugging Face feed: `input_ids`, `attention_mask`, and `token_type_ids` where there are segments.
        bundle: Also write a directory `bundle`: models, labels, model card, a Python example and a web page.
        ort_web: Folder of the npm package onnxruntime-web; None searches node_modules, then downloads it with npm.
        tokenizers_web: Folder of the npm package @huggingface/tokenizers, for texts; None as for `ort_web`.
        backbone_license: License of the pretrained weights, for the model card.
        data_license: License of the data, for the model card.
        seed: Random seed of the choice of calibration images and the order of timing.
    """

    opset: int = Field(default=OPSET, ge=13, le=26)
    dynamic_size: bool = False
    with_preprocessing: bool = False
    # Chosen: the best class was the same for all 153 photographs.
    preprocessing_drop: float = Field(default=0.1, ge=0, le=100)
    # Chosen; on fewer than 100 validation images a single one is more.
    max_drop: float = Field(default=1.0, ge=0, le=100)
    max_class_drop: float | None = Field(default=None, ge=0, le=100)
    images: bool = True
    tolerance: float = Field(default=TOLERANCE, gt=0)
    int8: bool = True
    recipes: tuple[str, ...] = DEFAULT
    target: Targets = "this"
    float_layers: tuple[str, ...] = ()
    float_operators: tuple[str, ...] = ()
    calibration: int = Field(default=128, ge=1)  # chosen, not measured: each image costs a float32 run
    threads: int = Field(default=1, ge=0)
    # Which is faster depends on network and CPU; `bench` says so. Only ONNX Runtime is always installed.
    runtime: FileRuntime = "onnxruntime"
    latency_seconds: float = Field(default=20.0, gt=0)  # chosen: five recipes are then known to a few percent
    hf_inputs: bool = False
    bundle: bool = False
    ort_web: str | None = None
    tokenizers_web: str | None = None
    backbone_license: str = Field(default="unknown", min_length=1, max_length=100)
    data_license: str = Field(default="unknown", min_length=1, max_length=100)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _check_bundle(self) -> "ExportSettings":
        for name in ("ort_web", "tokenizers_web", "backbone_license", "data_license"):
            if getattr(self, name) not in (None, "unknown") and not self.bundle:
                raise ValueError(f"{name} has no effect without a bundle: set bundle = true")
        return self

    @model_validator(mode="after")
    def _check_runtime(self) -> "ExportSettings":
        # Their kernels, sums and inputs are ONNX Runtime's: see `deploy.cpu`.
        changed = [
            name for name, usual in (("target", "this"), ("hf_inputs", False), ("with_preprocessing", False))
            if getattr(self, name) != usual
        ]  # fmt: skip
        if self.runtime == "openvino" and changed:
            raise ValueError(f"{changed[0]} is for ONNX Runtime alone: leave it out, or set runtime = 'onnxruntime'")
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
