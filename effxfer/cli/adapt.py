"""Commands that run one stage: finetune, compete, curve, prune, qat, search, export."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from effxfer.cli import options
from effxfer.cli.options import Budget, seconds_of
from effxfer.cli.stage_command import passed_flags, stage_command

if TYPE_CHECKING:
    from effxfer.api import Result

    Call = partial[Result]

Rate = Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.001]")]


@stage_command
def finetune(
    strategy: Annotated[str | None, typer.Option(help="full, lp_ft, lora, auto ... (guide).  [default: full]")] = None,
    budget: Budget = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 10]")] = None,
    lr: Rate = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.  [default: 64]")] = None,
) -> "Call":
    """Adapt a pretrained network to your data."""
    import effxfer

    seconds = seconds_of(budget)
    return partial(effxfer.finetune, strategy=strategy, seconds=seconds, epochs=epochs, lr=lr, batch=batch)


@stage_command
def curve(
    labels: Annotated[str | None, typer.Option(help="Labels per class, before all.  [default: 1,2,5,10,20]")] = None,
    repeats: Annotated[int | None, typer.Option(help="Trainings for each.  [default: 3]")] = None,
    strategy: Annotated[str | None, typer.Option(help="As of `finetune`.  [default: full]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.  [default: 10]")] = None,
    lr: Rate = None,
) -> "Call":
    """See how quickly a network adapts: accuracy by labels per class, and by epochs."""
    import effxfer

    few = None if labels is None else options.numbers("labels", labels, last="all")
    return partial(effxfer.learning_curve, labels=few, repeats=repeats, strategy=strategy, epochs=epochs, lr=lr)


@stage_command
def compete(
    budget: Budget = None,
    backbones: Annotated[str, typer.Option(help="Other networks to try every recipe on: a,b,c.")] = "",
    strategies: Annotated[str, typer.Option(help="Try these: full,lp_ft,...  [default: six recipes]")] = "",
    epochs: Annotated[int | None, typer.Option(help="Of the last training, at most.  [default: 10]")] = None,
    lr: Rate = None,
    latency_penalty: Annotated[
        float | None, typer.Option(help="Points of accuracy that twice the speed is worth.  [default: 0.0]")
    ] = None,
) -> "Call":
    """Let recipes and backbones compete for time: all are trained a little, the better ones longer."""
    import effxfer

    return partial(
        effxfer.compete, seconds=seconds_of(budget), backbones=options.words(backbones) or None,
        candidates={name: {"strategy": name} for name in options.words(strategies)} or None, epochs=epochs, lr=lr,
        latency_penalty=latency_penalty,
    )  # fmt: skip


@stage_command
def prune(
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
    lr: Rate = None,
) -> "Call":
    """Remove weights or whole channels and train what is left, or make what a ticket left smaller."""
    import effxfer

    functions: dict[str, Call] = {
        "channels": partial(effxfer.prune_channels),
        "compact": partial(effxfer.compact),
    }
    function = functions.get(method) or partial(effxfer.find_ticket, method=method)
    flags = passed_flags(
        sparsity=sparsity, rounds=rounds, controls=controls, ratio=ratio, macs_ratio=macs_ratio,
        latency_ratio=latency_ratio, latency_ms=latency_ms, max_error=max_error, epochs=epochs, lr=lr,
    )  # fmt: skip
    return partial(function, **flags)


@stage_command
def qat(
    bits: Annotated[int | None, typer.Option(help="Of weights; 7 suits CPUs without VNNI.  [default: 7]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training split.  [default: 3]")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.  [default: 0.0001]")] = None,
) -> "Call":
    """Fine-tune as if the network were int8 already, where int8 loses too much otherwise."""
    import effxfer

    return partial(effxfer.qat, bits=bits, epochs=epochs, lr=lr)


@stage_command
def search(
    trials: Annotated[int | None, typer.Option(help="Heads tried in all: 40, or as many as fit.")] = None,
    budget: Budget = None,
    workers: Annotated[int | None, typer.Option(help="Processes that try heads side by side.  [default: 1]")] = None,
    storage: Annotated[str | None, typer.Option(help="For several machines: postgresql://... or journal:PATH.")] = None,
) -> "Call":
    """Search the head on features computed once."""
    import effxfer

    seconds = seconds_of(budget)
    return partial(effxfer.search_head, trials=trials, seconds=seconds, workers=workers, storage=storage)


@stage_command
def export(
    int8: Annotated[bool | None, typer.Option("--int8/--no-int8", help="Try int8 as well.  [default: --int8]")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of accuracy that may be lost.  [default: 1.0]")] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX operator set.  [default: 20]")] = None,
    target: Annotated[str | None, typer.Option(help="CPU that int8 is for, such as portable.  [default: this]")] = None,
    with_preprocessing: Annotated[bool | None, typer.Option("--with-preprocessing", help="Resize inside.")] = None,
    bundle: Annotated[bool | None, typer.Option("--bundle", help="Also a folder with card, example, web page.")] = None,
    ort_web: Annotated[str | None, typer.Option(help="With --bundle: folder of npm's onnxruntime-web.")] = None,
) -> "Call":
    """Write a checked ONNX model, and an int8 one if it is faster and accurate enough."""
    import effxfer

    return partial(
        effxfer.export, int8=int8, max_drop=max_drop, opset=opset, target=target,
        with_preprocessing=with_preprocessing, bundle=bundle, ort_web=ort_web,
    )  # fmt: skip
