"""Commands that run one stage: finetune, compete, curve, prune, qat, search, export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effxfer.cli import options
from effxfer.cli.options import Budget, Data, Device, DryRun, Force, Json, Out, Seed, Set, Source, duration, table

if TYPE_CHECKING:
    from effxfer.artifact import Artifact
    from effxfer.net.settings import BackboneSettings
    from effxfer.stages.runner.context import RunContext
    from effxfer.stages.runner.source import Source as Origin


def finetune(
    source: Source, out: Out, data: Data = "",
    strategy: Annotated[str | None, typer.Option(help="full, lp_ft, lora, auto ... (guide).  [default: full]")] = None,
    budget: Budget = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 10]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.001]")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.  [default: 64]")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Adapt a pretrained network to your data."""
    seconds = duration(budget) if budget else None
    given = table(
        changes, strategy=strategy, fit__epochs=epochs, fit__lr=lr, options__batch=batch, seconds=seconds, seed=seed
    )
    _stage("finetune", source, data, out, given, device=device, force=force, dry_run=dry_run, as_json=as_json)


def curve(
    source: Source, out: Out, data: Data = "",
    labels: Annotated[str | None, typer.Option(help="Labels per class, before all.  [default: 1,2,5,10,20]")] = None,
    repeats: Annotated[int | None, typer.Option(help="Trainings for each.  [default: 3]")] = None,
    strategy: Annotated[str | None, typer.Option(help="As of `finetune`.  [default: full]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.  [default: 10]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.001]")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """See how quickly a network adapts: accuracy by labels per class, and by epochs."""
    few = None if labels is None else options.numbers("labels", labels, last="all")
    given = table(changes, labels=few, repeats=repeats, strategy=strategy, fit__epochs=epochs, fit__lr=lr, seed=seed)
    _stage("curve", source, data, out, given, device=device, force=force, dry_run=dry_run, as_json=as_json)


def compete(
    source: Source, out: Out, data: Data = "",
    budget: Budget = None,
    backbones: Annotated[str, typer.Option(help="Other networks to try every recipe on: a,b,c.")] = "",
    strategies: Annotated[str, typer.Option(help="Try these: full,lp_ft,...  [default: six recipes]")] = "",
    epochs: Annotated[int | None, typer.Option(help="Of the last training, at most.  [default: 10]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.001]")] = None,
    latency_penalty: Annotated[
        float | None, typer.Option(help="Points of accuracy that twice the speed is worth.  [default: 0.0]")
    ] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Let recipes and backbones compete for time: all are trained a little, the better ones longer."""
    given = table(
        changes, seconds=duration(budget) if budget else None, fit__epochs=epochs, fit__lr=lr, seed=seed,
        latency_penalty=latency_penalty, backbones=names(backbones) or None,
        candidates={name: {"strategy": name} for name in names(strategies)} or None,
    )  # fmt: skip
    _stage("compete", source, data, out, given, device=device, force=force, dry_run=dry_run, as_json=as_json)


def names(text: str) -> list[str]:
    """Split what is between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def prune(
    source: Source, out: Out, data: Data = "",
    method: Annotated[str, typer.Option(help="lottery, gradual, channels, structured or compact.")] = "lottery",
    sparsity: Annotated[float | None, typer.Option(help="lottery, gradual: share of weights to remove.")] = None,
    rounds: Annotated[int | None, typer.Option(help="lottery, structured: pruning rounds.  [default: 3]")] = None,
    controls: Annotated[str | None, typer.Option(help="Train controls: none, fast or full.  [default: none]")] = None,
    ratio: Annotated[float | None, typer.Option(help="channels, structured: share of channels to remove.")] = None,
    macs_ratio: Annotated[float | None, typer.Option(help="channels: share of multiply-adds to keep.")] = None,
    latency_ratio: Annotated[float | None, typer.Option(help="channels: share of the p50 to keep, measured.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="channels: p50 in milliseconds, measured.")] = None,
    max_error: Annotated[float | None, typer.Option(help="compact: change of a logit allowed.  [default: 0.0]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Per round, or in all.  [default: 3, 5]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.001]")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Remove weights or whole channels and train what is left, or make what a ticket left smaller."""
    from effxfer.stages import stage_of

    given = table(
        changes, sparsity=sparsity, rounds=rounds, controls=controls, ratio=ratio, macs_ratio=macs_ratio,
        latency_ratio=latency_ratio, latency_ms=latency_ms, max_error=max_error, fit__epochs=epochs,
        fit__lr=lr, seed=seed,
    )  # fmt: skip
    name = stage_of({"run": "prune", "method": method})
    _stage(name, source, data, out, given, device=device, force=force, dry_run=dry_run, as_json=as_json)


def qat(
    source: Source, out: Out, data: Data = "",
    bits: Annotated[int | None, typer.Option(help="Of weights; 7 suits CPUs without VNNI.  [default: 7]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 3]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.0001]")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Fine-tune as if the network were int8 already, where int8 loses too much otherwise."""
    given = table(changes, bits=bits, fit__epochs=epochs, fit__lr=lr, seed=seed)
    _stage("qat", source, data, out, given, device=device, force=force, dry_run=dry_run, as_json=as_json)


def search(
    source: Source, out: Out, data: Data = "",
    trials: Annotated[int | None, typer.Option(help="Heads tried in all: 40, or as many as fit.")] = None,
    budget: Budget = None,
    workers: Annotated[int | None, typer.Option(help="Processes that try heads side by side.  [default: 1]")] = None,
    storage: Annotated[str | None, typer.Option(help="For several machines: postgresql://... or journal:PATH.")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Search the head on features computed once."""
    seconds = duration(budget) if budget else None
    given = table(changes, trials=trials, seconds=seconds, workers=workers, storage=storage, seed=seed)
    _stage("search", source, data, out, given, device=device, force=force, dry_run=dry_run, as_json=as_json)


def export(
    source: Source, out: Out, data: Data = "",
    int8: Annotated[bool | None, typer.Option("--int8/--no-int8", help="Try int8 as well.  [default: --int8]")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of accuracy that may be lost.  [default: 1.0]")] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set.  [default: 20]")] = None,
    target: Annotated[str | None, typer.Option(help="CPU that int8 is for, such as portable.  [default: this]")] = None,
    with_preprocessing: Annotated[bool | None, typer.Option("--with-preprocessing", help="Resize inside.")] = None,
    bundle: Annotated[bool | None, typer.Option("--bundle", help="Also a folder with card, example, web page.")] = None,
    ort_web: Annotated[str | None, typer.Option(help="With --bundle: folder of npm's onnxruntime-web.")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a checked ONNX model, and an int8 one if it is faster and accurate enough."""
    given = table(
        changes, int8=int8, max_drop=max_drop, opset=opset, target=target, with_preprocessing=with_preprocessing,
        bundle=bundle, ort_web=ort_web, seed=seed,
    )  # fmt: skip
    _stage("export", source, data, out, given, device=device, force=force, dry_run=dry_run, as_json=as_json)


def _stage(
    name: str, source: str, data: str, out: Path, given: dict[str, Any], *,
    device: str, force: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    from effxfer.stages.runner.context import RunContext

    origin = origin_of(source, given)
    context = RunContext(out=out, device=device, force=force)
    run_stage(name, origin, data, given, context, dry_run=dry_run, as_json=as_json)


def origin_of(source: str, given: dict[str, Any]) -> "Artifact | BackboneSettings":
    """Find the network that `source` names, with the settings under `backbone`, which are taken out of `given`.

    Raises:
        SettingsError: If a model directory is given such settings.
        ModelFileError: If it looks like a model directory but is none.
    """
    from effxfer import artifact
    from effxfer.errors import SettingsError
    from effxfer.net.settings import BackboneSettings
    from effxfer.settings import build

    backbone = inner(given, "backbone")
    origin = artifact.find(source) or build(BackboneSettings, {"source": source, **backbone}, "backbone")
    if backbone and isinstance(origin, artifact.Artifact):
        raise SettingsError(f"{source} is a model already: backbone settings have no effect on it")
    return origin


def inner(given: dict[str, Any], key: str) -> dict[str, Any]:
    """Take a table out of what was given; empty if there is none.

    Raises:
        SettingsError: If it is not a table.
    """
    from effxfer.errors import SettingsError

    value = given.pop(key, {})
    if not isinstance(value, dict):
        raise SettingsError(f"{key} is a table, not {value!r}", f"such as --set {key}.source={value}")
    return value


def run_stage(
    name: str,
    origin: "Origin",
    data: str,
    given: dict[str, Any],
    context: "RunContext",
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a stage, or say what it would do, and print the result."""
    from effxfer.cli import show
    from effxfer.settings import build
    from effxfer.stages import STAGES
    from effxfer.stages.runner.run import preview, transform
    from effxfer.stages.runner.tasks import data_for

    tasks = data_for(origin, {**inner(given, "data"), **({"source": data} if data else {})})
    settings = build(STAGES[name].settings, given, name)
    if dry_run:
        show.document(preview(STAGES[name], settings, origin, tasks, context))
        return
    with show.progress():
        made = transform(STAGES[name], settings, origin, tasks, context)
    show.result(made.manifest.report, as_json, model=str(made.path), key=made.manifest.key)
