"""Functions that deliver: export to ONNX, quantize, and benchmark exported models.

`help(effxfer.api)` describes the arguments that they have in common.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from effxfer.api.job import run_stage, stop_if_previewing
from effxfer.api.modules import ExportedFile, export_a_module, is_module, quantize_module
from effxfer.api.result import Reported, Result
from effxfer.api.sources import Data, PathLike, Source, path_of, table_of
from effxfer.artifact import Artifact
from effxfer.errors import GateError, SettingsError
from effxfer.report import Report
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import compare as compare_results
from effxfer.stages.settings.common import SHIP, Bench

if TYPE_CHECKING:
    from torch import Tensor, nn


@overload
def export(
    source: Source, *, out: PathLike, data: Data | None = None, int8: bool | None = None,
    max_drop: float | None = None, max_class_drop: float | None = None, opset: int | None = None,
    target: str | None = None, with_preprocessing: bool | None = None, images: bool | None = None,
    hf_inputs: bool | None = None, bundle: bool | None = None, ort_web: str | None = None, runtime: str | None = None,
    seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result: ...  # fmt: skip
@overload
def export(
    source: "nn.Module", *, out: PathLike, example: "Tensor", opset: int | None = None, **extra: Any,
) -> ExportedFile: ...  # fmt: skip
def export(
    source: "Source | nn.Module", *, out: PathLike = "", data: Data | None = None, int8: bool | None = None,
    max_drop: float | None = None, max_class_drop: float | None = None, opset: int | None = None,
    target: str | None = None, with_preprocessing: bool | None = None, images: bool | None = None,
    hf_inputs: bool | None = None, bundle: bool | None = None, ort_web: str | None = None, runtime: str | None = None,
    seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result | ExportedFile:  # fmt: skip
    """Export a verified ONNX model, and an int8 model if it is faster and accurate enough.

    The common arguments are described in `effxfer.api`.

    `source` may also be any `torch.nn.Module` in evaluation mode. Then `out` is the file to write, and `example` is an
    input `(B, ...)` on which the file is compared with the module. Other arguments are those of
    `effxfer.deploy.export.module.export_module`.

    Args:
        int8: Whether to try int8 recipes; True if None.
        max_drop: Largest loss of a file, in points of validation accuracy; 1 if None.
        max_class_drop: Largest loss of the int8 file in any class, in points of its validation accuracy; no limit if
            None.
        opset: ONNX operator set, 13 to 26; 20 if None.
        target: CPUs that run the int8 file: `this`, `portable`, `x86-vnni`, `x86-avx2` or `arm64`; `this` if None.
        with_preprocessing: Whether the graph resizes, crops and scales images itself; False if None.
        images: Whether to keep small pictures of the mistakes for the report page; True if None.
        hf_inputs: Whether to write files with the inputs that servers of Hugging Face feed too; False if None.
        bundle: Whether to write a folder with a model card, an example and a web page too; False if None.
        ort_web: Folder of the npm package onnxruntime-web for the web page; None searches for it.
        runtime: What runs the files on the device, `onnxruntime` or `openvino`; `onnxruntime` if None.

    Returns:
        The model directory; its attribute `models` maps `fp32` and `int8` to files. For a module: an `ExportedFile`.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the classes of data and network differ.
        GateError: If the outputs of the float32 file and the network differ.

    Examples:
        >>> onnx = ex.export("runs/small", out="runs/onnx", target="portable")
        >>> onnx.models["fp32"]
        >>> file = ex.export(module, out="module.onnx", example=torch.zeros(1, 3, 224, 224))
    """
    if is_module(source):
        return export_a_module(source, out=out, **table_of(None, extra, opset=opset))
    table = table_of(
        settings, extra, seed=seed, int8=int8, max_drop=max_drop, max_class_drop=max_class_drop, opset=opset,
        target=target, with_preprocessing=with_preprocessing, images=images, hf_inputs=hf_inputs, bundle=bundle,
        ort_web=ort_web, runtime=runtime,
    )  # fmt: skip
    return run_stage("export", source, out=out, data=data, settings=table, device=device, force=force)


@overload
def quantize(
    source: Source, *, out: PathLike, data: Data | None = None, max_drop: float | None = None,
    recipes: Sequence[str] | None = None, target: str | None = None, calibration: int | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result: ...  # fmt: skip
@overload
def quantize(
    source: "nn.Module", *, out: PathLike, example: "Tensor", calibration: Any, inputs: Any, labels: Any, **extra: Any,
) -> ExportedFile: ...  # fmt: skip
def quantize(
    source: "Source | nn.Module", *, out: PathLike = "", data: Data | None = None, max_drop: float | None = None,
    recipes: Sequence[str] | None = None, target: str | None = None, calibration: int | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result | ExportedFile:  # fmt: skip
    """Export an int8 model, and raise an error if no int8 model is both faster and accurate enough.

    The common arguments are described in `effxfer.api`.

    `source` may also be any `torch.nn.Module` in evaluation mode. Then `out` is the file to write, `example` an input
    `(B, ...)`, `calibration` an array of training inputs `(N, ...)`, and `inputs` `(M, ...)` and `labels` `(M,)` are
    validation data. Other arguments are those of `effxfer.deploy.int8.search.quantize`.

    Args:
        max_drop: Largest loss of the int8 file, in points of validation accuracy; 1 if None.
        recipes: Recipes to try: keys of `effxfer.deploy.int8.recipes.RECIPES`, `auto` or `all`; `auto` if None.
        target: CPUs that run the file: `this`, `portable`, `x86-vnni`, `x86-avx2` or `arm64`; `this` if None.
        calibration: Number of training images that calibrate the ranges of activations; 128 if None.

    Returns:
        The model directory; its attribute `models` maps `fp32` and `int8` to files. For a module: an `ExportedFile`.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        GateError: If no int8 file is both faster and accurate enough. The float32 export remains in `out`.

    Examples:
        >>> int8 = ex.quantize("runs/small", out="runs/int8", max_drop=0.5)
        >>> file = ex.quantize(module, out="int8.onnx", example=x[:1], calibration=x, inputs=val_x, labels=val_y)
    """
    if is_module(source):
        arrays = table_of(None, extra, calibration=calibration, max_drop=max_drop, recipes=recipes)
        return quantize_module(source, out=out, **arrays)
    result = export(
        cast(Source, source), out=out, data=data, int8=True, max_drop=max_drop, target=target, seed=seed, device=device,
        force=force, settings=settings, **table_of(None, extra, recipes=recipes, calibration=calibration),
    )  # fmt: skip
    if "int8" not in result.models:
        hint = "read its report for the reason of each recipe, allow a larger max_drop, or train with qat first"
        raise GateError(f"no int8 recipe is both faster and accurate enough: {result.path} holds float32 alone", hint)
    return result


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Reported):
    """A benchmark of exported models.

    Attributes:
        settings: Settings of the benchmark.
        regressions: Models that are slower than an earlier benchmark allows, one sentence each.
    """

    settings: Bench
    regressions: tuple[str, ...] = ()

    @property
    def ship(self) -> str:
        """Name of the fastest model that is accurate enough; empty for `.onnx` files, whose accuracy is unknown."""
        return next((note.removeprefix(SHIP) for note in self.report.notes if note.startswith(SHIP)), "")

    def enforce(self) -> None:
        """Raise if a model is slower than the earlier benchmark allows.

        Raises:
            GateError: If there are regressions; the message lists them.
        """
        from effxfer.benchmark.regression import enforce_regression

        enforce_regression(list(self.regressions))

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, with the settings that a later comparison needs."""
        return {"settings": self.settings.plain(), **super().to_json()}


