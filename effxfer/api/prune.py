"""Functions that prune: lottery tickets, channels, a latency target, and smaller layers for a ticket.

`help(effxfer.api)` describes the arguments that all of them take.
"""

from collections.abc import Mapping
from typing import Any

from effxfer.api.job import run_stage
from effxfer.api.result import Result
from effxfer.api.sources import Data, PathLike, Source, table_of
from effxfer.stages import stage_of


def find_ticket(
    source: Source, *, out: PathLike, data: Data | None = None, method: str = "lottery", sparsity: float | None = None,
    ratio: float | None = None, rounds: int | None = None, controls: str | None = None, epochs: int | None = None,
    lr: float | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Find a lottery ticket by pruning in rounds with rewinding (arXiv:1803.03635), or by gradual pruning.

    Args:
        method: `lottery`, `gradual` or `structured` (whole channels).
        sparsity: Share of the prunable weights to remove, in (0, 1); for `lottery` and `gradual`.
        ratio: Share of the channels to remove, in (0, 1); for `structured`.
        rounds: Pruning rounds; 3 if None.
        controls: Control networks to train: `none`, `fast` or `full`; `none` if None.
        epochs: Passes over the training split per round (3 if None), or in all for `gradual` (5 if None).
        lr: Peak learning rate; 0.001 if None.
    """
    table = table_of(
        settings, extra, seed=seed, sparsity=sparsity, ratio=ratio, rounds=rounds, controls=controls,
        fit__epochs=epochs, fit__lr=lr,
    )  # fmt: skip
    stage = stage_of({"run": "prune", "method": method})
    return run_stage(stage, source, out=out, data=data, settings=table, device=device, force=force)


def prune_channels(
    source: Source, *, out: PathLike, data: Data | None = None, ratio: float | None = None,
    macs_ratio: float | None = None, latency_ratio: float | None = None, latency_ms: float | None = None,
    controls: str | None = None, epochs: int | None = None, lr: float | None = None, batch: int | None = None,
    seconds: float | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Remove whole channels along the dependency graph, and train the smaller network; pass exactly one target.

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
    table = table_of(
        settings, extra, seed=seed, ratio=ratio, macs_ratio=macs_ratio, latency_ratio=latency_ratio,
        latency_ms=latency_ms, controls=controls, fit__epochs=epochs, fit__lr=lr, options__batch=batch,
        seconds=seconds,
    )  # fmt: skip
    return run_stage("prune channels", source, out=out, data=data, settings=table, device=device, force=force)


def prune_to_latency(
    source: Source, *, out: PathLike, data: Data | None = None, ratio: float | None = None, ms: float | None = None,
    epochs: int | None = None, lr: float | None = None, batch: int | None = None, seconds: float | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result:  # fmt: skip
    """Remove channels and residual blocks until the exported file is fast enough; pass `ratio` or `ms`.

    Args:
        ratio: Share of the unpruned network's p50 to reach, measured on this machine, in (0, 1).
        ms: The p50 to reach in milliseconds for one image, measured on this machine.
        epochs: Passes over the training split at most; 5 if None.
        lr: Peak learning rate; 0.001 if None.
        batch: Images per step; 64 if None.
        seconds: Time for the whole stage; None is no limit.
    """
    return prune_channels(
        source, out=out, data=data, latency_ratio=ratio, latency_ms=ms, epochs=epochs, lr=lr, batch=batch,
        seconds=seconds, seed=seed, device=device, force=force, settings=settings, **extra,
    )  # fmt: skip


def compact(
    source: Source, *, out: PathLike, data: Data | None = None, max_error: float | None = None,
    images: int | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Remove the channels, attention heads and hidden units that a ticket left without weights.

    Args:
        max_error: Largest change of a logit, as a share of the largest logit; 0 if None: only what changes
            nothing leaves.
        images: Training images that the change is measured on; 256 if None.
    """
    table = table_of(settings, extra, seed=seed, max_error=max_error, images=images)
    return run_stage("prune compact", source, out=out, data=data, settings=table, device=device, force=force)
