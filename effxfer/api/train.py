"""Functions that train: fine-tuning, competitions, shrinking, learning curves, quantization-aware training, heads.

`help(effxfer.api)` describes the arguments that they have in common.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from effxfer.api.job import run_stage
from effxfer.api.result import Result
from effxfer.api.sources import Data, PathLike, Source, data_table, table_of


def finetune(
    source: Source, *, out: PathLike, data: Data | Sequence[Data] | None = None, strategy: str | None = None,
    epochs: int | None = None, lr: float | None = None, batch: int | None = None, seconds: float | None = None,
    size: int | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Fine-tune a pretrained network on labelled images.

    The common arguments are described in `effxfer.api`.

    Args:
        strategy: Transfer strategy, a key of `effxfer.transfer.STRATEGIES`; `full` if None.
        epochs: Maximum number of epochs; 10 if None.
        lr: Peak learning rate; 0.001 if None, for texts less (`fit.lr`).
        batch: Batch size; 64 if None.
        seconds: Time limit of the whole call, to which the training is shortened; None for no limit.
        size: Side of the input images in pixels; None for the network's current input size.

    Returns:
        The model directory with the fine-tuned network, its accuracy and its training curves.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the data cannot be used for training.
        GateError: If the training diverges.

    Examples:
        >>> dense = ex.finetune("timm:mobilenetv2_100", data="photos", out="runs/dense", epochs=6, lr=0.001)
        >>> dense.accuracy
        >>> lora = ex.finetune("timm:vit_tiny_patch16_224", data="photos", out="runs/lora", strategy="lora")
    """
    table = table_of(
        settings, extra, seed=seed, strategy=strategy, fit__epochs=epochs, fit__lr=lr, options__batch=batch,
        seconds=seconds, size=size,
    )  # fmt: skip
    return run_stage("finetune", source, out=out, data=data, settings=table, device=device, force=force)


