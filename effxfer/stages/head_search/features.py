"""What heads are searched on, computed once and mapped from the disk: averages of layers, and layers as they are.

Layers as they are take much room, so that they are kept as float16: its error of up to 0.05 % is far below what one
image differs from the next, and what is shipped is measured on the network itself. Averages stay float32.

Shape legend: N images of a split, D channels of a layer, h and w sides of its map.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from effxfer import progress
from effxfer.data.batches.augment import normalize
from effxfer.data.task import Split, Task
from effxfer.files import reserve, sha256, write_atomic, write_directory
from effxfer.net.heads.pools import as_maps
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.net.net import Net
from effxfer.net.taps import example_input, pool
from effxfer.search.features import Features
from effxfer.train.devices import Device
from effxfer.train.evaluate import evaluating

BATCH = 64
INDEX = "index.json"
LARGEST = float(np.finfo(np.float16).max)
SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of which layers.

    Attributes:
        taps: Layers.
        whole: By layer, the one whose output is kept as it is in its place; empty if none are.
        grid: See `effxfer.net.heads.pools.as_maps`.
        notes: What is not as it was asked for.
    """

    taps: tuple[str, ...]
    whole: Mapping[str, str] = field(default_factory=dict)
    grid: int = 0
    notes: tuple[str, ...] = ()


def plan(net: Net, taps: Sequence[str], images: int, *, grid: int, cache_mb: float) -> Kept:
    """Decide what to keep.

    Args:
        net: The network.
        taps: Layers.
        images: How many there are, in both splits.
        grid: The finest one.
        cache_mb: Megabytes for layers as they are; 0 keeps none.
    """
    if not cache_mb:
        return Kept(taps=tuple(taps))
    whole = with_positions(net, taps)
    if whole is None:
        return Kept(taps=tuple(taps), notes=("no head pools: not all of its layers have positions",))
    wanted, needed = grid, megabytes(net, whole, images, grid)
    while needed > cache_mb and grid > 1:
        grid //= 2
        needed = megabytes(net, whole, images, grid)
    if needed > cache_mb:
        note = f"no head pools: layers as they are take {needed:.0f} MB, more than cache_mb = {cache_mb:g}"
        return Kept(taps=tuple(taps), notes=(note,))
    note = f"grid is {grid}, not {wanted}, so that layers as they are fit into cache_mb = {cache_mb:g}"
    return Kept(taps=tuple(taps), whole=whole, grid=grid, notes=() if grid == wanted else (note,))


@torch.no_grad()
def with_positions(net: Net, taps: Sequence[str]) -> dict[str, str] | None:
    """Name, for each layer, one that has positions: itself, or for the body's pooled output the last that has them."""
    found = dict[str, str]()
    seen = _shapes(net)
    last = next((name for name in reversed(seen) if name and _positions(seen[name]) > 1), None)
    for tap in taps:
        own = seen["" if tap == "out" else tap]
        name = tap if _positions(own) > 1 else last if tap == "out" else None
        if name is None:
            return None
        found[tap] = name
    return found


@torch.no_grad()
def megabytes(net: Net, whole: Mapping[str, str], images: int, grid: int) -> float:
    """How many megabytes layers as they are take."""
    with as_evaluated(net):
        found = net.outputs(example_input(net), list(dict.fromkeys(whole.values())))
    numbers = sum(prod(_kept(found[name], grid).shape[1:]) for name in whole.values())
    return 2 * numbers * images / 1e6


