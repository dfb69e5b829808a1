"""Functions that prune: lottery tickets, channels, a latency target, and smaller layers for a ticket.

`help(effxfer.api)` describes the arguments that all of them take.
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
    """Find a lottery ticket by pruning in rounds with rewinding (arXiv:1803.03635), or by gradual pruning.

    A module is changed in place; `train(module, mask, round)` trains it, keeps removed weights at zero by
    `mask.apply_(module)`, and returns a score.

    Args:
        method: `lottery`, `gradual` or `structured` (whole channels).
        sparsity: Share of the prunable weights to remove, in (0, 1); for `lottery` and `gradual`.
        ratio: Share of the channels to remove, in (0, 1); for `structured`.
        rounds: Pruning rounds; 3 if None.
        controls: Control networks to train: `none`, `fast` or `full`; `none` if None.
        epochs: Passes over the training split per round (3 if None), or in all for `gradual` (5 if None).
        lr: Peak learning rate; 0.001 if None.
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
    """Remove whole channels along the dependency graph, and train the smaller network; pass exactly one target.

    A module is changed in place and not trained; only the shape and type of `example` matter.

    Args:
        ratio: Share of the channels to remove, in (0, 1).
        macs_ratio: Share of the multiply-adds to keep, in (0, 1).
        latency_ratio: Share of the unpruned network's p50 to reach, measured on this machine, in (0, 1).
        latency_ms: The p50 to reach in milliseconds for one image, measured on this machine.
        controls: Control networks to train: `none`, `fast` or `full`; `none` if None.
        epochs: Passes over the training split at most; 5 if None.
        lr: Peak learning rate; 0.001 if None.
        batch: Images per step; 64 if None.
        seconds: Time for the whole stage; None is no limit.
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
    """Remove channels and residual blocks until the exported file is fast enough; pass `ratio` or `ms`.

    A module is changed in place and not trained; `loss(module)` returns its mean loss on some training examples.

    Args:
        ratio: Share of the unpruned network's p50 to reach, measured on this machine, in (0, 1).
        ms: The p50 to reach in milliseconds for one image, measured on this machine.
        epochs: Passes over the training split at most; 5 if None.
        lr: Peak learning rate; 0.001 if None.
        batch: Images per step; 64 if None.
        seconds: Time for the whole stage; None is no limit.
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
    """Remove the channels, attention heads and hidden units that a ticket left without weights.

    A module is changed in place; only the shape and type of `example` matter.

    Args:
        max_error: Largest change of a logit, as a share of the largest logit; 0 if None: only what changes
            nothing leaves.
        images: Training images that the change is measured on; 256 if None.
    """
    if is_module(source):
        return compact_module(source, **table_of(None, extra, max_error=max_error))
    table = table_of(settings, extra, seed=seed, max_error=max_error, images=images)
    return run_stage("prune compact", source, out=out, data=data, settings=table, device=device, force=force)