def bench(
    models: Sequence[PathLike | Result], *, baseline: PathLike | Result | None = None, out: PathLike | None = None,
    threads: int | Sequence[int] | None = None, batch: int | Sequence[int] | None = None,
    max_seconds: float | None = None, max_p50_ratio: float | None = None, max_mb: float | None = None,
    compare: PathLike | None = None, max_regression: float = 0.05, seed: int | None = None, force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Comparison:  # fmt: skip
    """Time exported models in turns on this machine, and choose the one to ship.

    Args:
        models: Results of `export`, their directories, or `.onnx` files.
        baseline: Model to compare the others with; the first one if None.
        out: Directory for the result; None writes nothing.
        threads: Threads of ONNX Runtime, 0 for one per core; a sequence is a sweep. 1 if None.
        batch: Images per call; a sequence is a sweep. 1 if None.
        max_seconds: Time limit of all models together; 60 if None.
        max_p50_ratio: Largest p50 ratio of the model to ship to the baseline; None for no limit.
        max_mb: Largest file of the model to ship, in megabytes; None for no limit.
        compare: Earlier benchmark: its JSON file or its directory; None for no comparison.
        max_regression: Allowed growth of a p50 ratio against the earlier benchmark, in [0, 1).

    Returns:
        The comparison. Its attribute `ship` names the fastest model that is accurate enough.

    Raises:
        SettingsError: If an argument is wrong, or a model is passed twice.
        ModelFileError: If a model is absent or damaged, or a directory contains no export.
        GateError: If the model to ship is too slow or too large.

    Examples:
        >>> comparison = ex.bench(["runs/small-onnx"], baseline="runs/dense-onnx", threads=[1, 4])
        >>> print(comparison.ship, comparison["ratio/small-onnx int8"])
    """
    from effxfer.benchmark import regression

    earlier = regression.read_earlier(Path(compare)) if compare else None
    table = table_of(
        settings, extra, **_sweep_settings("threads", threads), **_sweep_settings("batch", batch, "batches"),
        max_seconds=max_seconds, max_p50_ratio=max_p50_ratio, max_mb=max_mb, seed=seed,
    )  # fmt: skip
    chosen, named = build(Bench, table, "bench"), _name_models([*([baseline] if baseline else []), *models])
    report = _measure(named, chosen, Path(out) if out else None, force)
    if earlier is None:
        return Comparison(report=report, settings=chosen)
    compared, regressions = regression.compare_with_earlier(earlier, report, chosen.plain(), max_regression)
    return Comparison(report=report + compared, settings=chosen, regressions=tuple(regressions))


def _measure(named: Mapping[str, Path], settings: Bench, out: Path | None, force: bool) -> Report:
    from effxfer.stages.deliver.bench import bench_files

    bare = any(path.suffix == ".onnx" for path in named.values())
    if bare and out:
        raise SettingsError("`out` keeps a comparison of results, not of bare files", "leave it out")
    results = {} if bare else {name: Artifact.load(path) for name, path in named.items()}
    stop_if_previewing(lambda: _preview(named, settings))
    if bare:
        return bench_files(named, settings)
    load = STAGES["bench"].function
    if out is None:
        return load()(results, settings)  # type: ignore[no-any-return]
    return compare_results("bench", load, settings, results, RunContext(out=out, force=force)).manifest.report


def _preview(named: Mapping[str, Path], settings: Bench) -> dict[str, Any]:
    from effxfer.stages.deliver.bench import files_of

    files_of(named)
    return {"stage": "bench", "models": list(named), "settings": settings.plain()}


def _sweep_settings(name: str, values: int | Sequence[int] | None, plural: str = "") -> dict[str, Any]:
    """Convert a number into a setting, and a sequence into its first number and a sweep over all.

    >>> _sweep_settings("threads", 2), _sweep_settings("batch", [1, 8], "batches")
    ({'threads': 2}, {'batch': 1, 'sweep_batches': [1, 8]})
    """
    numbers = [values] if isinstance(values, int) else list(values or ())
    sweep = {f"sweep_{plural or name}": numbers} if len(numbers) > 1 else {}
    return {name: numbers[0], **sweep} if numbers else {}


def _name_models(models: Sequence[PathLike | Result]) -> dict[str, Path]:
    """Return the paths of models by their shortest unique names."""
    paths = [path_of(model) for model in models]
    return dict(zip(distinct_names(paths), paths, strict=True))


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest endings of paths that are unique.

    >>> distinct_names([Path("a/onnx"), Path("b/onnx")])
    ['a/onnx', 'b/onnx']

    Raises:
        SettingsError: If a path is given twice.
    """
    full = [path.resolve().parts for path in paths]
    if len(set(full)) < len(full):
        raise SettingsError("the same directory is given twice", "name each model once")
    names = ["/".join(parts[-n:]) for n in range(1, max(map(len, full)) + 1) for parts in full]
    rows = [names[start : start + len(full)] for start in range(0, len(names), len(full))]
    return next(row for row in rows if len(set(row)) == len(row))
