"""Features for the head search, computed once and memory-mapped: averages of layers, and maps for heads that pool.

Maps are large, so they are stored as float16. Its error of up to 0.05 % is far below the difference between two images,
and the selected head is evaluated on the network itself. Averages are stored as float32.

Shape legend: N examples of a split, D channels of a layer, h and w sides of its map.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from effxfer import progress
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Split, Task
from effxfer.files import reserve, sha256, write_atomic, write_directory
from effxfer.net.heads.pools import as_maps
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.net.net import Net
from effxfer.net.taps import example_input
from effxfer.search.features import Features
from effxfer.search.inputs import Matrices
from effxfer.stages.head_search.searched_tasks import SearchedTask
from effxfer.train.devices import Device
from effxfer.train.evaluate import evaluation_batches, evaluation_mode

# Chosen, not measured: below evaluation's 256, as whole maps of several layers are held at once.
BATCH = 64
INDEX = "index.json"
# Beyond it float16 is infinite, and one infinite feature makes every head's loss so.
LARGEST = float(np.finfo(np.float16).max)
SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class FeaturePlan:
    """The layers to store features of.

    Attributes:
        taps: Layers whose averages are stored.
        maps: By tap, the layer whose map is stored for heads that pool; empty if no maps are stored.
        grid: Largest side of a stored map, see `effxfer.net.heads.pools.as_maps`.
        notes: Deviations from the settings, one sentence each.
    """

    taps: tuple[str, ...]
    maps: Mapping[str, str] = field(default_factory=dict)
    grid: int = 0
    notes: tuple[str, ...] = ()


def plan_features(net: Net, taps: Sequence[str], images: int, *, grid: int, cache_mb: float) -> FeaturePlan:
    """Choose which layers to store, and the grid of their maps.

    Args:
        net: The network.
        taps: Layers to store.
        images: Number of examples in the training and validation split.
        grid: Largest grid; it is halved until the maps fit.
        cache_mb: Megabytes for maps; 0 stores none.
    """
    if not cache_mb:
        return FeaturePlan(taps=tuple(taps))
    if net.input.kind == "text":
        return FeaturePlan(taps=tuple(taps), notes=("no head pools positions: of texts, it would see padding",))
    maps = position_sources(net, taps)
    if maps is None:
        return FeaturePlan(taps=tuple(taps), notes=("no head pools: not all of its layers have positions",))
    requested, needed = grid, megabytes(net, maps, images, grid)
    # Halved: a quarter of the room each time, in few steps.
    while needed > cache_mb and grid > 1:
        grid //= 2
        needed = megabytes(net, maps, images, grid)
    if needed > cache_mb:
        note = f"no head pools: layers as they are take {needed:.0f} MB, more than cache_mb = {cache_mb:g}"
        return FeaturePlan(taps=tuple(taps), notes=(note,))
    note = f"grid is {grid}, not {requested}, so that layers as they are fit into cache_mb = {cache_mb:g}"
    return FeaturePlan(taps=tuple(taps), maps=maps, grid=grid, notes=() if grid == requested else (note,))


@torch.no_grad()
def position_sources(net: Net, taps: Sequence[str]) -> dict[str, str] | None:
    """Map each tap to a layer with positions: itself, or for the body's pooled output the last such layer."""
    sources = dict[str, str]()
    shapes = _shapes(net)
    last = next((name for name in reversed(shapes) if name and _positions(shapes[name]) > 1), None)
    for tap in taps:
        shape = shapes["" if tap == "out" else tap]
        name = tap if _positions(shape) > 1 else last if tap == "out" else None
        if name is None:
            return None
        sources[tap] = name
    return sources


@torch.no_grad()
def megabytes(net: Net, maps: Mapping[str, str], images: int, grid: int) -> float:
    """Return the size of the stored maps in megabytes."""
    with as_evaluated(net):
        outputs = net.outputs(example_input(net), list(dict.fromkeys(maps.values())))
    numbers = sum(prod(_pooled_map(outputs[name], grid).shape[1:]) for name in maps.values())
    # float16: 2 bytes.
    return 2 * numbers * images / 1e6


class FeatureArrays(NamedTuple):
    """Features of two splits, which serve every task of a network.

    Attributes:
        train: float32 `(N, D)` of each layer.
        val: The same of the validation split.
        train_maps: The layers as they are, float16; empty if none are stored.
        val_maps: The same of the validation split.
    """

    train: Matrices
    val: Matrices
    train_maps: Matrices
    val_maps: Matrices

    def label(self, task: SearchedTask) -> Features:
        """Return what the heads of a task are trained and judged on."""
        return Features(
            **self._asdict(), labels=np.ascontiguousarray(task.train), val_labels=np.ascontiguousarray(task.val),
            output=task.output,
        )  # fmt: skip


