"""Functions that prune: find lottery tickets, remove channels, reach a latency target, and compact tickets.

`help(effxfer.api)` describes the arguments that they have in common.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, overload

from effxfer.api.job import run_stage
from effxfer.api.modules import (
    ModuleResult,
    compact_module,
    find_ticket_of_module,
    is_module,
    prune_module,
    prune_module_to_latency,
)
from effxfer.api.result import Result
from effxfer.api.sources import Data, PathLike, Source, table_of
from effxfer.stages import stage_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from effxfer.prune.weights.mask import Mask


@overload
def find_ticket(
    source: Source, *, out: PathLike, data: Data | None = None, method: str = "lottery", sparsity: float | None = None,
    ratio: float | None = None, rounds: int | None = None, controls: str | None = None, epochs: int | None = None,
    lr: float | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result: ...  # fmt: skip
@overload
def find_ticket(
    source: "nn.Module", *, train: "Callable[[Any, Mask, int], float]", sparsity: float | None = None,
    rounds: int | None = None, **extra: Any,
) -> ModuleResult: ...  # fmt: skip
def find_ticket(
    source: "Source | nn.Module", *, out: PathLike = "", data: Data | None = None, method: str = "lottery",
    sparsity: float | None = None, ratio: float | None = None, rounds: int | None = None,
    controls: str | None = None, epochs: int | None = None, lr: float | None = None, seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result | ModuleResult:  # fmt: skip
    """Find a lottery ticket by iterative magnitude pruning with rewinding, or by gradual pruning.

    Iterative pruning: Frankle & Carbin, 2019 (https://arxiv.org/abs/1803.03635). The common arguments are described in
    `effxfer.api`.

    `source` may also be any `torch.nn.Module`, which is changed in place. Then pass `train`, a function
    `(module, mask, round) -> score`: it trains the module, keeps removed weights at zero by calling
    `mask.apply_(module)` after each optimizer step, and returns a score, higher is better. Other arguments are those of
    `effxfer.prune.weights.lottery.find_ticket`.

    Args:
        method: `lottery`, `gradual` or `structured` (whole channels).
        sparsity: Share of the prunable weights to remove, in (0, 1); for `lottery` and `gradual`.
        ratio: Share of the channels to remove, in (0, 1); for `structured`.
        rounds: Number of pruning rounds; 3 if None.
        controls: Control networks to train: `none`, `fast` or `full`; `none` if None.
        epochs: Epochs per round (3 if None), or of the whole training for `gradual` (5 if None).
        lr: Peak learning rate; 0.001 if None, for texts less (`fit.lr`).

    Returns:
        The model directory with the trained ticket and `ticket.safetensors`. For a module: a `ModuleResult` whose
        `mask` is the ticket.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the data cannot be used for training.
        GateError: If a training diverges.

    Examples:
        >>> ticket = ex.find_ticket("runs/dense", out="runs/ticket", sparsity=0.8, rounds=3)
        >>> sparse = ex.find_ticket(module, train=train, sparsity=0.8)
        >>> sparse.mask.keep["conv1.weight"]
    """
    if is_module(source):
        return find_ticket_of_module(source, rounds=rounds, **table_of(None, extra, sparsity=sparsity))
    table = table_of(
        settings, extra, seed=seed, sparsity=sparsity, ratio=ratio, rounds=rounds, controls=controls,
        fit__epochs=epochs, fit__lr=lr,
    )  # fmt: skip
    stage = stage_of({"run": "prune", "method": method})
    return run_stage(stage, source, out=out, data=data, settings=table, device=device, force=force)


@overload
def prune_channels(
    source: Source, *, out: PathLike, data: Data | None = None, ratio: float | None = None,
    macs_ratio: float | None = None, latency_ratio: float | None = None, latency_ms: float | None = None,
    controls: str | None = None, epochs: int | None = None, lr: float | None = None, batch: int | None = None,
    seconds: float | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result: ...  # fmt: skip
@overload
def prune_channels(
    source: "nn.Module", *, example: "Tensor", ratio: float | None = None, macs_ratio: float | None = None,
    **extra: Any,
) -> ModuleResult: ...  # fmt: skip
def prune_channels(
    source: "Source | nn.Module", *, out: PathLike = "", data: Data | None = None, ratio: float | None = None,
    macs_ratio: float | None = None, latency_ratio: float | None = None, latency_ms: float | None = None,
    controls: str | None = None, epochs: int | None = None, lr: float | None = None, batch: int | None = None,
    seconds: float | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result | ModuleResult:  # fmt: skip
    """Remove whole channels of all dependent layers, and train the smaller network.

    Pass exactly one target: `ratio`, `macs_ratio`, `latency_ratio` or `latency_ms`. The common arguments are described
    in `effxfer.api`.

    `source` may also be any `torch.nn.Module`, which is changed in place and not trained. Then pass `example`, an input
    `(B, ...)` whose shape and type matter but not its values, and `ratio` or `macs_ratio`. Other arguments are those of
    `effxfer.prune.channels.remove.remove_channels`.

    Args:
        ratio: Share of the channels to remove, in (0, 1).
        macs_ratio: Share of the multiply-adds to keep, in (0, 1).
        latency_ratio: Target p50 latency, as a share of the unpruned network's on this machine, in (0, 1).
        latency_ms: Target p50 latency in milliseconds for one image on this machine.
        controls: Control networks to train: `none`, `fast` or `full`; `none` if None.
        epochs: Maximum number of epochs; 5 if None.
        lr: Peak learning rate; 0.001 if None, for texts less (`fit.lr`).
        batch: Batch size; 64 if None.
        seconds: Time limit of the whole call; None for no limit.

    Returns:
        The model directory with the pruned and trained network. For a module: a `ModuleResult`.

    Raises:
        SettingsError: If an argument is wrong, the target cannot be reached, or `out` contains another result.
        ModelFileError: If the network cannot be traced.
        DataError: If the data cannot be used for training.
        GateError: If the measured latency misses the target, or the training diverges.

    Examples:
        >>> small = ex.prune_channels("runs/dense", out="runs/small", latency_ratio=0.5, epochs=5)
        >>> pruned = ex.prune_channels(module, example=torch.zeros(1, 3, 224, 224), macs_ratio=0.5)
        >>> pruned.kept_outputs
    """
    if is_module(source):
        targets = {"latency_ratio": latency_ratio, "latency_ms": latency_ms}
        return prune_module(source, **table_of(None, extra, ratio=ratio, macs_ratio=macs_ratio, **targets))
    table = table_of(
        settings, extra, seed=seed, ratio=ratio, macs_ratio=macs_ratio, latency_ratio=latency_ratio,
        latency_ms=latency_ms, controls=controls, fit__epochs=epochs, fit__lr=lr, options__batch=batch,
        seconds=seconds,
    )  # fmt: skip
    return run_stage("prune channels", source, out=out, data=data, settings=table, device=device, force=force)


@overload
def prune_to_latency(
    source: Source, *, out: PathLike, data: Data | None = None, ratio: float | None = None, ms: float | None = None,
    epochs: int | None = None, lr: float | None = None, batch: int | None = None, seconds: float | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result: ...  # fmt: skip
@overload
def prune_to_latency(
    source: "nn.Module", *, example: "Tensor", loss: "Callable[[Any], float]", ratio: float | None = None,
    ms: float | None = None, **extra: Any,
) -> ModuleResult: ...  # fmt: skip
def prune_to_latency(
    source: "Source | nn.Module", *, out: PathLike = "", data: Data | None = None, ratio: float | None = None,
    ms: float | None = None, epochs: int | None = None, lr: float | None = None, batch: int | None = None,
    seconds: float | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result | ModuleResult:  # fmt: skip
    """Remove channels and residual blocks until the exported file reaches a latency target, and train the network.

    Pass either `ratio` or `ms`. The common arguments are described in `effxfer.api`.

    `source` may also be any `torch.nn.Module`, which is changed in place and not trained. Then pass `example`, an input
    `(B, ...)`, and `loss`, a function from the module to its mean loss on some training examples. Other arguments are
    those of `effxfer.stages.prune.latency.prune_to_measured_latency`.

    Args:
        ratio: Target p50 latency, as a share of the unpruned network's on this machine, in (0, 1).
        ms: Target p50 latency in milliseconds for one image on this machine.
        epochs: Maximum number of epochs; 5 if None.
        lr: Peak learning rate; 0.001 if None, for texts less (`fit.lr`).
        batch: Batch size; 64 if None.
        seconds: Time limit of the whole call; None for no limit.

    Returns:
        The model directory with the pruned and trained network. For a module: a `ModuleResult`.

    Raises:
        SettingsError: If an argument is wrong, the target cannot be reached, or `out` contains another result.
        ModelFileError: If the network cannot be traced.
        GateError: If the measured latency misses the target, or the training diverges.

    Examples:
        >>> small = ex.prune_to_latency("runs/dense", out="runs/small", ratio=0.5)
        >>> pruned = ex.prune_to_latency(module, example=example, loss=loss, ms=4.0)
    """
    if is_module(source):
        return prune_module_to_latency(source, ratio=ratio, ms=ms, **extra)
    return prune_channels(
        source, out=out, data=data, latency_ratio=ratio, latency_ms=ms, epochs=epochs, lr=lr, batch=batch,
        seconds=seconds, seed=seed, device=device, force=force, settings=settings, **extra,
    )  # fmt: skip


@overload
def compact(
    source: Source, *, out: PathLike, data: Data | None = None, max_error: float | None = None,
    images: int | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result: ...  # fmt: skip
@overload
def compact(
    source: "nn.Module", *, example: "Tensor", max_error: float | None = None, **extra: Any,
) -> ModuleResult: ...  # fmt: skip
def compact(
    source: "Source | nn.Module", *, out: PathLike = "", data: Data | None = None, max_error: float | None = None,
    images: int | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result | ModuleResult:  # fmt: skip
    """Remove the channels, attention heads and hidden units whose weights a ticket removed.

    The common arguments are described in `effxfer.api`.

    `source` may also be any `torch.nn.Module` with zero weights, which is changed in place. Then pass `example`, an
    input `(B, ...)` whose shape and type matter but not its values. Other arguments are those of
    `effxfer.prune.compact.compact.compact`.

    Args:
        max_error: Largest allowed change of a logit, as a share of the largest logit; 0 if None: only units without
            any effect are removed.
        images: Number of training images on which the change is measured; 256 if None.

    Returns:
        The model directory with the smaller network. For a module: a `ModuleResult`.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        ModelFileError: If the network cannot be traced.
        GateError: If the outputs of the smaller network differ by more than the tolerance.

    Examples:
        >>> small = ex.compact("runs/ticket", out="runs/compact", max_error=0.01)
        >>> compacted = ex.compact(module, example=torch.zeros(1, 3, 224, 224))
    """
    if is_module(source):
        return compact_module(source, **table_of(None, extra, max_error=max_error))
    table = table_of(settings, extra, seed=seed, max_error=max_error, images=images)
    return run_stage("prune compact", source, out=out, data=data, settings=table, device=device, force=force)


def prune_vocabulary(
    source: Source, *, out: PathLike, data: Data | None = None, min_count: int | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result:  # fmt: skip
    """Keep the tokens that the training texts use, in the table of embeddings and in the tokenizer.

    Ushio et al., 2023 (https://arxiv.org/abs/2305.15020). The outputs for texts whose tokens all stay are equal to the
    bit, and any other text can still be written. It works before and after fine-tuning. The common arguments are
    described in `effxfer.api`.

    Args:
        min_count: Occurrences in the training texts from which on a token stays; 1 if None.

    Returns:
        The model directory with the smaller network and its `tokenizer.json`.

    Raises:
        SettingsError: If the network takes no texts, an argument is wrong, or `out` contains another result.
        ModelFileError: If the network or its tokenizer is of a kind whose tokens cannot be removed (E447).
        DataError: If the texts cannot be read.

    Examples:
        >>> small = ex.prune_vocabulary("runs/dense", out="runs/small")
    """
    table = table_of(settings, extra, seed=seed, min_count=min_count)
    return run_stage("prune vocabulary", source, out=out, data=data, settings=table, device=device, force=force)