def computed(net: Net, task: Task, kept: Kept, folder: Path, device: Device) -> Features:
    """Compute what is kept of the training and the validation split, or find it in `folder`.

    What is there and not what was written is computed again.

    Raises:
        ResourceError: If the disk is full.
    """
    if not _whole(folder, kept):
        with write_directory(folder) as scratch, evaluating(net):
            total = sum(len(split) for split in splits(task).values())
            with progress.bar("features", total) as advance:
                for name, split in splits(task).items():
                    _compute(net, split, kept, scratch / name, device, advance)
            write_atomic(scratch / INDEX, json.dumps(_index(kept) | {"digests": _digests(scratch)}))
    return Features(
        train=_mapped(folder / "train", "mean", kept.taps),
        val=_mapped(folder / "val", "mean", kept.taps),
        labels=np.ascontiguousarray(task.train.labels, dtype=np.int64),
        val_labels=np.ascontiguousarray(task.val.labels, dtype=np.int64),
        classes=len(task.classes),
        train_maps=_mapped(folder / "train", "whole", tuple(kept.whole)),
        val_maps=_mapped(folder / "val", "whole", tuple(kept.whole)),
    )


def _index(kept: Kept) -> dict[str, Any]:
    return {"taps": list(kept.taps), "whole": dict(kept.whole), "grid": kept.grid}


def _digests(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.glob("*/*.npy"))}


def _whole(folder: Path, kept: Kept) -> bool:
    """Whether a folder holds what is kept, as it was written."""
    if not folder.exists():
        return False
    try:
        if json.loads((folder / INDEX).read_bytes()) == _index(kept) | {"digests": _digests(folder)}:
            return True
    except (OSError, ValueError, RecursionError):
        pass
    progress.remark(f"{folder} is damaged: features are computed again")
    return False


def splits(task: Task) -> dict[str, Split]:
    """The splits that a search may see."""
    return {"train": task.train, "val": task.val}


def _compute(net: Net, split: Split, kept: Kept, folder: Path, device: Device, advance: progress.Advance) -> None:
    folder.mkdir()
    files = dict[str, Any]()
    names = list(dict.fromkeys([*kept.taps, *kept.whole.values()]))
    with ExitStack() as stack:
        for start in range(0, len(split), BATCH):
            chunk = torch.tensor(split.pixels[start : start + BATCH]).to(device.torch)
            found = net.outputs(normalize(chunk, net.preprocess), names)
            for file, values in _parts(found, kept):
                if file not in files:
                    shape = (len(split), *values.shape[1:])
                    files[file] = open_memmap(folder / file, mode="w+", dtype=values.dtype, shape=shape)
                    with (folder / file).open("r+b") as stream:
                        reserve(stream, files[file].offset + files[file].nbytes)
                    stack.callback(files[file].flush)
                files[file][start : start + len(values)] = values
            advance(len(chunk), "")


def _parts(found: Mapping[str, Tensor], kept: Kept) -> list[tuple[str, np.ndarray[Any, Any]]]:
    means = [pool(found[tap]).float().cpu().numpy() for tap in kept.taps]
    whole = [_kept(found[name], kept.grid).clamp(-LARGEST, LARGEST) for name in kept.whole.values()]
    return [(f"mean-{k}.npy", values) for k, values in enumerate(means)] + [
        (f"whole-{k}.npy", values.half().cpu().numpy()) for k, values in enumerate(whole)
    ]


def _kept(output: Tensor, grid: int) -> Tensor:
    return as_maps(output, grid) if output.dim() == 4 else output


def _mapped(folder: Path, kind: str, taps: tuple[str, ...]) -> dict[str, Any]:
    return {tap: np.load(folder / f"{kind}-{k}.npy", mmap_mode="r", allow_pickle=False) for k, tap in enumerate(taps)}


def _positions(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 3 else prod(shape[2:]) if len(shape) == 4 else 1


@torch.no_grad()
def _shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """The shapes that the body's modules give, in the order in which they are done; the body is the empty name."""
    found = dict[str, tuple[int, ...]]()

    def note(name: str) -> Any:
        def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.pop(name, None)
                found[name] = tuple(output.shape)

        return see

    handles = [module.register_forward_hook(note(name)) for name, module in net.body.named_modules()]
    with as_evaluated(net), hooks(handles):
        net.body(example_input(net))
    return found


def deepest(net: Net, taps: Sequence[str]) -> str:
    """Name the layer that is done last; `out` is later than any other."""
    order = list(_shapes(net))
    return max(taps, key=lambda tap: len(order) if tap == "out" else order.index(tap))
