"""Turn the zeros of a ticket into smaller layers that compute the same.

Zeros alone make nothing faster. Channels, attention heads and hidden units that carry nothing can leave along the
dependency graph (DepGraph, https://arxiv.org/abs/2301.12900), once the constants that they still emit are absorbed by
the layers that read them (as Nagel et al., 2019, https://arxiv.org/abs/1906.04721, absorb biases).
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.net.net import KEEP
from effxfer.prune.compact.approximate import relative_change, remove_within_error
from effxfer.prune.compact.compaction_report import Compaction, size_of
from effxfer.prune.compact.dead_channels import Gone, Why, zero_dead_units_
from effxfer.prune.graph.groups import Structure, Units, units_in
from effxfer.prune.graph.removal import kept_output_positions, remove_units_
from effxfer.prune.graph.transaction import bisect_failures, commit_edits_, record_sizes_, traceable
from effxfer.prune.network import edit_, example_of, layer_widths, masks_of
from effxfer.prune.result import PruneResult

TOLERANCE = 1e-5
RANDOM = 8


def compact(
    net: nn.Module,
    *,
    example: Tensor | None = None,
    max_error: float = 0.0,
    calibration: Sequence[Tensor] = (),
    check: Sequence[Tensor] = (),
) -> PruneResult:
    """Remove, in place, the channels, attention heads and hidden units that carry nothing.

    A unit leaves if everywhere it is read it is a constant that folds into the reader exactly, or if nobody reads it;
    a constant other than zero does not fold into a convolution that pads with zeros. Masks of what is left stay,
    unless nothing of a weight is masked any more. The result is compared with the masked network on random inputs and
    on `check`, and recorded as edits. Where no unit can leave, the network stays as it was, and the report says why.

    Args:
        net: Any module that takes one tensor and returns one, or a `Net` with or without a head and a ticket. Stays on
            its device and in its mode.
        example: As in `remove_channels`.
        max_error: Largest change of a logit, as a share of the largest logit, over `calibration`, within which units
            that are alive leave too, cheapest first; in [0, 1), 0 is none.
        calibration: Batches of network inputs `(B, 3, S, S)`; needed where `max_error` is above 0.
        check: Batches of network inputs on which the result must agree as well.

    Returns:
        Parameters and multiply-adds before and after, what share of the masked weights left, the largest difference,
        and tables of the layers and of what could not leave; which outputs were kept, and the record of the sizes.

    Raises:
        SettingsError: If `max_error` is out of range or lacks `calibration`.
        ModelFileError: If the network cannot be traced or rebuilt.
        GateError: If the smaller network differs by more than 1e-5 (of the largest logit, where that is above 1);
            names the layers.
    """
    _check(max_error, calibration)
    masked, example = traceable(net), example_of(net, example)
    structure, batches = units_in(masked, example), [_random(example), *check]
    emptied, gone, why, failures = _emptied(masked, example, structure.units, batches)
    refused = {**structure.refused, **failures}
    units, target = [one for one in structure.units if one.layer not in refused], masked
    if max_error:
        emptied, gone = remove_within_error(emptied, example, units, masked, calibration, max_error)
        target = emptied
    smaller, gone, failures = _removed(emptied, structure, gone, target, batches)
    refused |= failures
    before, wide = size_of(masked, example), layer_widths(net)
    record = commit_edits_(net, smaller, example) if gone else []
    report = Compaction(
        before=before, after=size_of(smaller, example), widths=(wide, layer_widths(smaller)), units=units, gone=gone,
        why=why, refused=refused, difference=difference(target, smaller, batches)[0], images=sum(map(len, batches)),
        max_error=max_error, error=relative_change(masked, smaller, calibration) if max_error else 0.0,
    ).report()  # fmt: skip
    outputs = kept_output_positions(emptied, structure, gone)
    return PruneResult(report=report, kept_outputs=outputs, kept_reasons=refused, record=record)


@torch.no_grad()
def difference(one: nn.Module, other: nn.Module, batches: Iterable[Tensor]) -> tuple[float, float]:
    """Give the largest difference between two networks' outputs, and the largest output of the first."""
    largest, scale = 0.0, 0.0
    for batch in batches:
        ours, theirs = one(batch), other(batch)
        if ours.shape != theirs.shape:
            return float("inf"), scale
        largest = max(largest, float((ours - theirs).abs().nan_to_num(float("inf")).max()))
        scale = max(scale, float(ours.abs().max()))
    return largest, scale


