"""Remove whole channels and attention heads, with everything tied to them (DepGraph, https://arxiv.org/abs/2301.12900)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.net.net import Edit, mask_name
from effxfer.prune.channels.importance import MAX_RATIO_PER_LAYER, Importance, Rule
from effxfer.prune.channels.pruner import ChannelPruner, Outputs
from effxfer.prune.channels.selection import Scope
from effxfer.prune.graph.macs import cost
from effxfer.prune.graph.transaction import commit_edits_, copy_for_tracing, record_sizes_
from effxfer.prune.network import example_of, layer_prefix, layer_widths, masks_of
from effxfer.prune.result import PruneResult
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.context import Losses
from effxfer.report import Measurement, Report, Table

SHOWN = 5  # chosen: notes in the report; the table has them all


def remove_channels(
    net: nn.Module,
    *,
    example: Tensor | None = None,
    ratio: float | None = None,
    macs_ratio: float | None = None,
    importance: Importance = "magnitude",
    scope: Scope = "layer",
    round_to: int = 1,
    steps: int = 1,
    exclude: Sequence[str] = (),
    max_ratio_per_layer: float = MAX_RATIO_PER_LAYER,
    examples: Losses | None = None,
) -> PruneResult:
    """Remove the least important channels, in place, and record the new sizes as one `resize` edit.

    What a network gives to its caller keeps its size. Of a `Net`, the head's outputs and hidden layers are never
    pruned; its inputs are, and the masks of a ticket lose the same channels. Everything is tried on a copy, which is
    checked and rebuilt from its record first; if that fails, `net` is unchanged.

    Args:
        net: Any module that takes one tensor and returns one; a `Net` with or without a head and a ticket. It stays on
            its device and in its mode. Its parameters are new ones: make optimizers afterwards.
        example: An input `(N, ...)` of the network, of which only shape and type matter; a `Net` needs none.
        ratio: Share of channels to remove, in (0, 1): of each layer or of all, depending on `scope`.
        macs_ratio: Instead of `ratio`: remove until the multiply-adds are at most this share of what they were,
            in (0, 1). Under `global`, channels come back where rounding left room.
        importance: `magnitude` is the norm of all weights tied to a channel; `taylor` is how much the loss changes, to
            first order, without them (Molchanov et al., 2019, https://arxiv.org/abs/1906.10771): needs `examples`.
        scope: `layer` removes the same share everywhere; `global` ranks all channels together.
        round_to: Channels that remain are a multiple of this where a layer has that many; 1 does not round.
        steps: Number of equal pruning steps; importance is estimated again before each.
        exclude: Shell patterns of layers whose outputs stay; empty is none.
        max_ratio_per_layer: Largest share of its channels that a layer may lose, in (0, 1).
        examples: Gives the losses of some batches under the network that it is passed, one after the other; used by
            `taylor` only.

    Returns:
        Multiply-adds and parameters before and after, a ticket's sparsity, and a table of channels per layer; which
        outputs were kept; and the record of the sizes.

    Raises:
        SettingsError: If a setting is out of range, a pattern matches nothing, `macs_ratio` cannot be reached, or
            another module than a `Net` comes without an example.
        ModelFileError: If the network cannot be traced, pruned or rebuilt; names the layer.
    """
    _check(ratio, macs_ratio, round_to, steps, max_ratio_per_layer)
    rule = Rule(
        importance=importance, scope=scope, round_to=round_to, max_ratio_per_layer=max_ratio_per_layer,
        # Squared: norms without the root, as torch-pruning's magnitude importance has them at p = 2.
        examples=examples, squared=True,
    )  # fmt: skip
    trial, example = copy_for_tracing(net), example_of(net, example)
    dense, initial, reasons, outputs = cost(trial, example), dict[str, int](), dict[str, str](), Outputs()
    for step in range(1, steps + 1):
        pruner, share = ChannelPruner(trial, example, rule, exclude, initial, reasons), step / steps
        if macs_ratio is None:
            plan = pruner.plan_for_ratio((ratio or 0.0) * share)
        else:
            # Each step removes the same amount of what there was in the beginning.
            plan = pruner.plan_for_macs(dense[0] * (1 - (1 - macs_ratio) * share))
        trial, initial, reasons = pruner.copy_without(plan), pruner.initial, pruner.kept_reasons
        outputs = pruner.kept_outputs(plan, outputs)
    before = layer_widths(net)
    record = commit_sizes_(net, trial, example)
    report, reasons = size_report(net, before, dense, cost(net, example), reasons)
    return PruneResult(report=report, kept_outputs=outputs, kept_reasons=reasons, record=record)


def commit_sizes_(net: nn.Module, trial: nn.Module, example: Tensor) -> list[Edit]:
    """Replace the sizes and weights of a network by those of a pruned copy, in place; return the new edits."""
    shrink_masks_(trial)
    record_sizes_(trial, net)
    return commit_edits_(net, trial, example)


def _check(
    ratio: float | None, macs_ratio: float | None, round_to: int, steps: int, max_ratio_per_layer: float
) -> None:
    ratios = {"ratio": ratio, "macs_ratio": macs_ratio, "max_ratio_per_layer": max_ratio_per_layer}
    wrong = [f"{name} must be in (0, 1), not {v}" for name, v in ratios.items() if v is not None and not 0 < v < 1]
    wrong += [f"{n} must be at least 1, not {v}" for n, v in {"round_to": round_to, "steps": steps}.items() if v < 1]
    if (ratio is None) == (macs_ratio is None):
        wrong.append("give either ratio or macs_ratio")
    if wrong:
        raise SettingsError("; ".join(wrong), code="E204")


@torch.no_grad()
def shrink_masks_(trial: nn.Module) -> None:
    """Resize the masks of masked layers: exact zeros stay removed."""
    for name in masks_of(trial):
        # From the weights that are left: a removed weight is exactly zero.
        trial.register_buffer(mask_name(name), trial.get_parameter(name) != 0)


def size_report(
    net: nn.Module, wide: Mapping[str, int], before: tuple[int, int], after: tuple[int, int],
    reasons: Mapping[str, str], *, otherwise: str = "its share is less than one channel",
) -> tuple[Report, dict[str, str]]:  # fmt: skip
    """Report the size of a pruned network, a ticket's sparsity, and channels per layer.

    Args:
        net: The pruned network.
        wide: Output channels of each layer before.
        before: Multiply-adds and parameters before.
        after: The same of `net`.
        reasons: Reasons why layers could not lose channels, by layer.
        otherwise: Reason for all other layers that lost no channels.

    Returns:
        The report, and by layer without removed channels the reason.
    """
    now, prefix = layer_widths(net), layer_prefix(net)
    rows = [{"layer": name, "before": wide[name], "after": width} for name, width in now.items()]
    unchanged = [name for name, width in now.items() if width == wide[name] and name.startswith(prefix)]
    reasons = {**reasons, **{name: otherwise for name in unchanged if name not in reasons}}
    measured = (
        Measurement(name="macs/before", value=before[0] / 1e6, unit="M"),
        Measurement(name="macs/after", value=after[0] / 1e6, unit="M"),
        Measurement(name="macs/ratio", value=after[0] / before[0], unit="x", of="multiply-adds before"),
        Measurement(name="parameters/before", value=before[1] / 1e6, unit="M"),
        Measurement(name="parameters/after", value=after[1] / 1e6, unit="M"),
        Measurement(name="parameters/ratio", value=after[1] / before[1], unit="x", of="parameters before"),
    )
    tables = [Table(title="Channels per layer", rows=tuple(rows))]
    if reasons:
        lines = tuple({"layer": name, "channels": now.get(name, ""), "why": why} for name, why in reasons.items())
        tables.append(Table(title="Layers not pruned", rows=lines))
    return Report(rows=measured + _ticket_rows(net), tables=tuple(tables), notes=_notes(reasons)), reasons


def _notes(reasons: Mapping[str, str]) -> tuple[str, ...]:
    notes = [f"{layer} was not pruned: {why}" for layer, why in reasons.items()]
    return (*notes[:SHOWN], *([f"{len(notes) - SHOWN} more are in the table"] if len(notes) > SHOWN else []))


def _ticket_rows(net: nn.Module) -> tuple[Measurement, ...]:
    if not masks_of(net):
        return ()
    mask = Mask.of(net)
    of = "prunable weights that survive"
    return (Measurement(name="sparsity/survivors", value=100 * mask.sparsity, unit="%", n=mask.counts[1], of=of),)
