"""Functions that train: fine-tuning, competitions, learning curves, quantization-aware training, heads.

`help(effxfer.api)` describes the arguments that all of them take.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from effxfer.api.job import run_stage
from effxfer.api.result import Result
from effxfer.api.sources import Data, PathLike, Source, table_of


def finetune(
    source: Source, *, out: PathLike, data: Data | None = None, strategy: str | None = None,
    epochs: int | None = None, lr: float | None = None, batch: int | None = None, seconds: float | None = None,
    size: int | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Adapt a pretrained network to labelled images.

    Args:
        strategy: A key of `effxfer.transfer.STRATEGIES`; `full` if None.
        epochs: Passes over the training split at most; 10 if None.
        lr: Peak learning rate; 0.001 if None.
        batch: Images per step; 64 if None.
        seconds: Time for the whole stage; None is no limit.
        size: Side of the images in pixels; None leaves it.
    """
    table = table_of(
        settings, extra, seed=seed, strategy=strategy, fit__epochs=epochs, fit__lr=lr, options__batch=batch,
        seconds=seconds, size=size,
    )  # fmt: skip
    return run_stage("finetune", source, out=out, data=data, settings=table, device=device, force=force)


def compete(
    source: Source, *, out: PathLike, data: Data | None = None, seconds: float | None = None,
    backbones: Sequence[str] | None = None, candidates: Mapping[str, Mapping[str, Any]] | None = None,
    epochs: int | None = None, lr: float | None = None, latency_penalty: float | None = None, seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Train recipes and backbones a little and the better ones longer; keep the best network.

    Args:
        seconds: Time for the whole stage; None is no limit.
        backbones: Other backbones to try every recipe on.
        candidates: Recipes by name, each a table of changed settings; six recipes if None.
        epochs: Passes over the training split at most; 10 if None.
        lr: Peak learning rate; 0.001 if None.
        latency_penalty: Points of validation accuracy that twice the speed is worth; 0 if None.
    """
    table = table_of(
        settings, extra, seed=seed, seconds=seconds, backbones=backbones, candidates=candidates,
        fit__epochs=epochs, fit__lr=lr, latency_penalty=latency_penalty,
    )  # fmt: skip
    return run_stage("compete", source, out=out, data=data, settings=table, device=device, force=force)


def learning_curve(
    source: Source, *, out: PathLike, data: Data | None = None, labels: Sequence[int] | None = None,
    repeats: int | None = None, strategy: str | None = None, epochs: int | None = None, lr: float | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result:  # fmt: skip
    """Measure how quickly a network adapts: accuracy by labels per class and by epochs.

    Args:
        labels: Training images per class, ascending; 1, 2, 5, 10 and 20 if None. All images come last.
        repeats: Trainings for each number; 3 if None.
        strategy: A key of `effxfer.transfer.STRATEGIES`; `full` if None.
        epochs: Passes over the training split at most; 10 if None.
        lr: Peak learning rate; 0.001 if None.
    """
    table = table_of(
        settings, extra, seed=seed, labels=labels, repeats=repeats, strategy=strategy, fit__epochs=epochs,
        fit__lr=lr,
    )  # fmt: skip
    return run_stage("curve", source, out=out, data=data, settings=table, device=device, force=force)


def qat(
    source: Source, *, out: PathLike, data: Data | None = None, bits: int | None = None, epochs: int | None = None,
    lr: float | None = None, batch: int | None = None, seed: int | None = None, device: str = "auto",
    force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Fine-tune with weights and activations rounded to int8 (quantization-aware training).

    Args:
        bits: Bits of weights, 2 to 8; 7 if None, which suits CPUs without VNNI.
        epochs: Passes over the training split at most; 3 if None.
        lr: Peak learning rate; 0.0001 if None.
        batch: Images per step; 64 if None.
    """
    table = table_of(settings, extra, seed=seed, bits=bits, fit__epochs=epochs, fit__lr=lr, options__batch=batch)
    return run_stage("qat", source, out=out, data=data, settings=table, device=device, force=force)


def search_head(
    source: Source, *, out: PathLike, data: Data | None = None, trials: int | None = None,
    seconds: float | None = None, workers: int | None = None, storage: str | None = None, seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Search the head with Optuna on features of the frozen body, which are computed once.

    Args:
        trials: Heads to try; 40 if None, or as many as fit into `seconds`.
        seconds: Time for the whole stage; None is no limit.
        workers: Processes that try heads side by side; 1 if None.
        storage: Where several machines share trials: `postgresql://...` or `journal:PATH`.
    """
    table = table_of(settings, extra, seed=seed, trials=trials, seconds=seconds, workers=workers, storage=storage)
    return run_stage("search", source, out=out, data=data, settings=table, device=device, force=force)