def _check(max_error: float, calibration: Sequence[Tensor]) -> None:
    if not 0 <= max_error < 1:
        raise SettingsError(f"max_error must be in [0, 1), not {max_error}", "0 changes nothing", code="E204")
    if max_error and not calibration:
        raise SettingsError("max_error needs calibration images", "pass some, or use max_error = 0")


def _random(example: Tensor) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(RANDOM, *example.shape[1:], generator=rng).to(example.device)


def _emptied(
    masked: nn.Module, example: Tensor, units: Sequence[Units], batches: Sequence[Tensor]
) -> tuple[nn.Module, Gone, Why, dict[str, str]]:
    """Cut off what carries nothing from a copy; return it, what was cut off, what stays why, and where that failed."""
    emptied: list[tuple[nn.Module, Gone, Why]] = []

    def problem(layers: Sequence[str]) -> str:
        trial = deepcopy(masked)
        gone, why = zero_dead_units_(trial, example, [one for one in units if one.layer in layers])
        emptied[:] = [(trial, gone, why)]
        return _differs(masked, trial, batches)

    _, failures = bisect_failures([one.layer for one in units], problem, GateError)
    return *emptied[0], failures


def _removed(
    emptied: nn.Module, structure: Structure, gone: Gone, target: nn.Module, batches: Sequence[Tensor]
) -> tuple[nn.Module, Gone, dict[str, str]]:  # fmt: skip
    """Remove from a copy what was cut off, as far as that goes well; return it, what left, and where that failed."""

    def problem(layers: Sequence[str]) -> str:
        try:
            return _differs(target, _cut(emptied, structure, {n: gone[n] for n in layers}), batches)
        except (ModelFileError, RuntimeError, ValueError) as error:
            return str(error).partition("\n")[0]

    layers = [layer for layer, chosen in gone.items() if bool(chosen.any())]
    passing, failures = bisect_failures(layers, problem, GateError) if layers else ([], {})
    gone = {layer: gone[layer] for layer in passing}
    return _without(emptied, structure, gone) if passing else emptied, gone, failures


def _differs(one: nn.Module, other: nn.Module, batches: Sequence[Tensor]) -> str:
    """Say by how much two networks differ, if that is more than rounding."""
    found, scale = difference(one, other, batches)
    limit = TOLERANCE * max(1.0, scale)
    return f"the outputs change by {found:.2g}, and {limit:.2g} is allowed" if found > limit else ""


def _cut(emptied: nn.Module, structure: Structure, gone: Gone) -> nn.Module:
    smaller = deepcopy(emptied)
    remove_units_(smaller, structure, gone)
    return smaller


@torch.no_grad()
def _without(emptied: nn.Module, structure: Structure, gone: Gone) -> nn.Module:
    """Copy a network without units that are cut off already; masks lose the same channels."""
    smaller, masks = _cut(emptied, structure, gone), masks_of(emptied)
    if masks:
        shadow = deepcopy(emptied)
        for name, keep in masks.items():
            shadow.get_parameter(name).copy_(keep)
        shadow = _cut(shadow, structure, gone)
        for name in masks:
            smaller.register_buffer(KEEP + name.replace(".", "/"), shadow.get_parameter(name) != 0)
    record_sizes_(smaller, emptied)
    full = [name for name, keep in masks_of(smaller).items() if bool(keep.all())]
    if full:
        edit_(smaller, "densify", weights=full)
    return smaller
