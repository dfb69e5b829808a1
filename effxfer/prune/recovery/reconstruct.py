"""Reconstruct layer outputs after pruning: solve the remaining weights by least squares, without training.

Least squares after He et al., 2017 (https://arxiv.org/abs/1707.06168), layer by layer from input to output: inputs come
from the pruned network, so that a layer also makes up for what those before it lost, targets from the unpruned one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.compression.low_rank_layer import dense_name
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.net.layers import trace
from effxfer.prune.network import masks_of
from effxfer.prune.recovery.least_squares import (
    SIDE,
    TINY,
    Grid,
    NormalEquations,
    change,
    group_weight,
    is_linear,
    normal_equations,
    rows_of,
)
from effxfer.report import Report, Table

Batches = Callable[[], Iterable[Tensor]]
Note = Callable[[Tensor, Tensor], None]
# Chosen: decades; the second half of the images picks one for each layer.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Numbers, 256 MB in float32: targets of as many layers as fit come from one pass of the dense network.
MOST_HELD = 64_000_000
# Operations of one Cholesky factor per output, about 12 s at 80 GFLOP/s.
MOST_WORK = 1e12


def reconstruct_(
    net: nn.Module, dense: nn.Module, batches: Batches, kept_outputs: Mapping[str, Sequence[int]]
) -> Report:
    """Solve every convolution and linear layer for its outputs in the dense network, in place.

    The change of the weights is kept small by a ridge. Half of each batch's images solve with several, the other half
    say which is best; if none is better than no change, the layer is unchanged. Then all images solve together: on
    them, given the inputs that the layer has by then, its squared error never grows. A ticket's zeros stay zeros.
    BatchNorm statistics should be re-estimated afterwards.

    Args:
        net: The pruned network: any module that takes one tensor, a `Net` with or without a ticket.
        dense: The network before, on the same device; it is not changed.
        batches: Gives the same batches `(B, 3, S, S)` of training images, as evaluation sees them, whenever it is
            called; some hundred images do. At most 8 x 8 positions of each image are looked at, on a grid that is moved
            from batch to batch.
        kept_outputs: By layer, which outputs of the dense one it kept (`PruneResult.kept_outputs`), none if they are
            scaled anew; a layer that is not named has all of them.

    Returns:
        A table of the layers with their squared error before and after, and why a layer was left alone.
    """
    lines = dict[str, dict[str, Any]]()
    images = [len(batch) for batch in batches()]
    with torch.no_grad(), as_evaluated(net), as_evaluated(dense):
        calls = Counter(layer.name for layer in trace(net, next(iter(batches()))[:1]))
        for name, times in calls.items():
            scaled = (
                "its outputs are not scaled as they were" if name in kept_outputs and not kept_outputs[name] else ""
            )
            lines[name] = _row("it is called more than once" if times > 1 else scaled or _unsolvable_reason(net, name))
        able = [name for name in lines if not lines[name]["left alone"]]
        # In the order of the network: a layer's inputs are those after all layers before it were solved.
        for wave in _waves(net, able, sum(images)):
            targets = _targets(net, dense, wave, batches, kept_outputs)
            for name in wave:
                lines[name] |= _solve_(net, name, batches, targets.pop(name))
    solved = sum(not line["left alone"] for line in lines.values())
    note = f"weights of {solved} of {len(lines)} layers solved anew by least squares on {sum(images)} training images"
    rows = tuple({"layer": name, **line} for name, line in lines.items())
    return Report(tables=(Table(title="Weights solved anew", rows=rows),), notes=(note,))


def _row(
    reason: str = "", before: float | None = None, after: float | None = None, ridge: Any = None
) -> dict[str, Any]:
    return {"error before %": before, "error after %": after, "ridge": ridge, "left alone": reason}


def _unsolvable_reason(net: nn.Module, name: str) -> str:
    """Explain why a layer cannot be solved; empty if it can."""
    layer, keep = net.get_submodule(name), masks_of(net).get(f"{name}.weight")
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return "its padding is not plain zeros"
    if not dense_name(net, name):
        return "the dense network has no such outputs"
    work = 0.0 if keep is None else float((keep.flatten(1).sum(1).double() ** 3).sum()) / 3 * (len(RIDGES) + 1)
    return "too many of a ticket's weights for one solution per output" if work > MOST_WORK else ""


def _waves(net: nn.Module, names: Sequence[str], images: int) -> Iterator[list[str]]:
    """Split layers, in order, into parts whose target outputs fit in memory."""
    wave, numbers = list[str](), 0
    for name in names:
        size = images * SIDE**2 * len(net.get_submodule(name).get_parameter("weight"))
        if wave and numbers + size > MOST_HELD:
            yield wave
            wave, numbers = [], 0
        wave.append(name)
        numbers += size
    if wave:
        yield wave


def _targets(
    net: nn.Module, dense: nn.Module, names: Sequence[str], batches: Batches, kept_outputs: Mapping[str, Sequence[int]]
) -> dict[str, list[Tensor]]:
    """Collect the target outputs: by layer, sampled kept outputs `(B, O, ...)` of each batch."""
    targets: dict[str, list[Tensor]] = {name: [] for name in names}

    def note(name: str) -> Note:
        layer, kept_positions = net.get_submodule(name), kept_outputs.get(name)

        def take(_inputs: Tensor, output: Tensor) -> None:
            part = Grid.of(layer, output, len(targets[name])).outputs(layer, output)
            positions = (
                torch.arange(output.shape[_channels(layer)]) if kept_positions is None else torch.tensor(kept_positions)
            )
            targets[name].append(part.index_select(_channels(layer), positions.to(part.device)))

        return take

    for images in batches():
        _run(dense, {dense_name(net, name): note(name) for name in names}, images)
    return targets


def _solve_(net: nn.Module, name: str, batches: Batches, targets: Sequence[Tensor]) -> dict[str, Any]:
    """Solve one layer in place; return its row of the table."""
    layer: Any = net.get_submodule(name)
    # Every other image: both halves see all classes, which lie one after the other.
    halves: list[NormalEquations | None] = [None, None]
    for number, images in enumerate(batches()):
        inputs, outputs = _capture(net, name, images)
        grid = Grid.of(layer, outputs, number)
        outputs, target = grid.outputs(layer, outputs), targets[number]
        if target.shape != outputs.shape:
            return _row("its outputs are not those of the dense network")
        for half in (0, 1):
            for rows in rows_of(layer, grid, inputs[half::2], target[half::2], outputs[half::2]):
                if not is_linear(layer, *rows):
                    return _row("it computes more than its weights say")
                part, earlier = normal_equations(*rows), halves[half]
                halves[half] = part if earlier is None else earlier + part
    first, second = halves
    if first is None or second is None:
        return _row("there are too few images")
    return _improve_(layer, first, second, masks_of(net).get(f"{name}.weight"))


def _improve_(layer: Any, first: NormalEquations, second: NormalEquations, keep: Tensor | None) -> dict[str, Any]:
    """Choose the ridge on the second half of the images, and solve on all."""
    allowed = None if keep is None else group_weight(keep, layer)
    if allowed is not None and layer.bias is not None:
        allowed = torch.cat([allowed, torch.ones_like(allowed[:, :1])], 1)
    scored = [(second.residual_after(change(first, ridge, allowed)), ridge) for ridge in RIDGES]
    error, ridge = min(scored)
    # On images that the solution has not seen.
    if not error < second.missing:
        return _row("nothing to gain")
    both = first + second
    solution = change(both, ridge, allowed)
    error = both.residual_after(solution)
    if not error < both.missing:
        return _row("nothing to gain")
    if layer.bias is not None:
        layer.bias += solution[:, -1].reshape(-1).to(layer.bias.dtype)
        solution = solution[:, :-1]
    layer.weight += solution.transpose(1, 2).reshape(layer.weight.shape).to(layer.weight.dtype)
    of = 100 / max(both.power, TINY)
    return _row(before=of * both.missing, after=of * error, ridge=ridge)


def _channels(layer: nn.Module) -> int:
    return -1 if isinstance(layer, nn.Linear) else 1


class _ReachedError(Exception):
    """All requested layers have run."""


def _run(net: nn.Module, notes: Mapping[str, Note], images: Tensor) -> None:
    """Run a network until all named layers have run; pass the input and output of each to its callback."""
    waiting = set(notes)

    def hand_over(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            notes[name](inputs[0], output)
            waiting.discard(name)
            if not waiting:
                # The rest of the pass would be for nothing; an exception is the only way out of it.
                raise _ReachedError

        return hook

    handles = (net.get_submodule(name).register_forward_hook(hand_over(name)) for name in notes)
    with hooks(handles), suppress(_ReachedError):
        net(images)


def _capture(net: nn.Module, name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run a network up to a layer; return the layer's input and output."""
    captured = list[Tensor]()
    _run(net, {name: lambda inputs, output: captured.extend((inputs, output))}, images)
    return captured[0], captured[1]