def compete(
    source: Source, *, out: PathLike, data: Data | Sequence[Data] | None = None, seconds: float | None = None,
    backbones: Sequence[str] | None = None, candidates: Mapping[str, Mapping[str, Any]] | None = None,
    epochs: int | None = None, lr: float | None = None, latency_penalty: float | None = None, seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Train all combinations of recipes and backbones briefly, and the better ones longer (successive halving).

    The common arguments are described in `effxfer.api`.

    Args:
        seconds: Time limit of the whole call; None for no limit.
        backbones: Sources of additional backbones.
        candidates: Recipes by name, each a dictionary of settings of `finetune`; six built-in recipes if None. If their
            strategies learn tasks in time, such as `replay`, `data` are the tasks in order, and two controls take part.
        epochs: Maximum number of epochs of the last round; 10 if None.
        lr: Peak learning rate; 0.001 if None, for texts less (`fit.lr`).
        latency_penalty: Points of validation accuracy to subtract for each doubling of the latency; 0 if None.

    Returns:
        The model directory with the winner's network; the report contains a leaderboard.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the data cannot be used for training.
        GateError: If all candidates diverge, or the winner's last training does.

    Examples:
        >>> best = ex.compete("timm:resnet18", data="photos", out="runs/best", seconds=600,
        ...                   backbones=["timm:mobilenetv2_100"], latency_penalty=1)
        >>> print(best.report.tables[0])
    """
    table = table_of(
        settings, extra, seed=seed, seconds=seconds, backbones=backbones, candidates=candidates,
        fit__epochs=epochs, fit__lr=lr, latency_penalty=latency_penalty,
    )  # fmt: skip
    return run_stage("compete", source, out=out, data=data, settings=table, device=device, force=force)


def shrink(
    source: Source, *, out: PathLike, data: Data | None = None, latency_ratio: float | None = None,
    latency_ms: float | None = None, max_drop: float | None = None, backbones: Sequence[str] | None = None,
    precision: str | None = None, runtime: str | None = None, epochs: int | None = None, lr: float | None = None,
    seconds: float | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result:  # fmt: skip
    """Make a trained network fast by whatever is best: all ways that meet one latency compete.

    Channels, blocks, smaller images, earlier exits and other backbones are trained briefly, with the network as their
    teacher, and the better ones longer. They are compared as they ship. Pass exactly one of `latency_ratio`,
    `latency_ms` and `max_drop`. The common arguments are described in `effxfer.api`.

    Args:
        latency_ratio: Largest p50 of the file that ships, as a share of the float32 file's of `source`, in (0, 1).
        latency_ms: Largest p50 in milliseconds for one image on this machine.
        max_drop: Find the lowest latency that loses at most this many points of validation accuracy.
        backbones: Sources of other backbones to try.
        precision: `float32`, `int8` or `auto`; `auto` if None: int8 if it is faster on this machine.
        runtime: What runs the file on the device, `onnxruntime` or `openvino`; `onnxruntime` if None.
        epochs: Maximum number of epochs of the winner; 9 if None.
        lr: Peak learning rate; 0.001 if None.
        seconds: Time limit of the whole call; None for no limit.

    Returns:
        The model directory with the winner's network; the report contains a table and a plot of all candidates.

    Raises:
        SettingsError: If an argument is wrong, the network is not trained for the data or takes no images, or the
            latency is above the present one.
        ModelFileError: If the weights of a backbone do not fit, or the network cannot be exported.
        DataError: If the data cannot be used for training.
        GateError: If no candidate reaches the latency or holds `max_drop` (E604); names the nearest.

    Examples:
        >>> small = ex.shrink("runs/dense", out="runs/small", latency_ratio=0.3,
        ...                   backbones=["timm:efficientnet_lite0"])
        >>> print(small.report.tables[0])
        >>> fast = ex.shrink("runs/dense", out="runs/fast", max_drop=1.0)
    """
    table = table_of(
        settings, extra, seed=seed, latency_ratio=latency_ratio, latency_ms=latency_ms, max_drop=max_drop,
        backbones=backbones, precision=precision, runtime=runtime, fit__epochs=epochs, fit__lr=lr, seconds=seconds,
    )  # fmt: skip
    return run_stage("shrink", source, out=out, data=data, settings=table, device=device, force=force)


def continual(
    source: Source, *, out: PathLike, data: Data | Sequence[Data] | None = None, strategy: str | None = None,
    memory: int | None = None, controls: str | None = None, epochs: int | None = None, lr: float | None = None,
    batch: int | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Learn tasks one after another, and report what is forgotten.

    The common arguments are described in `effxfer.api`.

    Args:
        data: The data of each task, in order of time, or a pattern of folders such as `photos/2026-*`. Tasks that the
            network has learned are measured, not learned again.
        strategy: A continual strategy: `replay` if None, `der`, `ewc`, `gdumb`, `icarl`, `lwf`, `nearest_mean` or `si`.
        memory: Most examples of all tasks that the network keeps; 1,000 if None. Not for all strategies.
        controls: `full` trains the naive and the joint control, `fast` only the nearest mean, `none` nothing.
        epochs: Maximum number of epochs of each task; 10 if None.
        lr: Peak learning rate; 0.001 if None, for texts less (`fit.lr`).
        batch: Batch size; 64 if None.

    Returns:
        The model directory with the network and its memory. From it, the same call learns the next task.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the data cannot be used for training, or classes do not fit those of earlier tasks.
        GateError: If a training diverges.

    Examples:
        >>> march = ex.continual("timm:resnet18", data=["photos/02", "photos/03"], out="runs/march", memory=500)
        >>> april = ex.continual(march, data="photos/04", out="runs/april", memory=500)
        >>> print(april.report.tables[0])
    """
    table = table_of(
        settings, extra, seed=seed, strategy=strategy, options__memory=memory, controls=controls, fit__epochs=epochs,
        fit__lr=lr, options__batch=batch,
    )  # fmt: skip
    return run_stage("continual", source, out=out, data=data, settings=table, device=device, force=force)


def learning_curve(
    source: Source, *, out: PathLike, data: Data | None = None, labels: Sequence[int] | None = None,
    repeats: int | None = None, strategy: str | None = None, epochs: int | None = None, lr: float | None = None,
    seed: int | None = None, device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None,
    **extra: Any,
) -> Result:  # fmt: skip
    """Measure accuracy against the number of labels per class, and against the number of epochs.

    The common arguments are described in `effxfer.api`.

    Args:
        labels: Numbers of training images per class, in ascending order; (1, 2, 5, 10, 20) if None. A last training
            uses all images.
        repeats: Training runs for each number; 3 if None.
        strategy: Transfer strategy, a key of `effxfer.transfer.STRATEGIES`; `full` if None.
        epochs: Maximum number of epochs; 10 if None.
        lr: Peak learning rate; 0.001 if None, for texts less (`fit.lr`).

    Returns:
        The model directory with the network trained on all images; the report contains the curves.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the data cannot be used for training.
        GateError: If a training diverges.

    Examples:
        >>> curve = ex.learning_curve("timm:resnet18", data="photos", out="runs/curve", labels=[5, 10, 20])
        >>> print(curve.report.tables[0])
    """
    table = table_of(
        settings, extra, seed=seed, labels=labels, repeats=repeats, strategy=strategy, fit__epochs=epochs,
        fit__lr=lr,
    )  # fmt: skip
    return run_stage("curve", source, out=out, data=data, settings=table, device=device, force=force)


def clip(
    source: Source, *, out: PathLike, data: Data | None = None, text: str | None = None,
    prompts: Sequence[str] | None = None, towers: str | None = None, epochs: int | None = None,
    lr: float | None = None, batch: int | None = None, seed: int | None = None, device: str = "auto",
    force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Train a dual encoder of images and captions: classes and images are then found by texts alone.

    The common arguments are described in `effxfer.api`.

    Args:
        data: A table with a column of images and one of captions, `{"source": "pairs.csv", "caption_column":
            "caption"}`, with or without labels; or class folders, whose names in prompts are the captions.
        text: Text tower: `hf:FOLDER`, a bundled encoder or a model directory; if None the one that the network has, or
            `text-small`.
        prompts: Texts with `{}` where the name of a class goes; `a photo of a {}` if None.
        towers: Towers to train beside their projections: `none`, `image`, `text` or `both`; `none` if None.
        epochs: Maximum number of epochs; 30 if None.
        lr: Peak learning rate; if None, 0.001 for frozen towers, else 0.0003.
        batch: Pairs per step; 256 if None.

    Returns:
        The model directory of the network of images, with its text tower in the folder `text`. The report has recall in
        both directions, accuracy among class names, and what mixed-up captions give.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the data cannot be used for training.
        GateError: If the training diverges.

    Examples:
        >>> pairs = {"source": "pairs.csv", "caption_column": "caption"}
        >>> both = ex.clip("timm:resnet18", data=pairs, out="runs/clip", text="hf:weights/minilm")
    """
    table = table_of(
        settings, extra, seed=seed, text=text, prompts=prompts, towers=towers, fit__epochs=epochs, fit__lr=lr,
        batch=batch,
    )  # fmt: skip
    return run_stage("clip", source, out=out, data=data, settings=table, device=device, force=force)


def pretrain(
    source: Source, *, out: PathLike, data: Data | None = None, strategy: str | None = None,
    epochs: int | None = None, lr: float | None = None, batch: int | None = None, seconds: float | None = None,
    size: int | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Train a network on images or texts without labels, as a backbone for later stages.

    The common arguments are described in `effxfer.api`. The source `effxfer.net.text.encoder:Encoder` is a new encoder,
    with a tokenizer that is trained on the texts.

    Args:
        data: A folder of images at any depth, a file with a text in each line, or other images or texts; labels are not
            used. `labels` of a dictionary says what labels they have, and is `none` without it.
        strategy: A key of `effxfer.transfer.SELF_SUPERVISED`; if None, `mlm` for texts and `vicreg` for images.
        epochs: Maximum number of epochs; if None, 4 for texts and 20 for images.
        lr: Peak learning rate; if None, 0.0005 for texts, and that of the strategy for images.
        batch: Batch size; 64 if None.
        seconds: Time limit of the whole call, to which the training is shortened; None for no limit.
        size: Most tokens of a text, or side of images in pixels; None for the network's present one.

    Returns:
        The model directory. Of texts, the report has accuracy and perplexity at hidden tokens; of images the effective
        rank of the features and, where folders name classes, the accuracy of neighbours and of a linear probe.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the data cannot be used for training.
        GateError: If the training diverges, or the features of images collapse.

    Examples:
        >>> own = ex.pretrain("timm:mobilenetv2_100", data="photos/unsorted", out="runs/own", strategy="vicreg")
        >>> own = ex.pretrain("hf:weights/minilm", data="tickets.txt", out="runs/own", epochs=2)
        >>> ex.finetune(own, data="labelled.csv", out="runs/dense")
    """
    table = table_of(
        settings, extra, seed=seed, strategy=strategy, fit__epochs=epochs, fit__lr=lr, options__batch=batch,
        seconds=seconds, size=size,
    )  # fmt: skip
    unlabelled = None if data is None else {"labels": "none", **data_table(data, {})}
    return run_stage("pretrain", source, out=out, data=unlabelled, settings=table, device=device, force=force)


def qat(
    source: Source, *, out: PathLike, data: Data | None = None, bits: int | None = None, epochs: int | None = None,
    lr: float | None = None, batch: int | None = None, seed: int | None = None, device: str = "auto",
    force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Fine-tune with weights and activations rounded to int8 (quantization-aware training).

    The common arguments are described in `effxfer.api`.

    Args:
        bits: Bits per weight, 2 to 8; 7 if None, which avoids saturation on CPUs without VNNI.
        epochs: Maximum number of epochs; 3 if None.
        lr: Peak learning rate; 0.0001 if None.
        batch: Batch size; 64 if None.

    Returns:
        The model directory with a plain float network; `export` or `quantize` makes the int8 file.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If the classes of data and network differ.
        GateError: If the training diverges.

    Examples:
        >>> robust = ex.qat("runs/dense", out="runs/qat", epochs=3)
        >>> int8 = ex.quantize(robust, out="runs/int8")
    """
    table = table_of(settings, extra, seed=seed, bits=bits, fit__epochs=epochs, fit__lr=lr, options__batch=batch)
    return run_stage("qat", source, out=out, data=data, settings=table, device=device, force=force)


def search_head(
    source: Source, *, out: PathLike, data: Data | None = None, trials: int | None = None,
    seconds: float | None = None, workers: int | None = None, storage: str | None = None, seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Search for a better head with Optuna, on cached features of the frozen body.

    The common arguments are described in `effxfer.api`.

    Args:
        trials: Number of heads to try for each task; 40 if None, or as many as fit into `seconds`.
        seconds: Time limit of the whole call; None for no limit.
        workers: Number of parallel processes; 1 if None.
        storage: Database of trials that several machines share, `postgresql://...` or `journal:PATH`; None for a
            search of this call alone.

    Returns:
        The model directory with the network. A head that it already had for these classes is only replaced by a better
        one. Each of several tasks has a head of its own.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        DataError: If a class has too few images for cross-validation.
        ResourceError: If the database does not answer.

    Examples:
        >>> searched = ex.search_head("timm:resnet18", data="photos", out="runs/head", trials=40, workers=2)
        >>> searched.accuracy
    """
    table = table_of(settings, extra, seed=seed, trials=trials, seconds=seconds, workers=workers, storage=storage)
    return run_stage("search", source, out=out, data=data, settings=table, device=device, force=force)
