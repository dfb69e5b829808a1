"""Commands that run one stage: finetune, continual, pretrain, compete, curve, shrink, prune, qat, search, export."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from effxfer.cli import options
from effxfer.cli.options import Budget, seconds_of
from effxfer.cli.stage_command import passed_flags, stage_command

if TYPE_CHECKING:
    from effxfer.api import Result

    Call = partial[Result]

Rate = Annotated[float | None, typer.Option(help="Peak learning rate; by default 0.001, for texts less.")]
Runtime = Annotated[str | None, typer.Option(help="On the device: onnxruntime, openvino.  [default: onnxruntime]")]


@stage_command
def finetune(
    strategy: Annotated[str | None, typer.Option(help="Strategy such as full, lora or auto.  [default: full]")] = None,
    budget: Budget = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 10]")] = None,
    lr: Rate = None,
    batch: Annotated[int | None, typer.Option(help="Images or texts per step.  [default: 64]")] = None,
) -> "Call":
    """Fine-tune a pretrained network on your data."""
    import effxfer

    seconds = seconds_of(budget)
    return partial(effxfer.finetune, strategy=strategy, seconds=seconds, epochs=epochs, lr=lr, batch=batch)


@stage_command
def continual(
    data: Annotated[  # noqa: ARG001 (shared with the other commands, which name one source)
        list[str] | None,
        typer.Option(help="Data of a task: repeat in order of time, or a pattern of folders, 'photos/2026-*'."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="replay, der, icarl, gdumb, lwf, ewc, si, nearest_mean.  [default: replay]")
    ] = None,
    memory: Annotated[int | None, typer.Option(help="Most examples to keep of all tasks.  [default: 1000]")] = None,
    controls: Annotated[
        str | None, typer.Option(help="Train controls: none, fast (nearest mean) or full.  [default: full]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split of a task.  [default: 10]")] = None,
    lr: Rate = None,
    batch: Annotated[int | None, typer.Option(help="Images or texts per step.  [default: 64]")] = None,
) -> "Call":
    """Learn tasks one after another, such as the new classes of each month.

    The next month, name this month's result in place of the backbone, and the new data.
    """
    import effxfer

    return partial(
        effxfer.continual, strategy=strategy, memory=memory, controls=controls, epochs=epochs, lr=lr, batch=batch
    )  # fmt: skip


@stage_command
def pretrain(
    strategy: Annotated[
        str | None, typer.Option(help="Strategy without labels: mlm for texts, vicreg for images if not given.")
    ] = None,
    budget: Budget = None,
    epochs: Annotated[int | None, typer.Option(help="Passes: 20 over images and 4 over texts if not given.")] = None,
    lr: Rate = None,
    batch: Annotated[int | None, typer.Option(help="Images or texts per step.  [default: 64]")] = None,
) -> "Call":
    """Train a network on your images or texts, without labels.

    Later commands take the result as their backbone. --data is a folder of images, or a file with a text in each line.
    """
    import effxfer

    seconds = seconds_of(budget)
    return partial(effxfer.pretrain, strategy=strategy, seconds=seconds, epochs=epochs, lr=lr, batch=batch)


@stage_command
def clip(
    text: Annotated[str | None, typer.Option(help="Text tower: hf:FOLDER, a bundled encoder or a model.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A text with {} for a class name; may be repeated.")] = None,
    towers: Annotated[str | None, typer.Option(help="Towers to train: image, text, both.  [default: none]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pairs.  [default: 30]")] = None,
    lr: Rate = None,
    batch: Annotated[int | None, typer.Option(help="Pairs per step.  [default: 256]")] = None,
) -> "Call":
    """Train a dual encoder of images and captions, so that texts find images and classes.

    --data is a table with `--set data.caption_column=NAME`, or class folders, whose names in --prompt are the captions.
    """
    import effxfer

    return partial(effxfer.clip, text=text, prompts=prompt or None, towers=towers, epochs=epochs, lr=lr, batch=batch)


@stage_command
def curve(
    labels: Annotated[str | None, typer.Option(help="Labels per class to try.  [default: 1,2,5,10,20]")] = None,
    repeats: Annotated[int | None, typer.Option(help="Training runs per number of labels.  [default: 3]")] = None,
    strategy: Annotated[str | None, typer.Option(help="Strategy, see `finetune`.  [default: full]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 10]")] = None,
    lr: Rate = None,
) -> "Call":
    """Plot accuracy by labels per class and by epoch."""
    import effxfer

    few = None if labels is None else options.numbers("labels", labels, last="all")
    return partial(effxfer.learning_curve, labels=few, repeats=repeats, strategy=strategy, epochs=epochs, lr=lr)


@stage_command
def compete(
    budget: Budget = None,
    backbones: Annotated[str, typer.Option(help="More networks to try each recipe on: a,b,c.")] = "",
    strategies: Annotated[str, typer.Option(help="Strategies to try: full,lp_ft,...  [default: six recipes]")] = "",
    epochs: Annotated[int | None, typer.Option(help="Maximum epochs of the final round.  [default: 10]")] = None,
    lr: Rate = None,
    latency_penalty: Annotated[
        float | None, typer.Option(help="Accuracy points that halving the latency is worth.  [default: 0.0]")
    ] = None,
) -> "Call":
    """Compare recipes and backbones by successive halving.

    All of them are trained briefly; the better ones are trained longer.
    """
    import effxfer

    return partial(
        effxfer.compete, seconds=seconds_of(budget), backbones=options.words(backbones) or None,
        candidates={name: {"strategy": name} for name in options.words(strategies)} or None, epochs=epochs, lr=lr,
        latency_penalty=latency_penalty,
    )  # fmt: skip


@stage_command
def shrink(
    latency_ratio: Annotated[float | None, typer.Option(help="Largest p50 / p50 of the float32 network.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Largest p50 in milliseconds.")] = None,
    max_drop: Annotated[float | None, typer.Option(help="As fast as possible within these accuracy points.")] = None,
    backbones: Annotated[str, typer.Option(help="Other networks to try: a,b,c.")] = "",
    precision: Annotated[str | None, typer.Option(help="What ships: float32, int8 or auto.  [default: auto]")] = None,
    runtime: Runtime = None,
    budget: Budget = None,
    epochs: Annotated[int | None, typer.Option(help="Maximum epochs of the winner.  [default: 9]")] = None,
    lr: Rate = None,
) -> "Call":
    """Make a trained network fast: all ways that meet one latency compete.

    They are trained with the network as their teacher, and compared as they ship. Pass --latency-ratio, --latency-ms
    or --max-drop.
    """
    import effxfer

    return partial(
        effxfer.shrink, latency_ratio=latency_ratio, latency_ms=latency_ms, max_drop=max_drop,
        backbones=options.words(backbones) or None, precision=precision, runtime=runtime,
        seconds=seconds_of(budget), epochs=epochs, lr=lr,
    )  # fmt: skip


@stage_command
def prune(
    method: Annotated[
        str, typer.Option(help="lottery, gradual, channels, structured, compact, vocabulary.")
    ] = "lottery",
    sparsity: Annotated[float | None, typer.Option(help="lottery, gradual: fraction of weights to remove.")] = None,
    rounds: Annotated[int | None, typer.Option(help="lottery, structured: pruning rounds.  [default: 3]")] = None,
    controls: Annotated[str | None, typer.Option(help="Controls: none, fast or full.  [default: none]")] = None,
    ratio: Annotated[float | None, typer.Option(help="channels, structured: fraction of channels to remove.")] = None,
    macs_ratio: Annotated[float | None, typer.Option(help="channels: fraction of multiply-adds to keep.")] = None,
    latency_ratio: Annotated[float | None, typer.Option(help="channels: target p50 / p50 of the dense net.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="channels: target p50 in milliseconds.")] = None,
    min_count: Annotated[int | None, typer.Option(help="vocabulary: least count of a token.  [default: 1]")] = None,
    max_error: Annotated[float | None, typer.Option(help="compact: maximum relative error.  [default: 0.0]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs per round, or in total.  [default: 3, 5]")] = None,
    lr: Rate = None,
) -> "Call":
    """Prune weights or channels and fine-tune, or compact a ticket.

    `--method compact` replaces the layers of a ticket by smaller ones. `--method vocabulary` removes the tokens that
    the training texts do not use.
    """
    import effxfer

    functions: dict[str, Call] = {
        "channels": partial(effxfer.prune_channels),
        "compact": partial(effxfer.compact),
        "vocabulary": partial(effxfer.prune_vocabulary),
    }
    function = functions.get(method) or partial(effxfer.find_ticket, method=method)
    flags = passed_flags(
        sparsity=sparsity, rounds=rounds, controls=controls, ratio=ratio, macs_ratio=macs_ratio,
        latency_ratio=latency_ratio, latency_ms=latency_ms, min_count=min_count, max_error=max_error, epochs=epochs,
        lr=lr,
    )  # fmt: skip
    return partial(function, **flags)


@stage_command
def qat(
    bits: Annotated[int | None, typer.Option(help="Weight bits; 7 suits CPUs without VNNI.  [default: 7]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 3]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.0001]")] = None,
) -> "Call":
    """Run quantization-aware training.

    Use it if the int8 model of `export` loses too much accuracy.
    """
    import effxfer

    return partial(effxfer.qat, bits=bits, epochs=epochs, lr=lr)


@stage_command
def search(
    trials: Annotated[int | None, typer.Option(help="Heads to try: 40, or as many as fit the budget.")] = None,
    budget: Budget = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes.  [default: 1]")] = None,
    storage: Annotated[str | None, typer.Option(help="Shared trial storage: postgresql://... or journal:PATH.")] = None,
) -> "Call":
    """Search for the best head on cached features."""
    import effxfer

    seconds = seconds_of(budget)
    return partial(effxfer.search_head, trials=trials, seconds=seconds, workers=workers, storage=storage)


@stage_command
def export(
    int8: Annotated[bool | None, typer.Option("--int8/--no-int8", help="Also try int8.  [default: --int8]")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Maximum accuracy drop in points.  [default: 1.0]")] = None,
    max_class_drop: Annotated[float | None, typer.Option(help="Maximum drop of any class, int8 to float32.")] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX opset version.  [default: 20]")] = None,
    target: Annotated[str | None, typer.Option(help="Target CPU of int8, such as portable.  [default: this]")] = None,
    with_preprocessing: Annotated[bool | None, typer.Option("--with-preprocessing", help="Include resizing.")] = None,
    images: Annotated[
        bool | None, typer.Option("--images/--no-images", help="Pictures of mistakes.  [default: --images]")
    ] = None,
    hf_inputs: Annotated[bool | None, typer.Option("--hf-inputs", help="Also write files for HF servers.")] = None,
    bundle: Annotated[bool | None, typer.Option("--bundle", help="Also write model card, example and demo.")] = None,
    ort_web: Annotated[str | None, typer.Option(help="With --bundle: path of the onnxruntime-web npm package.")] = None,
    runtime: Runtime = None,
) -> "Call":
    """Export a verified ONNX model, and int8 if it is worth it.

    The int8 model is kept only if it is faster and accurate enough.
    """
    import effxfer

    return partial(
        effxfer.export, int8=int8, max_drop=max_drop, max_class_drop=max_class_drop, opset=opset, target=target,
        with_preprocessing=with_preprocessing, images=images, hf_inputs=hf_inputs, bundle=bundle, ort_web=ort_web,
        runtime=runtime,
    )  # fmt: skip