def compute_features(net: Net, task: Task, plan: FeaturePlan, folder: Path, device: Device) -> FeatureArrays:
    """Compute the features of the training and validation split, or read them from `folder`.

    The features of a damaged folder are computed again.

    Raises:
        ResourceError: If the disk is full.
    """
    if not _is_intact(folder, plan):
        with write_directory(folder) as scratch, evaluation_mode(net):
            total = sum(len(split) for split in splits(task).values())
            with progress.bar("features", total) as advance:
                for name, split in splits(task).items():
                    _compute(net, split, plan, scratch / name, device, advance)
            # Last: a folder without its index is computed again.
            write_atomic(scratch / INDEX, json.dumps(_index(plan) | {"digests": _digests(scratch)}))
    return FeatureArrays(
        train=_map_arrays(folder / "train", "mean", plan.taps),
        val=_map_arrays(folder / "val", "mean", plan.taps),
        train_maps=_map_arrays(folder / "train", "whole", tuple(plan.maps)),
        val_maps=_map_arrays(folder / "val", "whole", tuple(plan.maps)),
    )


def _index(plan: FeaturePlan) -> dict[str, Any]:
    return {"taps": list(plan.taps), "whole": dict(plan.maps), "grid": plan.grid}


def _digests(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in sorted(folder.glob("*/*.npy"))}


def _is_intact(folder: Path, plan: FeaturePlan) -> bool:
    """Whether a folder contains the features of a plan, with valid digests."""
    if not folder.exists():
        return False
    try:
        # Digests, as one flipped bit would go unnoticed through a whole search; reading costs less than computing.
        if json.loads((folder / INDEX).read_bytes()) == _index(plan) | {"digests": _digests(folder)}:
            return True
    except (OSError, ValueError, RecursionError):
        pass
    progress.remark(f"{folder} is damaged: features are computed again")
    return False


def splits(task: Task) -> dict[str, Split]:
    """Return the splits that a search may use."""
    return {"train": task.train, "val": task.val}


def _compute(
    net: Net, split: Split, plan: FeaturePlan, folder: Path, device: Device, advance: progress.Advance
) -> None:
    folder.mkdir()
    files = dict[str, Any]()
    names = list(dict.fromkeys([*plan.taps, *plan.maps.values()]))
    with ExitStack() as stack:
        for chosen in evaluation_batches(split.rows, BATCH):
            x = input_tensor(split.rows[chosen], net.input, device.torch)
            for file, values in _arrays(net, x, names, plan):
                # The shape is known from the first batch only.
                if file not in files:
                    shape = (len(split), *values.shape[1:])
                    files[file] = open_memmap(folder / file, mode="w+", dtype=values.dtype, shape=shape)
                    with (folder / file).open("r+b") as stream:
                        # A full disk must raise here: a write into a mapped file without room
                        # kills the process (SIGBUS).
                        reserve(stream, files[file].offset + files[file].nbytes)
                    stack.callback(files[file].flush)
                files[file][chosen] = values
            advance(len(x), "")


def _arrays(net: Net, x: Tensor, names: Sequence[str], plan: FeaturePlan) -> list[tuple[str, np.ndarray[Any, Any]]]:
    outputs = net.outputs(x, names)
    means = [net.pool_tap(outputs[tap], x).float().cpu().numpy() for tap in plan.taps]
    maps = [_pooled_map(outputs[name], plan.grid).clamp(-LARGEST, LARGEST) for name in plan.maps.values()]
    return [(f"mean-{k}.npy", values) for k, values in enumerate(means)] + [
        (f"whole-{k}.npy", values.half().cpu().numpy()) for k, values in enumerate(maps)
    ]


def _pooled_map(output: Tensor, grid: int) -> Tensor:
    return as_maps(output, grid) if output.dim() == 4 else output


def _map_arrays(folder: Path, kind: str, taps: tuple[str, ...]) -> dict[str, Any]:
    return {tap: np.load(folder / f"{kind}-{k}.npy", mmap_mode="r", allow_pickle=False) for k, tap in enumerate(taps)}


def _positions(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 3 else prod(shape[2:]) if len(shape) == 4 else 1


@torch.no_grad()
def _shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Return the output shapes of the body's modules in the order of execution; the body has the empty name."""
    shapes = dict[str, tuple[int, ...]]()

    def hook_for(name: str) -> Any:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                # A module that runs twice counts where it runs last: a dict keeps the first place of a key.
                shapes.pop(name, None)
                shapes[name] = tuple(output.shape)

        return record

    handles = [module.register_forward_hook(hook_for(name)) for name, module in net.body.named_modules()]
    with as_evaluated(net), hooks(handles):
        net.body(example_input(net))
    return shapes


def deepest_layer(net: Net, taps: Sequence[str]) -> str:
    """Return the layer that runs last; `out` is later than any layer."""
    order = list(_shapes(net))
    return max(taps, key=lambda tap: len(order) if tap == "out" else order.index(tap))
