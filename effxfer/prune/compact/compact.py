"""Compact the zeros of a ticket into smaller layers with the same outputs.

Zeros alone make nothing faster. Channels, attention heads and hidden units that carry nothing can leave along the
dependency graph (DepGraph, https://arxiv.org/abs/2301.12900), once the constants that they still emit are absorbed by
the layers that read them (as Nagel et al., 2019, https://arxiv.org/abs/1906.04721, absorb biases).
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.net.net import mask_name
from effxfer.prune.compact.approximate import relative_change, remove_within_error
from effxfer.prune.compact.compaction_report import Compaction, size_of
from effxfer.prune.compact.dead_channels import KeptCounts, zero_dead_units_
from effxfer.prune.graph.groups import RemovedUnits, Structure, Units, units_in
from effxfer.prune.graph.removal import kept_output_positions, remove_units_
from effxfer.prune.graph.transaction import bisect_failures, commit_edits_, copy_for_tracing, record_sizes_
from effxfer.prune.network import edit_, example_of, layer_widths, masks_of
from effxfer.prune.result import PruneResult

# float32 keeps 7 digits; folding constants and fewer terms per sum cost one or two of them.
TOLERANCE = 1e-5
# Chosen: random inputs beside the caller's images; a wrong channel shows on a single one.
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
        example: See `remove_channels`.
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
    # A copy: the network stays as it was until all checks have passed.
    masked, example = copy_for_tracing(net), example_of(net, example)
    structure, batches = units_in(masked, example), [_random_input(example), *check]
    emptied, removed, dead_kept, failures = _empty_dead_units(masked, example, structure.units, batches)
    refused = {**structure.refused, **failures}
    units, target = [group for group in structure.units if group.layer not in refused], masked
    if max_error:
        emptied, removed = remove_within_error(emptied, example, units, masked, calibration, max_error)
        target = emptied
    smaller, removed, failures = _remove_units(emptied, structure, removed, target, batches)
    refused |= failures
    before, wide = size_of(masked, example), layer_widths(net)
    record = commit_edits_(net, smaller, example) if removed else []
    report = Compaction(
        before=before, after=size_of(smaller, example), widths=(wide, layer_widths(smaller)), units=units,
        removed=removed, dead_kept=dead_kept, refused=refused, images=sum(map(len, batches)),
        difference=difference(target, smaller, batches)[0],
        max_error=max_error, error=relative_change(masked, smaller, calibration) if max_error else 0.0,
    ).report()  # fmt: skip
    outputs = kept_output_positions(emptied, structure, removed)
    return PruneResult(report=report, kept_outputs=outputs, kept_reasons=refused, record=record)


@torch.no_grad()
def difference(reference: nn.Module, candidate: nn.Module, batches: Iterable[Tensor]) -> tuple[float, float]:
    """Return the largest difference between two networks' outputs, and the largest output of the first."""
    largest, scale = 0.0, 0.0
    for batch in batches:
        ours, theirs = reference(batch), candidate(batch)
        if ours.shape != theirs.shape:
            return float("inf"), scale
        # NaN counts as infinite: as a number it would compare as no difference.
        largest = max(largest, float((ours - theirs).abs().nan_to_num(float("inf")).max()))
        scale = max(scale, float(ours.abs().max()))
    return largest, scale


def _check(max_error: float, calibration: Sequence[Tensor]) -> None:
    if not 0 <= max_error < 1:
        raise SettingsError(f"max_error must be in [0, 1), not {max_error}", "0 changes nothing", code="E204")
    if max_error and not calibration:
        raise SettingsError("max_error needs calibration images", "pass some, or use max_error = 0")


def _random_input(example: Tensor) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    if not example.is_floating_point():  # ids up to the largest of the example: others may be beyond the vocabulary
        largest = int(example.max())
        return torch.randint(largest + 1, (RANDOM, *example.shape[1:]), generator=rng).to(example.device, example.dtype)
    return torch.randn(RANDOM, *example.shape[1:], generator=rng).to(example.device)


def _empty_dead_units(
    masked: nn.Module, example: Tensor, units: Sequence[Units], batches: Sequence[Tensor]
) -> tuple[nn.Module, RemovedUnits, KeptCounts, dict[str, str]]:
    """Mask out dead units of a copy; return it, the units, the counts of kept ones by reason, and failures."""
    emptied: list[tuple[nn.Module, RemovedUnits, KeptCounts]] = []

    def problem(layers: Sequence[str]) -> str:
        trial = deepcopy(masked)
        removed, dead_kept = zero_dead_units_(trial, example, [group for group in units if group.layer in layers])
        emptied[:] = [(trial, removed, dead_kept)]
        return _explain_difference(masked, trial, batches)

    _, failures = bisect_failures([group.layer for group in units], problem, GateError)
    return *emptied[0], failures


def _remove_units(
    emptied: nn.Module, structure: Structure, removed: RemovedUnits, target: nn.Module, batches: Sequence[Tensor]
) -> tuple[nn.Module, RemovedUnits, dict[str, str]]:  # fmt: skip
    """Remove the masked units from a copy; return it, the removed units, and the failures by layer."""

    def problem(layers: Sequence[str]) -> str:
        try:
            return _explain_difference(
                target, _copy_without(emptied, structure, {n: removed[n] for n in layers}), batches
            )
        except (ModelFileError, RuntimeError, ValueError) as error:
            return str(error).partition("\n")[0]

    layers = [layer for layer, chosen in removed.items() if bool(chosen.any())]
    passing, failures = bisect_failures(layers, problem, GateError) if layers else ([], {})
    removed = {layer: removed[layer] for layer in passing}
    return _copy_without_recorded(emptied, structure, removed) if passing else emptied, removed, failures


def _explain_difference(reference: nn.Module, candidate: nn.Module, batches: Sequence[Tensor]) -> str:
    """Describe the difference of two networks; empty if it is within rounding."""
    largest, scale = difference(reference, candidate, batches)
    limit = TOLERANCE * max(1.0, scale)
    return f"the outputs change by {largest:.2g}, and {limit:.2g} is allowed" if largest > limit else ""


def _copy_without(emptied: nn.Module, structure: Structure, removed: RemovedUnits) -> nn.Module:
    smaller = deepcopy(emptied)
    remove_units_(smaller, structure, removed)
    return smaller


@torch.no_grad()
def _copy_without_recorded(emptied: nn.Module, structure: Structure, removed: RemovedUnits) -> nn.Module:
    """Copy a network without its masked units; masks lose the same channels, and the sizes are recorded."""
    smaller, masks = _copy_without(emptied, structure, removed), masks_of(emptied)
    if masks:
        # Masks are narrowed like the weights, as weights of a second copy: bools have no graph of their own.
        shadow = deepcopy(emptied)
        for name, keep in masks.items():
            shadow.get_parameter(name).copy_(keep)
        shadow = _copy_without(shadow, structure, removed)
        for name in masks:
            smaller.register_buffer(mask_name(name), shadow.get_parameter(name) != 0)
    record_sizes_(smaller, emptied)
    # A mask that removes nothing any more would slow every step of training down.
    full = [name for name, keep in masks_of(smaller).items() if bool(keep.all())]
    if full:
        edit_(smaller, "densify", weights=full)
    return smaller
